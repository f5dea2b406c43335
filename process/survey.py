"""Step three, per batch and in parallel: what other segments and the row numbers depend on."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import EventFlag, Header, SegmentError, TaskFlag
from process.batch import Batch
from process.calls import Rules
from process.compact import columns, rows
from process.discover import Part
from process.events import DURATION, FLAGS_ENTRY, HIGH, LOW, MAX_SEQUENCE, TASK, TIME, Flags, Ready, Unpacked, Words
from process.fd_edges import Edges
from process.fd_prune import Net, Together
from process.fd_records import ALWAYS, NEVER, Scan, store
from process.fd_scan import LOOKED_AT, NOT_BY_TASK, Scanner
from process.fd_state import Effect
from process.grouping import are_in, distinct, union, without
from process.kernels_events import fresh_in
from process.lives import Lives, Step
from process.merge import Members, keep, load_batch
from process.read import Contents
from process.runs import Runs, Sequences
from process.strings import Text, elements, escape, first_element


class Identity(NamedTuple):
    """Who a task is, from an event on.

    Attributes:
        seq: Sequence number of the first event for which it holds.
        task: The events' task.
        ppid: Parent's process id, None if not known.
        procname: Name of the process as shown.
        argv: Arguments as a JSON list of escaped text, None if not known.
        source: Where the name is from: `profile` or `derived`, recorded by capture; see `naming.py` for others.
        comm: The kernel's name for the task; empty if not known.
        start: When the task started, ns since the guest booted; 0 if not known.
        is_kernel: Whether it is a kernel thread.
    """

    seq: int
    task: int
    ppid: int | None
    procname: str
    argv: str | None
    source: str = "unknown"
    comm: str = ""
    start: int = 0
    is_kernel: bool = False


NOBODY = Identity(0, 0, None, "[none]", None)
"""Of whom nothing is known."""


class Mark(NamedTuple):
    """A text for all events from a sequence number on; None: no text."""

    seq: int
    text: str | None


@dataclass
class Survey:
    """What one batch adds to a capture.

    Attributes:
        batch: Its segments, without those that could not be used at all.
        members: The same, with what must be told of them.
        failed: Those that could not be used, and why.
        blocks: (first, count) of each sound EVENTS block, ascending.
        opened: Entry rows that nothing in this batch completes: int64 sequence numbers, ascending.
        closed: Entry rows that this batch itself completes, and events that are no calls, likewise.
        closes: Entry rows that it completes elsewhere, likewise.
        tasks: The distinct tasks of its events, uint64, ascending.
        identities: By sequence number; without those that say again what was known anyhow.
        steps: What its calls say of processes, by sequence number.
        marks: By sequence number.
        span: Unix time of its first and last entry, ns; None without events, or if nobody asked about descriptors.
        effect: What it does to descriptors; if nobody asked, ``edges`` and ``reset`` alone.
        has_files: Whether somebody asked.
        resets: Sequence numbers of events that say that nothing from before holds, ascending.
        breaks: Sequence numbers before which records are lost that may have changed what holds, ascending.
        kept: Where the batch is as it was read, if it took long to read.
    """

    batch: Batch
    members: Members
    failed: list[tuple[Part, str]]
    blocks: list[tuple[int, int]]
    opened: Sequences
    closed: Sequences
    closes: Sequences
    tasks: Words
    identities: list[Identity]
    steps: list[Step]
    marks: list[Mark]
    span: tuple[int, int] | None
    effect: Effect
    resets: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    kept: Path | None = None
    has_files: bool = True

    def __getstate__(self) -> dict[str, Any]:
        told = {name: columns(vars(self)[name]) for name in _ROWS}
        return {**vars(self), **told}

    def __setstate__(self, state: dict[str, Any]) -> None:
        told = {name: rows(make, state[name]) for name, make in _ROWS.items()}
        vars(self).update(state | told)

    @property
    def events(self) -> int:
        """Events that can be read, entry rows included."""
        return sum(count for _, count in self.blocks)


_ROWS: Final = {"identities": Identity, "steps": Step, "marks": Mark}
"""What a survey has many of, and their class."""


def survey(batch: Batch, folder: Path | None = None, files: bool = True) -> Survey:
    """Reduce a batch to what the others need from it.

    Args:
        batch: Which segments.
        folder: Keeps all that they do to descriptors, and what was read of several, for their decoder; else the
            survey has the former, and the decoder reads again.
        files: Whether anybody will ask what descriptors are; finding out takes most of the time.

    Raises:
        SegmentError: No segment of it can be used at all, or they cannot be read as one.
        OSError: The only one cannot be read.
    """
    loaded = load_batch(batch)
    contents, rules = loaded.contents, _rules(batch.header)
    path = None if folder is None or len(batch.parts) == 1 else folder / f"{batch.label}.batch"
    seen, told = _Events(), Lives(contents, rules) if rules else None
    scanner = Scanner(contents, rules) if files else None
    edges = Edges(contents.breaks) if scanner is None else scanner.edges
    for block in contents.events:
        try:
            unpacked = block.unpacked(block.count)
            if scanner is None:
                _glance(block.first, unpacked, seen, told, edges)
            else:
                _look(block.first, unpacked, seen, told, scanner)
        except SegmentError as error:
            loaded.members.damage.setdefault(0, []).append(block.damage(error))
    if len(loaded.members) == 1:
        loaded.members.events[0] = sum(count for _, count in seen.blocks)
    entries, returns = _joined(seen.entries), _joined(seen.returns)
    span = None
    if seen.blocks and scanner:
        began = batch.header.realtime_ns
        span = (_clamped(began + scanner.earliest), _clamped(began + scanner.latest))
        seen.tasks.append(scanner.sights()["task"])
    steps = told.steps() if told else []
    return Survey(
        batch=replace(batch, parts=loaded.members.parts),
        members=loaded.members,
        failed=loaded.failed,
        blocks=seen.blocks,
        opened=without(entries, returns),
        closed=union(entries[are_in(entries, returns)], _joined(seen.children)),
        closes=without(returns, entries),
        tasks=distinct(np.concatenate([np.zeros(0, np.uint64), *seen.tasks])),
        identities=_identities(contents, steps, Runs(seen.blocks, seen.resets, contents.breaks)),
        steps=steps,
        marks=_marks(contents),
        span=span,
        effect=_effect(scanner, batch, folder) if scanner else Effect(edges=edges.found, reset=edges.reset),
        resets=seen.resets,
        breaks=contents.breaks,
        has_files=files,
        kept=path if path is not None and keep(contents, path) else None,
    )


def _look(first: int, unpacked: Unpacked | Ready, seen: _Events, told: Lives | None, scanner: Scanner) -> None:
    """Take of a block all that is needed; ``first`` is the sequence number of its first event."""
    words = unpacked.with_words(LOOKED_AT)
    flags = Flags(words[FLAGS_ENTRY])
    seen.add(first, unpacked.count, flags)
    seen.add_tasks(words[TASK, flags.rows(NOT_BY_TASK)])  # the scanner has the others
    if told:
        told.add(first, unpacked, flags)
    scanner.add(first, unpacked, words, flags)


def _glance(first: int, unpacked: Unpacked | Ready, seen: _Events, told: Lives | None, edges: Edges) -> None:
    """Take of a block what is needed if nobody asks for descriptors."""
    flags = Flags(unpacked.word(FLAGS_ENTRY))
    seen.add(first, unpacked.count, flags)
    seen.add_tasks(unpacked.in_any_order(TASK))
    if told:
        told.add(first, unpacked, flags)
    timed = [(row, int(unpacked.word(TIME)[row])) for row in flags.rows(EventFlag.RESET).tolist()]
    for start, end in edges.stretches(first, unpacked.count, timed):
        edges.take(first + start, end - start, partial(_came_back, unpacked, start), ALWAYS)


def _came_back(block: Unpacked | Ready, row: int) -> int:
    """When an event came back; when it was entered if it did not."""
    words = block.some(np.array([row])).words()[:, 0].tolist()
    has_duration = words[FLAGS_ENTRY] & EventFlag.RETURNED and words[DURATION] <= MAX_SEQUENCE
    return _signed(_signed(words[TIME]) + (words[DURATION] if has_duration else 0))


def _signed(word: int) -> int:
    """The low 64 bits of a number as a signed one."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)


