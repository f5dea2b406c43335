"""How a limit on memory is kept: by fewer workers, smaller slices and smaller batches. None of them changes a row."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from process.backstop import Backstop, backstop
from process.batch import MOST, SLICE

_PROCESS = 80 << 20
"""Bytes that a process takes which decodes nothing yet: the interpreter and its libraries, Polars among them."""
_OF_FILE = 32
"""Bytes for each stored one of a batch, while it is surveyed or decoded."""
_OF_EVENT = 1400
"""Bytes for each event of a slice: its words, its columns, and what the writer holds of them."""
_TAKEN = 560
"""Of these what a slice was measured to take, of a generated capture."""
_LEAST = 1 << 13
"""Events of the smallest slice: still a whole block of most captures, so that less would save nothing."""
_FEWEST = 1 << 18
"""Bytes of the smallest batch of small segments."""
_LEAST_SPLIT = 1 << 20
"""Bytes of the smallest split: the command itself holds something for each."""

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes that getrusage(2) counts in."""


@dataclass(frozen=True)
class Room:
    """How much is done at a time.

    Attributes:
        jobs: Worker processes.
        events: Of a slice; None: as many as is quickest.
        batch: Stored bytes of a batch of small segments, at most; likewise.
        split: Of a split; likewise.
        backstop: Where a worker is stopped.
    """

    jobs: int
    events: int | None = None
    batch: int | None = None
    split: int | None = None
    backstop: Backstop | None = None


def room(limit: int | None, jobs: int, whole: Iterable[int], splits: Iterable[int] = ()) -> Room:
    """What fits in a limit, as far as it can be told before anything is read; the least there is if nothing fits.

    Fewer workers come last: they cost most time.

    Args:
        limit: Bytes for all processes together; None for none.
        jobs: Worker processes that are wanted.
        whole: Stored bytes of each segment that is not divided.
        splits: Of each split, where nothing limits them.
    """
    found = list(whole)
    greatest, total, divided = max(found, default=0), sum(found), max(splits, default=0)
    if limit is None:
        held = max(greatest, min(MOST, total), divided)
        return Room(jobs, backstop=backstop(None, jobs, _reckoned(held, SLICE)))
    for workers in range(jobs, 0, -1):
        mine = (limit - (workers + 1) * _PROCESS) // workers
        batch = min(MOST, max(mine // (2 * _OF_FILE), _FEWEST))
        split = max(batch, _LEAST_SPLIT)
        held = max(greatest, min(batch, total), min(split, divided))
        left = mine - _OF_FILE * held
        if left >= _OF_EVENT * _LEAST or workers == 1:
            events = _LEAST
            while events < SLICE and 2 * events * _OF_EVENT <= left:
                events *= 2
            return Room(workers, events, batch, split, backstop(limit, workers, _reckoned(held, events)))
    raise AssertionError("one job or more")


def taken_by(events: int) -> int:
    """Bytes that a worker takes to decode the slices of a batch of so many events, mostly."""
    return _TAKEN * min(events, SLICE)


def _reckoned(batch: int, events: int) -> int:
    """Bytes that a worker takes for a batch and a slice."""
    return _OF_FILE * batch + _OF_EVENT * events


def peak(workers: int = 0) -> int:
    """Bytes that this process has held so far at its greatest, and so many of its workers that have ended."""
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if workers else 0
    return _mine() + _UNIT * theirs * workers


def _mine() -> int:
    """The kernel's VmHWM: getrusage(2) would count what the program held that started this one."""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return _UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
