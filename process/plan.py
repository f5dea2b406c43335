"""Between survey and decode: every batch's order, row numbers and state, and what is missing."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from capture.running import Running
from capture.segment import COUNTERS
from process import fd_needs, fd_state
from process.batch import Batch
from process.events import MAX_SEQUENCE
from process.fd_history import History
from process.fd_outline import Source
from process.fd_pieces import Piece
from process.fd_state import Effect, Start, Whole
from process.fd_timeline import Timeline
from process.grouping import are_in, union
from process.identify import State, states
from process.ledger import Ledger, Severity
from process.merge import Members
from process.runs import Runs, Sequences
from process.survey import Survey
from process.tree import Tree, cut, grow

_LOSSES = {
    "dropped": "events dropped by capture",
    "unstored": "strings, identities and marks dropped by capture",
}
_NONE: Mapping[uuid.UUID, Running] = {}
_WARNINGS = {"errors": "calls that capture could not record"}


@dataclass(frozen=True)
class Plan:
    """All that a worker needs to decode one batch.

    Attributes:
        batch: Its segments.
        position: Its number in the output, from 0.
        capture: Number of its capture in the output, from 1.
        first_id: Id of its first row.
        counts: Rows that each of its segments gives.
        blocks: (first, count) of the EVENTS blocks to decode: a running capture may have added to them since.
        dropped: int64 sequence numbers of entry rows whose call came back, ascending.
        state: Identities and marks.
        start: What is known of descriptors when the batch starts; None if nobody asked.
        programs: Which program of the capture's `Tree` each process runs; None if nobody counts rows by it.
        kept: Where the batch is as it was read, if anywhere.
        piece: Where a batch is decoded segment by segment: which of them, from 1; otherwise 0.
        files: What must be known of other batches to make its part of the table `fd` with its rows; None if nobody
            does.
    """

    batch: Batch
    position: int
    capture: int
    first_id: int
    counts: tuple[int, ...]
    blocks: list[tuple[int, int]]
    dropped: Sequences
    state: State
    start: Start | None
    programs: Timeline | None
    kept: Path | None = None
    piece: int = 0
    files: Piece | None = None

    @property
    def rows(self) -> int:
        """Rows that it gives."""
        return sum(self.counts)

    @property
    def label(self) -> str:
        """What names of its files begin with; in the order of the output."""
        return f"{self.position:05d}" + (f"-{self.piece:05d}" if self.piece else "")


def runs_of(segments: list[Survey]) -> Runs:
    """The stretches without gaps of a capture's segments."""
    return Runs(
        (block for survey in segments for block in survey.blocks),
        (reset for survey in segments for reset in survey.resets),
        (place for survey in segments for place in survey.breaks),
    )


def captures(surveys: list[Survey]) -> list[list[Survey]]:
    """The segments of each capture."""
    return [list(group) for _, group in groupby(surveys, key=lambda survey: survey.batch.header.capture)]


