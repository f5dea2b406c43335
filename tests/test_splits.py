"""A large segment that several workers share: the same rows as whole, and what is damaged costs itself alone."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import synthetic
from capture.chunk import Room
from capture.reader import read_segment
from capture.segment import BlockType
from decoding import frame_of, losses
from fd_world import World, write
from process import batch, memory, scan, splits
from process.batch import batches
from process.discover import discover
from process.merge import load_batch
from process.output import Format
from process.pipeline import Summary, decode
from process.plan import Plan
from process.read import load_split
from process.write_parquet import write_part
from segments import EXECVE, LIST, OPENAT, READ, Builder, task
from test_faults import GOLDEN, OWNER, Read, cuts, flips, judge, misfits, records_of

SMALL_ROOM = Room(400, 1024, 1 << 18, 1024, 128, 64, 64)


@pytest.fixture
def divide(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have segments divided into splits of so many events; 0: not at all."""

    def set_to(events: int) -> None:
        monkeypatch.setattr(splits, "LEAST", 0 if events else 1 << 60)
        monkeypatch.setattr(splits, "PER_BLOCK", 1)
        monkeypatch.setattr(splits, "EVENTS", events)

    return set_to


CHUNKS = 9


def chunks(folder: Path, *, apart: bool = False) -> list[Path]:
    """A segment whose chunks use strings of those before them, and change what holds; or a segment for each."""
    paths = []
    one = Builder(planes=True)
    for number in range(CHUNKS):
        one.task(task(7), argv=b"sh\0%d\0" % (number // 3), comm=b"c%d" % number, table=0x5000 + number)
        one.table(0x5000 + number, {3: b"/dir%d" % number, 0: b"/dev/tty%d" % number, 4: b"/f%d" % number})
        if number % 3 == 1:
            one.mark(b"mark %d" % number)
        if number % 3 == 2:
            one.event(EXECVE, 1, 2, strings=one.set(a0=b"/bin/%d" % number, a1=(b"x\0", LIST)))
        for k in range(3 + number % 3):
            one.event(OPENAT, 3, 0x10, strings=one.set(a1=b"/p%d" % (number - k)), ret=5 + k, who=task(7 + k % 2))
            one.event(READ, 5 + k, who=task(7))
        if not apart:
            one.block()
        elif number + 1 < CHUNKS:
            paths.append(one.write(folder))
            one = Builder(planes=True, segment=number + 1, first=one.next)
    return [*paths, one.write(folder)]


def outputs(source: Path, out: Path, **options: Any) -> tuple[Summary, dict[str, Any]]:
    """What `process` makes of it: rows and the table `fd` as frames, the other tables as they are."""
    summary = decode([source], out, Format.PARQUET, **options)
    made: dict[str, Any] = {
        name: json.loads((out / f"{name}.json").read_text()) for name in ("process", "segment", "stats")
    }
    made["rows"] = pl.read_parquet(sorted(out.glob("part-*")))
    made["fd"] = pl.read_parquet(sorted(out.glob("fd-*")))
    made["parts"] = len(list(out.glob("part-*")))
    return summary, made


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in ("rows", "fd"):
        assert_frame_equal(one[name], other[name], categorical_as_str=True)
    for name in ("process", "segment", "stats"):
        assert one[name] == other[name], name


@pytest.mark.parametrize("seed", range(4))
def test_a_divided_segment_gives_the_tables_of_a_whole_one(
    seed: int, tmp_path: Path, divide: Callable[[int], None]
) -> None:
    world = World(random.Random(seed))
    world.shares = bool(seed % 2)
    events = world.run(1500)
    lost = frozenset(random.Random(seed).sample(range(len(events)), 3 if seed % 4 > 1 else 0))
    write(events, tmp_path / "caps", [], lost)
    divide(0)
    _, whole = outputs(tmp_path / "caps", tmp_path / "whole")
    assert whole["parts"] == 1 and len(whole["fd"]) > 50
    for size, jobs in ((60, 1), (200, 2), (333, 16)):
        divide(size)
        _, divided = outputs(tmp_path / "caps", tmp_path / f"divided-{size}", jobs=jobs)
        assert divided["parts"] > 3
        assert_same(divided, whole)


@pytest.mark.parametrize("adversarial", [False, True])
def test_so_does_a_generated_one(tmp_path: Path, divide: Callable[[int], None], adversarial: bool) -> None:
    synthetic.generate(tmp_path / "caps", 12_000, processes=9, paths=50, adversarial=adversarial, room=SMALL_ROOM)
    divide(0)
    _, whole = outputs(tmp_path / "caps", tmp_path / "whole")
    divide(1000)
    _, divided = outputs(tmp_path / "caps", tmp_path / "divided", jobs=2)
    assert len(whole["rows"]) > 11_000 and divided["parts"] >= 5
    assert_same(divided, whole)


def test_strings_identities_marks_and_tables_go_over_from_split_to_split(
    tmp_path: Path, divide: Callable[[int], None]
) -> None:
    chunks(tmp_path)
    divide(0)
    whole, ledger = frame_of(tmp_path)
    divide(1)
    divided, same = frame_of(tmp_path)
    assert_frame_equal(divided, whole, categorical_as_str=True)
    assert list(ledger.rows()) == list(same.rows())
    assert whole["mark"].n_unique() == 4 and whole["procname"].n_unique() == 3
    assert whole["arg0_repr"].str.contains("/dir").any() and whole["arg1_repr"].str.contains("/p-2").any()
    for size in (3, 1 << 20):
        divide(size)
        assert_frame_equal(scan(tmp_path).collect(), whole, categorical_as_str=True)
        few = scan(tmp_path).filter(pl.col("name") == "sys_openat").select("procname", "arg1_repr").collect()
        assert_frame_equal(
            few, whole.filter(name="sys_openat").select("procname", "arg1_repr"), categorical_as_str=True
        )


def test_splits_are_whole_chunks_as_large_as_they_should_be_and_smaller_at_the_end(
    tmp_path: Path, divide: Callable[[int], None]
) -> None:
    synthetic.generate(tmp_path / "one", 40_000, room=SMALL_ROOM)
    synthetic.generate(tmp_path, 2000, room=SMALL_ROOM, segment_size=1)
    (path,) = (tmp_path / "one").iterdir()
    divide(4000)
    made = batches(discover([tmp_path / "one"]).parts)
    cuts = [one.split for one in made if one.split is not None]
    assert len(cuts) == len(made) == 12
    starts = [cut.first for cut in cuts]
    sizes = [end - first for first, end in zip(starts, [*starts[1:], 40_000], strict=True)]
    assert all(3600 <= size <= 4400 for size in sizes[:9]) and all(size <= 2400 for size in sizes[9:])
    assert [cut.start for cut in cuts[1:]] == [cut.end for cut in cuts[:-1]] and cuts[-1].end == path.stat().st_size
    blocks = read_segment(path).blocks
    for cut in cuts[1:]:
        here = next(k for k, block in enumerate(blocks) if block.offset == cut.start)
        assert blocks[here].type != BlockType.EVENTS and blocks[here - 1].type == BlockType.EVENTS
        earlier = [block.offset for block in blocks[:here] if block.type in (BlockType.STRINGS, BlockType.SETS)]
        assert list(cut.before) == earlier
    both = discover([tmp_path / "one", tmp_path]).parts
    assert len([one for one in batches(both) if one.split is not None]) == 10  # it does not come last


def test_strings_before_a_split_are_read_when_it_needs_them(tmp_path: Path, divide: Callable[[int], None]) -> None:
    one = Builder()
    for number in range(4):
        one.event(OPENAT, 3, 0x10, strings=one.set(a1=b"/%d" % number))
        one.block()
    one.event(OPENAT, 3, 0x10, strings=2)
    path = one.write(tmp_path)
    divide(1)
    parts = discover([path]).parts
    last = batches(parts)[-1]
    read = load_batch(last).contents
    damage(path, BlockType.STRINGS, 0)  # whether it is sound is for the first split to tell
    assert read.strings.get(2) is not None and read.strings.get(1) is None
    assert not read.damage


def damage(path: Path, kind: BlockType, which: int) -> None:
    """Flip a bit in a block's payload."""
    block = [block for block in read_segment(path).blocks if block.type == kind][which]
    data = bytearray(path.read_bytes())
    data[block.offset + 60] ^= 4
    path.write_bytes(data)


KINDS = [kind for kind in BlockType if kind not in (BlockType.META, BlockType.END)]


@pytest.mark.parametrize(("kind", "which"), [(kind, which) for kind in KINDS for which in range(3)])
def test_a_damaged_block_costs_what_it_costs_where_each_chunk_is_a_segment(
    tmp_path: Path, divide: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, kind: BlockType, which: int
) -> None:
    (path,) = chunks(tmp_path / "one")
    paths = chunks(tmp_path / "many", apart=True)
    damage(path, kind, which)
    where = which if kind != BlockType.MARKS else 1 + 3 * which
    damage(paths[where], kind, 0)
    divide(1)
    assert len(batches(discover([path]).parts)) == CHUNKS
    summary, divided = outputs(tmp_path / "one", tmp_path / "divided")
    assert any("damaged at offset" in item for item in losses(summary.ledger))
    assert [row["damage"] for row in divided["segment"]] == [1]
    monkeypatch.setattr(batch, "SMALL", 0)
    _, apart = outputs(tmp_path / "many", tmp_path / "apart")
    assert apart["parts"] == CHUNKS
    if kind in (BlockType.STRINGS, BlockType.SETS):  # there each segment has those of its own
        divide(0)
        same, whole = outputs(tmp_path / "one", tmp_path / "whole")
        assert losses(same.ledger) == losses(summary.ledger)
        assert_frame_equal(divided["rows"]["id", "arg1_repr"], whole["rows"]["id", "arg1_repr"])
        return
    for name in ("rows", "fd"):
        assert_frame_equal(divided[name], apart[name], categorical_as_str=True)
    assert divided["process"] == apart["process"]


def read_divided(data: bytes, path: Path) -> Read:
    """As `test_faults.read`, split by split."""
    path.write_bytes(data)
    found = discover([path])
    if not found.parts:
        return Read(refused=True, told=bool(found.rejected))
    read = Read()
    for one in batches(found.parts):
        contents = load_batch(one).contents
        read.records |= dict(records_of(contents))
        read.told |= bool(contents.damage) or not contents.is_sealed
    return read


@pytest.mark.parametrize("faults", [cuts, partial(flips, 3), misfits])
def test_whatever_is_wrong_with_a_divided_segment_costs_one_block_and_is_told(
    tmp_path: Path, divide: Callable[[int], None], faults: Callable[[], Iterator[tuple[bytes, bool]]]
) -> None:
    divide(1)
    whole = read_divided(GOLDEN, tmp_path / "a.seg")
    assert len(batches(discover([tmp_path]).parts)) == 2
    assert not whole.told and whole.records.keys() == OWNER.keys()
    found = judge(whole, faults(), tmp_path / "a.seg", read_divided)
    assert found.clean and found.faults > 80, found


def test_a_segment_in_which_anything_is_unusual_stays_whole(tmp_path: Path, divide: Callable[[int], None]) -> None:
    (path,) = chunks(tmp_path)
    sound = path.read_bytes()
    blocks = read_segment(path).blocks
    divide(1)
    assert len(batches(discover([path]).parts)) == CHUNKS
    second = blocks[5].offset

    def flipped(at: int) -> bytes:
        return sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :]

    unusual = {
        "a wrong bit in the file's header": flipped(70),
        "a block's header is damaged": flipped(second + 9),
        "a block is missing": sound[: blocks[4].offset] + sound[second:],
        "a tail": sound + b"\0" * 99,
        "torn": sound[:-30],
        "not sealed": sound[: blocks[-1].offset + 52 + len(blocks[-1].stored)],
        "twice": sound + sound[second:],
    }
    for kind in (BlockType.STRINGS, BlockType.SETS):
        forged = Builder()
        forged.add(kind, 0, 1 << 40, b"")
        forged.event(READ, 3)
        forged.block()
        forged.event(OPENAT, 3, strings=forged.set(a1=b"/x"))
        unusual[f"ids of {kind} that cannot be"] = forged.data()
    for name, data in unusual.items():
        path.write_bytes(data)
        (one,) = batches(discover([path]).parts)
        assert one.split is None, name
    path.write_bytes(sound)
    live = Builder(first=blocks[-1].first + blocks[-1].count)
    live.event(READ, 3)
    live.live(tmp_path)
    assert [one.split for one in batches(discover([tmp_path]).parts)] == [None]


def test_what_cannot_be_is_not_divided(
    tmp_path: Path, divide: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = chunks(tmp_path)
    divide(1)
    parts = discover([path]).parts
    monkeypatch.setattr(splits, "MAX_HELD", 10)
    monkeypatch.setattr(splits, "_MOST_PACKED", 0)
    assert [one.split for one in batches(parts)] == [None]  # unpacks to more than is held
    monkeypatch.undo()
    divide(1)
    monkeypatch.setattr(splits, "_MOST_OFFSETS", 36)
    assert len(batches(parts)) == 4  # two, of which the last one is divided twice
    monkeypatch.undo()
    path.unlink()
    divide(1)
    assert [one.split for one in batches(parts)] == [None]


def test_a_file_that_changes_after_it_was_divided_is_told(tmp_path: Path, divide: Callable[[int], None]) -> None:
    (path,) = chunks(tmp_path)
    divide(1)
    made = batches(discover([path]).parts)
    split = made[4].split
    assert split is not None
    sound = path.read_bytes()
    for data in (sound[: split.end - 1], sound[:200] + sound[300:]):
        path.write_bytes(data)
        with pytest.raises(Exception, match="changed since it was found; decode again"):
            load_split(made[4].parts[0], split)


def test_a_split_that_kills_its_decoder_costs_itself_alone(
    tmp_path: Path, divide: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = chunks(tmp_path / "caps")
    divide(0)
    whole = frame_of(path)[0]
    divide(1)
    cuts = [one.split for one in batches(discover([path]).parts)]
    third, fourth = cuts[2], cuts[3]
    assert third is not None and fourth is not None

    def deadly(plan: Plan, folder: Path, **options: Any) -> Any:
        if plan.batch.split == third:
            raise MemoryError
        return write_part(plan, folder, **options)

    monkeypatch.setattr("process.write_parquet.write_part", deadly)
    summary, made = outputs(tmp_path / "caps", tmp_path / "out")
    (item,) = losses(summary.ledger)
    assert item.startswith(f"{path.name} (from event {third.first} on): not decoded: ")
    left = whole.filter((pl.col("seq") < third.first) | (pl.col("seq") >= fourth.first))
    assert made["rows"]["id"].to_list() == left["id"].to_list()
    assert [row["rows"] for row in made["segment"]] == [len(left)]


def test_a_split_that_cannot_be_surveyed_costs_itself_alone(
    tmp_path: Path, divide: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = chunks(tmp_path / "caps")
    divide(1)
    third = batches(discover([path]).parts)[2].split
    assert third is not None
    real = load_split

    def deadly(part: Any, split: Any) -> Any:
        if split == third:
            raise MemoryError
        return real(part, split)

    monkeypatch.setattr("process.merge.load_split", deadly)
    summary, made = outputs(tmp_path / "caps", tmp_path / "out")
    told = losses(summary.ledger)
    assert any(item.startswith(f"{path.name}: not read: from event {third.first} on: ") for item in told)
    assert any(f"({third.first}-" in item for item in told)  # these events are missing
    assert len(made["segment"]) == 1 and made["segment"][0]["rows"] == len(made["rows"]) > 30


def test_what_was_made_of_a_split_is_taken_over_as_long_as_nothing_that_it_needs_changes(
    tmp_path: Path, divide: Callable[[int], None]
) -> None:
    (path,) = chunks(tmp_path / "caps")
    divide(1)
    fresh = outputs(tmp_path / "caps", tmp_path / "fresh")[1]
    told = []
    for again in range(2):
        summary, made = outputs(tmp_path / "caps", tmp_path / "kept", resume=True)
        assert_same(made, fresh)
        assert summary.resumed is not None
        told.append((summary.resumed.taken, summary.resumed.decoded, summary.resumed.surveyed))
        assert again or made["parts"] == 9
    assert told == [(0, 1, 1), (1, 0, 0)]
    for kind, which in ((BlockType.STRINGS, 0), (BlockType.SETS, 1), (BlockType.EVENTS, 3)):
        sound = path.read_bytes()
        damage(path, kind, which)
        fresh = outputs(tmp_path / "caps", tmp_path / f"fresh-{kind}")[1]
        assert_same(outputs(tmp_path / "caps", tmp_path / "kept", resume=True)[1], fresh)
        path.write_bytes(sound)


def test_the_last_events_are_decoded_again_when_another_segment_comes(
    tmp_path: Path, divide: Callable[[int], None]
) -> None:
    synthetic.generate(tmp_path / "all", 30_000, room=SMALL_ROOM, segment_size=100_000)
    first, *others = sorted((tmp_path / "all").iterdir())
    divide(3000)
    (tmp_path / "caps").mkdir()
    for path in (first, *others):
        shutil.copy(path, tmp_path / "caps")
        summary, made = outputs(tmp_path / "caps", tmp_path / "kept", resume=True)
    assert len(others) >= 1 and summary.rows > 29_000
    assert_same(made, outputs(tmp_path / "caps", tmp_path / "fresh")[1])


def test_below_a_limit_splits_are_smaller_and_rows_the_same(
    tmp_path: Path, divide: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_LEAST_SPLIT", 1)
    synthetic.generate(tmp_path / "caps", 30_000, room=SMALL_ROOM)
    divide(15_000)
    _, made = outputs(tmp_path / "caps", tmp_path / "made")
    assert made["parts"] == 4
    sizes = [path.stat().st_size for path in (tmp_path / "caps").iterdir()]
    room = memory.room(200 << 20, 1, [], sizes)
    assert room.split is not None and room.batch is not None and room.split == room.batch < sizes[0]
    _, limited = outputs(tmp_path / "caps", tmp_path / "limited", memory=200 << 20)
    assert limited["parts"] > 4
    assert_same(limited, made)