def _rules(header: Header) -> Rules | None:
    """How to read events; None if nobody can."""
    try:
        return Rules(header)
    except SegmentError:
        return None


def _effect(scanner: Scanner, batch: Batch, folder: Path | None) -> Effect:
    """What a batch does to descriptors: if the folder keeps it, only what others can need."""
    scan = scanner.finish()
    together = Together(scan.changes)
    scan.changes = together.changes
    path = None if folder is None else folder / f"{batch.label}.scan"
    net = Net(scan.changes)
    if path is not None and store(scan, path):
        edges = scanner.edges.found
        net = together.net(scan.lives, edges[0][1] if edges else NEVER)
        scan = Scan(net.changes, scan.lives, scan.texts)
    else:
        path = None
    used = distinct(scan.changes["text"])
    used = used[used >= 0]
    coded = scan.changes["text"] >= 0
    scan.changes["text"][coded] = np.searchsorted(used, scan.changes["text"][coded])
    scan.texts = [scan.texts[code] for code in used.tolist()]
    return Effect(
        scan, scanner.sights(), scanner.edges.found, scanner.clock, path, scanner.edges.reset,
        exits=net.exits, gone_since=net.since,
    )  # fmt: skip


_SEQ, _TASK, _PPID_FLAGS, _START, _COMM_ARGV = 0, 1, 4, 5, 6
"""Words of ``TASK_ROW``; the last of these has two ids of strings."""
_BITS = 12
"""Of a place in the table of tasks."""


