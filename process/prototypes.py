"""Syscall prototypes, one table per ABI: what each number and argument means.

The data are made by `scripts/make_tables.py` from the kernel's headers. Names
are the kernel's entry points (`sys_newstat` for number 4 of x86_64), which are
the names that PANDA's syscalls2 uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from errno_tables import tsv

COLUMNS = ("number", "name", "kind", "returns", "source", "args")
KINDS = frozenset({"call", "noreturn", "unimplemented"})
RETURNS = frozenset({"long", "pointer"})
WIDE_TYPES = frozenset({"loff_t", "u64", "__u64", "long long", "unsigned long long"})
"""C types of 64 bits on every ABI: with 4-byte words such an argument takes two. No other type does; `off_t`,
`size_t`, `aio_context_t` and all pointers have the size of a word."""
ARGUMENT_KINDS = frozenset({"value", "fd", "string", "strings", "out_string", "buffer", "struct", "pointer"})
MAX_ARGS = 6


class Argument(NamedTuple):
    """One argument of a syscall.

    Attributes:
        ctype: C type as the kernel header writes it, without `__user`.
        name: Argument name.
        kind: What the value is: `value`; `fd`, by meaning, whatever its name;
            `string`, to be read at entry up to NUL; `strings`, a NULL-terminated
            array of those; `out_string`, a string valid after a successful return;
            `buffer`, bytes whose length lies elsewhere; `struct`, one struct or
            union or an array of them; `pointer`, any other address.
    """

    ctype: str
    name: str
    kind: str


class Prototype(NamedTuple):
    """One syscall.

    Attributes:
        number: Syscall number.
        name: Kernel entry point, such as `sys_openat`.
        kind: `call`; `noreturn` when it never comes back; `unimplemented` when
            the kernel of the table answers ENOSYS (an older one may not have).
        returns: `long`, or `pointer` for an address. Both may be a -errno.
        source: Where the arguments were found, a path in the kernel tree.
        args: Arguments in order, at most six; empty when unknown, too.
        known: Whether the arguments are known.
    """

    number: int
    name: str
    kind: str
    returns: str
    source: str
    args: tuple[Argument, ...]
    known: bool

    @property
    def noreturn(self) -> bool:
        """Whether a call of it never returns to the caller."""
        return self.kind == "noreturn"


@dataclass(frozen=True)
class PrototypeTable:
    """The syscalls of one ABI.

    Attributes:
        header: The table's header: abi, packages, headers...
        by_number: Syscall by its number.
    """

    header: Mapping[str, str]
    by_number: Mapping[int, Prototype]


@cache
def load(abi: str) -> PrototypeTable:
    """Returns an ABI's table, read once per process.

    Raises:
        tsv.TableError: There is no such table, or it is malformed.
    """
    return parse(tsv.text("process", "tables", abi), f"process/tables/{abi}.tsv")


def parse(text: str, where: str) -> PrototypeTable:
    """Interprets a table's text; `where` names it in messages.

    Raises:
        tsv.TableError: The table is malformed.
    """
    table = tsv.parse(text, where, COLUMNS)
    by_number = {}
    for line, number, (name, kind, returns, source, cell) in table.numbered():
        if kind not in KINDS or returns not in RETURNS:
            table.fail(line, f"unknown kind or return {kind!r}, {returns!r}")
        args = arguments(table, line, cell)
        by_number[number] = Prototype(number, name, kind, returns, source, args, cell != "-")
    return PrototypeTable(table.header, MappingProxyType(by_number))


def arguments(table: tsv.Table, line: int, cell: str) -> tuple[Argument, ...]:
    """Splits `fd:int dfd; string:const char *filename`; `void` is none, `-` unknown.

    Raises:
        tsv.TableError: It has another form.
    """
    if cell in ("void", "-"):
        return ()
    args = []
    for text in cell.split("; "):
        kind, _, declaration = text.partition(":")
        name = declaration.replace("*", " ").rpartition(" ")[2]
        ctype = declaration[: len(declaration) - len(name)].rstrip()
        if kind not in ARGUMENT_KINDS or not ctype or not name.isidentifier():
            table.fail(line, f"{text!r} is not an argument (kind:type name)")
        args.append(Argument(ctype, name, kind))
    if len(args) > MAX_ARGS:
        table.fail(line, f"{len(args)} arguments, a syscall has at most {MAX_ARGS}")
    return tuple(args)
