"""docs/FORMAT.md, the writer and the reader say the same."""

from __future__ import annotations

import os
import re
import struct
import uuid
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import format_reader
from capture import live, reader
from capture import segment as layout
from capture.chunk import Room
from capture.recorder import OpenFile, Recorder
from capture.running import RUNNING_LENGTH, RUNNING_MAGIC, WORDS
from capture.sealer import event_planes
from capture.segment import BlockType, Encoding, EventFlag, Header, StringFlag, pack_block
from conftest import RECORDED, command
from process.discover import discover
from process.events import words
from process.read import load
from segments import Builder

EXAMPLE_CALL = (
    1_000_000,
    25_000,
    7 << 32 | 7,
    0xFFFFFF9C,
    0x7FFE1000,
    0,
    0,
    0,
    0,
    3,
    257,
    1,
    EventFlag.RETURNED,
    0,
)


def example() -> bytes:
    """The worked example of the page: one openat, in raw blocks so that people can follow it."""
    header = Header(
        uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"), 0, "x86_64", 8, False, 1_767_225_600_000_000_000,
        86_400_000_000_000, 0, "sysreel 0.1.0", pid=4711,
    )  # fmt: skip
    payloads = (
        (BlockType.META, 1, 0, b"{}"),
        (BlockType.STRINGS, 1, 1, struct.pack("<II", 11, 0) + b"/etc/passwd"),
        (BlockType.SETS, 1, 1, struct.pack("<6I", 0, 1, 0, 0, 0, 0)),
        (BlockType.EVENTS, 1, 0, layout.EVENT_ROW.pack(*EXAMPLE_CALL)),
        (BlockType.END, 17, 0, struct.pack("<17Q", 1, 1, 11, 1, *[0] * 13)),
    )
    blocks = [
        pack_block(header, kind, Encoding.RAW, index, count, first, len(data), data)
        for index, (kind, count, first, data) in enumerate(payloads)
    ]
    return header.pack() + b"".join(blocks)


