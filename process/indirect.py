"""Calls whose arguments are not in registers, or not theirs.

Socketcall and ipc are one syscall of some ABIs that stands for many. A few old calls take all arguments from an array
of words in memory.

The data are made by `scripts/make_tables.py`; the sources are in `scripts/tables/indirect.tsv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from errno_tables import tsv
from process.prototypes import Argument, arguments

SOCKETCALL_COLUMNS = ("number", "name", "words", "prototype")
IPC_COLUMNS = ("number", "abi", "name", "args", "prototype")
WORDS_COLUMNS = ("name", "prototype")
IPC_NAMES = frozenset({"sys_ipc", "sys_s390_ipc", "sys_sparc_ipc"})
"""Names of ipc. That of s390 has no `fifth` parameter."""
IPC_PARAMETERS = ("call", "first", "second", "third", "ptr", "fifth")
"""Parameters of sys_ipc (ipc/syscall.c, Linux 6.1). The upper 16 bits of `call` are a version: only MSGRCV looks at it,
and any but 0 means what 1 means, so its number with version 1 is a row of its own."""


class Indirect(NamedTuple):
    """A real call.

    Attributes:
        name: Kernel entry point, such as `sys_connect`.
        args: Its arguments.
        feeds: For each of them, the position of what feeds it: of a word in socketcall's array; of a parameter of
            sys_ipc; None when it is in memory that a parameter of sys_ipc points to.
    """

    name: str
    args: tuple[Argument, ...]
    feeds: tuple[int | None, ...]


@cache
def load_socketcall() -> Mapping[int, Indirect]:
    """Returns the calls behind socketcall by its first argument; they are the same on every ABI.

    Raises:
        tsv.TableError: The table is malformed.
    """
    table = tsv.parse(tsv.text("process", "tables", "socketcall"), "process/tables/socketcall.tsv", SOCKETCALL_COLUMNS)
    found = {}
    for line, number, (name, words, prototype) in table.numbered():
        args = arguments(table, line, prototype)
        if words != str(len(args)):
            table.fail(line, f"{words!r} words for {len(args)} arguments")
        found[number] = Indirect(name, args, tuple(range(len(args))))
    return MappingProxyType(found)


@cache
def load_ipc(abi: str) -> Mapping[int, Indirect]:
    """Returns the calls behind an ABI's ipc by its first argument, version included.

    Raises:
        tsv.TableError: The table is malformed.
    """
    table = tsv.parse(tsv.text("process", "tables", "ipc"), "process/tables/ipc.tsv", IPC_COLUMNS)
    general: dict[int, Indirect] = {}
    own: dict[int, Indirect] = {}
    for line, (number, abis, name, cell, prototype) in table.lines:
        if not (number.isascii() and number.isdigit()):
            table.fail(line, f"{number!r} is not a decimal number")
        args, feeds = arguments(table, line, prototype), cell.split(" ")
        if any(feed not in IPC_PARAMETERS and not feed.startswith("*") for feed in feeds) or len(feeds) != len(args):
            table.fail(line, f"{cell!r} does not feed {len(args)} arguments")
        positions = tuple(IPC_PARAMETERS.index(feed) if feed in IPC_PARAMETERS else None for feed in feeds)
        if abis == "*" or abi in abis.split(" "):
            (general if abis == "*" else own)[int(number)] = Indirect(name, args, positions)
    return MappingProxyType({**general, **own})


@cache
def load_words() -> Mapping[str, tuple[Argument, ...]]:
    """Returns the arguments that a call takes from the words which its one register points to, by name of the call.

    Only with words of 4 bytes: with longer ones they are not recorded.

    Raises:
        tsv.TableError: The table is malformed.
    """
    table = tsv.parse(tsv.text("process", "tables", "words"), "process/tables/words.tsv", WORDS_COLUMNS)
    return MappingProxyType({name: arguments(table, line, prototype) for line, (name, prototype) in table.lines})
