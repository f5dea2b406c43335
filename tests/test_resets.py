"""Resets in the stream: what was known before one says nothing of what comes after it, and nothing is lost by it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from capture import calls
from capture.chunk import Room
from capture.reader import read_segment
from capture.recorder import Recorder
from capture.segment import EventFlag
from capture.tracer import Tracer
from decoding import frame_of, losses, rows_of
from fd_world import Event, World, write
from segments import CLOSE, EXECVE, GETPID, NOT_RETURNED, OPENAT, READ, Builder, task
from test_descriptors import CUTS, compared, names
from test_tracer import NONE, PARENT, VFORK, Guest

RESET = int(EventFlag.CHILD | EventFlag.RESET)
UNKNOWN = (1 << 64) - 1


def reset(builder: Builder) -> None:
    builder.event(0, flags=RESET, who=0)


def test_no_identity_and_no_mark_holds_after_a_reset_and_nothing_is_lost(tmp_path: Path) -> None:
    builder = Builder()
    builder.task(argv=b"before\0")
    builder.mark(b"one")
    builder.event()
    reset(builder)
    builder.event()
    builder.mark(b"two")
    builder.task(argv=b"after\0")
    builder.event()
    frame, ledger = frame_of(builder.write(tmp_path))
    assert frame.select("seq", "procname", "mark").rows() == [
        (0, "before", "one"), (2, "[none]", None), (3, "after", "two"),
    ]  # fmt: skip
    assert not losses(ledger) and ("info", "read", "resets", 1) in list(ledger.rows())


def test_records_of_the_resets_own_number_belong_to_neither_side(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    builder.task(argv=b"before\0")
    builder.mark(b"one")
    builder.file(5, 3, b"/before")
    reset(builder)
    builder.event(READ, 3)
    (_, row) = rows_of(builder.write(tmp_path))
    assert (row["procname"], row["mark"], row["arg0_repr"]) == ("[none]", None, "fd=0x3([???])")


@pytest.mark.parametrize("cut", [None, 1, 2, 3])
def test_a_table_read_after_a_reset_names_the_first_call_and_no_name_is_from_before(
    cut: int | None, tmp_path: Path
) -> None:
    """Wherever segments end: before the reset, with it, or after it."""
    parts = [Builder()]

    def boundary(at: int) -> Builder:
        if cut == at:
            parts.append(Builder(segment=1, first=parts[-1].next))
        return parts[-1]

    parts[0].event()
    parts[0].task(table=5)
    parts[0].table(5, {3: b"/before", 4: b"/before/too"})
    parts[0].event(READ, 3)
    one = boundary(1)
    reset(one)
    one = boundary(2)
    one.task(table=5)
    one.table(5, {3: b"/after"})
    one.event(READ, 3)
    one = boundary(3)
    one.event(READ, 4)
    one.event(CLOSE, 3)
    rows = rows_of(*[part.write(tmp_path) for part in parts])
    assert [row["arg0_repr"] for row in rows[1:]] == [
        "fd=0x3(/before)", "fd=0x3(/after)", "fd=0x4([???])", "fd=0x3(/after)",
    ]  # fmt: skip


def test_a_child_is_not_the_child_of_a_fork_from_before_the_reset(tmp_path: Path) -> None:
    builder = Builder()
    path = builder.set(a1=b"/before")
    builder.event(OPENAT, UNKNOWN - 99, 1, ret=3, strings=path)
    builder.event(VFORK, ret=8)
    reset(builder)
    builder.event(VFORK, flags=int(EventFlag.CHILD), who=task(8), ret=task(7))
    builder.event(READ, 3, who=task(8))
    assert rows_of(builder.write(tmp_path))[-1]["arg0_repr"] == "fd=0x3([???])"


def test_resets_at_the_ends_of_a_capture_and_beside_each_other_are_no_loss(tmp_path: Path) -> None:
    builder = Builder()
    reset(builder)
    builder.event()
    reset(builder)
    reset(builder)
    builder.event()
    reset(builder)
    frame, ledger = frame_of(builder.write(tmp_path))
    assert frame["id"].to_list() == [1, 2] and frame["seq"].to_list() == [1, 4] and not losses(ledger)


def test_a_gap_beside_a_reset_is_a_loss(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    reset(builder)
    builder.skip(3)
    builder.event()
    _, ledger = frame_of(builder.write(tmp_path))
    assert list(losses(ledger).values()) == [3]


def timelines(seed: int) -> list[Event]:
    """Three runs of the small kernel, with the same numbers for other tasks and tables, and resets between them."""
    events: list[Event] = []
    for number in range(3):
        world = World(random.Random(3 * seed + number), clock=events[-1].time + 1 if events else 1000)
        world.run(800)
        for one in world.tasks:
            if one.alive and one.call and not one.call.done and one.call.entry < 0:
                world.record(one, one.call, 0, 0, UNKNOWN)
        world.events.append(Event(0, (), 0, 0, world.tick(), UNKNOWN, RESET, 0, {}))
        events += world.events
    return events


@pytest.mark.parametrize("seed", range(4))
def test_no_name_is_wrong_after_resets_and_segments_make_no_difference(seed: int, tmp_path: Path) -> None:
    events = timelines(seed)
    write(events, tmp_path / "whole", [])
    whole = names(tmp_path / "whole")
    counts = compared(events, whole)
    assert counts["wrong"] == 0 and counts["right"] > 60, counts
    resets = [seq for seq, event in enumerate(events) if event.flags == RESET]
    for number, cuts in enumerate((CUTS, resets[:2], [seq + 1 for seq in resets[:2]])):
        write(events, tmp_path / str(number), [cut for cut in cuts if cut < len(events)])
        assert names(tmp_path / str(number)) == whole, cuts


def recorder(folder: Path) -> Recorder:
    room = Room(events=64, strings=64, string_bytes=1 << 20, sets=64, tasks=64, marks=64, files=64)
    return Recorder(folder, "x86_64", wait=True, room=room)


def test_what_is_under_way_at_a_reset_is_unfinished_and_everything_is_recorded_anew(tmp_path: Path) -> None:
    into, guest = recorder(tmp_path), Guest()
    tracer = Tracer(calls.load("x86_64"), into, guest, frozenset(), 0)
    guest.names[PARENT] = b"before"
    tracer.enter(PARENT, 1, 100, EXECVE, NONE)
    tracer.leave(PARENT, 1, 100, 2**64 - 2)
    tracer.enter(PARENT, 1, 100, READ, NONE)
    tracer.reset()
    guest.names[PARENT] = b"after"
    tracer.leave(PARENT, 1, 100, 5)
    tracer.enter(PARENT, 1, 200, GETPID, NONE)
    tracer.leave(PARENT, 1, 200, 7)
    into.close()
    shown = [(row["name"], row["procname"], row["status"]) for row in rows_of(tmp_path)]
    assert shown == [
        ("sys_execve", "before", "returned"), ("sys_read", "before", "unfinished"), ("sys_getpid", "after", "returned"),
    ]  # fmt: skip
    assert ("forget",) in guest.told


def call(into: Recorder, count: int = 1) -> None:
    for _ in range(count):
        into.event(into.next_event * 100, 5, PARENT, 0, 0, 0, 0, 0, 0, 0, GETPID)


def marks(folder: Path) -> list[str | None]:
    return [row["mark"] for row in rows_of(folder)]


def test_a_mark_begins_with_the_next_event_and_one_for_a_reset_with_that(tmp_path: Path) -> None:
    into = recorder(tmp_path)
    call(into)
    into.mark("never seen")
    into.mark("one")
    call(into, 2)
    into.mark("two", at_reset=True)
    call(into)
    into.reset(1000)
    call(into, 2)
    into.reset(2000)
    call(into)
    into.mark("")
    call(into)
    into.close()
    assert marks(tmp_path) == [None, "one", "one", "one", "two", "two", "two", None]


def test_a_mark_holds_over_live_files_and_segments_and_begins_none(tmp_path: Path) -> None:
    into = recorder(tmp_path)
    expected = []
    for number in range(300):
        into.mark(f"case {number // 3}")
        call(into)
        expected.append(f"case {number // 3}")
    into.close()
    assert marks(tmp_path) == expected
    (path,) = tmp_path.glob("*.seg")
    firsts = [block.first for block in read_segment(path).blocks if block.type == 6]
    assert len(firsts) <= 1 + 300 // 47  # marks end a live file of 64 when 16 are left; nothing else does


def test_a_mark_that_nothing_is_left_of_ends_with_a_loss_and_comes_back(tmp_path: Path) -> None:
    """The recorder knows the mark: after a loss it tells it again."""
    into = recorder(tmp_path)
    into.mark("one")
    call(into, 100)
    into.close()
    path = next(tmp_path.glob("*.seg"))
    data = bytearray(path.read_bytes())
    first = next(block for block in read_segment(path).blocks if block.type == 6)
    data[first.offset + 60] ^= 1
    path.write_bytes(data)
    found = marks(tmp_path)
    assert found and set(found) == {"one"} and len(found) < 100


def test_an_entry_from_before_a_reset_stays_unfinished(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(EXECVE, flags=NOT_RETURNED)
    reset(builder)
    builder.event(EXECVE)
    assert [row["status"] for row in rows_of(builder.write(tmp_path))] == ["unfinished", "returned"]