def hexdump(data: bytes) -> str:
    """Sixteen bytes a line, as ``hexdump -C`` shows them."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        text = "".join(chr(c) if 32 <= c < 127 else "." for c in part)
        lines.append(f"{at:08x}  {part[:8].hex(' '):<23}  {part[8:].hex(' '):<23}  |{text}|")
    return "\n".join(lines)


def test_the_page_shows_the_bytes_that_the_writer_writes() -> None:
    page = format_reader.PAGE.read_text(encoding="utf-8")
    assert hexdump(example()) in page


def test_a_reader_made_from_the_page_reads_the_worked_example() -> None:
    records = list(format_reader.read(example()))
    event = dict(records)["EVENTS"]
    assert [kind for kind, _ in records] == ["header", "META", "STRINGS", "SETS", "EVENTS", "END"]
    assert dict(records)["STRINGS"] == {"id": 1, "bytes": b"/etc/passwd", "flags": 0}
    assert (event["number"], event["ret"], event["strings"], event["args"][0]) == (257, 3, 1, 0xFFFFFF9C)
    assert dict(records)["END"]["string_bytes"] == 11


def test_crc32c_has_its_published_check_value() -> None:
    assert format_reader.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    ("section", "size"),
    [
        ("File header", layout.FILE_HEADER_SIZE),
        ("Block header", layout.BLOCK_HEADER_SIZE),
        ("Event", layout.EVENT_ROW.size),
        ("Set", layout.SET_ROW.size),
        ("Identity", layout.TASK_ROW.size),
        ("Mark", layout.MARK_ROW.size),
        ("File", layout.FILE_ROW.size),
        ("String index entry", layout.STRING_INDEX.size),
        ("Live control", 8 * len(live.CONTROL)),
    ],
)
def test_every_table_of_the_page_has_the_size_that_the_code_has(section: str, size: int) -> None:
    assert format_reader.size_of(format_reader.fields(section)) == size


def test_a_running_file_is_as_the_page_says(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "x86_64", wait=True, room=Room(64, 256, 1 << 20, 256, 64, 64))
    for i in range(100):
        recorder.event(i, 0, 1, i, 0, 0, 0, 0, 0, 0, 39)
    data = next(tmp_path.glob("*.running")).read_bytes()
    read = {name: data[at : at + size] for at, size, _, name in format_reader.fields("Running file")}
    assert len(data) == RUNNING_LENGTH and read["magic"] == RUNNING_MAGIC
    assert (
        format_reader.record(format_reader.fields("File header"), read["header"])["capture"] == recorder.capture.bytes
    )
    totals = struct.unpack(f"<{len(layout.COUNTERS)}Q", read["totals"])
    words = {name: int.from_bytes(read[name], "little") for name in WORDS if name in read}
    assert words == {
        "ended": 0,
        "next_event": 64,
        "segment": 0,
        "stored": words["stored"],
        "kept_from": 0,
        "filling": 1,
    }
    assert totals[0] == 64 and sum(totals) == 64
    recorder.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".seg"]


def test_counters_and_control_words_have_the_names_of_the_page() -> None:
    totals = re.findall(r"^\| \d+ \| (\w+) \|", format_reader.sections()["Totals"], re.MULTILINE)
    assert tuple(totals) == layout.COUNTERS
    assert tuple(name for *_, name in format_reader.fields("Live control")) == live.CONTROL


def record_something(directory: Path, events: int) -> None:
    """A capture of a few kinds of everything, in segments of 64 events."""
    recorder = Recorder(
        directory,
        "x86_64",
        segment_size=1,
        wait=True,
        room=Room(events=64, tasks=64, marks=64, strings=256, sets=256),
    )
    recorder.identity(7 << 32 | 7, 0x1000, 7, 7, 1, 15, 99, b"sh", b"sh\0-c\0", 0, table=2**64 - 64)
    recorder.files(2**64 - 64, [(0, b"/dev/console", 0), (1, None, 1)], snapshot=True)
    recorder.folder(7 << 32 | 7, b"/")
    for i in range(events):
        if i % 50 == 0:
            recorder.mark(f"test case {i}")
        name = b"/tmp/%d" % (i % 10)
        strings = recorder.strings(((1, name, 0), (2, b"a\0b\0", StringFlag.LIST))) if i % 3 else 0
        recorder.event(i * 10, 5, 7 << 32 | 7, i, 2**64 - 1, 3, 4, 5, 6, (-i) % 2**64, 257, strings)
    recorder.close()


def test_the_reader_made_from_the_page_and_ours_agree_on_what_the_recorder_wrote(tmp_path: Path) -> None:
    record_something(tmp_path, 200)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 4 and all(path.suffix == ".seg" for path in paths)
    sequence = 0
    for path in paths:
        compare(path)
        events = [found for kind, found in format_reader.read(path.read_bytes()) if kind == "EVENTS"]
        for found in events:
            assert found["id"] == sequence and found["args"][0] == sequence
            assert found["ret"] == (-sequence) % 2**64
            sequence += 1
    assert sequence == 200


def test_both_readers_agree_on_a_capture_of_a_real_guest() -> None:
    paths = sorted(RECORDED.iterdir())
    assert paths
    for path in paths:
        compare(path)


def compare(path: Path) -> None:
    """Fail unless both readers see the same records in a sealed segment."""
    theirs = list(format_reader.read(path.read_bytes()))
    ours = reader.read_segment(path)
    assert ours.sealed and not ours.damage
    assert theirs[0][1]["capture"] == ours.header.capture.bytes
    assert dict(theirs)["END"] == ours.counters
    assert {kind for kind, _ in theirs} >= {BlockType(block.type).name for block in ours.blocks}
    for block in ours.blocks:
        table = {
            BlockType.EVENTS: layout.EVENT_ROW, BlockType.SETS: layout.SET_ROW,
            BlockType.TASKS: layout.TASK_ROW, BlockType.MARKS: layout.MARK_ROW, BlockType.FILES: layout.FILE_ROW,
        }.get(BlockType(block.type))  # fmt: skip
        if table is None:
            continue
        data = words(block).T.tobytes()
        mine = [table.unpack_from(data, i * table.size) for i in range(block.count)]
        known = [
            found for kind, found in theirs
            if kind == BlockType(block.type).name and block.first <= found["id"] < block.first + block.count
        ]  # fmt: skip
        assert len(mine) == len(known)
        for own, other in zip(mine, known, strict=True):
            assert list(own) == _flat(other)


@given(
    st.lists(
        st.tuples(
            *(st.integers(0, 2**64 - 1) | st.integers(0, 300) for _ in range(10)),
            *(st.integers(0, 2**32 - 1) | st.integers(0, 3) for _ in range(4)),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_events_come_back_from_planes_in_their_order(rows: list[tuple[int, ...]]) -> None:
    data = b"".join(layout.EVENT_ROW.pack(*row) for row in rows)
    stored = event_planes(data)
    assert len(stored) == len(data)
    block = layout.Block(BlockType.EVENTS, Encoding.PLANES, 0, len(rows), 0, len(data), _zstd(stored), 0)
    assert words(block).T.tobytes() == data
    head = {"index": 0, "type": 6, "encoding": 3, "count": len(rows), "raw_length": len(data)}
    assert format_reader._unpack(head, bytes(block.stored)) == data


def _zstd(data: bytes) -> memoryview:
    return memoryview(zstandard.compress(data))


def _flat(found: dict[str, object]) -> list[object]:
    """A record's integers in file order, as struct gives them."""
    out: list[object] = []
    for name, value in found.items():
        if name == "id":
            continue
        if isinstance(value, list):
            out += value
        elif isinstance(value, bytes):
            out += struct.unpack(f"<{len(value) // 4}I", value)
        else:
            out.append(value)
    return out


