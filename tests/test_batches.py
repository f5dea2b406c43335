"""Small segments that share a batch: the same rows as alone, and a bad one costs itself alone."""

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import synthetic
from capture import recorder
from capture.chunk import Room
from capture.segment import BlockType, Encoding, TaskFlag
from captures import write_capture
from decoding import frame_of, losses, rows_of
from fd_world import World, write
from process import batch, merge, repair
from process.batch import batches
from process.decode import Decoder
from process.discover import discover
from process.frames import frames
from process.output import Format
from process.pipeline import decode
from process.plan import Plan
from process.pool import Workers
from process.prepare import Prepared, plan_work, prepare
from process.surveying import Surveyed
from process.tally import Tally
from process.work import Work
from process.write_parquet import write_part
from segments import EXECVE, LIST, NOT_RETURNED, OPENAT, READ, Builder, task


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no segment shares a batch."""
    monkeypatch.setattr(batch, "SMALL", 0)


def rows_in(dataset: Path) -> pl.DataFrame:
    return pl.scan_parquet(dataset / "part-*.parquet").collect()


def many(folder: Path, segments: int = 12) -> list[Path]:
    """Segments that use the same ids for other things, and need each other."""
    paths, first, entry = [], 0, -1
    for number in range(segments):
        one = Builder(segment=number, first=first, columns=number % 3 > 0)
        for k in range(number % 4):
            one.string(b"filler %d" % k)
        one.task(task(7), argv=b"sh\0%d\0" % (number // 3), comm=b"c%d" % number, table=0x5000 + number)
        one.table(0x5000 + number, {3: b"/dir%d" % number, 0: b"/dev/tty%d" % number, 4: b"/f%d" % number})
        if number % 5 == 1:
            one.mark(b"mark %d" % number)
        if entry >= 0:
            one.event(EXECVE, 1, 2, entry=first - entry, strings=one.set(a0=b"/bin/%d" % number, a1=(b"x\0", LIST)))
        for k in range(1 + number % 6):
            one.event(OPENAT, 3, 0x10, strings=one.set(a1=b"/p%d/%d" % (number, k)), ret=5 + k, who=task(7 + k % 2))
            one.event(READ, 5 + k, who=task(7))
            if k == 2:
                one.block()
        if number == 4:
            one.skip(3)
        entry = one.event(EXECVE, 1, 2, flags=NOT_RETURNED) if number % 2 else -1
        first = one.next
        paths.append(one.write(folder))
    return paths


def test_segments_share_a_batch_up_to_a_size_and_captures_never(tmp_path: Path) -> None:
    write_capture(tmp_path / "a", segments=5)
    parts = discover([tmp_path / "a"]).parts
    assert [part.size for part in parts] == [part.files[0].stat().st_size for part in parts]
    assert [tuple(one.parts) for one in batches(parts)] == [tuple(parts)]
    sized = [replace(part, size=size) for part, size in zip(parts, (9, 1 << 18, 1 << 19, 5, 6), strict=True)]
    assert [len(one.parts) for one in batches(sized)] == [2, 1, 2]
    full = [replace(part, size=batch.SMALL) for part in parts for _ in range(8)]
    assert [len(one.parts) for one in batches(full)] == [batch.MOST // batch.SMALL] * 2 + [8]
    other = replace(parts[2], header=replace(parts[2].header, big_endian=True))
    assert [len(one.parts) for one in batches([*parts[:2], other, *parts[3:]])] == [2, 1, 2]
    assert batches([]) == []


def test_files_are_found_alike_many_at_once_and_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = many(tmp_path)
    for number, at in ((1, 70), (2, 3), (4, 10)):  # a wrong bit each
        data = bytearray(paths[number].read_bytes())
        data[at] ^= 4
        paths[number].write_bytes(data)
    paths[5].write_bytes(paths[5].read_bytes()[:100])
    paths[6].write_bytes(b"")
    shutil.copy(paths[7], tmp_path / "copy.seg")
    os.mkfifo(tmp_path / "fifo.seg")
    (tmp_path / "link.seg").symlink_to(paths[0])
    one = Builder(segment=12, first=10_000)
    one.event(READ, 3)
    one.live(tmp_path)
    found = []
    for at_once in (1 << 11, 1, 5):
        monkeypatch.setattr(repair, "_MANY", at_once)
        found.append(discover([tmp_path]))
    assert found[0] == found[1] == found[2]
    assert len(found[0].parts) == 11 and len(found[0].rejected) == 4
    assert [len(part.copies) for part in found[0].parts] == [0] * 5 + [1] + [0] * 5


def test_rows_and_the_ledger_are_those_of_segments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path)
    together, ledger = frame_of(tmp_path)
    alone(monkeypatch)
    one_by_one, same = frame_of(tmp_path)
    assert len(together) > 50 and together["arg0_repr"].str.contains("/dir").sum() > 20
    assert_frame_equal(together, one_by_one, categorical_as_str=True)
    assert list(ledger.rows()) == list(same.rows())


def test_rows_are_those_of_one_large_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic.generate(tmp_path / "large", 4000, processes=3)
    monkeypatch.setattr(recorder, "_RESERVE_BYTES", 4096)
    room = Room(50, 256, 1 << 16, 256, 128, 64, 64)
    synthetic.generate(tmp_path / "small", 4000, processes=3, segment_size=1, room=room)
    (plan,) = prepare([tmp_path / "small"], Workers(1)).plans
    assert len(plan.batch.parts) == len(list((tmp_path / "small").iterdir())) > 60
    small, large = (
        frame_of(tmp_path / name)[0].with_columns(pl.col("time_ns") - pl.col("time_ns").min())
        for name in ("small", "large")
    )
    assert_frame_equal(small, large, categorical_as_str=True)


def test_a_batch_is_read_once(tmp_path: Path) -> None:
    paths = many(tmp_path)
    whole = frame_of(tmp_path)[0]
    prepared = prepare([tmp_path], Workers(1))
    for path in paths:
        path.unlink()
    assert_frame_equal(pl.concat(frames(Decoder(prepared.plans[0]))), whole, categorical_as_str=True)


def test_the_small_tables_have_a_row_for_each_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path / "caps")
    found = []
    for name in ("together", "alone"):
        if name == "alone":
            alone(monkeypatch)
        decode([tmp_path / "caps"], tmp_path / name, Format.PARQUET)
        found.append([json.loads((tmp_path / name / f"{table}.json").read_text()) for table in ("segment", "process")])
    assert len(list((tmp_path / "together").glob("part-*"))) == 1 and len(found[0][0]) == 12
    assert found[0] == found[1]
    assert len(list((tmp_path / "alone").glob("part-*"))) == 12


def test_a_damaged_segment_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = many(tmp_path)
    headless, torn, flipped = paths[3], paths[7], paths[10]
    headless.write_bytes(headless.read_bytes()[:100] + b"\xff" + headless.read_bytes()[101:])
    torn.write_bytes(torn.read_bytes()[:-40])
    data = bytearray(flipped.read_bytes())
    data[-200] ^= 1
    flipped.write_bytes(data)
    together, ledger = frame_of(tmp_path)
    lost = losses(ledger)
    for path in (headless, torn, flipped):
        assert [item for item in lost if path.name in item], path
    assert [item for item in lost if flipped.name in item and "damaged at offset" in item]
    alone(monkeypatch)
    one_by_one, same = frame_of(tmp_path)
    assert_frame_equal(together, one_by_one, categorical_as_str=True)
    assert list(ledger.rows()) == list(same.rows())


def test_a_segment_that_cannot_be_read_is_left_out_of_its_batch(tmp_path: Path) -> None:
    paths = write_capture(tmp_path)
    parts = discover([tmp_path]).parts
    paths[2].unlink()
    loaded = merge.load_batch(batches(parts)[0])
    assert [(part.name, reason) for part, reason in loaded.failed] == [
        (paths[2].name, f"{paths[2]}: No such file or directory")
    ]
    assert [part.name for part in loaded.members.parts] == [paths[k].name for k in (0, 1, 3)]


def test_segments_that_claim_the_same_events_are_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, first in enumerate((0, 5, 8)):
        one = Builder(segment=number, first=first)
        for k in range(6):
            one.event(READ, 10 * number + k)
        one.write(tmp_path)
    together = frame_of(tmp_path)[0]
    assert len(together) == 18
    alone(monkeypatch)
    assert_frame_equal(together, frame_of(tmp_path)[0], categorical_as_str=True)


def test_an_id_beyond_its_segments_strings_is_lost_and_not_its_neighbours(tmp_path: Path) -> None:
    one, other = Builder(segment=0), Builder(segment=1, first=2)
    one.event(OPENAT, 3, 0x10, strings=one.set(a1=9))
    one.event(OPENAT, 3, 0x10, strings=9)
    for k in range(20):
        other.set(a1=b"secret %d" % k)
    other.event(READ, 3)
    one.write(tmp_path)
    other.write(tmp_path)
    rows = rows_of(tmp_path)
    assert [row["arg1_repr"] for row in rows[:2]] == ["filename=0x10([lost])"] * 2


def test_names_without_a_recorded_string_stay_unknown(tmp_path: Path) -> None:
    for number in range(2):
        one = Builder(segment=number, first=number)
        one.string(b"nobody")
        if number:
            one.task(task(9), argv=None, comm=b"", flags=TaskFlag.KERNEL)
        one.event(READ, 3, who=task(9))
        one.write(tmp_path)
    assert [row["procname"] for row in rows_of(tmp_path)] == ["[none]", "[none]"]


def test_a_block_of_no_records_is_passed_over(tmp_path: Path) -> None:
    for number in range(2):
        one = Builder(segment=number, first=number)
        for kind in (BlockType.SETS, BlockType.TASKS, BlockType.EVENTS, BlockType.STRINGS):
            one.add(kind, 0, 1, b"", encoding=Encoding.RAW)
        one.event(READ, number)
        one.write(tmp_path)
    assert [row["arg0"] for row in rows_of(tmp_path)] == [0, 1]


@pytest.mark.parametrize("format_", Format)
def test_a_segment_that_vanishes_before_it_is_decoded_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Format
) -> None:
    paths = many(tmp_path / "caps")
    monkeypatch.setattr(batch, "MOST", sum(path.stat().st_size for path in paths[:8]))
    plans = prepare([tmp_path / "caps"], Workers(1)).plans
    assert [len(plan.batch.parts) for plan in plans] == [8, 4]
    rows = dict(zip(paths, [count for plan in plans for count in plan.counts], strict=True))
    real = plan_work

    def vanishing(work: Work, surveyed: Surveyed, *, history: bool) -> Prepared:
        prepared = real(work, surveyed, history=history)
        shutil.move(paths[5], tmp_path / "aside")
        assert prepared.folder.path is not None
        for kept in prepared.folder.path.iterdir():  # not the folder, which is locked: another run would clear it away
            kept.unlink()
        return prepared

    monkeypatch.setattr("process.steps.plan_work", vanishing)
    out = tmp_path / f"out.{format_.value}"
    summary = decode([tmp_path / "caps"], out, format_)
    assert [item for item in losses(summary.ledger) if item.startswith(f"{paths[5].name}: not decoded: ")]
    assert summary.rows == sum(rows.values()) - rows[paths[5]]
    if format_ is Format.SQLITE:
        with closing(sqlite3.connect(out)) as connection:
            ids = [number for (number,) in connection.execute("SELECT id FROM syscalls ORDER BY id")]
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    else:
        ids = rows_in(out)["id"].to_list()
    before = sum(list(rows.values())[:5])
    gone = range(before + 1, before + rows[paths[5]] + 1)
    assert ids == [k for k in range(1, sum(rows.values()) + 1) if k not in gone]
    if format_ is Format.PARQUET:
        told = json.loads((out / "segment.json").read_text())
        assert [row["rows"] for row in told] == [0 if path == paths[5] else n for path, n in rows.items()]


def deadly_for(path: Path) -> Callable[..., tuple[Tally, Path]]:
    """`write_part`, which fails whenever a segment is in its batch, as a dead worker does."""

    def deadly(plan: Plan, folder: Path, **options: Any) -> tuple[Tally, Path]:
        if path.name in [part.name for part in plan.batch.parts]:
            raise MemoryError
        return write_part(plan, folder, **options)

    return deadly


def test_a_batch_that_fails_where_processes_share_tables_does_not_need_what_the_others_have_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans of its segments are made when what was kept of the others is gone."""
    world = World(random.Random(3))
    world.shares = True
    paths = [Path(str(path)) for path in write(world.run(2500), tmp_path / "caps", [80, 160, 240, 320, 400, 480])]
    monkeypatch.setattr(batch, "MOST", sum(path.stat().st_size for path in paths[:3]))
    rows = [count for plan in prepare([tmp_path / "caps"], Workers(1)).plans for count in plan.counts]

    monkeypatch.setattr("process.write_parquet.write_part", deadly_for(paths[4]))
    summary = decode([tmp_path / "caps"], tmp_path / "out", Format.PARQUET)
    assert [item.partition(":")[0] for item in losses(summary.ledger)] == [paths[4].name]
    assert summary.rows == sum(rows) - rows[4]


def test_a_segment_that_kills_its_decoder_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails as a whole whenever one segment is in it, as a dead worker does."""
    paths = write_capture(tmp_path / "caps")

    monkeypatch.setattr("process.write_parquet.write_part", deadly_for(paths[2]))
    summary = decode([tmp_path / "caps"], tmp_path / "out", Format.PARQUET)
    assert [item.partition(":")[0] for item in losses(summary.ledger)] == [paths[2].name]
    assert summary.rows == 61 + 61 + 61
    assert sorted(path.name for path in (tmp_path / "out").glob("part-*")) == [
        f"part-00000-0000{k}.parquet" for k in (1, 2, 4)
    ]
    assert rows_in(tmp_path / "out")["id"].is_sorted()
