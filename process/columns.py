"""The columns of a slice of events, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from capture.segment import EventFlag
from process.arguments import NO_FILE, NO_FILES, Arguments, FileNames
from process.calls import Events, Rules
from process.descriptors import Descriptors, may_be_folder, scan_blocks, to_fd
from process.events import DURATION, FLAGS_ENTRY, HIGH, LOW, NR_STRINGS, TASK, TIME, Words
from process.fd_records import NONE, SOURCES, stored
from process.fd_scan import Scanner
from process.fd_state import Start
from process.grouping import group
from process.identify import Codes, identify, marked
from process.plan import Plan
from process.read import Contents
from process.results import Results
from process.schema import ARGS, SCHEMA
from process.slices import Indices, Sequences, Slice, Slices
from process.tally import Tally
from process.values import Integers, Made, Texts, Values, labels

_REPR_OF = {f"arg{k}_repr": k for k in range(ARGS)}
_ARG_OF = {f"arg{k}": k for k in range(ARGS)}


class Segment:
    """What the slices of one batch are made with.

    Attributes:
        plan: What must be known from other segments.
        contents: Its segments, read as one.
        rules: How its events are to be read.
        slices: Its events.
    """

    def __init__(
        self, plan: Plan, contents: Contents, rules: Rules, start: Callable[[], Start], slices: Slices
    ) -> None:
        """Prepare; ``start`` gives what is known of descriptors when the batch starts.

        Raises:
            SegmentError: The segment is not what it was when it was surveyed.
        """
        self.plan, self.contents, self.rules = plan, contents, rules
        self.slices = slices
        self._start = start

    @cached_property
    def descriptors(self) -> Descriptors:
        """What descriptors are; scans the segment when first asked, unless its scan has been kept."""
        start = self._start()
        scan = stored(start.stored)
        if scan is None:
            scan = scan_blocks(Scanner(self.contents, self.rules), self.slices.blocks())
        return Descriptors(start, scan)


class Rows:
    """A slice as rows.

    Attributes:
        piece: The events. Their words must be filled before columns are asked for.
    """

    def __init__(self, segment: Segment, piece: Slice, ids: Sequences, clock: Callable[[], Sequences] | None) -> None:
        """Prepare; nothing is made yet.

        Args:
            segment: To which the slice belongs.
            piece: The events.
            ids: Of the rows.
            clock: Gives for each row the latest return before it; None if no descriptor will be shown.
        """
        self._segment, self.piece, self._ids, self._clock = segment, piece, ids, clock
        self._lost = 0

    def only(self, rows: Indices) -> Rows:
        """Some of the rows."""
        asked = self._clock
        clock = None if asked is None else lambda: asked()[rows]
        return Rows(self._segment, self.piece.only(rows), self._ids[rows], clock)

    def columns(self, names: Collection[str]) -> Made:
        """Columns by their names, in the order of ``schema.SCHEMA``."""
        wanted = [name for name in SCHEMA if name in names]
        made = self._arguments([name for name in wanted if name in _REPR_OF or name == "fd_source"])
        return {name: made[name] if name in made else self._column(name) for name in wanted}

    def count(self, tally: Tally) -> None:
        """Enter all but the number of rows into a tally; after `columns`."""
        plan = self._segment.plan
        assert plan.programs is not None  # else nobody counts
        tally.errors += self._results.errors
        tally.lost_strings += self._lost
        tally.add_calls(self.events.calls)
        tally.add_processes(
            plan.state, plan.programs, self._tasks, self._knows_pid, self._identity, self._results.failed,
            self.piece.sequences, self._times,
        )  # fmt: skip

    @cached_property
    def events(self) -> Events:
        """The rows as calls."""
        return self._segment.rules.resolve(self.piece.words)

    @cached_property
    def _results(self) -> Results:
        return Results(self.events)

    @cached_property
    def _identity(self) -> Codes:
        """An index into the plan's identities, -1 for none."""
        return identify(self._segment.plan.state, self.piece.sequences, *self._tasks)

    @cached_property
    def _tasks(self) -> tuple[Words, Indices]:
        """The distinct tasks, and for each row an index into them."""
        return group(self.piece.words[TASK])

    @cached_property
    def _knows_pid(self) -> npt.NDArray[np.bool_]:
        known: npt.NDArray[np.bool_] = self.piece.words[FLAGS_ENTRY] & np.uint64(EventFlag.TASK_IS_ASID) == 0
        return known

    @cached_property
    def _times(self) -> Sequences:
        """Unix time of entry."""
        began = np.uint64(self._segment.plan.batch.header.realtime_ns)
        times: Sequences = (self.piece.words[TIME] + began).view(np.int64)
        return times

    def _column(self, name: str) -> Values:
        if name in _ARG_OF:
            return Integers(*self.events.arguments(_ARG_OF[name]))
        make: Callable[[Rows], Values] = _MAKERS[name]
        return make(self)

    def _procname(self) -> Texts:
        names = [*(one.procname for one in self._segment.plan.state.identities), "[none]"]
        return labels(np.where(self._identity < 0, len(names) - 1, self._identity), names)

    def _mark(self) -> Texts:
        state = self._segment.plan.state
        return labels(marked(state, self.piece.sequences), [mark.text for mark in state.marks])

    @cached_property
    def _pid(self) -> Integers:
        return Integers((self.piece.words[TASK] >> HIGH).view(np.int64), self._knows_pid)

    def _tid(self) -> Integers:
        return Integers((self.piece.words[TASK] & LOW).view(np.int64), self._knows_pid)

    def _duration(self) -> Integers:
        durations = self.piece.words[DURATION].view(np.int64)
        return Integers(durations, durations >= 0)

    def _arguments(self, wanted: Collection[str]) -> dict[str, Values]:
        """The reprs of arguments, and where the name of an fd comes from."""
        if not wanted:
            return {}
        positions = [_REPR_OF[name] for name in wanted if name in _REPR_OF]
        files, source = self._files(range(ARGS) if "fd_source" in wanted else positions)
        made: dict[str, Values] = {"fd_source": labels(source, SOURCES)} if "fd_source" in wanted else {}
        if positions:
            contents = self._segment.contents
            found = Arguments(self.events, self._strings_of, contents.strings, files, positions)
            made |= {f"arg{k}_repr": texts for k, texts in found.made().items()}
            self._lost = found.lost
        return made

    def _strings_of(self, position: int, rows: Indices) -> Sequences:
        """The string at a position of the set of each of some events."""
        sets = (self.piece.words[NR_STRINGS][rows] >> HIGH).astype(np.int64)
        return self._segment.contents.sets.of_argument(sets, position)

    def _files(self, positions: Collection[int]) -> tuple[FileNames, npt.NDArray[np.int8]]:
        """What descriptors are, and for each event where the name of its first one is from; -1 if it has none."""
        asked = [
            ((index, position), call.rows, values, may_be_folder(call.name, call.args[position].name))
            for position in sorted(positions)
            for index, call in enumerate(self.events.calls)
            if position < len(call.args)
            and call.args[position].kind == "fd"
            and (values := self.events.pattern(call, position)) is not None
        ]
        source = np.full(len(self._ids), -1, np.int8)
        if not asked or self._clock is None:
            return NO_FILES, source
        arguments, mine, bits, may_be = zip(*asked, strict=True)
        counts, rows = [len(one) for one in mine], np.concatenate(mine)
        fds = to_fd(np.concatenate(bits), np.repeat(np.array(may_be), counts))
        self.piece.fill((TASK, TIME, DURATION))
        descriptors = self._segment.descriptors
        answers = descriptors.ask(self.piece.sequences, self.piece.words, self._tasks, rows, fds, self._clock)
        codes = np.where(fds == NONE, NO_FILE, answers.name)
        ends = {position: end for (_, position), end in zip(arguments, accumulate(counts), strict=True)}
        for start, end in reversed(list(pairwise((0, *ends.values())))):  # so that the first position stays
            named = start + np.flatnonzero(codes[start:end] != NO_FILE)
            source[rows[named]] = answers.source[named]
        return FileNames(descriptors.texts(), codes, dict(zip(arguments, counts, strict=True))), source


_MAKERS: dict[str, Callable[[Rows], Values]] = {
    "id": lambda rows: Integers(rows._ids),
    "name": lambda rows: labels(rows.events.call_of, [call.name for call in rows.events.calls]),
    "procname": Rows._procname,
    "proc_id": lambda rows: rows._pid,
    "retno": lambda rows: rows._results.retno(),
    "retno_repr": lambda rows: rows._results.retno_repr(),
    "seq": lambda rows: Integers(rows.piece.sequences),
    "abi": lambda rows: labels(rows.events.call_of, [call.abi for call in rows.events.calls]),
    "nr": lambda rows: Integers((rows.piece.words[NR_STRINGS] & LOW).view(np.int64)),
    "pid": lambda rows: rows._pid,
    "tid": Rows._tid,
    "time_ns": lambda rows: Integers(rows._times),
    "duration_ns": Rows._duration,
    "errno": lambda rows: rows._results.errno(),
    "status": lambda rows: rows._results.status(),
    "mark": Rows._mark,
    "capture": lambda rows: Integers(np.full(len(rows._ids), rows._segment.plan.capture, np.int64)),
}