U64, U32 = st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(U64, U64, U64, st.tuples(*[U64] * 6), U64, U32, U32, U32), min_size=1, max_size=90),
    strings=st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 7)), max_size=20),
)
def test_whatever_is_recorded_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int, int, tuple[int, ...], int, int, int, int]],
    strings: list[tuple[bytes, int]],
) -> None:
    directory = tmp_path_factory.mktemp("capture")
    recorder = Recorder(directory, "x86_64", wait=True, room=Room(64, 256, 1 << 20, 256, 64, 64))
    ids = [recorder.string(data, flags) for data, flags in strings]
    for began, duration, task, args, ret, number, flags, entry in rows:
        recorder.event(
            began,
            duration,
            task,
            args[0],
            args[1],
            args[2],
            args[3],
            args[4],
            args[5],
            ret,
            number,
            0,
            flags,
            entry,
        )
    recorder.close()
    (path,) = directory.iterdir()
    records = list(format_reader.read(path.read_bytes()))
    read = [found for kind, found in records if kind == "EVENTS"]
    assert [
        (f["time"], f["duration"], f["task"], tuple(f["args"]), f["ret"], f["number"], f["flags"], f["entry"])
        for f in read
    ] == rows
    stored = {found["id"]: (found["bytes"], found["flags"]) for kind, found in records if kind == "STRINGS"}
    assert [stored[number] for number in ids] == strings


def test_a_capture_that_was_never_closed_is_whole_in_its_live_files(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        recorder = Recorder(tmp_path, "x86_64", wait=True, room=Room(64, 256, 1 << 20, 256, 64, 64))
        for i in range(100):
            recorder.event(i, 0, 1, i, 0, 0, 0, 0, 0, 0, 39)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    seen: set[int] = set()
    for path in tmp_path.iterdir():
        if path.suffix in (".spare", ".running") or path.stat().st_size == 0:
            continue  # nothing yet; a segment file that was just being begun
        for block in reader.read_segment(path).blocks:
            if block.type == BlockType.EVENTS:
                seen |= set(range(block.first, block.first + block.count))
    assert seen == set(range(100))


OPEN: list[OpenFile] = [(0, b"/dev/console", 0), (3, b"pipe:[7]", 1), (9, None, 0)]


def test_file_records_are_read_back_from_a_sealed_segment_and_from_a_live_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "x86_64", wait=True, room=Room(64, 256, 1 << 20, 256, 64, 64, 64))
    recorder.identity(7 << 32 | 7, 1, 7, 7, 1, 15, 0, b"sh", b"", 0, table=5)
    recorder.files(5, OPEN, snapshot=True)
    recorder.folder(7 << 32 | 7, b"/tmp (deleted)")
    recorder.event(0, 0, 7 << 32 | 7, 0, 0, 0, 0, 0, 0, 4, 2)
    recorder.files(5, [(4, b"/etc/passwd", 0)])
    recorder.files(6, [], snapshot=True)
    live = read(next(tmp_path.glob("*.live")))
    recorder.close()
    assert read(next(tmp_path.glob("*.seg"))) == live
    assert live == [
        (0, 5, 0, b"/dev/console", 4),
        (0, 5, 3, b"pipe:[7]", 5),
        (0, 5, 9, None, 4),
        (0, 7 << 32 | 7, 0, b"/tmp (deleted)", 2),
        (1, 5, 4, b"/etc/passwd", 0),
        (1, 6, layout.NO_FD, None, 4),
    ]
    assert recorder.counts["files"] == 6


