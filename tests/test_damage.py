"""Damage of every kind: decoded and counted lost are the source's list; nothing is wrong, nothing unsaid."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from capture import segment as layout
from capture.segment import BLOCK_HEADER_SIZE, FILE_HEADER_SIZE, BlockType
from decoding import frame_of, losses
from faults import decode_all, flipped, hold, read_all
from figures import Figure
from ledger_source import Told, record
from process import repair
from process.app import app
from segments import OPENAT, Builder, task
from test_escape import unescape


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


def test_truncated_around_every_block(tmp_path: Path, golden: tuple[bytes, Told], figure: Figure) -> None:
    data, told = golden
    sizes = sorted({size + by for size in boundaries(data) for by in (-1, 0, 1)} | {FILE_HEADER_SIZE // 2})
    decoded = decode_all(tmp_path / "a.seg", (data[:size] for size in sizes if size < len(data)), told)
    figure("truncation around every block, decoded", decoded)
    assert (decoded.undetected, decoded.wrong) == (0, 0)


def test_bits_flipped_anywhere(tmp_path: Path, golden: tuple[bytes, Told], figure: Figure) -> None:
    data, told = golden
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
    tmp_path: Path, capture: tuple[list[Path], Told], figure: Figure
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
    figure("segments duplicated, beside another capture", "rows twice 0, false joins 0")


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
def test_blocks_of_its_own_cut_out_repeated_or_swapped(
    tmp_path: Path, golden: tuple[bytes, Told], kind: str, figure: Figure
) -> None:
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
    figure(f"blocks {kind}", f"{len(pieces) - 1} faults: undetected 0, wrong rows 0")


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


def test_files_with_hostile_names_and_no_files_are_told_and_nothing_is_followed(tmp_path: Path, figure: Figure) -> None:
    """Nothing waits, nothing is followed out of the folder, and no name reaches a terminal raw."""
    record(tmp_path / "outside", 16)
    outside = sorted((tmp_path / "outside").iterdir())[0]
    folder = tmp_path / "caps"
    told = record(folder, 32)
    (folder / "link.seg").symlink_to(outside)
    (folder / "loop.seg").symlink_to("loop.seg")
    (folder / "zero.seg").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo.seg")
    (folder / "dir.seg").mkdir()
    (folder / "\x1b]0;name\x07\n.seg").write_text("no segment")
    frame, ledger = frame_of(folder)
    assert len(frame) == 32 and all(told.is_row(row, seq) for seq, row in enumerate(frame.to_dicts()))
    for name in ("link.seg", "loop.seg", "zero.seg", "fifo.seg", "dir.seg"):
        assert any(name in item for item in losses(ledger)), name
    for words in (["decode", folder, "-o", tmp_path / "a.parquet"], ["verify", folder]):
        done = CliRunner().invoke(app(), [*map(str, words), "-j", "1"])
        assert done.exit_code == 3
        assert "\x1b" not in done.output and "\x07" not in done.output and "\\x1b]0;name\\x07\\n" in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "caps", "a.parquet"}
    done = CliRunner().invoke(app(), ["verify", "/dev/zero", str(folder / "fifo.seg"), "-j", "1"])
    assert done.exit_code == 1 and done.output.count("neither a file nor a folder") == 2
    figure("links, FIFOs, devices and names as segments", "hangs 0, followed 0, raw control bytes 0")


def test_guest_bytes_come_back_and_change_no_table(tmp_path: Path, figure: Figure) -> None:
    """Bytes that break terminals, spreadsheets, shells and SQL, in names, arguments and marks."""
    hostile = [
        b"\x00\x01", b"\xff\xfe\x80", b"\xed\xa0\x80", b"\x1b[31m\x1b]0;t\x07", "\u202e\u2066x".encode(),
        b"a\r\nb", b"'); DROP TABLE syscalls;--", b"=cmd|' /C calc'!A1", b"n" * 4096, b'\\x41"\\', bytes(range(256)),
    ]  # fmt: skip
    buffer = int(layout.StringFlag.BUFFER)
    builder = Builder()
    for k, data in enumerate(hostile):
        builder.task(task(7 + k), argv=data.replace(b"\0", b"\x01") + b"\0", comm=data[:15])
        builder.mark(data)
        builder.event(OPENAT, 1, 0x10, 0, who=task(7 + k), strings=builder.set(a1=(data, buffer)))
    builder.write(tmp_path / "caps")
    out = tmp_path / "a.sqlite"
    assert CliRunner().invoke(app(), ["decode", str(tmp_path / "caps"), "-o", str(out), "-j", "1"]).exit_code == 0
    with closing(sqlite3.connect(out)) as base:
        rows = base.execute("SELECT arg1_repr, procname, mark FROM syscalls ORDER BY id").fetchall()
        tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    back = [unescape(text[text.index('"') + 1 : text.rindex('"')]) for text, _, _ in rows]
    assert back == hostile
    assert [unescape(mark) for _, _, mark in rows] == hostile
    assert {"syscalls", "process", "segment", "stats"} <= tables
    assert all(one.isprintable() for row in rows for one in row)
    figure("guest bytes that came back", f"{sum(map(len, back)):,} of {sum(map(len, hostile)):,}; raw controls 0")
