"""The table `process`: a tree of programs, against a small kernel run at random (`fd_world`) and by hand."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capture.segment import EventFlag
from decoding import rows_of
from fd_world import Event, Life, World, write
from process import survey
from process.overview import overview
from segments import EXECVE, EXIT_GROUP, GETPID, LIST, NOT_RETURNED, Builder, task

CLONE, EXIT, THREAD = 56, 60, 0x10000
CHILD = int(EventFlag.CHILD)
CUTS = [50, 100, 130, 400, 700]
Row = dict[str, Any]


def rows(*paths: Path) -> list[Row]:
    return overview(paths, 1).process


def world(seed: int, **kinds: bool) -> tuple[list[Event], list[Life]]:
    made = World(random.Random(seed))
    for name, value in kinds.items():
        setattr(made, name, value)
    return made.run(2500), made.lives


def matched(found: list[Row], lives: list[Life]) -> list[tuple[Row, Life]]:
    """The rows whose process was seen to begin, each with the truth of that."""
    begins = {seq: life for life in lives for seq in (life.birth, life.fork) if seq >= 0}
    first = {row["process"]: begins[row["start_seq"]] for row in found if row["began"] == "fork"}
    pairs = [(row, first[row["process"]]) for row in found if row["process"] in first]
    for row, life in pairs:
        above = first.get(next((one["process"] for one in found if one["id"] == row["parent"]), 0))
        assert row["pid"] == life.pid and row["ppid"] == (life.parent.pid if life.parent else None)
        assert above in (None, life.parent), row
        assert row["began"] == "fork" or row["start_seq"] in life.execs, row
        assert row["ended"] != "exec" or row["end_seq"] in life.execs, row
        if row["ended"] == "exit":
            assert (row["end_seq"], row["exit_status"]) == (life.end, life.status), row
    return pairs


KINDS: list[dict[str, bool]] = [{}, {"overlap": False}, {"silent": False}, {"threads": False, "shares": False}]


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(f"no_{name}" for name in kinds) or "all")
@pytest.mark.parametrize("seed", range(3))
def test_each_process_is_whose_child_it_is_and_ends_as_it_did(
    seed: int, kinds: dict[str, bool], tmp_path: Path
) -> None:
    events, lives = world(seed, **kinds)
    write(events, tmp_path / "whole", [])
    found = rows(tmp_path / "whole")
    pairs = matched(found, lives)
    forked = [life for life in lives if life.birth >= 0]
    assert Counter(id(life) for _, life in pairs) == {id(life): 1 + len(life.execs) for life in forked}
    assert {id(life) for row, life in pairs if row["ended"] == "exit"} == {
        id(life) for life in forked if life.end is not None
    }
    assert sum(life.end is not None for life in forked) > 20
    write(events, tmp_path / "cut", [cut for cut in CUTS if cut < len(events)])
    assert rows(tmp_path / "cut") == found


@pytest.mark.parametrize("seed", range(4))
def test_without_a_middle_segment_nothing_is_wrong(seed: int, tmp_path: Path) -> None:
    events, lives = world(seed)
    cuts = [cut for cut in (150, 300, 450, 600, 750) if cut < len(events)]
    paths: list[Any] = write(events, tmp_path, cuts)
    for missing in range(1, len(paths) - 1):
        rest = [path for number, path in enumerate(paths) if number != missing]
        pairs = matched(rows(*rest), lives)
        assert len(pairs) > 10
        first, last = (150 * missing, 150 * (missing + 1))
        for row, _ in pairs:
            crosses = row["start_seq"] < first and row["end_seq"] is not None and row["end_seq"] >= last
            assert not crosses, row


def listed(found: list[Row], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in found]


def execute(builder: Builder, who: int, *argv: bytes) -> int:
    strings = builder.set(a0=b"/bin/" + argv[0], a1=(b"".join(word + b"\0" for word in argv), LIST))
    entry = builder.event(EXECVE, 1, 2, who=who, strings=strings, flags=NOT_RETURNED)
    return builder.event(EXECVE, 1, 2, who=who, strings=strings, entry=builder.next - entry)


def test_programs_follow_each_other_and_a_number_comes_back(tmp_path: Path) -> None:
    builder = Builder()
    execute(builder, task(7), b"sh")
    builder.event(CLONE, flags=CHILD, who=task(8), ret=task(7))
    fork = builder.event(CLONE, who=task(7), ret=8, time=150)
    executed = execute(builder, task(8), b"ls", b"-l")
    builder.event(GETPID, ret=-1, who=task(8))
    end = builder.event(EXIT_GROUP, 0x102, who=task(8), flags=NOT_RETURNED)
    birth = builder.event(CLONE, flags=CHILD, who=task(8), ret=task(7))
    builder.event(GETPID, who=task(8))
    found = rows(builder.write(tmp_path))
    assert listed(found, "id", "process", "parent", "pid", "procname", "argv") == [
        (1, 1, None, 7, "[none]", None),
        (2, 1, None, 7, "sh", '["sh"]'),
        (3, 3, 2, 8, "sh", '["sh"]'),
        (4, 3, 2, 8, "ls", '["ls", "-l"]'),
        (5, 5, 2, 8, "sh", '["sh"]'),
    ]
    assert listed(found, "began", "start_seq", "ended", "end_seq", "exit_status") == [
        (None, None, "exec", 1, None),
        ("exec", 1, None, None, None),
        ("fork", fork, "exec", executed, None),
        ("exec", executed, "exit", end, 2),
        ("fork", birth, None, None, None),
    ]
    assert listed(found, "events", "errors", "threads") == [(1, 0, 1), (1, 0, 1), (1, 0, 1), (2, 1, 1), (1, 0, 1)]


def test_a_process_ends_with_its_last_thread_and_has_the_first_ones_status(tmp_path: Path) -> None:
    builder = Builder()
    execute(builder, task(7), b"sh")
    entered = builder.event(EXIT, 9, who=task(7, 8), flags=NOT_RETURNED)  # it is faster than the clone that made it
    builder.event(CLONE, THREAD, who=task(7), ret=8)
    builder.event(CLONE, THREAD, who=task(7), ret=9)
    builder.event(EXIT, 3, who=task(7), flags=NOT_RETURNED)
    last = builder.event(EXIT, 4, who=task(7, 9), flags=NOT_RETURNED)
    builder.event(EXIT, 5, who=task(20), flags=NOT_RETURNED)  # perhaps one of several
    found = rows(builder.write(tmp_path))
    assert entered < last
    assert listed(found, "pid", "ended", "end_seq", "exit_status", "threads")[1:] == [
        (7, "exit", last, 3, 3),
        (20, None, None, None, 1),
    ]


def test_a_start_time_tells_a_process_from_the_next_and_is_known_after_a_gap(tmp_path: Path) -> None:
    builder = Builder()
    for start in (5, 5, 6):
        builder.task(task(7), argv=b"a\0", start=start)
        builder.event(who=task(7))
    builder.skip(1)
    builder.event(who=task(7))
    builder.skip(1)
    builder.task(task(7), argv=b"a\0", start=6)
    builder.event(who=task(7))
    found = rows(builder.write(tmp_path))
    assert listed(found, "id", "process", "pid", "procname", "events", "first_seq") == [
        (1, 1, 7, "a", 2, 0),
        (2, 2, 7, "a", 1, 2),
        (3, 3, 7, "[none]", 1, 4),
        (4, 2, 7, "a", 1, 6),
    ]


@pytest.mark.parametrize("seed", range(60))
def test_identities_that_say_the_same_again_change_nothing(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random.Random(seed)
    tasks = [task(7), task(8), task(8, 9), task(9)]
    first = 0
    for number in range(8):
        one = Builder(segment=number, first=first)
        for _ in range(source.randrange(2, 12)):
            who, other = source.choice(tasks), source.choice((7, 8, 9))
            if source.random() < 0.6:
                argv, comm = source.choice((None, None, b"sh\0", b"ls\0-l\0")), source.choice((b"", b"c"))
                start, ppid = source.choice((0, 0, 0, 5)), source.choice((7, 7, 7, 8))
                for seq in (None, one.next + source.randrange(3)):
                    one.task(who, argv, comm, ppid, start=start, seq=seq)
            if source.random() < 0.2:
                one.event(EXIT_GROUP, 1, who=who, flags=NOT_RETURNED)
            elif source.random() < 0.2:
                one.event(CLONE, who=who, ret=other)
            elif source.random() < 0.2:
                one.event(CLONE, flags=CHILD, who=who, ret=task(other))
            elif source.random() < 0.2:
                execute(one, who, source.choice((b"sh", b"cat")))
            elif source.random() < 0.1:
                one.event(CLONE, flags=CHILD | EventFlag.RESET, who=who)
            elif source.random() < 0.1:
                one.skip(2)
            one.event(GETPID, who=who)
            if source.random() < 0.3:
                one.block()
        first = one.next
        one.write(tmp_path)
    found = rows_of(tmp_path), rows(tmp_path)
    monkeypatch.setattr(survey, "_news", lambda rows, *_: np.ones(rows.shape[1], np.bool_))
    assert (rows_of(tmp_path), rows(tmp_path)) == found
