"""The records of the descriptor scan: what calls do to tables, and to who has which table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import numpy as np
import numpy.typing as npt

from process.shelf import get_records, get_texts, put_records, put_texts
from process.text_array import TextArray

Numbers = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]
"""A structured array: of ``CHANGE``, ``LIFE``, ``SIGHT`` or ``NODE``."""

CWD: Final = -100
"""Stands for the current folder where a descriptor is meant; AT_FDCWD (include/uapi/linux/fcntl.h)."""
ROOT: Final = -101
"""Stands for a process's root folder, which chroot changes."""
NONE: Final = -1
"""No descriptor."""
UNKNOWN, CLOSED = -1, -2
"""Codes of a name: open or not, nobody knows as what; known not to be open."""
NEVER: Final = np.iinfo(np.int64).max
ALWAYS: Final = np.iinfo(np.int64).min


class Join(IntEnum):
    """What makes a descriptor's name out of the name of its source."""

    TEXT = 0
    """The record's own text: there is no source."""
    SAME = 1
    PATH = 2
    """The text is a path below the source."""
    LOCAL = 3
    """The text is the address that the source, a socket, now has."""
    PEER = 4
    """Likewise of its peer; empty: none any more."""
    ACCEPT = 5
    """The text is the peer of a connection that the source, a socket, accepted."""
    ROOTED = 6
    """The text is an absolute path; the source is the root that it counts from."""


class Cloexec(IntEnum):
    """Whether exec closes a descriptor."""

    NO = 0
    YES = 1
    UNSURE = 2
    KEEP = 3
    """As the source."""


class Source(IntEnum):
    """Where a name comes from; `SOURCES` has the words."""

    UNKNOWN = 0
    INFERRED = 1
    INHERITED = 2
    CAPTURED = 3


SOURCES: Final = ("unknown", "inferred", "inherited", "captured")


class By(IntEnum):
    """What a change is known from."""

    CALL = 0
    """A call of the task ``holder``."""
    FOLDER = 1
    """The kernel's own path of the folder of the task ``holder``."""
    FILE = 2
    """The kernel's own path of a descriptor in the table ``holder``."""
    SNAPSHOT = 3
    """Likewise, as one of all that the table has."""


class Life(IntEnum):
    """What changes who has which table."""

    SNAPSHOT = 0
    """The table of ``task`` (an owner) is known whole: ``a`` is the number of its rows."""
    IDENTITY = 1
    """``task`` has the table of owner ``a``."""
    FORK = 2
    """``a``: the child's id as the call gave it, 0 if it has not returned; ``b``: clone flags, -1 if not known."""
    CHILD = 3
    """``task`` is a child of task ``a``; ``b`` as above."""
    EXEC = 4
    EXEC_BEGUN = 5
    """A thread that is not its process's first has entered exec: it will have the id of the first."""
    EXIT = 6
    EXIT_GROUP = 7
    UNSHARE = 8
    """``b``: clone flags."""
    RANGE = 9
    """close_range: ``a`` the first descriptor and the last << 32; ``b`` its flags."""
    PIVOT = 10
    """The root of all processes may have changed."""
    TAINT = 11
    """From now on the table changes in ways that nobody sees (io_uring)."""
    SETNS = 12
    """``b``: kinds of namespace."""
    EXEC_FAILED = 14
    """``a``: the event at which it was entered."""
    LOST = 13
    """A call whose entry was not seen may have changed anything in the table."""


CHANGE: Final = np.dtype(
    [
        ("seq", np.int64),
        ("t0", np.int64),
        ("t1", np.int64),
        ("since", np.int64),
        ("head", np.int64),
        ("holder", np.uint64),
        ("fd", np.int32),
        ("src", np.int32),
        ("text", np.int32),
        ("join", np.uint8),
        ("cloexec", np.uint8),
        ("by", np.uint8),
    ],
    align=True,  # numpy copies what is not before it looks at it
)
"""A descriptor gets a new meaning: by event ``seq``, which took from ``t0`` to ``t1`` (`NEVER` if its return was not
seen). ``holder`` is the task, or the
kernel's id of the table; ``by``, of `By`, tells which. ``src`` is the descriptor that ``join`` speaks of,
``text`` a code into a list of texts, or `UNKNOWN` or `CLOSED`. ``since`` and ``head`` are ``t0`` and ``seq`` of the
first of the changes of the same descriptor that this one stands for (see `fd_prune`)."""

LIFE: Final = np.dtype(
    [
        ("seq", np.int64),
        ("t0", np.int64),
        ("t1", np.int64),
        ("task", np.uint64),
        ("a", np.uint64),
        ("b", np.int64),
        ("op", np.uint8),
    ],
    align=True,  # numpy copies what is not before it looks at it
)
"""Something that changes who has which table; see `Life`."""

