"""What a segment does to descriptors: its events, and what capture read of tables, as records, block by block.

Both the survey and the decoder of a segment run it; what it gives depends on the blocks alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from capture.segment import EventFlag
from process.calls import Rules
from process.events import (
    DURATION,
    FLAGS_ENTRY,
    MAX_SEQUENCE,
    TASK,
    TIME,
    WORDS,
    Flags,
    Indices,
    Ready,
    Unpacked,
    Words,
)
from process.fd_batch import Batch
from process.fd_calls import HANDLERS
from process.fd_captured import Captured
from process.fd_edges import Edges
from process.fd_records import ALWAYS, Records, Scan
from process.fd_sights import Sights
from process.kernels_events import span_of
from process.read import Contents
from process.wanted import Wanted, named

Numbers = npt.NDArray[np.int64]

LOOKED_AT = (TIME, DURATION, TASK, FLAGS_ENTRY)
"""The words that are looked at of all events."""
NOT_BY_TASK = EventFlag.TASK_IS_ASID | EventFlag.RESET
"""Flags of events that are of no task."""
_BATCH = 1 << 16
"""State events that are looked at together: enough that a call's events are many."""


class Scanner:
    """Scans the event blocks of a segment, in order.

    Attributes:
        clock: Latest time at which one of the events so far came back; `ALWAYS` before the first.
        edges: Where its events begin anew.
        earliest: When the first of the events so far was entered, and ``latest`` the last; since the capture's start.
    """

    def __init__(self, contents: Contents, rules: Rules | None) -> None:
        """Prepare.

        Args:
            contents: The segment.
            rules: How to read its events; without, nothing is known of its calls.
        """
        self._batch = Batch(contents.header, contents.sets, contents.strings)
        self._rules = rules
        self._wanted = Wanted(named(rules, HANDLERS))
        self._sequences, self._words = _none_held()
        self._count = 0
        self._sights = Sights()
        self._captured = Captured(contents)
        self.clock = ALWAYS
        self.edges = Edges(contents.breaks)
        self.earliest, self.latest = MAX_SEQUENCE, 0

    def add(self, first: int, block: Unpacked | Ready, words: Words, flags: Flags) -> None:
        """Take the events of a block.

        Args:
            first: Sequence number of the first one.
            block: They.
            words: They with the words ``LOOKED_AT``, uint64 of shape (12, n).
            flags: Theirs.
        """
        left_out = flags.rows(NOT_BY_TASK)
        wanted = self._wanted.rows(block)
        if len(left_out):
            wanted = wanted[~np.isin(wanted, left_out)]
        if len(wanted):
            self._hold(first, block, wanted)
        tasks, times = words[TASK], words[TIME].view(np.int64)
        if len(left_out):
            tasks, times = np.delete(tasks, left_out), np.delete(times, left_out)
        self._sights.add(tasks, times)
        resets = flags.rows(EventFlag.RESET)
        timed = list(zip(resets.tolist(), words[TIME, resets].tolist(), strict=True))
        for _, time in timed:
            self.earliest, self.latest = min(self.earliest, time), max(self.latest, time)
        for start, end in self.edges.stretches(first, len(words[TIME]), timed):
            self._keep_time(first + start, words[:, start:end])

    def finish(self) -> Scan:
        """All records; the time of one that capture read is `ALWAYS` where only another segment can tell it."""
        self._flush()
        self._sequences, self._words = _none_held()  # as much as half a scan
        scan = self._captured.merge(self._batch.finish(), self._batch.text)
        scan.texts = self._batch.texts
        return scan

    def sights(self) -> Records:
        """The tasks of the segment, of dtype `SIGHT`; without those of events that are `NOT_BY_TASK`."""
        return self._sights.records()

    def _hold(self, first: int, block: Unpacked | Ready, rows: Indices) -> None:
        """Keep some events until they are looked at with others."""
        if self._count + len(rows) > len(self._sequences):
            self._flush()
        if len(rows) > len(self._sequences):
            room = max(_BATCH, len(rows))
            self._sequences, self._words = np.empty(room, np.int64), np.empty((WORDS, room), np.uint64)
        held = slice(self._count, self._count + len(rows))
        self._sequences[held] = first + rows
        block.choose(rows, self._words[:, held])
        self._count += len(rows)

    def _flush(self) -> None:
        """Look at the events held."""
        if not self._count:
            return
        assert self._rules is not None  # else no event was wanted
        events = self._rules.resolve(self._words[:, : self._count])
        self._batch.take(self._sequences[: self._count], events)
        self._count = 0
        for call in events.named(HANDLERS):
            called = self._batch.called(call)
            if called is not None:
                HANDLERS[call.name](self._batch, called)

    def _keep_time(self, first: int, words: Words) -> None:
        """Note when events came back between which nothing is missing, where gaps and what capture read need it."""
        span, count = span_of(words[TIME], words[DURATION], words[FLAGS_ENTRY]), words.shape[1]
        before = self.edges.take(first, count, lambda: int(_came_back(words[:, :1])[0]), self.clock)
        self._captured.keep_time(first, count, before, lambda: _came_back(words))
        self.clock = max(self.clock, span.returned)
        self.earliest, self.latest = min(self.earliest, span.earliest), max(self.latest, span.latest)


def _none_held() -> tuple[Numbers, Words]:
    """Room for no events."""
    return np.zeros(0, np.int64), np.zeros((WORDS, 0), np.uint64)


def _came_back(words: Words) -> Numbers:
    """When each of some events came back; when it was entered if that is not known."""
    lasted = np.where(words[DURATION] < 1 << 63, words[DURATION], 0).view(np.int64)
    returned = words[FLAGS_ENTRY] & np.uint64(EventFlag.RETURNED) != 0
    found: Numbers = words[TIME].view(np.int64) + np.where(returned, lasted, 0)
    return found
