"""Puts each syscall together from the kernel's headers and the tables kept by hand.

The names of syscalls are the kernel's entry points, `sys_` and what
SYSCALL_DEFINE has: for nearly all that is the `__NR_` name, and where it is not
(`__NR_stat` is `sys_newstat`, `__NR_umount2` is `sys_umount`) the supplement
says so, after the ABI's own syscall.tbl. PANDA's syscalls2 named its calls by
the same rule, so queries written against its names keep working.

Arguments come from include/linux/syscalls.h. What that header lacks (names, the
calls of one architecture, calls that never existed) comes from
`supplement.tsv`, each line with its source; it may add to the header and never
contradict it.
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
    numbers = headers.syscall_numbers(headers.find(abi.unistd, include))
    known = Prototypes(abi, kernel)
    return [known.call(syscall, number) for syscall, number in sorted(numbers.items(), key=lambda item: item[1])]


class Prototypes:
    """What is known of an ABI's syscalls by their `__NR_` names."""

    def __init__(self, abi: Abi, kernel: Path) -> None:
        """Reads the kernel's header and the hand-kept tables.

        Raises:
            HeaderError: The header or a table has an unknown form.
        """
        self._declared = headers.prototypes(kernel / SYSCALLS_H, abi.bits, abi.config)
        self._supplement = _supplement(abi.name)
        self._decided = {(row["syscall"], row["argument"]): row["kind"] for row in hand_table("argument_kinds.tsv")}

    def call(self, syscall: str, number: int) -> Syscall:
        """Returns one syscall.

        Raises:
            HeaderError: Something is missing, contradicts itself, or is undecided.
        """
        default = {"name": f"sys_{syscall}", "kind": "call", "returns": "long", "args": "header"}
        row = self._supplement.get(syscall, default)
        source, found = _parameters(row, self._declared)
        args = None
        if found is not None:
            args = tuple(kinds.classify(row["name"], parameter, self._decided) for parameter in found)
        return Syscall(number, row["name"], row["kind"], row["returns"], source, args)


def _parameters(row: Row, declared: Declared) -> tuple[str, tuple[Parameter, ...] | None]:
    """Returns where a syscall's parameters are from, and them; None when unknown.

    Raises:
        HeaderError: They are missing in both header and supplement, or differ.
    """
    name = row["name"]
    header = declared.get(name)
    complete = header is not None and all(parameter.name for parameter in header)
    if row["args"] == "header":
        if not complete:
            raise HeaderError(f"{name}: {SYSCALLS_H} lacks its arguments: add it to supplement.tsv")
        return SYSCALLS_H, header
    if complete:
        raise HeaderError(f"supplement.tsv: {name} is complete in {SYSCALLS_H}: say `header`")
    ours = _read_arguments(row["args"])
    if header is not None and [ctype for ctype, _ in header] != [ctype for ctype, _ in ours or ()]:
        raise HeaderError(f"supplement.tsv: the types of {name} are others in {SYSCALLS_H}")
    return row["source"], ours


def _read_arguments(text: str) -> tuple[Parameter, ...] | None:
    """Reads `int fd; int how`; `void` is no arguments, `-` arguments unknown."""
    if text == "-":
        return None
    return () if text == "void" else tuple(headers.parameter(part) for part in text.split(";"))


def _supplement(abi: str) -> dict[str, Row]:
    """Returns the supplement's rows for an ABI by `__NR_` name; its own go before `*`."""
    rows = [row for row in hand_table("supplement.tsv") if row["abi"] in ("*", abi)]
    return {row["syscall"]: row for row in sorted(rows, key=lambda row: row["abi"] == abi)}


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
