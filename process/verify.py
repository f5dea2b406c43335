"""Checks segments without decoding them: every checksum, number, count and reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from capture.segment import Block, BlockType, SegmentError
from process.discover import Found, Part
from process.events import FLAGS_ENTRY, HIGH, LOW, MAX_SEQUENCE, NR_STRINGS, damage_of, words
from process.read import Contents, join
from process.strings import MAX_ID, StringTable

_TOTALS = {
    BlockType.EVENTS: "events",
    BlockType.STRINGS: "strings",
    BlockType.SETS: "sets",
    BlockType.TASKS: "tasks",
    BlockType.MARKS: "marks",
    BlockType.FILES: "files",
}
"""The words of an END block that count records."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        file: Name of the file, or of several.
        offset: Where in the file, in bytes; None if it concerns all of it.
        text: What.
        loss: Whether something recorded is missing, or cannot be trusted.
    """

    file: str
    offset: int | None
    text: str
    loss: bool = True


@dataclass
class Checked:
    """One segment, checked.

    Attributes:
        part: Which.
        contents: As read, with none of its records taken.
        blocks: What is sound, in the order in which it stands, with the name of the file that each is in.
        counts: Records in them by type.
        findings: What is not.
    """

    part: Part
    contents: Contents
    blocks: list[tuple[str, Block]] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """What is kept of a segment that was checked.

    Attributes:
        part: Which.
        blocks: How many are sound.
        events: In them.
        size: Bytes of its files.
        runs: (first, count) of its sound EVENTS blocks.
        end: The sequence number after its last event, as its totals tell; None if they are not there.
        findings: What is wrong in it.
    """

    part: Part
    blocks: int
    events: int
    size: int
    runs: list[tuple[int, int]]
    end: int | None
    findings: list[Finding]


def verify(part: Part) -> Result:
    """Check one segment.

    Raises:
        SegmentError: A file cannot be used at all.
        OSError: A file cannot be read.
    """
    checked = check(part)
    contents = checked.contents
    runs = [(block.first, block.count) for _, block in checked.blocks if block.type == BlockType.EVENTS]
    told = part.header.first_event + contents.counters["events"] + contents.counters["dropped"]
    events = checked.counts.get(BlockType.EVENTS, 0)
    end = told if contents.is_sealed and told <= MAX_SEQUENCE else None
    return Result(part, len(checked.blocks), events, contents.size, runs, end, checked.findings)


def check(part: Part) -> Checked:
    """Check one segment, and keep what is sound of it.

    Raises:
        SegmentError: A file cannot be used at all.
        OSError: A file cannot be read.
    """
    contents, blocks = join(part)
    checked = Checked(part, contents)
    for file, offset, _, reason, loss in contents.damage:
        checked.findings.append(Finding(file, offset, reason, loss))
    known = _Known()
    for file, block in sorted(blocks, key=lambda one: one[1].index):
        try:
            fault = known.take(block)
        except SegmentError as error:
            fault = damage_of(file, block, str(error)).reason
        else:
            dangling = known.dangling
            if dangling and not fault:
                text = f"{dangling} of its records point to strings or sets that are not there"
                checked.findings.append(Finding(file, block.offset, text))
        if fault:
            checked.findings.append(Finding(file, block.offset, fault))
            continue
        checked.blocks.append((file, block))
        checked.counts[block.type] = checked.counts.get(block.type, 0) + block.count
    checked.findings += _against_totals(checked)
    if not contents.is_sealed:
        tail = "" if part.live else "; no live file is beside it: its tail is not known"
        checked.findings.append(Finding(part.name, None, f"not sealed (killed, or still running){tail}", False))
    for copy in part.copies:
        checked.findings.append(Finding(copy.name, None, f"the same segment as {part.name}; not checked", False))
    return checked


def across(results: Sequence[Result]) -> Iterator[Finding]:
    """What segments tell of each other: numbers of segments and events that none of them has.

    Args:
        results: By capture and number of the segment, as discovered.
    """
    for capture, group in groupby(results, key=lambda result: result.part.header.capture):
        segments = list(group)
        name = f"capture {capture}"
        for one, following in pairwise(segments):
            first, last = one.part.header.segment + 1, following.part.header.segment - 1
            if first <= last:
                text = f"segment {first} is missing" if first == last else f"segments {first} to {last} are missing"
                yield Finding(name, None, text)
        end = segments[0].part.header.first_event
        last_one = segments[-1]
        runs = sorted(run for result in segments for run in result.runs)
        for first, count in [*runs, *([] if last_one.end is None else [(last_one.end, 0)])]:
            if first > end:
                text = f"events {end} to {first - 1} are missing: {first - end:,}"
                yield Finding(name, None, text)
            end = max(end, first + count)
        if last_one.end is None and not last_one.part.live:
            yield Finding(name, None, "its last segment is not sealed, and no live file is beside it: tail unknown")


def rejected(found: Found) -> Iterator[Finding]:
    """Files that gave no segment."""
    for one in found.rejected:
        yield Finding("", None, one.message, one.loss)


class _Known:
    """The ids that records may point to, as blocks are taken in order.

    Attributes:
        dangling: Records of the last block that point to something that is not there.
    """

    def __init__(self) -> None:
        self._strings: list[tuple[int, int]] = []
        self._sets: list[tuple[int, int]] = []
        self._events: list[tuple[int, int]] = []
        self.dangling = 0

    def take(self, block: Block) -> str:
        """Unpack a block and check what is in it. Gives what is wrong with it as a whole, or nothing.

        Raises:
            SegmentError: The payload does not unpack.
        """
        self.dangling = 0
        if block.type == BlockType.STRINGS:
            if not StringTable().add(block.first, block.count, block.payload()):
                return "its records contradict its header"
            return self._claim(self._strings, block, "strings")
        rows = words(block)
        if block.type == BlockType.SETS:
            if block.first + block.count > MAX_ID + 1:
                return "its records contradict its header"
            self._look(self._strings, *(half for word in rows for half in (word & LOW, word >> HIGH)))
            return self._claim(self._sets, block, "sets")
        if block.type == BlockType.TASKS:
            self._look(self._strings, rows[6] & LOW, rows[6] >> HIGH)
        elif block.type == BlockType.MARKS:
            self._look(self._strings, rows[1] & LOW)
        elif block.type == BlockType.FILES:
            self._look(self._strings, rows[2] >> HIGH)
        elif block.type == BlockType.EVENTS:
            if block.first + block.count > MAX_SEQUENCE:
                return f"claims events {block.first} to {block.first + block.count - 1}, which cannot be"
            self._look(self._sets, rows[NR_STRINGS] >> HIGH)
            sequences = np.arange(block.first, block.first + block.count, dtype=np.uint64)
            self.dangling += int((rows[FLAGS_ENTRY] >> HIGH > sequences).sum())
            return self._claim(self._events, block, "events")
        return ""

    def _claim(self, known: list[tuple[int, int]], block: Block, name: str) -> str:
        """Enter a block's ids; two blocks must not have the same."""
        first, end = block.first, block.first + block.count
        if any(first < other + count and other < end for other, count in known):
            return f"its {name} {first} to {end - 1} are another block's, too"
        known.append((first, block.count))
        return ""

    def _look(self, known: Iterable[tuple[int, int]], *ids: npt.NDArray[np.uint64]) -> None:
        """Count the records whose ids are not known; 0 stands for none."""
        bad = np.zeros(len(ids[0]), np.bool_)
        for column in ids:
            there = column == 0
            for first, count in known:
                there |= (column >= np.uint64(first)) & (column < np.uint64(first + count))
            bad |= ~there
        self.dangling += int(bad.sum())


def _against_totals(checked: Checked) -> Iterator[Finding]:
    """Whether a sealed segment's records are as many as its totals say; told once where anything is damaged."""
    part, contents = checked.part, checked.contents
    if not contents.is_sealed or checked.findings:
        return
    for kind, name in _TOTALS.items():
        found, told = checked.counts.get(kind, 0), contents.counters[name]
        if found != told:
            yield Finding(part.name, None, f"{found:,} {name} are there; its totals say {told:,}")
