"""Damage done to a segment in memory and on disk, and the ledger's rule held against what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from capture.reader import Segment
from capture.segment import SegmentError
from decoding import frame_of, losses
from ledger_source import Told
from process import repair
from process.errors import ProcessError


@dataclass
class Figures:
    """What came of many faults.

    Attributes:
        faults: How many.
        undetected: Of these, nobody was told of.
        wrong: Blocks or rows that are not as they were recorded.
        radius: Most blocks that one fault cost.
    """

    faults: int = 0
    undetected: int = 0
    wrong: int = 0
    radius: int = 0

    def __str__(self) -> str:
        return f"{self.faults:,} faults: undetected {self.undetected}, wrong {self.wrong}, blocks lost {self.radius}"


Key = tuple[int, int, int, bytes]


def blocks_of(segment: Segment) -> set[Key]:
    """What the blocks of a segment are known by, and what is in them."""
    return {(block.type, block.first, block.count, bytes(block.stored)) for block in segment.blocks}


def read_all(sound: bytes, damaged: Iterable[bytes]) -> Figures:
    """Read damaged copies of a segment; each must be told, and whatever is read of it must be as it was."""
    figures, wanted = Figures(), blocks_of(repair.parse(sound, "sound"))
    for data in damaged:
        figures.faults += 1
        try:
            segment = repair.parse(data, "damaged")
        except SegmentError:  # told: decoding names the file, and the events are a gap
            figures.radius = max(figures.radius, len(wanted))
            continue
        found = blocks_of(segment)
        figures.undetected += segment.sealed and not segment.damage
        figures.wrong += len(found - wanted)
        figures.radius = max(figures.radius, len(wanted - found))
    return figures


def flipped(data: bytes, bits: Iterable[int]) -> Iterator[bytes]:
    """Copies with one bit turned."""
    for bit in bits:
        copy = bytearray(data)
        copy[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(copy)


def decode_all(path: Path, damaged: Iterable[bytes], told: Told) -> Figures:
    """Decode damaged copies of a file: each event is a row as it was told, or counted as lost."""
    figures = Figures()
    for data in damaged:
        path.write_bytes(data)
        figures.faults += 1
        wrong, undetected = hold(told, path)
        figures.wrong += wrong
        figures.undetected += undetected
    return figures


def hold(told: Told, *paths: Path) -> tuple[int, bool]:
    """Rows that are not as they were told (twice is wrong, too), and whether events are missing uncounted."""
    try:
        frame, ledger = frame_of(*paths)
    except ProcessError:
        return 0, False
    rows = frame.to_dicts()
    seqs = {row["seq"] for row in rows}
    wrong = len(rows) - len(seqs) + sum(not told.is_row(row, row["seq"]) for row in rows)
    lost = losses(ledger)
    counted = sum(count for item, count in lost.items() if item.startswith("events missing"))
    bounded = any("tail unknown" in item or "not read" in item or "not a sysreel" in item for item in lost)
    missing = len(told.events) - len(seqs)
    return wrong, missing != counted and not (bounded and missing > counted)
