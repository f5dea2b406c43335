"""What flows through a capture: pairs of entry and return, identities, marks, gaps, and the order of rows."""

import random
import shutil
import uuid
from pathlib import Path

import pytest

from capture.segment import EventFlag, TaskFlag
from decoding import frame_of, losses, rows_of
from process.ledger import Severity
from segments import EXECVE, EXIT_GROUP, GETPID, NOT_RETURNED, OPENAT, READ, RETURNED, Builder, task

pytestmark = pytest.mark.usefixtures("batching")

CLONE = 56
OTHER = uuid.UUID("99999999-0000-0000-0000-000000000000")


def numbers(rows: list[dict[str, object]], column: str = "seq") -> list[object]:
    return [row[column] for row in rows]


def test_a_return_replaces_its_entry(tmp_path: Path) -> None:
    builder = Builder()
    entry = builder.event(EXECVE, flags=NOT_RETURNED)
    builder.event(GETPID, who=task(8))
    builder.event(EXECVE, ret=-2, entry=builder.next - entry)
    rows = rows_of(builder.write(tmp_path))
    assert [(row["seq"], row["name"], row["status"]) for row in rows] == [
        (1, "sys_getpid", "returned"),
        (2, "sys_execve", "returned"),
    ]
    assert numbers(rows, "id") == [1, 2]


