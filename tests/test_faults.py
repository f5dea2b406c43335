"""A segment cut at any byte, with any bit flipped, with blocks that do not belong: what is not read is told."""

from __future__ import annotations
import __future__ as future

import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import cast

import numpy as np
import pytest

import capture.reader
import process.holes
import process.read
from capture.reader import parse_segment
from capture.segment import BLOCK_HEADER_SIZE, FILE_HEADER_SIZE, BlockType, SegmentError, pack_block
from figures import Figure
from process.discover import discover
from process.read import Contents, load
from segments import CAPTURE, OPENAT, Builder

Key = tuple[int, int]
EVENTS, EACH = 8, 4


def golden(of: uuid.UUID = CAPTURE, path: bytes = b"/%d") -> bytes:
    """A sealed segment with every kind of block, its events in two."""
    builder = Builder(capture=of)
    builder.task()
    builder.table(5, {0: b"/dev/console"})
    for k in range(EVENTS):
        if k % EACH == 0:
            builder.block()
            builder.mark(b"case %d" % k)
        builder.event(OPENAT, k, ret=k, strings=builder.set(a1=path % k))
    return builder.data()


GOLDEN = golden()
BLOCKS = [(b, b.offset + BLOCK_HEADER_SIZE + len(b.stored)) for b in parse_segment(GOLDEN, "golden").blocks]
"""The blocks of records, and where each ends."""
OWNER = {(b.type, b.first + k): b.offset for b, _ in BLOCKS for k in range(b.count)}
"""Where the block of each record lies."""


@dataclass
class Read:
    """What a reader makes of a segment's bytes.

    Attributes:
        refused: Whether it took the file for no segment.
        told: Whether it said that something is wrong.
        records: By kind and number.
    """

    refused: bool = False
    told: bool = False
    records: dict[Key, bytes] = field(default_factory=dict)


def read(data: bytes, path: Path) -> Read:
    path.write_bytes(data)
    found = discover([path])
    if not found.parts:
        return Read(refused=True, told=bool(found.rejected))
    contents = load(found.parts[0])
    records = dict(records_of(contents))
    return Read(False, bool(contents.damage) or not contents.is_sealed, records)


def records_of(contents: Contents) -> Iterator[tuple[Key, bytes]]:
    """Every record by its kind and number."""
    for block in contents.events:
        try:
            yield from (((BlockType.EVENTS, block.first + k), row.tobytes()) for k, row in enumerate(block.words().T))
        except SegmentError as error:
            contents.damage.append(block.damage(error))
    numbers = np.arange(1, 2 * EVENTS)
    for number, ids, there in zip(
        numbers.tolist(), contents.sets.find(numbers).T, contents.sets.holds(numbers).tolist(), strict=True
    ):
        text = contents.strings.get(number)
        if text is not None:
            yield (BlockType.STRINGS, number), bytes([text.flags]) + text.data
        if there:
            yield (BlockType.SETS, number), ids.tobytes()
    for kind, columns in (
        (BlockType.TASKS, contents.tasks),
        (BlockType.MARKS, contents.marks),
        (BlockType.FILES, contents.files),
    ):
        yield from (((kind, int(column[0])), column.tobytes()) for column in columns.T)


@dataclass
class Findings:
    """What came of some faults.

    Attributes:
        faults: How many there were.
        wrong: With wrong records.
        unnoticed: That nobody was told of.
        radius: Most blocks that one cost, of those that hit one.
    """

    faults: int = 0
    wrong: int = 0
    unnoticed: int = 0
    radius: int = 0

    @property
    def clean(self) -> bool:
        return not (self.wrong or self.unnoticed) and self.radius <= 1

    def __str__(self) -> str:
        return f"{self.faults:,} faults, {self.wrong} wrong, {self.unnoticed} unnoticed, blocks lost {self.radius}"


def judge(
    whole: Read, faults: Iterable[tuple[bytes, bool]], path: Path, reader: Callable[[bytes, Path], Read] = read
) -> Findings:
    """Read faulty segments; those of which one block is hit at most are marked so."""
    found = Findings()
    for data, is_narrow in faults:
        one = reader(data, path)
        found.faults += 1
        found.wrong += bool(one.records.items() - whole.records.items())
        found.unnoticed += not one.told
        lost = {OWNER[key] for key in whole.records.keys() - one.records.keys()}
        found.radius = max(found.radius, len(lost) if is_narrow else 0)
    return found


def cuts(step: int = 1) -> Iterator[tuple[bytes, bool]]:
    """The segment cut at every byte."""
    return ((GOLDEN[:end], False) for end in range(0, len(GOLDEN), step))


