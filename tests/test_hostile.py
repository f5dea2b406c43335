"""Segments made to do harm: nothing crashes, nothing is guessed, sound blocks are decoded."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture.segment import EVENT_ROW, SET_ROW, STRING_INDEX, TASK_ROW, BlockType, Encoding, EventFlag
from decoding import frame_of, losses
from process.discover import discover
from process.errors import ProcessError
from process.output import Format
from process.pipeline import decode
from process.records import records
from segments import OPENAT, RETURNED, Builder, task

EVENT = EVENT_ROW.pack(1, 2, task(7), 1, 0x10, 0, 0, 0, 0, 0, OPENAT, 1, 1, 0)


def sound(builder: Builder) -> None:
    """One event that every test expects to survive."""
    builder.event(OPENAT, 1, 0x10, strings=builder.set(a1=b"ok"))
    builder.block()


@pytest.mark.parametrize("first", [0, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_forged_sequence_numbers(tmp_path: Path, first: int) -> None:
    builder = Builder()
    sound(builder)
    builder.add(BlockType.EVENTS, 1, first, EVENT)
    frame, ledger = frame_of(builder.write(tmp_path))
    assert frame["arg1_repr"].to_list()[0] == 'filename=0x10("ok")'
    assert len(frame) == (2 if first == 1 << 32 else 1)
    assert losses(ledger)


@pytest.mark.parametrize(
    ("kind", "count", "first", "payload"),
    [
        (BlockType.STRINGS, 1, 9, STRING_INDEX.pack(500, 0) + b"abc"),
        (BlockType.STRINGS, 2, 9, STRING_INDEX.pack(3, 0) + STRING_INDEX.pack(1, 0) + b"abc"),
        (BlockType.STRINGS, 1000, 9, STRING_INDEX.pack(3, 0) + b"abc"),
        (BlockType.STRINGS, (1 << 32) - 1, 9, b""),
        (BlockType.STRINGS, 1, 1 << 63, STRING_INDEX.pack(3, 0) + b"abc"),
        (BlockType.SETS, 1, (1 << 64) - 1, SET_ROW.pack(1, 1, 1, 1, 1, 1)),
        (BlockType.SETS, 7, 2, SET_ROW.pack(1, 1, 1, 1, 1, 1)),
        (BlockType.TASKS, 3, 0, b"short"),
        (BlockType.EVENTS, 1 << 31, 1, EVENT),
    ],
)
def test_forged_counts_and_ids_cost_their_own_block(
    tmp_path: Path, kind: BlockType, count: int, first: int, payload: bytes
) -> None:
    builder = Builder(columns=False)
    sound(builder)
    builder.add(kind, count, first, payload)
    frame, ledger = frame_of(builder.write(tmp_path))
    assert frame["arg1_repr"].to_list() == ['filename=0x10("ok")']
    (damage,) = losses(ledger)
    assert "damaged at offset" in damage


def test_forged_ids_in_records_find_nothing(tmp_path: Path) -> None:
    builder = Builder()
    builder.add(
        BlockType.TASKS, 2, 0,
        TASK_ROW.pack(0, task(7), 0, 7, 7, 1, 7, 0, (1 << 32) - 1, 77, 0)
        + TASK_ROW.pack((1 << 64) - 1, (1 << 64) - 1, 0, 7, 7, 1, 7, 0, 0, 0, 0),
    )  # fmt: skip
    builder.add(BlockType.SETS, 1, 1, SET_ROW.pack(*[(1 << 32) - 1] * 6))
    builder.event(OPENAT, 1, 0x10, strings=1)
    builder.event(OPENAT, 1, 0x10, strings=(1 << 32) - 1)
    frame, _ = frame_of(builder.write(tmp_path))
    assert frame["arg1_repr"].to_list() == ["filename=0x10([lost])"] * 2
    assert frame["procname"].to_list() == ["[none]"] * 2


def test_a_header_that_claims_the_impossible_is_survived(tmp_path: Path) -> None:
    builder = Builder(first=(1 << 64) - 1, abi="../\x1b[31m")
    builder.add(BlockType.EVENTS, 1, 0, EVENT)
    segment = builder.write(tmp_path / "caps")
    summary = decode([segment], tmp_path / "a.sqlite", Format.SQLITE)
    assert summary.rows == 0
    assert summary.ledger.lossy


def test_times_beyond_the_clock_are_survived(tmp_path: Path) -> None:
    builder = Builder(realtime_ns=(1 << 64) - 1)
    builder.event(time=(1 << 64) - 1, duration=1 << 63)
    frame, _ = frame_of(builder.write(tmp_path))
    assert frame["duration_ns"].to_list() == [None]


def test_a_frame_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    builder = Builder()
    sound(builder)
    builder.add(BlockType.EVENTS, 5, 1, EVENT * 4)
    frame, ledger = frame_of(builder.write(tmp_path))
    assert len(frame) == 1
    assert any("do not hold 5 records" in item for item in losses(ledger))


def test_an_unknown_encoding_or_block_type_costs_its_block(tmp_path: Path) -> None:
    builder = Builder()
    sound(builder)
    builder.add(BlockType.EVENTS, 1, 1, EVENT, encoding=9)  # type: ignore[arg-type]
    builder.add(77, 1, 1, b"from a later version")  # type: ignore[arg-type]
    frame, ledger = frame_of(builder.write(tmp_path))
    assert len(frame) == 1
    assert any("unknown encoding 9" in item for item in losses(ledger))


def template() -> tuple[bytes, bytes]:
    """A segment and a live file with every kind of record."""
    builder = Builder()
    builder.task()
    builder.mark(b"m")
    for k in range(6):
        builder.event(OPENAT, 1, 0x10, strings=builder.set(a1=b"%d" % k), flags=k % 2, entry=k % 3)
    with TemporaryDirectory() as folder:
        live = builder.live(Path(folder)).read_bytes()
    return builder.data(), live


SEALED, LIVE = template()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.sampled_from([SEALED, LIVE]),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=6),
    cut=st.integers(0, 1 << 16),
)
def test_any_damage_is_survived_and_told(
    tmp_path: Path, data: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(data) : at % len(data) + len(value)] = value
    if cut < len(damaged):
        del damaged[cut:]
    path = tmp_path / "a.seg"
    path.write_bytes(damaged)
    found = discover([path])
    if not found.parts:
        assert found.rejected
        return
    list(records(found.parts[0]))
    try:
        frame, ledger = frame_of(path)
    except ProcessError:
        return
    assert len(frame) <= 1000
    if data is SEALED and damaged != data:
        assert losses(ledger)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(BlockType)),
            st.integers(0, 20),
            st.sampled_from([0, 1, 5, 1 << 31, 1 << 62, (1 << 64) - 1]),
            st.binary(max_size=400),
            st.sampled_from(list(Encoding)),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_any_forged_blocks_are_survived(
    tmp_path: Path, blocks: list[tuple[BlockType, int, int, bytes, Encoding]]
) -> None:
    builder = Builder()
    for kind, count, first, payload, encoding in blocks:
        size = {BlockType.EVENTS: 96, BlockType.TASKS: 64, BlockType.SETS: 24, BlockType.MARKS: 16}.get(kind, 1)
        whole = (payload * (1 + size * count // max(len(payload), 1)))[: size * count] if payload else payload
        builder.add(kind, count, first, whole, encoding=encoding)
    frame, _ = frame_of(builder.write(tmp_path))
    assert frame["id"].to_list() == list(range(1, len(frame) + 1))


EDGES = [0, 1, 3, 0x7FFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 4095, (1 << 64) - 1]
WORD = st.sampled_from(EDGES) | st.integers(0, (1 << 64) - 1)
CALL = st.tuples(
    st.integers(0, 470) | st.integers(0, (1 << 30) - 1),
    st.lists(WORD, min_size=6, max_size=6),
    WORD,
    st.sampled_from([0, RETURNED, RETURNED | EventFlag.CONTEXT]),
    st.integers(1, 5),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([("x86_64", 8), ("aarch64", 8), ("riscv64", 8), ("i386", 4), ("arm", 4), ("mips-o32", 4)]),
    st.booleans(),
    st.lists(CALL, min_size=1, max_size=40),
)
def test_whatever_a_guest_calls_is_a_row_with_what_was_recorded(
    tmp_path: Path, abi: tuple[str, int], big_endian: bool, events: list[tuple[int, list[int], int, int, int]]
) -> None:
    """Any numbers, arguments, results and tasks: a row each, with the registers as they were."""
    name, size = abi
    builder = Builder(abi=name, word_size=size, big_endian=big_endian)
    for nr, args, ret, flags, pid in events:
        words = [value & (1 << 8 * size) - 1 for value in (*args, ret)]
        builder.event(nr, *words[:6], ret=words[6], who=task(pid), flags=flags)
    frame, ledger = frame_of(builder.write(tmp_path))
    assert frame["seq"].sort().to_list() == list(range(len(events))) and not losses(ledger)
    for row in frame.iter_rows(named=True):
        nr, args, ret, flags, pid = events[row["seq"]]
        assert (row["nr"], row["pid"]) == (nr, pid)
        assert (row["status"] == "returned") == bool(flags & RETURNED)
        if size == 8:
            values = [value - (value >> 63 << 64) for value in (*args, ret)]
            assert row["retno"] == (values[6] if flags & RETURNED else None)
            assert all(row[f"arg{k}"] in (None, values[k]) for k in range(6))
            assert all((row[f"arg{k}"] is None) == (row[f"arg{k}_repr"] is None) for k in range(6))
