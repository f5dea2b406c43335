"""What a segment does to descriptors: its events, and what capture read of tables, as records, block by block.

Both the survey and the decoder of a segment run it; what it gives depends on the blocks alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from capture.segment import EventFlag
from process.calls import Rules
from process.fd_batch import Batch
from process.fd_calls import HANDLERS
from process.fd_captured import Captured
from process.fd_edges import Edges
from process.fd_records import ALWAYS, Records, Scan
from process.fd_sights import Sights
from process.read import DURATION, FLAGS_ENTRY, LOW, TASK, TIME, Contents, Words
from process.wanted import Wanted, named

Numbers = npt.NDArray[np.int64]

_BATCH = 1 << 16
"""State events that are looked at together: enough that a call's events are many."""


class Scanner:
    """Scans the event blocks of a segment, in order.

    Attributes:
        clock: Latest time at which one of the events so far came back; `ALWAYS` before the first.
        edges: Where its events begin anew.
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
        self._held: list[tuple[Numbers, Words]] = []
        self._count = 0
        self._sights = Sights()
        self._captured = Captured(contents)
        self.clock = ALWAYS
        self.edges = Edges(contents.breaks)

    def add(self, first: int, words: Words) -> None:
        """Take the events of a block, uint64 of shape (12, n)."""
        resets = np.flatnonzero(words[FLAGS_ENTRY] & np.uint64(EventFlag.RESET))
        timed = list(zip(resets.tolist(), words[TIME, resets].tolist(), strict=True))
        for start, end in self.edges.stretches(first, len(words[TIME]), timed):
            self._take(first + start, words[:, start:end])

    def _take(self, first: int, words: Words) -> None:
        """Take events between which nothing is missing at all."""
        flags = words[FLAGS_ENTRY] & LOW
        self._keep_time(first, words, flags)
        by_task = flags & np.uint64(EventFlag.TASK_IS_ASID) == 0
        wanted = self._wanted.among(words) & by_task
        if wanted.any():
            at = np.flatnonzero(wanted)
            self._held.append((first + at, words.take(at, axis=1)))
            self._count += len(at)
            if self._count >= _BATCH:
                self._flush()
        if by_task.all():
            self._sights.add(words[TASK], words[TIME].view(np.int64))
        elif by_task.any():
            self._sights.add(words[TASK][by_task], words[TIME][by_task].view(np.int64))

    def finish(self) -> Scan:
        """All records; the time of one that capture read is `ALWAYS` where only another segment can tell it."""
        self._flush()
        scan = self._captured.merge(self._batch.finish(), self._batch.text)
        scan.texts = self._batch.texts
        return scan

    def sights(self) -> Records:
        """The tasks of the segment, of dtype `SIGHT`."""
        return self._sights.records()

    def _flush(self) -> None:
        """Look at the events held."""
        if not self._count:
            return
        sequences = np.concatenate([held for held, _ in self._held])
        words = np.concatenate([held for _, held in self._held], axis=1)
        self._held, self._count = [], 0
        assert self._rules is not None  # else no event was wanted
        events = self._rules.resolve(words)
        self._batch.take(sequences, events)
        for call in events.named(HANDLERS):
            called = self._batch.called(call)
            if called is not None:
                HANDLERS[call.name](self._batch, called)

    def _keep_time(self, first: int, words: Words, flags: Words) -> None:
        """Note when events came back, where gaps and what capture read need it."""
        lasted = np.where(words[DURATION] < 1 << 63, words[DURATION], 0).view(np.int64)
        times = words[TIME].view(np.int64) + np.where(flags & np.uint64(EventFlag.RETURNED) != 0, lasted, 0)
        before = self.edges.take(first, len(times), lambda: int(times[0]), self.clock)
        self._captured.keep_time(first, before, times)
        self.clock = max(self.clock, int(times.max()))