@dataclass
class _Events:
    """What is gathered from a batch's EVENTS blocks."""

    blocks: list[tuple[int, int]] = field(default_factory=list)
    entries: list[Sequences] = field(default_factory=list)
    returns: list[Sequences] = field(default_factory=list)
    children: list[Sequences] = field(default_factory=list)
    tasks: list[Words] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    _task_at: Words = field(default_factory=lambda: _no_tasks())

    def add(self, first: int, count: int, of_events: Flags) -> None:
        """Take a block: its first sequence number, how many events it has, and their flags."""
        self.blocks.append((first, count))
        if not len(of_events.odd):
            return
        sequences, flags = first + of_events.odd, of_events.words
        child = flags & np.uint64(EventFlag.CHILD) != 0
        returned = (flags & np.uint64(EventFlag.RETURNED) != 0) & ~child
        back = (flags >> HIGH).astype(np.int64)
        completes = returned & (back > 0) & (back <= sequences)
        self.entries.append(sequences[~returned & ~child])
        self.children.append(sequences[child])
        self.returns.append((sequences - back)[completes])
        self.resets += (first + of_events.rows(EventFlag.RESET)).tolist()

    def add_tasks(self, tasks: Words) -> None:
        """Take the tasks of events, in any order.

        Most stand in the table already, and one that shares its place with another is noted again.
        """
        fresh = fresh_in(tasks, _BITS, self._task_at)
        if len(fresh):
            self.tasks.append(distinct(fresh))


def _no_tasks() -> Words:
    """A table in which no task is in its place: 0 has the first one, and 1 has not."""
    table = np.zeros(1 << _BITS, np.uint64)
    table[0] = 1
    return table


def _joined(arrays: list[Sequences]) -> Sequences:
    return distinct(np.concatenate([np.zeros(0, np.int64), *arrays]))


def _clamped(time_ns: int) -> int:
    return min(time_ns, MAX_SEQUENCE)


def _identities(contents: Contents, steps: list[Step], runs: Runs) -> list[Identity]:
    """TASKS records with their strings; two for the same task and event leave the later."""
    rows = contents.tasks
    rows = rows[:, np.lexsort(rows[[_TASK, _SEQ]])]  # stable
    rows = rows[:, np.append((rows[:2, 1:] != rows[:2, :-1]).any(axis=0), True)[: rows.shape[1]]]
    rows = rows[:, _news(rows, steps, runs)]
    ids = rows[_COMM_ARGV]
    comms, argvs = (contents.strings.several(half.astype(np.int64)) for half in (ids & LOW, ids >> HIGH))
    return [
        _identity(seq, task, _halves(ppid_flags), start, texts)
        for (seq, task, _, _, ppid_flags, start, _, _), texts in zip(
            rows.T.tolist(), zip(comms, argvs, strict=True), strict=True
        )
    ]


