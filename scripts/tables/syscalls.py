"""Puts each syscall together from the kernel's headers and the tables kept by hand.

The names of syscalls are the kernel's entry points, `sys_` and what
SYSCALL_DEFINE has: for most that is the `__NR_` name, and where it is not
(`__NR_stat` is `sys_newstat`, `__NR_umount2` is `sys_umount`) the ABI's own
syscall.tbl says so, which is kept in `entries.tsv`; asm-generic/unistd.h has its
entry points beside the numbers. PANDA's syscalls2 named its calls by the same
rule, so queries written against its names keep working.

Arguments come from include/linux/syscalls.h. What that header lacks (names, the
calls of one architecture, calls that never existed) comes from
`supplement.tsv`, each line with its source; what it says of all ABIs may add to the header and
never contradict it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tables import headers, kinds
from tables.abis import Abi
from tables.headers import HeaderError, Parameter
from tables.kinds import Argument

SYSCALLS_H = "include/linux/syscalls.h"

Declared = Mapping[str, tuple[Parameter, ...]]
Row = Mapping[str, str]


class Syscall(NamedTuple):
    """One syscall; `args` is None when unknown. The rest as in process/prototypes.py."""

    number: int
    name: str
    kind: str
    returns: str
    source: str
    args: tuple[Argument, ...] | None


def read(abi: Abi, include: list[Path], kernel: Path) -> list[Syscall]:
    """Returns an ABI's syscalls in the order of their numbers.

    Args:
        abi: The ABI.
        include: Folders of its UAPI headers.
        kernel: The kernel's own headers, a folder with `include/linux`.

    Raises:
        HeaderError: Something is missing, contradicts itself, or is undecided.
    """
    unistd = headers.find(abi.unistd, include)
    numbers = headers.syscalls(unistd, include, abi.defines, abi.bits)
    known = Prototypes(abi, kernel)
    found = [known.call(syscall, number - abi.base, entry) for syscall, (number, entry) in numbers.items()]
    return sorted(found, key=lambda call: call.number)


class Prototypes:
    """What is known of an ABI's syscalls by their `__NR_` names."""

    def __init__(self, abi: Abi, kernel: Path) -> None:
        """Reads the kernel's header and the hand-kept tables.

        Raises:
            HeaderError: The header or a table has an unknown form.
        """
        self._table = abi.table or "include/uapi/asm-generic/unistd.h"
        self._declared = headers.prototypes(kernel / SYSCALLS_H, abi.bits, abi.config)
        self._entries = _rows_of(abi.name, "entries.tsv", "syscall") if abi.table else {}
        self._supplement = _rows_of(abi.name, "supplement.tsv", "entry")
        self._decided = {(row["syscall"], row["argument"]): row["kind"] for row in hand_table("argument_kinds.tsv")}

    def call(self, syscall: str, number: int, entry: str = "") -> Syscall:
        """Returns one syscall.

        Args:
            syscall: Its `__NR_` name.
            number: Its number.
            entry: Its entry point where the header of the numbers says it.

        Raises:
            HeaderError: Something is missing, contradicts itself, or is undecided.
        """
        if not entry and syscall in self._entries:
            entry = self._entries[syscall]["entry"]
        exists = entry not in ("unimplemented", "sys_ni_syscall")
        name = (exists and entry) or f"sys_{syscall.removeprefix('sys_')}"
        kind = "call" if exists else "unimplemented"
        default = {"kind": kind, "returns": "long", "args": "header" if exists else "-", "source": self._table}
        row = self._supplement.get(name, default)
        source, found = _parameters(name, row, self._declared, exists and row["kind"] != "unimplemented")
        args = None if found is None else self._classified(name, found)
        return Syscall(number, name, row["kind"] if exists else kind, row["returns"], source, args)

    def with_arguments(self, name: str, args: str, source: str) -> Syscall:
        """Returns a syscall with other arguments than it takes in registers.

        Raises:
            HeaderError: An argument is undecided.
        """
        return Syscall(-1, name, "call", "long", source, self._classified(name, _read_arguments(args) or ()))

    def _classified(self, name: str, parameters: tuple[Parameter, ...]) -> tuple[Argument, ...]:
        return tuple(kinds.classify(name, parameter, self._decided) for parameter in parameters)


def _parameters(name: str, row: Row, declared: Declared, exists: bool) -> tuple[str, tuple[Parameter, ...] | None]:
    """Returns where a syscall's parameters are from, and them; None when unknown.

    Raises:
        HeaderError: They are missing in both header and supplement, or differ.
    """
    header = declared.get(name)
    if row.get("abis", "*") != "*" and row["args"] != "header":  # an architecture may have its own call of that name
        return row["source"], _read_arguments(row["args"])
    complete = header is not None and all(parameter.name for parameter in header)
    if complete and (row["args"] == "header" or not exists):
        return SYSCALLS_H, header
    if row["args"] == "header":
        raise HeaderError(f"{name}: {SYSCALLS_H} lacks its arguments: add it to supplement.tsv")
    if complete:
        raise HeaderError(f"supplement.tsv: {name} is complete in {SYSCALLS_H}: say `header`")
    ours = _read_arguments(row["args"])
    if header is not None and exists and [ctype for ctype, _ in header] != [ctype for ctype, _ in ours or ()]:
        raise HeaderError(f"supplement.tsv: the types of {name} are others in {SYSCALLS_H}")
    return row["source"], ours


def _read_arguments(text: str) -> tuple[Parameter, ...] | None:
    """Reads `int fd; int how`; `void` is no arguments, `-` arguments unknown."""
    if text == "-":
        return None
    return () if text == "void" else tuple(headers.parameter(part) for part in text.split(";"))


def _rows_of(abi: str, table: str, key: str) -> dict[str, Row]:
    """Returns a hand-kept table's rows for an ABI; those that name the ABI go before those for all, `*`."""
    rows = [row for row in hand_table(table) if row["abis"] == "*" or abi in row["abis"].split(" ")]
    return {row[key]: row for row in sorted(rows, key=lambda row: row["abis"] != "*")}


def roles() -> dict[str, str]:
    """Returns what capture must do about some syscalls, by name: the words of `roles.tsv`."""
    return {row["syscall"]: row["roles"] for row in hand_table("roles.tsv")}


def reads() -> dict[tuple[str, str], str]:
    """Returns how capture reads some arguments, by syscall and argument: the words of `reads.tsv`."""
    return {(row["syscall"], row["argument"]): row["read"] for row in hand_table("reads.tsv")}


def hand_table(name: str) -> list[dict[str, str]]:
    """Reads a table kept by hand: tab-separated, `#` comments, then a line of column names."""
    with (Path(__file__).parent / name).open(encoding="ascii") as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        if None in row or None in row.values():
            raise HeaderError(f"{name}: not one cell for each column: {next(iter(row.values()))} ...")
    return rows