def compose(
    surveys: list[Survey], ledger: Ledger, running: Mapping[uuid.UUID, Running] = _NONE, *, trees: bool = True,
    histories: list[History] | None = None, folder: Path | None = None,
) -> tuple[list[Plan], list[Tree]]:  # fmt: skip
    """Plan the decoding of all segments.

    Args:
        surveys: In the order of the parts as discovered.
        ledger: Gets what capture counted, and what is missing.
        running: What captures say of themselves that were not sealed, and of which all files were given.
        trees: Whether anybody will ask which program a process ran.
        histories: Gets that of each capture, for the table `fd`; None if nobody makes it.
        folder: Takes what workers make for that, and changes of descriptors while they do.

    Returns:
        A plan for each segment, and the tree of each capture, empty if nobody asks.
    """
    plans: list[Plan] = []
    grown: list[Tree] = []
    for number, segments in enumerate(captures(surveys), 1):
        runs = runs_of(segments)
        closes = np.concatenate([survey.closes for survey in segments])
        name = segments[0].batch.header.capture
        _account(name, segments, runs, running.get(name), ledger)
        effects = [survey.effect for survey in segments]
        starts: list[Start] = []  # stays empty if nobody asks
        whole: Whole | None = None
        if all(survey.has_files for survey in segments):
            starts, whole = _starts(effects, runs, histories is not None, folder)
        known = states(segments, runs)
        tree = grow(segments, known, runs) if trees else Tree()
        grown.append(tree)
        timeline = tree.timeline() if trees else None
        if histories is not None and whole is not None:
            zero = segments[0].batch.header.realtime_ns
            batches = [(survey.batch, survey.blocks) for survey in segments]
            source = Source(number, batches, effects, starts, runs.starts, tree, zero, folder)
            histories.append(History(source, whole))
        del whole  # some hundred bytes for each change that others can need
        for at, (survey, state) in enumerate(zip(segments, known, strict=True)):
            dropped = union(survey.closed, survey.opened[are_in(survey.opened, closes)])
            plans.append(
                Plan(
                    batch=survey.batch,
                    position=len(plans),
                    capture=number,
                    first_id=plans[-1].first_id + plans[-1].rows if plans else 1,
                    counts=_rows_of(survey.members, dropped),
                    blocks=survey.blocks,
                    dropped=dropped,
                    state=state,
                    start=starts[at] if starts else None,
                    programs=None if timeline is None else cut(timeline, survey.tasks, survey.blocks),
                    kept=survey.kept,
                )
            )
    return plans, grown


def _starts(effects: list[Effect], runs: Runs, history: bool, folder: Path | None) -> tuple[list[Start], Whole]:
    """What must be known of descriptors at the start of each batch of a capture, and its batches put together."""
    if fd_state.crosses(effects, runs.starts):
        fd_state.unpruned(effects)
    shelf = folder if history else None
    return fd_needs.compose(effects, runs.starts, history=history, shelf=shelf)


def divide(surveys: list[Survey], plan: Plan) -> list[Plan]:
    """Plan the decoding of a batch segment by segment, after it could not be decoded as a whole.

    Args:
        surveys: All of its capture, with those of its segments, each alone, in place of its own; without those that
            cannot be read.
        plan: The batch's.

    Returns:
        Plans of its segments that can be read. Ids are as they would have been.
    """
    offsets = dict(zip(plan.batch.parts, zip(np.cumsum((0, *plan.counts)).tolist(), plan.counts, strict=False),
                       strict=True))  # fmt: skip
    made = []
    for one in compose(surveys, Ledger())[0]:
        if len(one.batch.parts) == 1 and one.batch.parts[0] in offsets:
            part = one.batch.parts[0]
            before, rows = offsets[part]
            first, last = one.blocks[0][0] if one.blocks else 0, sum(one.blocks[-1]) if one.blocks else 0
            dropped = plan.dropped[(plan.dropped >= first) & (plan.dropped < last)]
            made.append(
                replace(
                    one, position=plan.position, capture=plan.capture, first_id=plan.first_id + before, counts=(rows,),
                    dropped=dropped, programs=plan.programs, piece=plan.batch.parts.index(part) + 1,
                )
            )  # fmt: skip
    return made


def _rows_of(members: Members, dropped: Sequences) -> tuple[int, ...]:
    """Rows that each segment of a batch gives."""
    less = np.searchsorted(dropped, members.ends) - np.searchsorted(dropped, members.firsts)
    return tuple((members.events - less).tolist())


