"""Names that the kernel did not tell: inferred from calls, never across a gap, and each with its source."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from capture.segment import EventFlag, TaskFlag
from decoding import rows_of
from process.output import Format
from process.pipeline import decode
from segments import EXECVE, EXIT_GROUP, GETPID, LIST, NOT_RETURNED, RETURNED, Builder, task
from test_outputs import sqlite_rows

FORK, VFORK, CLONE, PRCTL, KILL, WAIT4 = 57, 58, 56, 157, 62, 61
CHILD, ASID = int(EventFlag.CHILD), int(EventFlag.TASK_IS_ASID)


pytestmark = pytest.mark.usefixtures("batching")


def execute(builder: Builder, who: int, path: bytes, *argv: bytes, ret: int | None = 0, flags: int = 0) -> None:
    """An execve as capture records it: its entry, and its return unless ``ret`` is None."""
    strings = builder.set(a0=path, a1=(b"".join(word + b"\0" for word in argv), LIST))
    entry = builder.event(EXECVE, 1, 2, who=who, strings=strings, flags=NOT_RETURNED | flags)
    if ret is not None:
        builder.event(
            EXECVE, 1, 2, who=who, strings=strings, ret=ret, flags=RETURNED | flags, entry=builder.next - entry
        )


def names(folder: Path, *builders: Builder) -> list[tuple[Any, Any]]:
    """Sequence number and name of each getpid."""
    paths = [builder.write(folder) for builder in builders]
    return [(row["seq"], row["procname"]) for row in rows_of(*paths) if row["name"] == "sys_getpid"]


def called(builder: Builder, *who: int, flags: int = 0) -> None:
    for one in who:
        builder.event(GETPID, who=one, flags=RETURNED | flags)


def shown(folder: Path, *builders: Builder) -> list[Any]:
    return [name for _, name in names(folder, *builders)]


def test_an_execve_names_the_calls_after_it_and_none_before(tmp_path: Path) -> None:
    builder = Builder()
    called(builder, task(7))
    execute(builder, task(7), b"/bin/ls", b"ls", b"-l")
    called(builder, task(7), task(8))
    assert shown(tmp_path, builder) == ["[none]", "ls", "[none]"]
    row = next(row for row in rows_of(tmp_path) if row["name"] == "sys_execve")
    assert row["procname"] == "[none]"


def test_an_execve_that_failed_names_nothing(tmp_path: Path) -> None:
    builder = Builder()
    execute(builder, task(7), b"/bin/ls", b"ls", ret=-2)
    called(builder, task(7))
    assert shown(tmp_path, builder) == ["[none]"]


def test_without_argv_the_files_name_is_the_name(tmp_path: Path) -> None:
    builder = Builder()
    execute(builder, task(7), b"/usr/bin/a-rather-long-name")
    called(builder, task(7))
    assert shown(tmp_path, builder) == ["a-rather-long-n"]


def test_an_identity_without_argv_gets_it_from_the_calls(tmp_path: Path) -> None:
    builder = Builder()
    execute(builder, task(7), b"/bin/who", b"/who", b"am i")
    builder.task(task(7), argv=None, comm=b"who", flags=TaskFlag.DERIVED)
    called(builder, task(7))
    builder.task(task(9, 7 + 2), argv=None, comm=b"who", ppid=7, flags=TaskFlag.DERIVED)
    called(builder, task(9))
    builder.task(task(20), argv=None, comm=b"other", ppid=1, flags=TaskFlag.DERIVED)
    called(builder, task(20))
    assert shown(tmp_path, builder) == ["/who", "/who", "other"]
    decode([tmp_path], tmp_path / "a.sqlite", Format.SQLITE)
    query = "SELECT pid, ppid, procname, argv, source FROM process ORDER BY first_seq"
    assert sqlite_rows(tmp_path / "a.sqlite", query)[1:] == [
        (7, 1, "/who", '["/who", "am i"]', "calls"),
        (9, 7, "/who", '["/who", "am i"]', "inherited"),
        (20, 1, "other", None, "derived"),
    ]


def test_what_the_kernel_told_wins(tmp_path: Path) -> None:
    builder = Builder()
    execute(builder, task(7), b"/script", b"script")
    builder.task(task(7), argv=b"/bin/sh\0/script\0")
    called(builder, task(7))
    assert shown(tmp_path, builder) == ["/bin/sh"]


@pytest.mark.parametrize("parent_first", [True, False])
def test_a_child_has_its_parents_name_until_it_executes_a_program(parent_first: bool, tmp_path: Path) -> None:
    """Also where its parent has executed another program before the child is first seen."""
    builder = Builder()
    execute(builder, task(7), b"/bin/sh", b"sh")
    if parent_first:
        builder.event(FORK, who=task(7), ret=8)
        execute(builder, task(7), b"/bin/other", b"other")
    builder.event(FORK, who=task(8), ret=task(7), flags=CHILD)
    called(builder, task(8))
    if not parent_first:
        builder.event(FORK, who=task(7), ret=8)
    execute(builder, task(8), b"/bin/ls", b"ls")
    called(builder, task(8), task(7))
    assert shown(tmp_path, builder) == ["sh", "ls", "other" if parent_first else "sh"]


def test_a_number_that_is_anothers_has_another_name(tmp_path: Path) -> None:
    builder = Builder()
    execute(builder, task(7), b"/bin/sh", b"sh")
    builder.event(FORK, who=task(8), ret=task(7), flags=CHILD)
    execute(builder, task(8), b"/bin/ls", b"ls")
    builder.event(EXIT_GROUP, who=task(8), flags=NOT_RETURNED)
    called(builder, task(8))
    builder.event(FORK, who=task(8), ret=task(7), flags=CHILD)
    called(builder, task(8))
    assert shown(tmp_path, builder)[1:] == ["sh"]


def test_a_thread_names_itself_where_nothing_else_does(tmp_path: Path) -> None:
    builder = Builder()
    called(builder, task(7, 9))
    builder.event(PRCTL, 15, 1, who=task(7, 9), strings=builder.set(a1=b"worker"))
    called(builder, task(7, 9))
    execute(builder, task(7), b"/bin/ls", b"ls")
    builder.event(PRCTL, 15, 1, who=task(7), strings=builder.set(a1=b"renamed"))
    called(builder, task(7))
    assert shown(tmp_path, builder) == ["[none]", "worker", "ls"]


def test_names_flow_through_segments_and_stop_at_a_gap(tmp_path: Path) -> None:
    first = Builder()
    execute(first, task(7), b"/bin/sh", b"sh")
    second = Builder(segment=1, first=first.next)
    second.event(FORK, who=task(8), ret=task(7), flags=CHILD)
    called(second, task(7), task(8))
    third = Builder(segment=2, first=second.next)
    called(third, task(7), task(8))
    assert shown(tmp_path / "all", first, second, third) == ["sh"] * 4
    assert shown(tmp_path / "gap", first, third) == ["[none]"] * 2


# ---- where a task is an address space ----


def boot() -> Builder:
    """A capture of address spaces: the first has executed a program, and goes on in another space."""
    builder = Builder()
    called(builder, 0x1000, flags=ASID)
    execute(builder, 0x1000, b"/bin/sh", b"sh", ret=None, flags=ASID)
    called(builder, 0x2000, flags=ASID)
    return builder


def test_spaces_are_linked_by_fork_and_execve(tmp_path: Path) -> None:
    builder = boot()
    builder.event(FORK, who=0x2000, ret=50, flags=RETURNED | ASID)
    called(builder, 0x3000, 0x2000, flags=ASID)
    execute(builder, 0x3000, b"/bin/ls", b"ls", ret=None, flags=ASID)
    called(builder, 0x4000, 0x2000, flags=ASID)
    assert shown(tmp_path, builder) == ["[none]", "sh", "sh", "sh", "ls", "sh"]
    assert {row["pid"] for row in rows_of(tmp_path)} == {None}


def test_a_child_that_is_faster_than_its_parent_is_a_child(tmp_path: Path) -> None:
    builder = boot()
    called(builder, 0x3000, flags=ASID)
    builder.event(FORK, who=0x2000, ret=50, flags=RETURNED | ASID, time=250)
    called(builder, 0x5000, flags=ASID)
    assert shown(tmp_path, builder) == ["[none]", "sh", "sh", "[none]"]


def test_of_two_that_may_be_meant_none_is_named(tmp_path: Path) -> None:
    builder = boot()
    builder.event(FORK, who=0x2000, ret=50, flags=RETURNED | ASID)
    called(builder, 0x3000, flags=ASID)
    execute(builder, 0x3000, b"/bin/ls", b"ls", ret=None, flags=ASID)
    builder.event(FORK, who=0x2000, ret=51, flags=RETURNED | ASID)
    called(builder, 0x4000, 0x5000, flags=ASID)
    execute(builder, 0x2000, b"/bin/wc", b"wc", ret=None, flags=ASID)
    called(builder, 0x6000, flags=ASID)
    assert shown(tmp_path, builder) == ["[none]", "sh", "sh", "[none]", "[none]", "wc"]


def test_after_a_vfork_the_parent_keeps_its_name(tmp_path: Path) -> None:
    builder = boot()
    entry = builder.event(VFORK, who=0x2000, flags=NOT_RETURNED | ASID)
    called(builder, 0x2000, flags=ASID)
    execute(builder, 0x2000, b"/bin/ls", b"ls", ret=None, flags=ASID)
    builder.event(VFORK, who=0x2000, ret=50, flags=RETURNED | ASID, entry=builder.next - entry, time=entry * 100)
    called(builder, 0x2000, 0x3000, 0x2000, flags=ASID)
    assert shown(tmp_path, builder) == ["[none]", "sh", "sh", "sh", "ls", "sh"]


@pytest.mark.parametrize("number", [KILL, WAIT4])
def test_once_a_process_may_have_ended_unseen_no_space_is_certain(number: int, tmp_path: Path) -> None:
    builder = boot()
    builder.event(number, 50, 9, who=0x2000, ret=0 if number == KILL else 50, flags=RETURNED | ASID)
    called(builder, 0x2000, flags=ASID)
    execute(builder, 0x2000, b"/bin/ls", b"ls", ret=None, flags=ASID)
    called(builder, 0x3000, flags=ASID)
    assert shown(tmp_path, builder) == ["[none]", "sh", "[none]", "[none]"]


def test_rows_do_not_depend_on_workers_order_or_segments(tmp_path: Path) -> None:
    """The same calls in one segment and in many, decoded by one and by three."""
    found = []
    for size in (1000, 7, 3):
        generator, builders = random.Random(5), [Builder()]
        for _ in range(60):
            builder = builders[-1]
            who = task(generator.randrange(7, 12))
            kind = generator.randrange(5)
            if kind == 0:
                builder.event(FORK, who=who, ret=generator.randrange(7, 12))
            elif kind == 1:
                builder.event(FORK, who=who, ret=task(generator.randrange(7, 12)), flags=CHILD)
            elif kind == 2:
                builder.event(EXECVE, who=who, strings=builder.set(a0=b"/x", a1=(b"%d\0" % builder.next, LIST)))
            elif kind == 3:
                builder.event(EXIT_GROUP, who=who, flags=NOT_RETURNED)
            called(builder, who)
            if builder.next - builder.first >= size:
                builders.append(Builder(segment=len(builders), first=builder.next))
        folder = tmp_path / str(size)
        paths = [builder.write(folder) for builder in builders]
        for jobs, inputs in ((1, paths), (3, paths[::-1])):
            out = folder / f"{jobs}.sqlite"
            decode(inputs, out, Format.SQLITE, jobs=jobs)
            found.append(sqlite_rows(out, "SELECT id, seq, name, procname, tid FROM syscalls ORDER BY id"))
            found[-1] += sqlite_rows(out, "SELECT pid, procname, argv, first_seq, events, source FROM process")
    assert len({row[3] for row in found[0]}) > 8
    assert found[1:] == found[:1] * 5
