"""Step five: the events of a segment as rows of the output, a slice at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from capture.segment import EventFlag, Header, SegmentError
from process.arguments import NO_FILE, Arguments, FileNames
from process.calls import Call, Events, Rules
from process.descriptors import Descriptors, may_be_folder, scan_blocks, to_fd
from process.fd_records import CWD, SOURCES, stored
from process.fd_scan import Scanner
from process.identify import Codes, identify, marked
from process.plan import Plan
from process.read import DURATION, FLAGS_ENTRY, HIGH, LOW, NR_STRINGS, TASK, TIME, Words, load
from process.render import labels, nullable
from process.results import result_columns
from process.schema import SCHEMA
from process.survey import Sequences

SLICE = 1 << 17
"""Events decoded at a time: enough that distinct values repeat, few enough for the processor's cache."""

Process = tuple[int | None, int | None, str, str | None, str]
"""pid, ppid, procname, argv, source."""


@dataclass
class Tally:
    """What was decoded.

    Attributes:
        rows: Rows of the output.
        errors: Of these, calls that failed.
        lost_strings: Arguments whose string is lost.
        unknown: Events of syscalls that no table has, by ABI and number.
        processes: First sequence number, its Unix time in ns, and number of rows.
    """

    rows: int = 0
    errors: int = 0
    lost_strings: int = 0
    unknown: Counter[tuple[str, int]] = field(default_factory=Counter)
    processes: dict[Process, tuple[int, int, int]] = field(default_factory=dict)

    def add_process(self, process: Process, seq: int, time_ns: int, events: int) -> None:
        """Count rows of a process that come after those counted before."""
        first, began, count = self.processes.get(process, (seq, time_ns, 0))
        self.processes[process] = first, began, count + events


