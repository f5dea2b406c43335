"""Captures that run for long, side by side, until they are full or killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from capture.chunk import Room
from capture.limits import LEAST_SIZE, Policy, budget, fitting_room, length_of
from capture.reader import read_segment
from capture.segment import LIVE_SUFFIX
from capture.watch import captures_of, line, live_line, table
from conftest import command
from figures import Figure, count_figures, run_script
from process import discover
from process.repair import read_heads
from source import Source, check


def test_kill_9_at_200_moments_loses_nothing_that_was_taken(figure: Figure) -> None:
    done = run_script("kill_captures.py", "200")
    found = count_figures(figure, "capture killed with SIGKILL", done)
    assert done.returncode == 0, done.stderr
    assert found["kills"] == 200 and found["events lost"] == found["wrong rows and losses told"] == 0
    assert found["rows"] >= found["events taken before the kill"] > 50_000


def test_a_disk_that_fails_at_any_call_costs_what_is_counted(figure: Figure) -> None:
    done = run_script("failing_disk.py")
    found = count_figures(figure, "capture on a failing disk", done)
    assert done.returncode == 0, done.stderr
    assert found["faults"] > 100 and found["guests stopped"] == found["differences to the ledger, wrong rows"] == 0
    assert found["events dropped and counted"] > 1000 and found["captures whole in the end"] > 10


EVENTS = 3000


def capture_some(folder: Path, seed: int) -> str:
    """One of many captures at once: a process of its own. Gives its UUID."""
    made = Source(folder, seed, wait=True, segment_size=12_000)
    made.run(EVENTS)
    made.recorder.close()
    return str(made.recorder.capture)


def test_eight_captures_at_once_into_one_folder_are_not_mixed_up(tmp_path: Path, figure: Figure) -> None:
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        captures = pool.starmap(capture_some, [(tmp_path, seed) for seed in range(8)])
    files = list(tmp_path.iterdir())
    assert {path.suffix for path in files} == {".seg"} and len(files) > 16
    found = check(tmp_path, dict(zip(captures, range(8), strict=True)))
    assert len(found) == 8
    for checked in found.values():
        assert checked.wrong == [] and not checked.losses
        assert checked.sequences == list(range(EVENTS))
    figure("8 captures at once into one folder, rows", sum(len(checked.sequences) for checked in found.values()))
    figure("8 captures at once into one folder, rows wrong or of another capture", 0)


def usage(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    total = 0
    for path in folder.iterdir():
        try:
            total += 512 * path.stat().st_blocks
        except FileNotFoundError:
            continue
    return total


LIMIT = 5 << 20


def fill(folder: Path, policy: Policy, events: int = 4000) -> tuple[Source, int]:
    """Record more than a capture may take; gives the source and the most that the folder took."""
    made = Source(folder, 3, ballast=4000, wait=True, segment_size=1 << 20, max_size=LIMIT, policy=policy)
    most = 0

    def look(sequence: int) -> None:
        nonlocal most
        if sequence % 20 == 0:
            most = max(most, usage(folder))

    made.run(events, look)
    made.recorder.close()
    return made, max(most, usage(folder))


def test_drop_oldest_keeps_the_newest_events_below_the_limit_and_says_what_is_gone(
    tmp_path: Path, figure: Figure
) -> None:
    made, most = fill(tmp_path / "caps", Policy.DROP_OLDEST)
    recorder = made.recorder
    (found,) = check(tmp_path / "caps", {str(recorder.capture): 3}).values()
    assert found.wrong == [] and most <= LIMIT and recorder.totals()["dropped"] == 0
    assert found.sequences == list(range(found.missing, 4000)) and found.missing > 0
    text = f"events before {found.sequences[0]} of capture {recorder.capture} dropped on purpose"
    assert [item for item in found.losses if item.startswith(text)]
    figure("drop-oldest, most that a capture of at most 5242880 bytes took", most)
    done = command("process", tmp_path / "caps", "-o", tmp_path / "rows.parquet")
    assert done.returncode == 3 and text in done.stderr
    assert command("process", tmp_path / "caps", "-o", tmp_path / "no.parquet", "--strict").returncode == 1


@pytest.mark.parametrize("policy", [Policy.DROP_NEWEST, Policy.STOP])
def test_a_full_capture_keeps_its_oldest_events_and_counts_the_others(tmp_path: Path, policy: Policy) -> None:
    made, most = fill(tmp_path, policy)
    (found,) = check(tmp_path, {str(made.recorder.capture): 3}).values()
    dropped = made.recorder.totals()["dropped"]
    assert found.wrong == [] and most <= LIMIT and found.sequences[0] == 0
    assert dropped == found.missing == found.counts["dropped"] == 4000 - len(found.sequences) > 0


def test_stop_tells_the_owner_once(tmp_path: Path) -> None:
    told: list[int] = []
    made = Source(tmp_path, 1, max_size=1, policy=Policy.STOP, on_full=lambda: told.append(1))
    made.run(1000)
    made.recorder.close()
    assert told == [1]


def test_a_segment_is_closed_when_it_is_old_enough(tmp_path: Path) -> None:
    made = Source(tmp_path, 1, segment_time=0.3)
    made.step()
    ends = time.monotonic() + 20
    while made.recorder.segments < 3 and time.monotonic() < ends:
        made.step()
        time.sleep(0.05)
    (first, *_) = sorted(tmp_path.glob("*.seg"))
    assert made.recorder.segments >= 3 and read_segment(first).sealed
    made.recorder.close()
    (found,) = check(tmp_path, {str(made.recorder.capture): 1}).values()
    assert found.wrong == [] and not found.losses and found.sequences == list(range(made.recorder.next_event))


@pytest.mark.parametrize(("segment_size", "max_size", "free"), [
    (64 << 20, 0, 1 << 40), (64 << 20, 64 << 20, 1 << 40), (4096, 0, 1 << 40), (64 << 20, 0, 8 << 20), (1, 1, 1),
])  # fmt: skip
def test_chunks_suit_the_segment_the_limit_and_the_disk(segment_size: int, max_size: int, free: int) -> None:
    room = fitting_room(segment_size, max_size, free)
    length = length_of(room)
    assert length <= length_of(Room())
    is_usual = min(segment_size, free) > 60 << 20 and not max_size
    assert (room == Room()) is is_usual
    if free >= 8 << 20:
        assert 3 * length < free / 2
    if max_size >= LEAST_SIZE:
        assert budget(max_size, room) > max_size / 2


def test_recording_goes_on_when_there_is_room_again(small_disk: Path, figure: Figure) -> None:
    folder, other = small_disk / "caps", small_disk / "other"
    made = Source(folder, 4, ballast=500, room=fitting_room(64 << 20, 0, 8 << 20))
    recorder = made.recorder
    made.run(500)
    with other.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    ends = time.monotonic() + 60
    while not recorder.totals()["dropped"] and time.monotonic() < ends:
        made.step()
    while recorder.totals()["dropped"] < 200 and time.monotonic() < ends:
        made.step()
    other.unlink()
    recorded = recorder.totals()["events"]
    while recorder.totals()["events"] < recorded + 500 and time.monotonic() < ends:
        made.step()
        time.sleep(0.001)
    recorder.close()
    (found,) = check(folder, {str(recorder.capture): 4}).values()
    totals = recorder.totals()
    assert recorder.failure and recorder.is_whole and totals["dropped"] >= 200
    assert found.wrong == [] and found.missing == found.counts["dropped"] == totals["dropped"]
    assert len(found.sequences) == totals["events"] == recorder.next_event - totals["dropped"]
    assert found.sequences[-1] == recorder.next_event - 1
    figure("full disk that has room again, events dropped and counted", totals["dropped"])


def test_what_runs_and_what_was_killed_is_shown(tmp_path: Path) -> None:
    made = Source(tmp_path, 1, wait=True)
    made.run(300)
    child = os.fork()
    if child == 0:
        Source(tmp_path, 2, wait=True).run(200)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    done = command("capture", "status", tmp_path, "--json")
    assert done.returncode == 0
    shown = {one["state"]: one for one in json.loads(done.stdout)}
    assert shown["running"]["events"] == 300 and shown["running"]["pid"] == os.getpid()
    assert shown["running"]["capture"] == str(made.recorder.capture)
    assert shown["killed"]["events"] == 200 and shown["killed"]["pid"] == child
    lines = command("capture", "status", tmp_path).stdout.splitlines()
    assert len(lines) == 4 and lines[-1].startswith("1 running, 1 not sealed: 500 events, 0 dropped")
    made.recorder.close()
    assert [one.state for one in captures_of(tmp_path)] == ["killed"]
    assert list(table([]))[-1].startswith("0 running")
    assert command("capture", "status", tmp_path / "missing").returncode == 2


def test_the_line_shows_how_it_goes_and_goes_away(tmp_path: Path) -> None:
    made = Source(tmp_path, 1, wait=True)
    shown: list[str] = []
    with live_line(made.recorder, shown.append):
        made.run(300)
        ends = time.monotonic() + 20
        while not shown and time.monotonic() < ends:
            time.sleep(0.05)
    assert shown[0].startswith("\r\x1b[K300 events, ") and "0 dropped, segment 0" in shown[0]
    assert shown[-1] == "\r\x1b[K"
    made.recorder.close()
    assert line(made.recorder, 5).startswith("300 events, 5/s, ")


def test_a_folder_that_is_being_written_is_decoded_as_far_as_it_was(tmp_path: Path, figure: Figure) -> None:
    """Decoded again and again while a source writes: never a loss, never a wrong row, ever more rows."""
    context = multiprocessing.get_context("spawn")
    stop, told = context.Event(), context.Queue()
    writer = context.Process(target=write_until, args=(tmp_path, 5, stop, told))
    writer.start()
    name = told.get(timeout=60)
    rows: list[int] = []
    try:
        for _ in range(8):
            (found,) = check(tmp_path, {name: 5}).values()
            assert found.wrong == [] and not found.losses
            assert found.sequences == list(range(len(found.sequences)))
            rows.append(len(found.sequences))
        done = command("process", tmp_path, "-o", tmp_path / "rows.parquet", "-j", "2")
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 0 and f"capture {name} is still being written" in done.stderr
    assert rows == sorted(rows) and rows[0] < rows[-1]
    figure("folder decoded while it is written, losses told in 9 runs", 0)
    done = command("process", tmp_path, "-o", tmp_path / "rows.parquet", "--force")
    assert done.returncode == 0 and done.stderr == ""


def test_a_live_file_that_is_sealed_while_its_folder_is_looked_at_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Source(tmp_path / "segments", 5, wait=True)
    made.run(100)  # less than a chunk: nothing is sealed meanwhile
    before = shutil.copytree(tmp_path / "segments", tmp_path / "before", ignore=shutil.ignore_patterns("*.spare"))
    assert any(path.suffix == LIVE_SUFFIX for path in before.iterdir())
    made.recorder.close()
    calls: list[int] = []

    def late(paths: Sequence[str]) -> Iterator[tuple[bytes, int] | None]:
        """Once the folder is listed it becomes what it is in the end."""
        calls.append(len(paths))
        if len(calls) == 1:
            for path in before.iterdir():
                path.unlink()
            shutil.copytree(tmp_path / "segments", before, dirs_exist_ok=True)
        return read_heads(paths)

    monkeypatch.setattr(discover, "read_heads", late)
    (found,) = check(before, {str(made.recorder.capture): 5}).values()
    assert found.wrong == [] and not found.losses and found.sequences == list(range(100))
    assert len(calls) == 2


def write_until(folder: Path, seed: int, stop: object, told: object) -> None:
    """A capture in a process of its own, slow enough to be decoded meanwhile."""
    made = Source(folder, seed, wait=True, segment_size=4000)
    told.put(str(made.recorder.capture))  # type: ignore[attr-defined]
    while not stop.is_set():  # type: ignore[attr-defined]
        made.step()
        time.sleep(0.0005)
    made.recorder.close()