def read(path: Path) -> list[tuple[int, int, int, bytes | None, int]]:
    """The file records of a segment: event, owner, descriptor, path, flags."""
    contents = load(discover([path]).parts[0])
    assert not contents.damage and contents.tasks[7].tolist() == [5]
    found = []
    for seq, owner, fd_path, flags in contents.files.T.tolist():
        text = contents.strings.get(fd_path >> 32)
        found.append((seq, owner, fd_path & 0xFFFFFFFF, text and text.data, flags))
    return found


def test_a_table_for_which_there_is_no_room_is_not_recorded_in_part(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "x86_64", wait=True, room=Room(64, 256, 1 << 20, 256, 64, 64, 40))
    for table in range(20):
        recorder.files(table, OPEN, snapshot=True)
    recorder.close()
    assert recorder.counts["files"] == 39 and recorder.counts["unstored"] == 60 - 39


def test_a_live_file_of_version_1_0_is_read(tmp_path: Path) -> None:
    """It has neither the area of file records nor the words that tell of it."""
    builder = Builder()
    builder.task()
    builder.event()
    data = bytearray(builder.live(tmp_path).read_bytes())
    rooms = [live.CONTROL_OFFSET + 8 * live.CONTROL.index(name) for name in ("files", "max_files")]
    assert struct.unpack_from("<Q", data, rooms[1])[0] == 3
    for at in rooms:
        data[at : at + 8] = bytes(8)
    segment = reader.parse_segment(bytes(data[: -3 * layout.FILE_ROW.size]), "old")
    assert [block.type for block in segment.blocks] == [BlockType.STRINGS, BlockType.TASKS, BlockType.EVENTS]


def test_a_full_folder_costs_counted_events_and_never_an_exception(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "x86_64", room=Room(64, 256, 1 << 20, 256, 64, 64), max_size=1)
    for i in range(1000):
        assert recorder.event(i, 0, 1, i, 0, 0, 0, 0, 0, 0, 39) == i
    recorder.close()
    assert recorder.counts["events"] + recorder.counts["dropped"] == 1000
    assert recorder.counts["dropped"] > 0
    (path,) = [path for path in tmp_path.iterdir() if path.suffix == ".seg"]
    assert reader.read_segment(path).counters == recorder.counts


def test_a_segment_that_found_no_room_leaves_its_ledger_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, "x86_64", segment_size=1, room=Room(64, 256, 1 << 20, 256, 64, 64))
    monkeypatch.setattr(recorder._sealer, "spare", lambda wait=False: None)
    for i in range(74):
        recorder.event(i, 0, 1, i, 0, 0, 0, 0, 0, 0, 39)
    monkeypatch.undo()
    recorder.close()
    (path,) = tmp_path.iterdir()
    counters = reader.read_segment(path).counters
    assert (counters["events"], counters["dropped"]) == (64, 10)


def test_a_flipped_byte_costs_one_block_of_events_and_the_rest_decodes(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "sound", "x86_64", wait=True)
    for i in range(20_000):
        recorder.event(i, 0, 1, i * i, i, 0, 0, 0, 0, 0, 10)  # mprotect, for its three arguments
    recorder.close()
    (path,) = (tmp_path / "sound").iterdir()
    events = [block for block in reader.read_segment(path).blocks if block.type == BlockType.EVENTS]
    assert [block.count for block in events] == [8192, 8192, 20_000 - 2 * 8192]
    data = bytearray(path.read_bytes())
    data[events[1].offset + layout.BLOCK_HEADER_SIZE + 1000] ^= 1
    (tmp_path / "flipped.seg").write_bytes(data)
    done = command("process", tmp_path / "flipped.seg", "-o", tmp_path / "rows.parquet")
    assert done.returncode == 3 and "flipped.seg" in done.stderr and f"offset {events[1].offset}" in done.stderr
    kept = pl.scan_parquet(f"{tmp_path}/rows.parquet/*.parquet").sort("id").collect()
    assert kept["arg1"].to_list() == [*range(8192), *range(2 * 8192, 20_000)]


def test_a_file_that_is_given_is_the_file_that_is_decoded(tmp_path: Path) -> None:
    """A better copy that lies beside it is not taken in its place."""
    record_something(tmp_path, 10)
    (path,) = tmp_path.iterdir()
    (tmp_path / "cut.seg").write_bytes(path.read_bytes()[:-200])
    done = command("process", tmp_path / "cut.seg", "-o", tmp_path / "rows.parquet")
    assert done.returncode == 3 and "cut.seg" in done.stderr and path.name not in done.stderr


def test_the_recorder_leaves_only_segments_behind(tmp_path: Path) -> None:
    record_something(tmp_path, 10)
    assert {path.suffix for path in tmp_path.iterdir()} == {".seg"}