class Decoder:
    """Decodes one segment.

    Attributes:
        plan: The segment, and all that must be known from others.
        tally: Grows as `frames` is consumed.
    """

    def __init__(self, plan: Plan) -> None:
        """Read the segment.

        Raises:
            SegmentError: It cannot be used at all.
            OSError: A file cannot be read.
        """
        self.plan, self.tally = plan, Tally()
        self._contents = load(plan.part)
        self._header: Header = plan.part.header
        try:
            self._rules = Rules(self._header)
        except SegmentError as error:
            raise SegmentError(f"{plan.part.name}: {error}") from None
        self._scanned: Descriptors | None = None

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows, in order, as frames with the columns of ``schema.SCHEMA``.

        Raises:
            SegmentError: The segment is not what it was when it was surveyed.
        """
        for sequences, words in self._slices():
            gone = np.searchsorted(sequences, self._gone(sequences))
            if len(gone):
                sequences, words = np.delete(sequences, gone), np.delete(words, gone, axis=1)
            if len(sequences):
                yield self._frame(sequences, words)
        if self.tally.rows != self.plan.rows:
            raise SegmentError(f"{self.plan.part.name}: changed while it was decoded; decode again")

    def _slices(self) -> Iterator[tuple[Sequences, Words]]:
        """Sequence numbers and words of the planned blocks, some blocks at a time."""
        found = {block.first: block for block in self._contents.events}
        sequences: list[Sequences] = []
        words: list[Words] = []
        pending = 0
        for first, count in self.plan.blocks:
            block = found.get(first)
            if block is None or block.count < count:
                raise SegmentError(f"{self.plan.part.name}: changed while it was decoded; decode again")
            sequences.append(np.arange(first, first + count))
            words.append(block.words()[:, :count])
            pending += count
            if pending >= SLICE:
                yield np.concatenate(sequences), np.concatenate(words, axis=1)
                sequences, words, pending = [], [], 0
        if pending:
            yield np.concatenate(sequences), np.concatenate(words, axis=1)

    def _gone(self, sequences: Sequences) -> Sequences:
        """The entry rows of a slice that a return has replaced."""
        dropped = self.plan.dropped
        first, last = np.searchsorted(dropped, (sequences[0], sequences[-1] + 1))
        return dropped[first:last]

    def _frame(self, sequences: Sequences, words: Words) -> pl.DataFrame:
        """One slice, decoded."""
        flags = (words[FLAGS_ENTRY] & LOW).astype(np.int64)
        events = self._rules.resolve(words)
        columns = {
            "id": pl.Series(np.arange(len(sequences)) + self.plan.first_id + self.tally.rows),
            "name": labels(events.call_of, [call.name for call in events.calls]),
            "abi": labels(events.call_of, [call.abi for call in events.calls]),
            "seq": pl.Series(sequences),
            "nr": pl.Series((words[NR_STRINGS] & LOW).astype(np.int64)),
            "duration_ns": nullable(words[DURATION].view(np.int64), words[DURATION].view(np.int64) >= 0),
            "time_ns": pl.Series((words[TIME] + np.uint64(self._header.realtime_ns)).view(np.int64)),
            "mark": labels(marked(self.plan.state, sequences), [mark.text for mark in self.plan.state.marks]),
            "capture": pl.Series(np.full(len(sequences), self.plan.capture, np.int64)),
            **result_columns(events),
            **self._arguments(events, sequences),
            **self._processes(sequences, flags, words),
        }
        frame = pl.DataFrame([columns[name].alias(name) for name in SCHEMA])
        self._count(frame, columns["identity"], events.calls)
        return frame

    def _arguments(self, events: Events, sequences: Sequences) -> dict[str, pl.Series]:
        """The arguments, their reprs and where the name of an fd comes from."""
        sets = self._contents.sets.find((events.words[NR_STRINGS] >> HIGH).astype(np.int64))
        files, source = self._files(events, sequences)
        found = Arguments(events, sets, self._contents.strings, files)
        found.add()
        self.tally.lost_strings += found.lost
        columns = {}
        suffixes = found.suffixes
        for k, column in found.columns.items():
            columns[f"arg{k}"] = nullable(*events.arguments(k))
            columns[f"arg{k}_repr"] = column.texts(found.prefixes, suffixes)
        columns["fd_source"] = labels(source, SOURCES)
        return columns

    def _files(self, events: Events, sequences: Sequences) -> tuple[FileNames, npt.NDArray[np.int64]]:
        """What descriptors are, and for each event where the name of its first one is from; -1 if it has none."""
        asked = [
            (index, position, call.rows, to_fd(values, may_be_folder(call.name, argument.name)))
            for index, call in enumerate(events.calls)
            for position, argument in enumerate(call.args)
            if argument.kind == "fd" and (values := events.pattern(call, position)) is not None
        ]
        source = np.full(len(sequences), -1)
        if not asked:
            return FileNames((), {}), source
        rows = np.concatenate([rows for _, _, rows, _ in asked])
        fds = np.concatenate([fd for _, _, _, fd in asked])
        descriptors = self._descriptors()
        answers = descriptors.ask(sequences, events.words, rows, fds)
        names = np.where((fds < 0) & (fds != CWD), NO_FILE, answers.name)
        ends = np.cumsum([len(fd) for _, _, _, fd in asked])[:-1]
        codes = {}
        for (index, position, mine, _), name, origin in zip(
            asked, np.split(names, ends), np.split(answers.source, ends), strict=True
        ):
            codes[index, position] = name
            first = (source[mine] < 0) & (name != NO_FILE)
            source[mine[first]] = origin[first]
        return FileNames(descriptors.names, codes), source

    def _descriptors(self) -> Descriptors:
        """What descriptors are in this segment; scans it when first asked."""
        if self._scanned is None:
            start = self.plan.start
            scan = stored(start.stored) if start.stored is not None else None
            if scan is None:
                found = {block.first: block for block in self._contents.events}
                blocks = ((first, found[first].words()[:, :count]) for first, count in self.plan.blocks)
                scan = scan_blocks(Scanner(self._contents, self._rules), blocks)
            self._scanned = Descriptors(start, scan)
        return self._scanned

    def _processes(self, sequences: Sequences, flags: Codes, words: Words) -> dict[str, pl.Series]:
        """Process and thread of each event; `identity` is an index into the plan's identities."""
        identity = identify(self.plan.state, sequences, words[TASK])
        known = flags & EventFlag.TASK_IS_ASID == 0
        pid = nullable((words[TASK] >> HIGH).astype(np.int64), known)
        names = [*(one.procname for one in self.plan.state.identities), "[none]"]
        return {
            "procname": labels(np.where(identity < 0, len(names) - 1, identity), names),
            "proc_id": pid,
            "pid": pid,
            "tid": nullable((words[TASK] & LOW).astype(np.int64), known),
            "identity": pl.Series(identity),
        }

    def _count(self, frame: pl.DataFrame, identity: pl.Series, calls: list[Call]) -> None:
        """Enter a decoded slice into the tally."""
        tally = self.tally
        tally.rows += len(frame)
        tally.errors += len(frame) - frame["errno"].null_count()
        for call in calls:
            if not call.target.is_known:
                tally.unknown[call.abi, call.target.number] += len(call.rows)
        groups = (
            frame.select("pid", "seq", "time_ns", identity.alias("identity"))
            .group_by("pid", "identity", maintain_order=True)
            .agg(pl.col("seq").first(), pl.col("time_ns").first(), pl.len())
        )
        for pid, index, seq, time_ns, events in groups.iter_rows():
            one = self.plan.state.identities[index] if index >= 0 else None
            who = (one.ppid, one.procname, one.argv, one.source) if one else (None, "[none]", None, "unknown")
            tally.add_process((pid, *who), seq, time_ns, events)
