"""What capture must know of an ABI's syscalls: which arguments to read, and which calls need more than one look.

The data are made by `scripts/make_tables.py` out of the prototypes in `process/`, which this stage does not import,
and of the roles in `scripts/tables/roles.tsv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from errno_tables import tsv

COLUMNS = ("number", "name", "roles", "args")
SOCKETCALL_COLUMNS = ("number", "name", "words", "role", "args")
KINDS = frozenset(
    {
        "string",
        "strings",
        "out_string",
        "in_buffer",
        "out_buffer",
        "in_struct",
        "out_struct",
        "out_fds",
        "task_name",
        "socketcall",
        *(f"words:{count}" for count in range(1, 9)),
    }
)
_WIDE = frozenset({"socketcall", *(f"words:{count}" for count in range(1, 9))})
FILE_ROLES = frozenset({"fd", "dupfd", "fds", "rights", "socketcall", "cwd", "table"})
"""Roles of calls after which capture looks at descriptors; those that must be kept have the role `state`, too."""
ROLES = frozenset({"exec", "end", "resume", "restart", "fork", "wait", "rename", "entry", "state"}) | FILE_ROLES
MAX_ARGS = 6


@dataclass(frozen=True)
class Calls:
    """The syscalls of one ABI, as far as capture looks at them.

    Attributes:
        args: Number to (position from 0, kind) of each argument whose bytes are kept; see `load`. The position is
            that of the register, or of the word where there are more: a 64-bit argument before it may take two.
        execs: Calls that replace the program.
        ends: Those that end the task.
        resumes: Those that return into code that a signal had interrupted.
        restarts: Those that the kernel itself makes, to go on with a call that a signal had interrupted.
        forks: Those that return twice.
        waits: Those whose positive return value is a pid that is now free.
        renames: Those that may change a task's name.
        entry: Those recorded at entry also: they may never return, or replace the memory that holds their strings.
        context: Those that carry process or file-descriptor state, kept whatever the filter.
        files: Number to role of those after which a descriptor, a table or a folder is to be looked at.
        wide: Those whose arguments lie in an array in memory that one of their registers points to.
        after: Those after whose return there is anything to do: waits, renames, forks, files.
    """

    args: Mapping[int, tuple[tuple[int, str], ...]]
    execs: frozenset[int]
    ends: frozenset[int]
    resumes: frozenset[int]
    restarts: frozenset[int]
    forks: frozenset[int]
    waits: frozenset[int]
    renames: frozenset[int]
    entry: frozenset[int]
    context: frozenset[int]
    files: Mapping[int, str]
    wide: frozenset[int]
    after: frozenset[int]


@cache
def load(abi: str) -> Calls:
    """Returns an ABI's table, read once per process.

    The kinds of arguments: `string`, read at entry up to NUL; `strings`, at entry, a NULL-terminated array of
    pointers to such; `out_string`, read after a successful return; `in_buffer`, as long as the next argument says;
    `out_buffer`, as long as the return value says; `in_struct`, as long as the next argument says, at most 256 bytes;
    `out_struct`, after a successful return, as long as the int says that the next argument points to; `out_fds`, two
    ints of 4 bytes after a successful return; `task_name`, a string if argument 0 is PR_SET_NAME (15); `socketcall`, an
    array of words that are another call's arguments, see `load_socketcall`; `words:N`, an array of N words that are
    this call's own arguments.

    Raises:
        tsv.TableError: There is no such table, or it is malformed.
    """
    return parse(tsv.text("capture", "tables", abi), f"capture/tables/{abi}.tsv")


def joined(native: Calls, other: Calls, abi: int) -> Calls:
    """Both tables in one; the numbers of the ``other`` ABI have its own number in their upper half."""
    both: dict[str, Any] = {}
    for name, theirs in vars(other).items():
        ours = getattr(native, name)
        if isinstance(theirs, Mapping):
            both[name] = {**ours, **{abi << 32 | number: value for number, value in theirs.items()}}
        else:
            both[name] = ours | {abi << 32 | number for number in theirs}
    return Calls(**both)


class SubCall(NamedTuple):
    """A call behind socketcall.

    Attributes:
        words: Number of its arguments, which are the words of the array.
        role: One of ``FILE_ROLES``, empty for none.
        args: (position from 0, kind) of those whose bytes are kept, as in `Calls.args`.
    """

    words: int
    role: str
    args: tuple[tuple[int, str], ...]


@cache
def load_socketcall() -> Mapping[int, SubCall]:
    """Returns the calls behind socketcall by its first argument; they are the same on every ABI.

    Raises:
        tsv.TableError: The table is malformed.
    """
    where = "capture/tables/socketcall.tsv"
    table = tsv.parse(tsv.text("capture", "tables", "socketcall"), where, SOCKETCALL_COLUMNS)
    found = {}
    for line, number, (_name, words, role, cell) in table.numbered():
        if words not in map(str, range(1, MAX_ARGS + 1)):
            table.fail(line, f"{words!r} is not a number of words")
        if role != "-" and role not in FILE_ROLES:
            table.fail(line, f"unknown role {role!r}")
        found[number] = SubCall(int(words), role.strip("-"), _arguments(table, line, cell))
    return found


def parse(text: str, where: str) -> Calls:
    """Interprets a table's text; `where` names it in messages.

    Raises:
        tsv.TableError: The table is malformed.
    """
    table = tsv.parse(text, where, COLUMNS)
    args: dict[int, tuple[tuple[int, str], ...]] = {}
    files: dict[int, str] = {}
    having: dict[str, set[int]] = {role: set() for role in ROLES}
    for line, number, (_name, roles, cell) in table.numbered():
        for role in roles.split(" ") if roles != "-" else ():
            if role not in ROLES:
                table.fail(line, f"unknown role {role!r}")
            having[role].add(number)
            if role in FILE_ROLES:
                files[number] = role
        if found := _arguments(table, line, cell):
            args[number] = found
    roles_of = {role: frozenset(numbers) for role, numbers in having.items()}
    twice = roles_of["exec"] | roles_of["end"] | roles_of["resume"]
    return Calls(
        args=args,
        execs=roles_of["exec"],
        ends=roles_of["end"],
        resumes=roles_of["resume"],
        restarts=roles_of["restart"],
        forks=roles_of["fork"],
        waits=roles_of["wait"],
        renames=roles_of["rename"],
        entry=twice | roles_of["entry"],
        context=frozenset[int]().union(*(roles_of[role] for role in ROLES - FILE_ROLES - {"entry", "restart"})),
        files=files,
        wide=frozenset(number for number, found in args.items() if any(kind in _WIDE for _, kind in found)),
        after=roles_of["wait"] | roles_of["rename"] | roles_of["fork"] | frozenset(files),
    )


def _arguments(table: tsv.Table, line: int, cell: str) -> tuple[tuple[int, str], ...]:
    return tuple(_argument(table, line, arg) for arg in (cell.split(" ") if cell != "-" else ()))


def _argument(table: tsv.Table, line: int, text: str) -> tuple[int, str]:
    position, _, kind = text.partition(":")
    if kind not in KINDS or position not in map(str, range(MAX_ARGS)):
        table.fail(line, f"{text!r} is not an argument to read (position:kind)")
    return int(position), kind