def _news(rows: Words, steps: list[Step], runs: Runs) -> npt.NDArray[np.bool_]:
    """Which identities may change what is known: each chunk of a capture says all anew.

    None of those does that repeat the last one of their process, while nothing is missing and nothing happens to it.

    Args:
        rows: TASKS records by event and task: uint64 of shape (8, n).
        steps: What happens.
        runs: Where nothing is missing.
    """
    news = np.ones(rows.shape[1], np.bool_)
    if any(step.is_asid for step in steps) or not len(runs.starts):
        return news
    order = np.argsort(rows[_TASK] >> HIGH, kind="stable")
    some, pids = rows[:, order], (rows[_TASK] >> HIGH)[order].tolist()
    run = np.searchsorted(runs.starts.astype(np.uint64), some[_SEQ], "right") - 1
    run[some[_SEQ] >= runs.ends.astype(np.uint64)[run]] = -1
    is_told = (
        some[[_TASK, _PPID_FLAGS, _START, _COMM_ARGV], 1:] == some[[_TASK, _PPID_FLAGS, _START, _COMM_ARGV], :-1]
    ).all(axis=0)
    is_told &= (run[1:] >= 0) & (run[1:] == run[:-1]) & (some[_PPID_FLAGS, 1:] >> HIGH & np.uint64(TaskFlag.PIDS) != 0)
    happened: dict[int, list[int]] = {}
    for step in steps:
        for pid in {step.task >> 32, step.other, step.other >> 32}:
            happened.setdefault(pid, []).append(step.seq)
    told, times = np.flatnonzero(is_told) + 1, some[_SEQ].tolist()
    idle = [at for at in told.tolist() if not _are_between(happened.get(pids[at]), times[at - 1], times[at])]
    news[order[idle]] = False
    return news


def _are_between(times: list[int] | None, first: int, last: int) -> bool:
    """Whether any of some ascending times is from a first to a last one."""
    return times is not None and bisect_left(times, first) < bisect_right(times, last)


def _halves(word: int) -> tuple[int, int]:
    """The two uint32 of a word, the low one first."""
    return word & 0xFFFFFFFF, word >> 32


@lru_cache(1 << 10)
def _arguments(argv: Text | None) -> tuple[str, str | None]:
    """The first of a process's arguments, and all as a JSON list; most processes are of few programs."""
    if argv is None:
        return escape(first_element(None)), None
    return escape(first_element(argv)), json.dumps([escape(one) for one in elements(argv)], ensure_ascii=False)


def _identity(
    seq: int, task: int, ppid_flags: tuple[int, int], start: int, texts: tuple[Text | None, Text | None]
) -> Identity:
    """One identity. Its name is argv[0], else the kernel's name for it, in brackets for a kernel thread."""
    ppid, flags = ppid_flags
    comm = texts[0] if flags & TaskFlag.COMM else None
    argv = texts[1] if flags & TaskFlag.ARGV else None
    name, listed = _arguments(argv)
    known = escape(comm.data) if comm is not None else ""
    if not name and known:
        name = f"[{known}]" if flags & TaskFlag.KERNEL else known
    source = ("derived" if flags & TaskFlag.DERIVED else "profile") if name else "unknown"
    return Identity(
        seq=seq,
        task=task,
        ppid=ppid if flags & TaskFlag.PIDS else None,
        procname=name or "[none]",
        argv=listed,
        source=source,
        comm=known,
        start=start if flags & TaskFlag.START else 0,
        is_kernel=bool(flags & TaskFlag.KERNEL),
    )


def _marks(contents: Contents) -> list[Mark]:
    """MARKS records with their texts; a text that is lost is `[lost]`, since it did end the mark before it."""
    found = {}
    for seq, text_id in contents.marks.T.tolist():
        number = _halves(text_id)[0]
        text = contents.strings.get(number)
        found[seq] = Mark(seq, None if not number else "[lost]" if text is None else escape(text.data))
    return [found[seq] for seq in sorted(found)]