SIGHT: Final = np.dtype([("task", np.uint64), ("first", np.int64), ("last", np.int64)])
"""A task of a segment, and the times at which it entered its first and its last call there."""


@dataclass
class Scan:
    """What a stretch of events does to descriptor tables.

    Attributes:
        changes: Of dtype `CHANGE`, in no order but that what was read after an event comes after its calls;
            lookups are faster if those of one holder and descriptor are together, by sequence number.
        lives: Of dtype `LIFE`, by sequence number.
        texts: Of the changes, escaped.
    """

    changes: Records = field(default_factory=lambda: np.zeros(0, CHANGE))
    lives: Records = field(default_factory=lambda: np.zeros(0, LIFE))
    texts: list[str] = field(default_factory=list)


_NEAR: Final = {"t1": "t0", "since": "t0", "head": "seq"}
"""Fields of `CHANGE` that differ little from others."""


def store(scan: Scan, path: Path) -> bool:
    """Keep a scan's changes in a file; whether there was room for them."""
    try:
        with path.open("wb") as file:
            put_records(file, scan.changes, _NEAR)
            put_texts(file, TextArray.of(scan.texts))
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True


def stored(path: Path | None) -> Scan | None:
    """What `store` kept; None if it is not there any more, or never was."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return Scan(get_records(file, CHANGE, _NEAR), texts=get_texts(file).to_list())
    except (OSError, ValueError):
        return None


def shelve(scans: Sequence[Scan], folder: Path) -> None:
    """Move the changes of scans into a file without a name, so that they take memory only when they are looked at.

    They are arrays as before; without room for the file they stay where they are.
    """
    full = [scan for scan in scans if len(scan.changes)]
    with suppress(OSError), TemporaryFile(dir=folder) as file:
        for scan in full:
            file.write(scan.changes.data)
        file.flush()
        if not full:
            return
        held, at = mmap(file.fileno(), 0, access=ACCESS_COPY), 0
        for scan in full:
            size = scan.changes.nbytes
            scan.changes = np.frombuffer(held, CHANGE, len(scan.changes), at)
            at += size


def taken(records: Records, which: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Records:
    """Some of the records, as indexing gives them; numpy (2.4) would take each field of each by itself."""
    at = np.flatnonzero(which) if which.dtype == np.bool_ else which
    return _rows(records).take(at, axis=0).view(records.dtype).reshape(-1)


def joined(parts: Sequence[Records]) -> Records:
    """Records one after the other, of one dtype; at least one part."""
    return np.concatenate([_rows(part) for part in parts]).view(parts[0].dtype).reshape(-1)


def _rows(records: Records) -> npt.NDArray[np.uint64]:
    """Records as words: padding makes their sizes multiples of 8."""
    words: npt.NDArray[np.uint64] = np.ascontiguousarray(records).view(np.uint64)
    return words.reshape(len(records), records.dtype.itemsize // 8)


def recode(records: Records, codes: Numbers) -> None:
    """Give the texts of records other codes: `UNKNOWN` and `CLOSED` stay."""
    known = np.concatenate([codes, (CLOSED, UNKNOWN)])
    records["text"] = known.take(records["text"], mode="wrap")  # these two count from the end


class Birth(IntEnum):
    """What a table holds that nothing was changed in yet."""

    FRESH = 0
    """Nobody knows."""
    COPY = 1
    """What its parent held when it was copied: fork, unshare."""
    EXEC = 2
    """Likewise, without what exec closes."""
    RANGE = 3
    """Likewise, without the descriptors ``low`` to ``high``."""
    RANGE_CLOEXEC = 4
    """Likewise, and exec will close these descriptors."""
    WHOLE = 5
    """Nothing: it was read, and its changes say all that is in it."""
    BASE = 6
    """What is given beside: it is older than the events at hand."""


NODE: Final = np.dtype(
    [
        ("kind", np.uint8),
        ("tainted", np.bool_),
        ("parent", np.int32),
        ("group", np.int32),
        ("seq", np.int64),
        ("t0", np.int64),
        ("t1", np.int64),
        ("since", np.int64),
        ("unsure", np.int64),
        ("end", np.int64),
        ("ender", np.int64),
        ("low", np.int64),
        ("high", np.int64),
    ],
    align=True,  # numpy copies what is not before it looks at it
)
"""A table (or current folder) for as long as its descriptors are changed one by one; what changes many begins another.
It is made by event ``seq``, which took from ``t0`` to ``t1``, and used from ``since`` on. What is asked or changed by
calls that began before ``unsure``, or asked by calls that came back after ``end`` and are not ``ender``, may have seen
something else. Tables of one ``group`` may be the same one. A tainted table changes in ways that nobody sees."""
