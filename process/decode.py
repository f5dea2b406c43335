"""Step five: the events of a segment as rows of the output, a slice at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

import errno_tables
from capture.segment import EventFlag, Header, SegmentError
from errno_tables.tsv import TableError
from process import prototypes
from process.arguments import NO_FILE, Arguments, Call, FileNames, group
from process.descriptors import Descriptors, may_be_folder, scan_blocks, to_fd
from process.fd_records import CWD, SOURCES
from process.fd_scan import Scanner
from process.identify import Codes, identify, marked
from process.plan import Plan
from process.read import ARG0, DURATION, FLAGS_ENTRY, HIGH, LOW, NR_STRINGS, RET, TASK, TIME, Words, load
from process.render import labels, signed_hexadecimal, to_signed
from process.schema import SCHEMA, STATUSES
from process.strings import escape
from process.survey import Sequences

SLICE = 1 << 17
"""Events decoded at a time: enough that distinct values repeat, few enough for the processor's cache."""

MAX_ERRNO = 4095
"""A return value of -4095 to -1 is an errno, whatever the call returns (include/linux/err.h, Linux 6.1)."""

Process = tuple[int | None, int | None, str, str | None]
"""pid, ppid, procname, argv."""


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
        self._abi = escape(self._header.abi.encode())
        self._errnos = _errnos(self._header.abi)
        self._prototypes = prototypes.of(self._header.abi)
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
        abis = flags >> 16 & 0xFF
        calls, call_of = group(self._prototypes, abis, words)
        columns = {
            "id": pl.Series(np.arange(len(sequences)) + self.plan.first_id + self.tally.rows),
            "name": labels(call_of, [call.name for call in calls]),
            "seq": pl.Series(sequences),
            "nr": pl.Series((words[NR_STRINGS] & LOW).astype(np.int64)),
            "duration_ns": _where(words[DURATION].view(np.int64), words[DURATION].view(np.int64) >= 0),
            "time_ns": pl.Series((words[TIME] + np.uint64(self._header.realtime_ns)).view(np.int64)),
            "mark": labels(marked(self.plan.state, sequences), [mark.text for mark in self.plan.state.marks]),
            "capture": pl.Series(np.full(len(sequences), self.plan.capture, np.int64)),
            **self._abi_column(abis),
            **self._returns(flags, abis, calls, call_of, words),
            **self._arguments(calls, call_of, sequences, words),
            **self._processes(sequences, flags, words),
        }
        frame = pl.DataFrame([columns[name].alias(name) for name in SCHEMA])
        self._count(frame, columns["identity"], calls)
        return frame

    def _abi_column(self, abis: Codes) -> dict[str, pl.Series]:
        numbers = np.unique(abis)
        which = np.searchsorted(numbers, abis)
        names = [self._abi if number == 0 else f"abi_{number}" for number in numbers.tolist()]
        return {"abi": labels(which, names)}

    def _returns(
        self, flags: Codes, abis: Codes, calls: list[Call], call_of: npt.NDArray[np.intp], words: Words
    ) -> dict[str, pl.Series]:
        """retno, its repr, errno and status."""
        returned = flags & EventFlag.RETURNED != 0
        values = to_signed(words[RET], self._header.word_size)
        distinct, inverse = np.unique(values, return_inverse=True)
        names = list(self._errnos.values())
        index_of = np.full(MAX_ERRNO + 1, -1)
        index_of[list(self._errnos)] = np.arange(len(names))
        errno = index_of[np.where((distinct < 0) & (distinct >= -MAX_ERRNO), -distinct, 0)][inverse]
        errno[~returned | (abis != 0)] = -1
        texts = pl.concat(
            [
                pl.Series([None], dtype=pl.String),
                signed_hexadecimal(distinct),
                pl.Series([f"{name}({text})" for name, text in names], dtype=pl.String),
            ]
        )
        code = np.where(errno >= 0, 1 + len(distinct) + errno, 1 + inverse) * returned
        may_end = np.array([call.may_end for call in calls])[call_of]
        return {
            "retno": _where(values, returned),
            "retno_repr": texts.gather(code.astype(np.uint32)),
            "errno": labels(errno, [name for name, _ in names]),
            "status": labels(np.where(returned, 0, np.where(may_end, 1, 2)), STATUSES),
        }

    def _arguments(
        self, calls: list[Call], call_of: npt.NDArray[np.intp], sequences: Sequences, words: Words
    ) -> dict[str, pl.Series]:
        """The arguments, their reprs and where the name of an fd comes from."""
        sets = self._contents.sets.find((words[NR_STRINGS] >> HIGH).astype(np.int64))
        files, source = self._files(calls, sequences, words)
        found = Arguments(words, self._header.word_size, sets, self._contents.strings, files)
        found.add(calls)
        self.tally.lost_strings += found.lost
        count = np.array([len(call.args) for call in calls])[call_of]
        columns = {}
        for k, column in enumerate(found.columns):
            columns[f"arg{k}"] = _where(to_signed(words[ARG0 + k], self._header.word_size), count > k)
            columns[f"arg{k}_repr"] = column.texts(found.prefixes, found.suffixes)
        columns["fd_source"] = labels(source, SOURCES)
        return columns

    def _files(self, calls: list[Call], sequences: Sequences, words: Words) -> tuple[FileNames, npt.NDArray[np.int64]]:
        """What descriptors are, and for each event where the name of its first one is from; -1 if it has none."""
        asked = [
            (call, position, to_fd(words[ARG0 + position][call.rows], may_be_folder(argument.name)))
            for call in calls
            for position, argument in enumerate(call.args)
            if argument.kind == "fd"
        ]
        source = np.full(len(sequences), -1)
        if not asked:
            return FileNames((), {}), source
        rows = np.concatenate([call.rows for call, _, _ in asked])
        fds = np.concatenate([fd for _, _, fd in asked])
        answers = self._descriptors().ask(sequences, words, rows, fds)
        name = np.where((fds < 0) & (fds != CWD), NO_FILE, answers.name)
        ends = np.cumsum([len(fd) for _, _, fd in asked])
        codes = {}
        for (call, position, _), named, origin in zip(
            asked, np.split(name, ends[:-1]), np.split(answers.source, ends[:-1]), strict=True
        ):
            codes[call.abi, call.number, position] = named
            first = source[call.rows] < 0
            source[call.rows[first & (named != NO_FILE)]] = origin[first & (named != NO_FILE)]
        return FileNames(self._descriptors().names, codes), source

    def _descriptors(self) -> Descriptors:
        """What descriptors are in this segment; scans it when first asked."""
        if self._scanned is None:
            scanner = Scanner(self._contents, self._prototypes)
            found = {block.first: block for block in self._contents.events}
            blocks = ((first, found[first].words()[:, :count]) for first, count in self.plan.blocks)
            self._scanned = Descriptors(self.plan.start, scan_blocks(scanner, blocks))
        return self._scanned

    def _processes(self, sequences: Sequences, flags: Codes, words: Words) -> dict[str, pl.Series]:
        """Process and thread of each event; `identity` is an index into the plan's identities."""
        identity = identify(self.plan.state, sequences, words[TASK])
        known = flags & EventFlag.TASK_IS_ASID == 0
        pid = _where((words[TASK] >> HIGH).astype(np.int64), known)
        names = [*(one.procname for one in self.plan.state.identities), "[none]"]
        return {
            "procname": labels(np.where(identity < 0, len(names) - 1, identity), names),
            "proc_id": pid,
            "pid": pid,
            "tid": _where((words[TASK] & LOW).astype(np.int64), known),
            "identity": pl.Series(identity),
        }

    def _count(self, frame: pl.DataFrame, identity: pl.Series, calls: list[Call]) -> None:
        """Enter a decoded slice into the tally."""
        tally = self.tally
        tally.rows += len(frame)
        tally.errors += len(frame) - frame["errno"].null_count()
        for call in calls:
            if not call.is_known:
                tally.unknown[self._abi if call.abi == 0 else f"abi_{call.abi}", call.number] += len(call.rows)
        groups = (
            frame.select("pid", "seq", "time_ns", identity.alias("identity"))
            .group_by("pid", "identity", maintain_order=True)
            .agg(pl.col("seq").first(), pl.col("time_ns").first(), pl.len())
        )
        for pid, index, seq, time_ns, events in groups.iter_rows():
            one = self.plan.state.identities[index] if index >= 0 else None
            who = (one.ppid, one.procname, one.argv) if one else (None, "[none]", None)
            tally.add_process((pid, *who), seq, time_ns, events)


def _errnos(abi: str) -> dict[int, tuple[str, str]]:
    """Names and texts of an ABI's errors by number; none if there is no table."""
    try:
        table = errno_tables.load(abi).by_number
    except TableError:
        return {}
    return {number: (error.name, error.text) for number, error in table.items() if 0 < number <= MAX_ERRNO}


def _where(values: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> pl.Series:
    """Int64 values, null where not valid."""
    series = pl.Series(values, dtype=pl.Int64)
    if valid.all():
        return series
    nullable: pl.Series = series.zip_with(pl.Series(valid), pl.Series([None], dtype=pl.Int64))
    return nullable