def flips(step: int = 1) -> Iterator[tuple[bytes, bool]]:
    """The segment with every bit flipped, one at a time. One in the file header can be put right."""
    data = bytearray(GOLDEN)
    for bit in range(0, len(GOLDEN) * 8, step):
        data[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(data), True
        data[bit >> 3] ^= 1 << (bit & 7)


def misfits() -> Iterator[tuple[bytes, bool]]:
    """Sound blocks where they do not belong, with claims that are not true, and tails."""
    header = parse_segment(GOLDEN, "golden").header
    end = BLOCKS[-1][1]
    other = golden(uuid.UUID(int=7), b"/other/%d")
    for block in parse_segment(other, "other").blocks:
        stray = other[block.offset : block.offset + BLOCK_HEADER_SIZE + len(block.stored)]
        yield GOLDEN[:end] + stray + GOLDEN[end:], True
    for block, stop in BLOCKS:
        for count, raw, first in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (1 << 20, 0, 0), (0, 0, -(1 << 62))):
            forged = pack_block(
                header, BlockType(block.type), capture.segment.Encoding(block.encoding), block.index,
                block.count + count, (block.first + first) % (1 << 64), block.raw_length + raw, bytes(block.stored),
            )  # fmt: skip
            if not (block.type not in (BlockType.EVENTS, BlockType.STRINGS, BlockType.SETS) and first):
                yield GOLDEN[: block.offset] + forged + GOLDEN[stop:], True
    events = next(block for block, _ in BLOCKS if block.type == BlockType.EVENTS)
    claim = pack_block(
        header, BlockType.EVENTS, capture.segment.Encoding.RAW, 99, 1, events.first + 2, 96, b"\xaa" * 96
    )
    yield GOLDEN[:end] + claim + GOLDEN[end:], True  # a number that another event has
    for tail in (b"\0" * 4096, b"garbage" * 99, GOLDEN[FILE_HEADER_SIZE : FILE_HEADER_SIZE + 40]):
        yield GOLDEN + tail, True
    for block, stop in BLOCKS:  # one is taken out
        yield GOLDEN[: block.offset] + GOLDEN[stop:], True


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Read:
    found = read(GOLDEN, tmp_path_factory.mktemp("whole") / "a.seg")
    assert not found.told and found.records.keys() == OWNER.keys()
    return found


def test_a_segment_cut_at_any_byte_gives_what_is_before_and_says_so(
    tmp_path: Path, whole: Read, figure: Figure
) -> None:
    found = judge(whole, cuts(), tmp_path / "a.seg")
    figure("a segment cut at every byte", found)
    assert found.clean and found.faults == len(GOLDEN)


def test_a_flipped_bit_costs_one_block_at_most_and_is_told(tmp_path: Path, whole: Read, figure: Figure) -> None:
    found = judge(whole, flips(), tmp_path / "a.seg")
    figure("every bit flipped", found)
    assert found.clean and found.faults == 8 * len(GOLDEN)


def test_blocks_that_do_not_belong_are_not_taken(tmp_path: Path, whole: Read, figure: Figure) -> None:
    found = judge(whole, misfits(), tmp_path / "a.seg")
    figure("strays, false claims, tails and holes", found)
    assert found.clean and found.faults > 80


class _Equal(int):
    """A checksum that fits everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


MUTANTS: list[tuple[ModuleType, str, str, str]] = [
    (capture.reader, "_block_at", "!= crc32c(view[at : at + BLOCK.size])", "!= _EQUAL"),
    (capture.reader, "_block_at", "crc32c(stored) != crc", "_EQUAL != crc"),
    (capture.reader, "_block_at", "capture != header.capture.bytes[:8]", "False"),
    (capture.reader, "_block_at", "ROW_SIZES[kind] * count != raw", "False"),
    (process.holes, "_absent", "following - one > 1", "False"),
    (process.read, "in_order", "block.first < end", "False"),
]
"""A check, and what takes it away: module, function, text, replacement."""


@pytest.mark.parametrize(("module", "name", "old", "new"), MUTANTS)
def test_each_check_is_needed(
    module: ModuleType, name: str, old: str, new: str, tmp_path: Path, whole: Read,
    monkeypatch: pytest.MonkeyPatch, figure: Figure,
) -> None:  # fmt: skip
    """Without one of the checks the same faults are no longer clean, or end in an exception."""
    source = inspect.getsource(cast(FunctionType, getattr(module, name)))
    assert source.count(old) == 1
    names = {**vars(module), "_EQUAL": _Equal()}
    exec(compile(source.replace(old, new), f"<without {old}>", "exec", flags=future.annotations.compiler_flag), names)
    monkeypatch.setattr(module, name, names[name])
    caught = "nothing"
    for faults in (misfits(), flips(11), cuts(7)):
        try:
            found = judge(whole, faults, tmp_path / "a.seg")
        except Exception as error:  # what the check was there to prevent
            caught = type(error).__name__
            break
        if not found.clean:
            caught = str(found)
            break
    figure(f"without `{old}` the tests see", caught)
    assert caught != "nothing"
