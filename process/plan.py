"""Between survey and decode: every segment's order, row numbers and state, and what is missing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from capture.running import Running
from capture.segment import COUNTERS
from process import fd_state
from process.discover import Part
from process.fd_state import Start
from process.fd_timeline import Timeline
from process.identify import Runs, State, states
from process.ledger import Ledger, Severity
from process.read import MAX_SEQUENCE
from process.survey import Sequences, Survey
from process.tree import Tree, cut, grow

_LOSSES = {
    "dropped": "events dropped by capture",
    "unstored": "strings, identities and marks dropped by capture",
}
_NONE: Mapping[uuid.UUID, Running] = {}
_WARNINGS = {"errors": "calls that capture could not record"}


@dataclass(frozen=True)
class Plan:
    """All that a worker needs to decode one segment.

    Attributes:
        part: Which.
        position: Its number in the output, from 0.
        capture: Number of its capture in the output, from 1.
        first_id: Id of its first row.
        rows: Rows that it gives.
        blocks: (first, count) of the EVENTS blocks to decode: a running capture may have added to them since.
        dropped: int64 sequence numbers of entry rows whose call came back, ascending.
        state: Identities and marks.
        start: What is known of descriptors when the segment starts.
        programs: Which program of the capture's `Tree` each process runs.
    """

    part: Part
    position: int
    capture: int
    first_id: int
    rows: int
    blocks: list[tuple[int, int]]
    dropped: Sequences
    state: State
    start: Start
    programs: Timeline


def runs_of(segments: list[Survey]) -> Runs:
    """The stretches without gaps of a capture's segments."""
    return Runs(
        (block for survey in segments for block in survey.blocks),
        (reset for survey in segments for reset in survey.resets),
        (place for survey in segments for place in survey.breaks),
    )


def captures(surveys: list[Survey]) -> list[list[Survey]]:
    """The segments of each capture."""
    return [list(group) for _, group in groupby(surveys, key=lambda survey: survey.part.header.capture)]


def compose(
    surveys: list[Survey], ledger: Ledger, running: Mapping[uuid.UUID, Running] = _NONE
) -> tuple[list[Plan], list[Tree]]:
    """Plan the decoding of all segments.

    Args:
        surveys: In the order of the parts as discovered.
        ledger: Gets what capture counted, and what is missing.
        running: What captures say of themselves that were not sealed, and of which all files were given.

    Returns:
        A plan for each segment, and the tree of each capture.
    """
    plans: list[Plan] = []
    trees: list[Tree] = []
    for number, segments in enumerate(captures(surveys), 1):
        runs = runs_of(segments)
        closes = np.concatenate([survey.closes for survey in segments])
        name = segments[0].part.header.capture
        _account(name, segments, runs, running.get(name), ledger)
        effects = [survey.effect for survey in segments]
        if fd_state.crosses(effects, runs.starts):
            fd_state.unpruned(effects)
        starts = fd_state.compose(effects, runs.starts)
        known = states(segments, runs)
        trees.append(grow(segments, known, runs))
        timeline = trees[-1].timeline()
        for survey, state, start in zip(segments, known, starts, strict=True):
            dropped = np.union1d(survey.closed, np.intersect1d(survey.opened, closes))
            first_id = plans[-1].first_id + plans[-1].rows if plans else 1
            rows = survey.events - len(dropped)
            programs = cut(timeline, survey.tasks, survey.blocks)
            plans.append(
                Plan(survey.part, len(plans), number, first_id, rows, survey.blocks, dropped, state, start, programs)
            )
    return plans, trees


def _account(capture: uuid.UUID, segments: list[Survey], runs: Runs, running: Running | None, ledger: Ledger) -> None:
    """Enter what one capture counted and what of it is missing."""
    counts = {name: sum(survey.counters[name] for survey in segments) for name in COUNTERS}
    if running:  # it knows also what was counted after the last block was written
        counts = {name: max(count, min(running.words[name], MAX_SEQUENCE)) for name, count in counts.items()}
    for name in COUNTERS:
        ledger.add(Severity.INFO, "capture", name, counts[name])
    for severity, items in ((Severity.LOSS, _LOSSES), (Severity.WARNING, _WARNINGS)):
        for name, text in items.items():
            ledger.add(severity, "capture", text, counts[name])
    is_running = running is not None and running.is_running
    if is_running:
        ledger.add(Severity.WARNING, "read", f"capture {capture} is still being written: decoded as far as it was")
    may_lack = running is None or bool(running.words["filling"])
    for survey in segments:
        _account_segment(survey, may_lack and survey is segments[-1], is_running, ledger)
    kept_from = max(survey.kept_from for survey in segments)
    missing = runs.missing + _missing_end(segments, runs, running)
    dropped = [(first, min(count, kept_from - first)) for first, count in missing if first < kept_from]
    missing = [(max(first, kept_from), first + count - max(first, kept_from)) for first, count in missing]
    lost = sum(max(count, 0) for _, count in missing)
    ledger.add(Severity.INFO, "read", "events", sum(survey.events for survey in segments))
    ledger.add(Severity.INFO, "read", "segments", len(segments))
    ledger.add(Severity.INFO, "read", "resets", sum(len(survey.resets) for survey in segments))
    text = f"events before {kept_from} of capture {capture} dropped on purpose (--policy drop-oldest)"
    ledger.add(Severity.LOSS, "capture", text, sum(count for _, count in dropped))
    text = f"events missing from capture {capture} ({_ranges((f, c) for f, c in missing if c > 0)})"
    ledger.add(Severity.LOSS, "read", text, lost)


def _account_segment(survey: Survey, may_lack: bool, is_running: bool, ledger: Ledger) -> None:
    """Enter the state of one segment's files; ``may_lack``: its end may be in a live file."""
    for file, offset, length, reason, loss in sorted(survey.damage):
        severity = Severity.LOSS if loss else Severity.INFO
        ledger.add(severity, "read", f"{file}: damaged at offset {offset} ({length} bytes): {reason}")
    for copy in survey.part.copies:
        ledger.add(Severity.WARNING, "read", f"{copy.name}: the same segment as {survey.part.name}; not read")
    if survey.is_sealed or is_running:
        return
    if may_lack and not survey.part.live:
        text = f"{survey.part.name}: tail unknown: not sealed, and no live file beside it"
        ledger.add(Severity.LOSS, "read", text)
    else:
        ledger.add(Severity.WARNING, "read", f"{survey.part.name}: not sealed (killed, or still running)")


def _missing_end(segments: list[Survey], runs: Runs, running: Running | None) -> list[tuple[int, int]]:
    """The gap after the last run, which a sealed segment's totals tell, or the capture's running file."""
    end = runs.end
    last = segments[-1]
    told = last.part.header.first_event + last.counters["events"] + last.counters["dropped"] if last.is_sealed else 0
    told = max(told, running.words["next_event"] if running else 0)
    return [(end, told - end)] if end < told <= MAX_SEQUENCE else []


def _ranges(missing: Iterable[tuple[int, int]], most: int = 4) -> str:
    """Gaps for people: `3-9, 17, ...`."""
    shown = [f"{first}" if count == 1 else f"{first}-{first + count - 1}" for first, count in missing]
    return ", ".join(shown[:most] + (["..."] if len(shown) > most else []))
