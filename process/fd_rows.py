"""Rows of the table `fd` as numbers: what workers keep of them until all is decoded, and the columns that they become.

Names are codes from the worker that makes the rows to the pages of the output: nobody hashes the text of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from process.events import MAX_SEQUENCE
from process.fd_records import ALWAYS, NEVER, SOURCES, Cloexec, Records, joined, taken
from process.fd_steps import ENDS, HOW, Ends, Steps, some_texts
from process.grouping import group, in_order
from process.kernels_files import rows_of_steps
from process.shelf import get_records, get_texts, put_records, put_texts
from process.text_array import TextArray
from process.values import Integers, Made, Texts

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ROW = np.dtype(
    [
        ("seq", np.int64),
        ("time", np.int64),
        ("pid", np.int64),
        ("end_seq", np.int64),
        ("end_time", np.int64),
        ("fd", np.int32),
        ("group", np.int32),
        ("program", np.int32),
        ("name", np.int32),
        ("source", np.uint8),
        ("cloexec", np.uint8),
        ("how", np.int8),
        ("ended", np.int8),
    ],
    align=True,  # numpy copies what is not before it looks at it
)
"""A row. It begins with event ``seq`` at ``time``, and ends with ``end_seq`` at ``end_time`` (`NEVER` if that is not
known). ``program`` is an index in the capture's tree, ``name`` a code; -1 is null, as in ``pid`` and ``end_seq``, and
in ``ended`` for what did not end. ``group`` is of its table."""
_NEAR = {"end_seq": "seq", "end_time": "time"}
"""Fields that differ little from others."""
KEYS = ("seq", "time", "pid", "fd", "group")
"""What rows are ordered by."""
_SOURCES, _HOW, _ENDS = (TextArray.of(words) for words in (SOURCES, HOW, ENDS))


@dataclass(frozen=True)
class Stretch:
    """Some rows.

    Attributes:
        rows: Of dtype `ROW`, in no order.
        names: What their names are codes into.
    """

    rows: Records
    names: TextArray

    @classmethod
    def of(cls, rows: Records, names: Sequence[str] | TextArray) -> Stretch:
        """Rows whose names are codes into many: with those alone that they need."""
        distinct, index = group(rows["name"].astype(np.int64))
        is_named = distinct >= 0
        rows["name"] = np.where(is_named, np.cumsum(is_named) - 1, -1)[index]
        return cls(rows, some_texts(names, distinct[is_named]))

    @classmethod
    def joined(cls, parts: Sequence[Stretch]) -> Stretch:
        """The rows of several, at least one."""
        rows, at, before = joined([part.rows for part in parts]), 0, 0
        for part in parts:
            codes = rows["name"][at : at + len(part.rows)]
            codes[codes >= 0] += before
            at, before = at + len(part.rows), before + len(part.names)
        return cls(rows, TextArray.joined([part.names for part in parts]))

    def save(self, path: Path) -> None:
        """Keep it in a file.

        Raises:
            OSError: There is no room.
        """
        with path.open("wb") as file:
            put_records(file, self.rows, _NEAR)
            put_texts(file, self.names)

    @classmethod
    def load(cls, path: Path) -> Stretch:
        """What was kept.

        Raises:
            OSError, ValueError: It is gone, or something else is there.
        """
        with path.open("rb") as file:
            return cls(get_records(file, ROW, _NEAR), get_texts(file))

    def in_order(self) -> Stretch:
        """The same by `KEYS`."""
        seq = np.ascontiguousarray(self.rows["seq"])
        order = in_order(seq)
        ordered = seq[order]
        same = ordered[1:] == ordered[:-1]
        if same.any():
            at = np.flatnonzero(np.append(same, False) | np.append(False, same))
            some = order[at]
            order[at] = some[np.lexsort([self.rows[key][some] for key in reversed(KEYS)])]
        return Stretch(taken(self.rows, order), self.names)

    def columns(self, programs: Numbers, realtime_ns: int) -> Made:
        """The columns of `schema.FD_COLUMNS` but ``id`` and ``capture``.

        Args:
            programs: The id of each program of the capture's tree, -1 for one that has none.
            realtime_ns: Unix time of the clock's zero.
        """
        zero = min(realtime_ns, MAX_SEQUENCE)  # a forged header's has 64 bits
        rows, cloexec = self.rows, self.rows["cloexec"].astype(np.int64)
        time, end_time = (np.minimum(rows[name], MAX_SEQUENCE - zero) + zero for name in ("time", "end_time"))
        return {
            "program": _or_null(np.append(programs, -1)[rows["program"]]),
            "pid": _or_null(rows["pid"]),
            "fd": Integers(rows["fd"].astype(np.int64)),
            "name": Texts(rows["name"], self.names),
            "source": Texts(rows["source"].astype(np.int8), _SOURCES),
            "cloexec": Integers(cloexec, (cloexec == Cloexec.NO) | (cloexec == Cloexec.YES)),
            "how": Texts(rows["how"], _HOW),
            "start_seq": _or_null(rows["seq"]),
            "start_time_ns": Integers(time, rows["time"] != ALWAYS),
            "ended": Texts(rows["ended"], _ENDS),
            "end_seq": _or_null(rows["end_seq"]),
            "end_time_ns": Integers(end_time, rows["end_time"] != NEVER),
        }


def records(steps: Steps, ends: Ends, wanted: Mask | None = None) -> Records:
    """The stretches of steps, which are in order, in which a descriptor stays open: of dtype `ROW`, without programs.

    Args:
        steps: They.
        ends: Of their tables.
        wanted: The steps whose rows are wanted, those that begin with them; None: all.
    """
    return rows_of_steps(vars(steps).values(), (ends.end, ends.ended, ends.end_seq), wanted, ROW)


def _or_null(numbers: Numbers) -> Integers:
    """A column in which what is negative is null."""
    return Integers(numbers, numbers >= 0)
