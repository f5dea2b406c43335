"""Between survey and decode: every segment's order, row numbers and state, and what is missing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

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


def _runs(segments: list[Survey]) -> Runs:
    return Runs(
        (block for survey in segments for block in survey.blocks),
        (reset for survey in segments for reset in survey.resets),
        (place for survey in segments for place in survey.breaks),
    )


def _captures(surveys: list[Survey]) -> Iterator[tuple[uuid.UUID, list[Survey]]]:
    """The segments of each capture."""
    for name, group in groupby(surveys, key=lambda survey: survey.part.header.capture):
        yield name, list(group)


def compose(surveys: list[Survey], ledger: Ledger) -> tuple[list[Plan], list[Tree]]:
    """Plan the decoding of all segments.

    Args:
        surveys: In the order of the parts as discovered.
        ledger: Gets what capture counted, and what is missing.

    Returns:
        A plan for each segment, and the tree of each capture.
    """
    plans: list[Plan] = []
    trees: list[Tree] = []
    for number, (name, segments) in enumerate(_captures(surveys), 1):
        runs = _runs(segments)
        closes = np.concatenate([survey.closes for survey in segments])
        _account(name, segments, runs, ledger)
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


def _account(capture: uuid.UUID, segments: list[Survey], runs: Runs, ledger: Ledger) -> None:
    """Enter what one capture counted and what of it is missing."""
    for name in COUNTERS:
        ledger.add(Severity.INFO, "capture", name, sum(survey.counters[name] for survey in segments))
    for severity, items in ((Severity.LOSS, _LOSSES), (Severity.WARNING, _WARNINGS)):
        for name, text in items.items():
            ledger.add(severity, "capture", text, sum(survey.counters[name] for survey in segments))
    for survey in segments:
        _account_segment(survey, survey is segments[-1], ledger)
    missing = runs.missing + _missing_end(segments, runs)
    lost = sum(count for _, count in missing)
    ledger.add(Severity.INFO, "read", "events", sum(survey.events for survey in segments))
    ledger.add(Severity.INFO, "read", "segments", len(segments))
    ledger.add(Severity.INFO, "read", "resets", sum(len(survey.resets) for survey in segments))
    ledger.add(Severity.LOSS, "read", f"events missing from capture {capture} ({_ranges(missing)})", lost)


def _account_segment(survey: Survey, is_last: bool, ledger: Ledger) -> None:
    """Enter the state of one segment's files."""
    for file, offset, length, reason, loss in sorted(survey.damage):
        severity = Severity.LOSS if loss else Severity.INFO
        ledger.add(severity, "read", f"{file}: damaged at offset {offset} ({length} bytes): {reason}")
    for copy in survey.part.copies:
        ledger.add(Severity.WARNING, "read", f"{copy.name}: the same segment as {survey.part.name}; not read")
    if not survey.is_sealed:
        if is_last and not survey.part.live:
            text = f"{survey.part.name}: tail unknown: not sealed, and no live file beside it"
            ledger.add(Severity.LOSS, "read", text)
        else:
            ledger.add(Severity.WARNING, "read", f"{survey.part.name}: not sealed (killed, or still running)")


def _missing_end(segments: list[Survey], runs: Runs) -> list[tuple[int, int]]:
    """The gap after the last run, which a sealed segment's totals tell."""
    end, last = runs.end, segments[-1]
    told = last.part.header.first_event + last.counters["events"] + last.counters["dropped"]
    return [(end, told - end)] if last.is_sealed and end < told <= MAX_SEQUENCE else []


def _ranges(missing: Iterable[tuple[int, int]], most: int = 4) -> str:
    """Gaps for people: `3-9, 17, ...`."""
    shown = [f"{first}" if count == 1 else f"{first}-{first + count - 1}" for first, count in missing]
    return ", ".join(shown[:most] + (["..."] if len(shown) > most else []))
