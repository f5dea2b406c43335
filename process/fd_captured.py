"""What capture read of descriptor tables in the kernel: rows of type FILES, and which table a task has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from process.events import HIGH, LOW, Words
from process.fd_records import ALWAYS, CHANGE, CWD, LIFE, NEVER, NONE, UNKNOWN, By, Life, Records, Scan, joined
from process.grouping import distinct, union
from process.read import Contents
from process.strings import escape

Numbers = npt.NDArray[np.int64]

_CLOEXEC, _CWD, _SNAPSHOT = 1, 2, 4
"""Flags of a row (docs/FORMAT.md)."""
_PARTIAL = 3
_TABLE = 7
"""Word of an identity that tells its table."""


class Captured:
    """The rows of a segment, and the times at which they begin to hold.

    A row holds from an event on; here it becomes a change that the event before it made, at the time at which that
    event came back, after whatever else it did.
    """

    def __init__(self, contents: Contents) -> None:
        self._rows: Words = contents.files
        self._strings = contents.strings
        tasks = contents.tasks
        self._identities = tasks[:, tasks[_TABLE] != 0]
        self._stops = union(self._rows[0].view(np.int64), self._identities[0].view(np.int64))
        self._times = np.full(len(self._stops), ALWAYS)

    def keep_time(self, first: int, count: int, before: int, times: Callable[[], Numbers]) -> None:
        """Learn when the events of a block came back.

        Args:
            first: Sequence number of the block's first event.
            count: How many it has.
            before: The time just before it; `ALWAYS` if that is for another segment to tell.
            times: Gives that of each event.
        """
        if not len(self._stops):
            return
        low, high = np.searchsorted(self._stops, (first, first + count + 1))
        if low < high:
            running = np.maximum.accumulate(np.concatenate(([before], times())))
            fresh = self._times[low:high] == ALWAYS
            self._times[low:high] = np.where(fresh, running[self._stops[low:high] - first], self._times[low:high])

    def merge(self, scan: Scan, code: Callable[[str], int]) -> Scan:
        """A scan with these records in their places; ``code`` gives a text's code, also those that ``scan`` lacks."""
        if not len(self._stops):
            return scan
        changes = self._changes(code)
        tables = distinct(changes[["seq", "holder", "t1"]][changes["by"] == By.SNAPSHOT])
        lives = np.zeros(len(tables) + self._identities.shape[1], LIFE)
        snapshots, identities = lives[: len(tables)], lives[len(tables) :]
        snapshots["op"], identities["op"] = Life.SNAPSHOT, Life.IDENTITY
        snapshots["seq"], snapshots["task"] = tables["seq"], tables["holder"]
        snapshots["t0"] = snapshots["t1"] = tables["t1"]
        identities["seq"] = self._identities[0].view(np.int64) - 1
        identities["task"], identities["a"] = self._identities[1], self._identities[_TABLE]
        identities["t0"] = identities["t1"] = self._time_of(identities["seq"] + 1)
        lives = np.concatenate([scan.lives, lives])
        lives = lives[np.argsort(lives["seq"], kind="stable")]
        return Scan(joined([scan.changes, changes[_tells(changes)]]), lives, scan.texts)

    def _changes(self, code: Callable[[str], int]) -> Records:
        """The rows as changes; the one row of an empty table has no descriptor."""
        seq, owner, fd_path, flags = self._rows
        flags = flags & LOW
        made = np.zeros(len(seq), CHANGE)
        made["seq"] = made["head"] = seq.view(np.int64) - 1
        made["holder"], made["src"] = owner, NONE
        made["t0"] = made["t1"] = self._time_of(seq.view(np.int64))
        made["since"] = NEVER  # to read is not to change
        of_task, whole = flags & np.uint64(_CWD) != 0, flags & np.uint64(_SNAPSHOT) != 0
        made["by"] = np.where(of_task, By.FOLDER, np.where(whole, By.SNAPSHOT, By.FILE))
        fd = (fd_path & LOW).astype(np.int64)
        made["fd"] = np.where(of_task, CWD, np.where(fd < 1 << 31, fd, NONE))
        made["cloexec"] = flags & np.uint64(_CLOEXEC)
        paths, which = np.unique((fd_path >> HIGH).astype(np.int64), return_inverse=True)
        made["text"] = np.array([self._code(path, code) for path in paths.tolist()], np.int64)[which]
        return made

    def _code(self, path: int, code: Callable[[str], int]) -> int:
        text = self._strings.get(path)
        return UNKNOWN if text is None or text.flags & _PARTIAL or not text.data else code(escape(text.data))

    def _time_of(self, sequences: Numbers) -> Numbers:
        found: Numbers = self._times[np.searchsorted(self._stops, sequences)]
        return found


def _tells(changes: Records) -> npt.NDArray[np.bool_]:
    """Whether each is more than the end of an empty table, or than a path that could not be read."""
    tells: npt.NDArray[np.bool_] = (changes["fd"] != NONE) & ((changes["text"] >= 0) | (changes["by"] == By.SNAPSHOT))
    return tells
