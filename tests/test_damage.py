"""Damage of every kind: decoded and counted lost are the source's list; nothing is wrong, nothing unsaid."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from capture import segment as layout
from capture.segment import BLOCK_HEADER_SIZE, FILE_HEADER_SIZE, BlockType
from decoding import frame_of, losses
from faults import decode_all, flipped, hold, read_all
from ledger_source import Told, record
from process import read, repair
from process.errors import ProcessError

Figure = Callable[[str, object], None]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Told]:
    """A sealed segment of some kB with several blocks of each kind, and what is in it."""
    folder = tmp_path_factory.mktemp("golden")
    told = record(folder, 40, segment_size=1 << 20)
    (path,) = folder.iterdir()
    return path.read_bytes(), told


@pytest.fixture
def capture(tmp_path: Path) -> tuple[list[Path], Told]:
    """A capture of several segments, in the order of their numbers, and what is in it."""
    told = record(tmp_path / "caps", 80)
    return sorted((tmp_path / "caps").iterdir()), told


def boundaries(data: bytes) -> list[int]:
    """Where blocks begin, and the end."""
    segment = repair.parse(data, "golden")
    ends = {block.offset + BLOCK_HEADER_SIZE + len(block.stored) for block in segment.blocks}
    return sorted({FILE_HEADER_SIZE, len(data), *ends, *(block.offset for block in segment.blocks)})


def test_a_sound_capture_is_decoded_as_it_was_told(capture: tuple[list[Path], Told]) -> None:
    paths, told = capture
    frame, ledger = frame_of(*paths)
    assert frame["seq"].to_list() == list(range(80)) and not losses(ledger)
    rows = frame.to_dicts()
    assert all(told.is_row(row, seq) for seq, row in enumerate(rows))
    assert frame["mark"].to_list() == told.marks
    assert [row["procname"] for row in rows] == [told.argv0[pid] for _, _, pid, _ in told.events]


def test_truncated_at_every_byte(tmp_path: Path, golden: tuple[bytes, Told], figure: Figure) -> None:
    data, told = golden
    figures = read_all(data, (data[:size] for size in range(len(data))))
    figure("truncation at every byte, read", figures)
    assert (figures.undetected, figures.wrong) == (0, 0)
    sizes = sorted({size + by for size in boundaries(data) for by in (-1, 0, 1)} | {FILE_HEADER_SIZE // 2})
    decoded = decode_all(tmp_path / "a.seg", (data[:size] for size in sizes if size < len(data)), told)
    figure("truncation around every block, decoded", decoded)
    assert (decoded.undetected, decoded.wrong) == (0, 0)


def test_every_bit_flipped(tmp_path: Path, golden: tuple[bytes, Told], figure: Figure) -> None:
    data, told = golden
    figures = read_all(data, flipped(data, range(8 * len(data))))
    figure("every bit flipped, read", figures)
    assert (figures.undetected, figures.wrong) == (0, 0)
    assert figures.radius <= 1
    bits = random.Random(7).sample(range(8 * len(data)), 40)
    decoded = decode_all(tmp_path / "a.seg", flipped(data, bits), told)
    figure("bits flipped, decoded", decoded)
    assert (decoded.undetected, decoded.wrong) == (0, 0)


def test_segments_deleted_renamed_and_given_in_any_order(
    tmp_path: Path, capture: tuple[list[Path], Told], figure: Figure
) -> None:
    paths, told = capture
    faults = 0
    for gone in range(1, len(paths) - 1):
        rest = [path for path in paths if path != paths[gone]]
        random.Random(gone).shuffle(rest)
        assert hold(told, *rest) == (0, False)
        faults += 1
    for number, path in enumerate(reversed(paths)):
        path.rename(path.with_name(f"{number}.seg"))
    frame, ledger = frame_of(tmp_path / "caps")
    assert frame["seq"].to_list() == list(range(80)) and not losses(ledger)
    figure("segments deleted, shuffled, renamed", f"{faults + 1} faults, gaps unnamed 0, rows wrong 0")


def test_duplicated_segments_and_other_captures_give_no_row_twice_and_no_false_join(
    tmp_path: Path, capture: tuple[list[Path], Told]
) -> None:
    paths, told = capture
    other = record(tmp_path / "other", 50, seed=2)
    for path in paths[:2]:
        shutil.copy(path, tmp_path / "other" / f"copy-{path.name}")
    frame, ledger = frame_of(tmp_path / "caps", tmp_path / "other")
    assert len(frame) == 80 + 50 and not losses(ledger)
    for number, group in frame.group_by("capture", maintain_order=True):
        source = told if len(group) == 80 else other
        assert all(source.is_row(row, seq) for seq, row in enumerate(group.to_dicts())), number


def test_a_block_of_another_capture_is_not_taken(tmp_path: Path, golden: tuple[bytes, Told], figure: Figure) -> None:
    data, told = golden
    record(tmp_path / "other", 40, seed=3, segment_size=1 << 20)
    (path,) = (tmp_path / "other").iterdir()
    alien = path.read_bytes()
    cuts = boundaries(alien)
    spliced = [
        data[:at] + alien[start:end] + data[at:] for at in boundaries(data)[1:-1] for start, end in pairwise(cuts)
    ]
    figures = read_all(data, spliced)
    decoded = decode_all(tmp_path / "a.seg", spliced[::23], told)
    figure("blocks of another capture spliced in", f"{figures}; decoded {decoded}")
    assert (figures.undetected, figures.wrong, figures.radius) == (0, 0, 0)
    assert (decoded.undetected, decoded.wrong) == (0, 0)


@pytest.mark.parametrize("kind", ["cut out", "repeated", "swapped"])
def test_blocks_of_its_own_cut_out_repeated_or_swapped(tmp_path: Path, golden: tuple[bytes, Told], kind: str) -> None:
    data, told = golden
    cuts = boundaries(data)
    pieces = [data[start:end] for start, end in pairwise(cuts)]
    for at in range(len(pieces) - 1):
        changed = list(pieces)
        if kind == "cut out":
            del changed[at]
        elif kind == "repeated":
            changed.insert(at, pieces[at])
        else:
            changed[at], changed[at + 1] = changed[at + 1], changed[at]
        path = tmp_path / "a.seg"
        path.write_bytes(data[:FILE_HEADER_SIZE] + b"".join(changed))
        assert hold(told, path) == (0, False)
        assert losses(frame_of(path)[1]), (kind, at)


@pytest.mark.parametrize("tail", [bytes(5000), random.Random(5).randbytes(5000), layout.BLOCK_MAGIC * 1000])
def test_a_tail_of_zeros_or_garbage_costs_nothing_but_is_told(
    tmp_path: Path, golden: tuple[bytes, Told], tail: bytes, figure: Figure
) -> None:
    data, told = golden
    path = tmp_path / "a.seg"
    path.write_bytes(data + tail)
    frame, ledger = frame_of(path)
    assert len(frame) == len(told.events) and hold(told, path) == (0, False)
    assert any(f"damaged at offset {len(data)} " in item for item in losses(ledger))
    half = len(data) // 2
    path.write_bytes(data[:half] + tail + data[half:])
    segment = repair.read(path)
    (damage,) = [one for one in segment.damage if one.length > len(tail)] or segment.damage[-1:]
    distance = damage.offset + damage.length - half - len(tail)
    figure("garbage inside a file: resync after bytes", distance)
    assert hold(told, path) == (0, False)


class _Anything(int):
    """A checksum that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def _no_crc(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(layout, "crc32c", lambda data: _Anything())


def _no_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(read, "misplaced", lambda *_: ())


def _no_length(patch: pytest.MonkeyPatch) -> None:
    def payload(block: layout.Block) -> bytes | memoryview:
        if block.encoding == layout.Encoding.RAW:
            return block.stored
        return layout._decompress(block.stored, block.raw_length, 0)

    patch.setattr(layout.Block, "payload", payload)


def test_checks_that_are_switched_off_are_missed(
    tmp_path: Path, golden: tuple[bytes, Told], figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail: without a check, the same faults give undetected damage or wrong rows."""
    data, _ = golden
    path, cuts = tmp_path / "a.seg", boundaries(data)
    bits = random.Random(7).sample(range(8 * FILE_HEADER_SIZE, 8 * len(data)), 200)
    without = [data[:start] + data[end:] for start, end in pairwise(cuts[1:-1])]

    def unsaid(mutant: Callable[[pytest.MonkeyPatch], None] | None) -> list[int]:
        with monkeypatch.context() as patch:
            if mutant:
                mutant(patch)
            figures = read_all(data, flipped(data, bits))
            silent = 0
            for cut in without:
                path.write_bytes(cut)
                silent += not losses(frame_of(path)[1])
            path.write_bytes(_forged(data))
            try:
                forged = not losses(frame_of(path)[1])
            except ProcessError as error:  # NumPy was asked for more than is there
                forged = "internal error" in str(error)
        return [figures.undetected + figures.wrong, silent, int(forged)]

    assert unsaid(None) == [0, 0, 0]
    caught = sum(unsaid(mutant)[at] > 0 for at, mutant in enumerate((_no_crc, _no_order, _no_length)))
    figure("checks switched off that the tests noticed (CRC, sequence, length)", f"{caught} of 3")
    assert caught == 3


def _forged(data: bytes) -> bytes:
    """The segment with an EVENTS block at its end that claims more records than it holds."""
    header = layout.Header.unpack(data, "")
    row = bytes(layout.EVENT_ROW.size)
    block = layout.pack_block(header, BlockType.EVENTS, layout.Encoding.RAW, 99, 5, 40, len(row), row)
    return data + block


def test_an_end_that_tells_more_than_there_is_is_told(tmp_path: Path, golden: tuple[bytes, Told]) -> None:
    data, _ = golden
    segment = repair.parse(data, "golden")
    header, count = segment.header, len(layout.COUNTERS)
    words = struct.pack(f"<{count}Q", *{**segment.counters, "events": 45}.values())
    end = layout.pack_block(
        header, BlockType.END, layout.Encoding.RAW, segment.indexes[-1], count, 0, len(words), words
    )
    path = tmp_path / "a.seg"
    path.write_bytes(data[: boundaries(data)[-2]] + end)
    assert 5 in losses(frame_of(path)[1]).values()