def test_the_childs_side_of_a_fork_is_no_row(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(GETPID)
    builder.event(CLONE, flags=EventFlag.CHILD, who=task(8), ret=task(7))
    builder.event(CLONE, ret=8)
    rows = rows_of(builder.write(tmp_path))
    assert [(row["id"], row["seq"], row["retno"]) for row in rows] == [(1, 0, 0), (2, 2, 8)]


def test_a_return_replaces_its_entry_in_an_earlier_segment(tmp_path: Path) -> None:
    first = Builder()
    first.event(GETPID)
    first.event(EXECVE, flags=NOT_RETURNED)
    first.event(GETPID)
    second = Builder(segment=1, first=3)
    second.event(GETPID)
    second.event(EXECVE, entry=3)
    paths = [first.write(tmp_path), second.write(tmp_path)]
    rows = rows_of(*paths)
    assert numbers(rows) == [0, 2, 3, 4]
    assert numbers(rows, "id") == [1, 2, 3, 4]
    alone = Path(shutil.copytree(tmp_path, tmp_path / "alone") / paths[0].name)
    (alone.parent / paths[1].name).unlink()
    assert [(row["seq"], row["status"]) for row in rows_of(alone)][1] == (1, "unfinished")


def test_only_an_entry_row_is_replaced(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(GETPID)
    builder.event(EXECVE, entry=1)
    builder.event(EXECVE, entry=99)
    builder.event(EXECVE, flags=NOT_RETURNED)
    builder.event(EXECVE, flags=NOT_RETURNED, entry=1)
    assert numbers(rows_of(builder.write(tmp_path))) == [0, 1, 2, 3, 4]


def test_an_entry_completed_twice_is_dropped_once(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(EXECVE, flags=NOT_RETURNED)
    builder.event(EXECVE, entry=1)
    builder.event(EXECVE, entry=2)
    assert numbers(rows_of(builder.write(tmp_path))) == [1, 2]


def names(builder: Builder, folder: Path) -> list[object]:
    return numbers(rows_of(builder.write(folder)), "procname")


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ({"argv": b"/bin/sh\0-c\0", "comm": b"sh"}, "/bin/sh"),
        ({"argv": None, "comm": b"sh"}, "sh"),
        ({"argv": b"", "comm": b"sh"}, "sh"),
        ({"argv": b"\0x\0", "comm": b"sh"}, "sh"),
        ({"argv": None, "comm": b"kthreadd", "flags": int(TaskFlag.KERNEL)}, "[kthreadd]"),
        ({"argv": None, "comm": b""}, "[none]"),
        ({"argv": b"a\x1bb\0"}, "a\\x1bb"),
    ],
)
def test_the_name_of_a_process(tmp_path: Path, identity: dict[str, object], expected: str) -> None:
    builder = Builder()
    builder.task(**identity)  # type: ignore[arg-type]
    builder.event()
    assert names(builder, tmp_path) == [expected]


def test_an_identity_holds_from_its_event_on_and_for_its_task_only(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(who=task(7))
    builder.task(task(7), argv=b"one\0")
    builder.event(who=task(7))
    builder.event(who=task(8))
    builder.task(task(7), argv=b"two\0")
    builder.event(who=task(7))
    assert names(builder, tmp_path) == ["[none]", "one", "[none]", "two"]


def test_an_identity_is_carried_into_later_segments(tmp_path: Path) -> None:
    first = Builder()
    first.task(argv=b"one\0")
    first.event()
    second = Builder(segment=1, first=1)
    second.event()
    assert numbers(rows_of(first.write(tmp_path), second.write(tmp_path)), "procname") == ["one", "one"]


def test_nothing_is_guessed_across_a_gap(tmp_path: Path) -> None:
    builder = Builder()
    builder.task(argv=b"one\0")
    builder.mark(b"phase")
    builder.event()
    builder.skip(1)
    builder.event()
    builder.task(argv=b"again\0")
    builder.mark(b"later")
    builder.event()
    frame, ledger = frame_of(builder.write(tmp_path))
    assert frame["procname"].to_list() == ["one", "[none]", "again"]
    assert frame["mark"].to_list() == ["phase", None, "later"]
    assert losses(ledger) == {f"events missing from capture {builder.capture} (1)": 1}


def test_an_identity_of_a_segment_before_a_missing_one_does_not_hold(tmp_path: Path) -> None:
    first, third = Builder(), Builder(segment=2, first=9)
    first.task(argv=b"one\0")
    first.event()
    third.event()
    frame, ledger = frame_of(first.write(tmp_path), third.write(tmp_path))
    assert frame["procname"].to_list() == ["one", "[none]"]
    assert list(losses(ledger).values()) == [8]


def test_marks_hold_until_the_next_and_into_later_segments(tmp_path: Path) -> None:
    first, second = Builder(), Builder(segment=1, first=3)
    first.event()
    first.mark(b"boot")
    first.event()
    first.mark("löad\x1b".encode())
    first.event()
    second.event()
    rows = rows_of(first.write(tmp_path), second.write(tmp_path))
    assert numbers(rows, "mark") == [None, "boot", "löad\\x1b", "löad\\x1b"]


def test_lost_events_are_counted_exactly(tmp_path: Path) -> None:
    first = Builder()
    first.event()
    first.skip(5)
    first.event()
    first.counters = {"dropped": 5}
    last = Builder(segment=3, first=20)
    last.event()
    last.counters = {"events": 4, "dropped": 2}
    _, ledger = frame_of(first.write(tmp_path), last.write(tmp_path))
    assert losses(ledger) == {
        "events dropped by capture": 7,
        f"events missing from capture {first.capture} (1-5, 7-19, 21-25)": 5 + 13 + 5,
    }


def test_a_lost_first_segment_is_a_gap(tmp_path: Path) -> None:
    builder = Builder(segment=1, first=10)
    builder.event()
    _, ledger = frame_of(builder.write(tmp_path))
    assert list(losses(ledger).values()) == [10]


def test_an_unsealed_end_without_live_file_is_a_loss_of_unknown_bound(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    _, ledger = frame_of(builder.write(tmp_path, sealed=False))
    assert [item for item in losses(ledger) if "tail unknown" in item]


def test_an_unsealed_segment_that_another_follows_has_its_loss_counted(tmp_path: Path) -> None:
    first, second = Builder(), Builder(segment=1, first=3)
    first.event()
    second.event()
    _, ledger = frame_of(first.write(tmp_path, sealed=False), second.write(tmp_path))
    assert losses(ledger) == {f"events missing from capture {first.capture} (1-2)": 2}


def test_a_killed_emulator_loses_nothing_that_is_in_its_live_file(tmp_path: Path) -> None:
    builder = Builder()
    builder.task(argv=b"one\0")
    builder.event(OPENAT, 1, 2, strings=builder.set(a1=b"sealed"))
    shared = builder.string(b"shared")
    builder.block()
    builder.event(OPENAT, 1, 2, strings=builder.set(a1=b"live"))
    builder.event(OPENAT, 1, 2, strings=builder.set(a1=shared))
    live = builder.live(tmp_path)
    sealed = tmp_path / "x.seg"
    sealed.write_bytes(b"".join([builder.header.pack(), *builder.stored]))
    for paths in ([tmp_path], [sealed], [live]):
        frame, ledger = frame_of(*paths)
        assert losses(ledger) == {}
        assert frame["procname"].to_list() == ["one"] * 3
        assert frame["arg1_repr"].to_list() == [f'filename=0x2("{name}")' for name in ("sealed", "live", "shared")]
        assert any("not sealed" in note for _, note in ledger.notes())


def test_a_live_file_that_was_sealed_already_is_not_decoded_twice(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    builder.event()
    builder.live(tmp_path)
    frame, ledger = frame_of(tmp_path, builder.write(tmp_path))
    assert frame["seq"].to_list() == [0, 1]
    assert losses(ledger) == {}


def test_a_block_that_was_torn_while_it_was_sealed_is_taken_from_the_live_file(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    builder.block()
    builder.event(257, 1, 2, strings=builder.set(a1=b"x"))
    builder.live(tmp_path)
    data = builder.data(sealed=False)
    (tmp_path / "a.seg").write_bytes(data[:-10])
    frame, ledger = frame_of(tmp_path)
    assert frame["seq"].to_list() == [0, 1]
    assert losses(ledger) == {}


def test_a_live_file_alone_is_a_segment(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    live = builder.live(tmp_path)
    (tmp_path / live.name.replace("-000000.live", ".seg")).write_bytes(b"")  # made just before the kill
    frame, ledger = frame_of(tmp_path)
    assert len(frame) == 1
    assert losses(ledger) == {}


def test_captures_are_ordered_by_their_time_then_uuid(tmp_path: Path) -> None:
    paths = []
    for index, (name, began) in enumerate([(OTHER, 50), (Builder().capture, 50), (uuid.uuid4(), 40)]):
        builder = Builder(capture=name, realtime_ns=began)
        builder.event(ret=index)
        paths.append(builder.write(tmp_path, f"{index}.seg"))
    for _ in range(4):
        random.shuffle(paths)
        rows = rows_of(*paths)
        assert numbers(rows, "retno") == [2, 1, 0]
        assert numbers(rows, "capture") == [1, 2, 3]
        assert numbers(rows, "id") == [1, 2, 3]


def test_a_copy_of_a_segment_is_decoded_once_and_the_sound_one_wins(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    builder.block()
    builder.event()
    sound = builder.write(tmp_path, "z.seg")
    data = bytearray(sound.read_bytes())
    data[150] ^= 1
    (tmp_path / "a.seg").write_bytes(data)
    frame, ledger = frame_of(tmp_path)
    assert frame["seq"].to_list() == [0, 1]
    assert losses(ledger) == {}
    assert ledger.notes() == [(Severity.WARNING, "a.seg: the same segment as z.seg; not read")]


def test_a_lost_string_block_shows_its_strings_as_lost_and_counts_them(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(257, 1, 0x10, strings=builder.set(a1=b"gone"))
    builder.event(257, 1, 0, strings=1)
    data = builder.data()
    first_block = len(builder.header.pack())
    damaged = bytearray(data)
    damaged[first_block + len(builder.stored[0]) - 1] ^= 1
    (tmp_path / "a.seg").write_bytes(damaged)
    frame, ledger = frame_of(tmp_path)
    assert frame["arg1_repr"].to_list() == ["filename=0x10([lost])", "filename=[NULL]"]
    (damage,) = losses(ledger)
    assert "a.seg" in damage
    assert f"offset {first_block}" in damage


def test_a_lost_set_loses_the_strings_that_a_call_always_has(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(257, 1, 0x10, strings=77)
    builder.event(READ, 1, 0x10, strings=77)
    assert numbers(rows_of(builder.write(tmp_path)), "arg1_repr") == [
        "filename=0x10([lost])",
        "buf=0x10(ptr)",
    ]


def test_exit_is_noreturn_and_keeps_its_place(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(EXIT_GROUP, 3, flags=NOT_RETURNED)
    builder.event(GETPID, who=task(8), flags=RETURNED)
    rows = rows_of(builder.write(tmp_path))
    assert [(row["status"], row["arg0_repr"]) for row in rows] == [
        ("noreturn", "error_code=0x3"),
        ("returned", None),
    ]