def _account(capture: uuid.UUID, surveys: list[Survey], runs: Runs, running: Running | None, ledger: Ledger) -> None:
    """Enter what one capture counted and what of it is missing."""
    members = [survey.members for survey in surveys]
    counts = Counter(dict.fromkeys(COUNTERS, 0))
    for some in members:
        counts.update(some.totals())
    if running:  # it knows also what was counted after the last block was written
        counts = Counter({name: max(count, min(running.words[name], MAX_SEQUENCE)) for name, count in counts.items()})
    for name in COUNTERS:
        ledger.add(Severity.INFO, "capture", name, counts[name])
    for severity, items in ((Severity.LOSS, _LOSSES), (Severity.WARNING, _WARNINGS)):
        for name, text in items.items():
            ledger.add(severity, "capture", text, counts[name])
    is_running = running is not None and running.is_running
    if is_running:
        ledger.add(Severity.WARNING, "read", f"capture {capture} is still being written: decoded as far as it was")
    may_lack = running is None or bool(running.words["filling"])
    for some in members:
        for k in some.odd():
            is_last = some is members[-1] and k == len(some) - 1
            _account_segment(some, k, may_lack and is_last, is_running, ledger)
    kept_from = max(int(some.kept_from.max()) for some in members)
    missing = runs.missing + _missing_end(members[-1], runs, running)
    dropped = [(first, min(count, kept_from - first)) for first, count in missing if first < kept_from]
    missing = [(max(first, kept_from), first + count - max(first, kept_from)) for first, count in missing]
    lost = sum(max(count, 0) for _, count in missing)
    ledger.add(Severity.INFO, "read", "events", sum(int(some.events.sum()) for some in members))
    ledger.add(Severity.INFO, "read", "segments", sum(len(some) for some in members) - _continued(surveys))
    ledger.add(Severity.INFO, "read", "resets", sum(len(survey.resets) for survey in surveys))
    text = f"events before {kept_from} of capture {capture} dropped on purpose (--policy drop-oldest)"
    ledger.add(Severity.LOSS, "capture", text, sum(count for _, count in dropped))
    text = f"events missing from capture {capture} ({_ranges((f, c) for f, c in missing if c > 0)})"
    ledger.add(Severity.LOSS, "read", text, lost)


def _continued(surveys: list[Survey]) -> int:
    """How many are of the same segment as the one before."""
    batches = [survey.batch for survey in surveys]
    return sum(batch.continues(before) for before, batch in pairwise(batches))


def _account_segment(some: Members, index: int, may_lack: bool, is_running: bool, ledger: Ledger) -> None:
    """Enter the state of one segment's files; ``may_lack``: its end may be in a live file."""
    part = some.parts[index]
    for file, offset, length, reason, loss in sorted(some.damage.get(index, [])):
        severity = Severity.LOSS if loss else Severity.INFO
        ledger.add(severity, "read", f"{file}: damaged at offset {offset} ({length} bytes): {reason}")
    for copy in part.copies:
        ledger.add(Severity.WARNING, "read", f"{copy.name}: the same segment as {part.name}; not read")
    if some.sealed[index] or is_running:
        return
    if may_lack and not part.live:
        ledger.add(Severity.LOSS, "read", f"{part.name}: tail unknown: not sealed, and no live file beside it")
    else:
        ledger.add(Severity.WARNING, "read", f"{part.name}: not sealed (killed, or still running)")


def _missing_end(last: Members, runs: Runs, running: Running | None) -> list[tuple[int, int]]:
    """The gap after the last run, which a sealed segment's totals tell, or the capture's running file."""
    end, told = runs.end, 0
    if last.sealed[-1]:
        events, dropped = last.counters[-1, [COUNTERS.index("events"), COUNTERS.index("dropped")]].tolist()
        told = last.parts[-1].header.first_event + events + dropped
    told = max(told, running.words["next_event"] if running else 0)
    return [(end, told - end)] if end < told <= MAX_SEQUENCE else []


def _ranges(missing: Iterable[tuple[int, int]], most: int = 4) -> str:
    """Gaps for people: `3-9, 17, ...`."""
    shown = [f"{first}" if count == 1 else f"{first}-{first + count - 1}" for first, count in missing]
    return ", ".join(shown[:most] + (["..."] if len(shown) > most else []))
