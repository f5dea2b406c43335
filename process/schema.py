"""The output's columns: one row per syscall, the same in SQLite, Parquet and lazy frames."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Final

from process.errors import ProcessError
from process.output import USAGE


class Kind(Enum):
    """What a column holds; `frames.DTYPES` says how Polars calls it.

    A label is a text of few values. The reprs are none: a Categorical of a million pointers would have to hash each.
    """

    INTEGER = "integer"
    TEXT = "text"
    LABEL = "label"


Kinds = Mapping[str, Kind]
"""Columns by their names, in order."""

ARGS: Final = 6

SCHEMA: Final[Kinds] = {
    "id": Kind.INTEGER,
    "name": Kind.LABEL,
    "procname": Kind.LABEL,
    "proc_id": Kind.INTEGER,
    "retno": Kind.INTEGER,
    "retno_repr": Kind.TEXT,
    **{name: kind for k in range(ARGS) for name, kind in ((f"arg{k}", Kind.INTEGER), (f"arg{k}_repr", Kind.TEXT))},
    "seq": Kind.INTEGER,
    "abi": Kind.LABEL,
    "nr": Kind.INTEGER,
    "pid": Kind.INTEGER,
    "tid": Kind.INTEGER,
    "time_ns": Kind.INTEGER,
    "duration_ns": Kind.INTEGER,
    "errno": Kind.LABEL,
    "status": Kind.LABEL,
    "mark": Kind.LABEL,
    "fd_source": Kind.LABEL,
    "capture": Kind.INTEGER,
}
"""Name and kind of each column, in order. ``time_ns`` is Unix time at entry; both times are nanoseconds."""

REPRS: Final = frozenset(name for name in SCHEMA if name.endswith("_repr"))
"""The columns that are texts of others, which cost most."""

TEXTS: Final = REPRS | {"fd_source"}
"""What ``--no-repr`` leaves out: the reprs, and where the names in them are from."""

STATUSES: Final = ("returned", "noreturn", "unfinished")


def chosen(wanted: Collection[str] | None = None, reprs: bool = True) -> tuple[str, ...]:
    """The columns of an output, in order.

    Args:
        wanted: Names of those that are wanted, None for all; ``id`` is always among them.
        reprs: Whether the texts of others are wanted at all.

    Raises:
        ProcessError: There is no such column.
    """
    for name in wanted or ():
        if name not in SCHEMA:
            near = difflib.get_close_matches(name, SCHEMA, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ProcessError(f"no column {name!r}{hint} (columns are {', '.join(SCHEMA)})", USAGE)
    return tuple(
        name for name in SCHEMA if (name == "id" or wanted is None or name in wanted) and (reprs or name not in TEXTS)
    )


def show_files(columns: Iterable[str]) -> bool:
    """Whether any of some columns may have the name of a descriptor in it."""
    return not {"fd_source", *(f"arg{k}_repr" for k in range(ARGS))}.isdisjoint(columns)


PROCESS_COLUMNS: Final = (
    "id", "capture", "process", "parent", "pid", "ppid", "procname", "argv", "source", "first_seq", "first_time_ns",
    "events", "errors", "threads", "began", "start_seq", "start_time_ns", "ended", "end_seq", "end_time_ns",
    "exit_status",
)  # fmt: skip
"""One row per program that a process ran: an exec ends one and begins the next. What is not known is null.

``process`` is the id of the process's first row, the same for all its programs, whoever has its pid later; ``parent``
the id of the program that made it. ``ppid`` is the parent's number when the process was first seen. ``argv`` is a JSON
list. ``source`` says where the name is from: `profile`, the kernel, read with the offsets of its debug data; `derived`,
the kernel, read with offsets derived while it ran; `calls`, the process's own execve or prctl; `inherited`, its
parent's name; `unknown`. ``events`` counts its rows, of which ``errors`` failed; ``threads`` are the tasks that made
them. ``began`` is `fork` or `exec`, ``start_seq`` the row of that call (of the child's own return, which is no row, if
the parent's was not seen); ``ended`` is `exit` or `exec`, ``end_seq`` the row of that. A process that was killed has no
end: no call tells it."""

FD_COLUMNS: Final = (
    "id", "capture", "program", "pid", "fd", "name", "source", "cloexec", "how", "start_seq", "start_time_ns", "ended",
    "end_seq", "end_time_ns",
)  # fmt: skip
"""One row per descriptor for as long as it is one open file. What is not known is null.

``program`` is an id of the table `process`; a table that several processes share is the first one's. ``name`` is the
last known, ``source`` as the column ``fd_source`` of the rows. ``how`` it was made: `open`, `dup`, `accept`, `pipe`,
`socket`, `made` (by another call), `fork`, `exec`, `unshare` (a copy of what the table held), `seen` (it was there
already). ``start_seq`` is the call that made it, and ``start_time_ns`` when that came back. ``ended``: `close`,
`replaced` (by dup2), `exec`, `exit`, with the call, and when it was over; `lost`, when nobody knows when and how; null
if it was open at the end."""

SEGMENT_COLUMNS: Final = (
    "capture", "uuid", "segment", "file", "abi", "first_seq", "events", "rows", "size", "sealed", "damage",
)  # fmt: skip
"""One row per segment decoded. ``damage`` counts the places of its files that had to be passed over."""

STATS_COLUMNS: Final = ("severity", "stage", "item", "count")
"""The ledger."""

TEXT_COLUMNS: Final = frozenset({
    "uuid", "file", "abi", "procname", "argv", "severity", "stage", "item", "source", "began", "ended",
    "name", "how",
})  # fmt: skip
"""Of the small tables, the columns that hold text; the others hold integers."""


def kinds(columns: Iterable[str]) -> Kinds:
    """Of some columns of the small tables."""
    return {name: Kind.TEXT if name in TEXT_COLUMNS else Kind.INTEGER for name in columns}
