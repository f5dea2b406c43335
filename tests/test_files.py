"""What a guest's tasks have open: captured names are what the guest's own /proc says."""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from capture.segment import FileFlag
from conftest import Captured, capture_guest
from process.discover import discover
from process.read import Contents, load

pytestmark = pytest.mark.live

# Made while another thing is: a file that is then unlinked, its dup, a file whose folder is then renamed.
NOT_TOLD = [b"/tmp/gone", b"/tmp/gone (deleted)", b"/tmp/before/file"]


@dataclass(frozen=True)
class Row:
    """A file record."""

    seq: int
    owner: int
    fd: int
    path: bytes | None
    flags: int

    @property
    def file(self) -> tuple[int, bytes | None, int]:
        return self.fd, self.path, self.flags & FileFlag.CLOEXEC


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """The guest that makes descriptors in every way."""
    return capture_guest(tmp_path_factory.mktemp("files"), "files", arch=request.param)


@pytest.fixture(scope="module")
def contents(files: Captured) -> Contents:
    (part,) = discover([files.segments]).parts
    return load(part)


@pytest.fixture(scope="module")
def rows(contents: Contents) -> list[Row]:
    return list(_rows(contents))


def _rows(contents: Contents) -> Iterator[Row]:
    for seq, owner, fd_path, flags in contents.files.T.tolist():
        text = contents.strings.get(fd_path >> 32)
        yield Row(seq, owner, fd_path & 0xFFFFFFFF, text and text.data, flags)


@pytest.fixture(scope="module")
def lines(files: Captured) -> list[dict[str, Any]]:
    text = files.second or files.console
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"pid"')]
    assert len(lines) > 60 and "exit status 0" in files.console
    return lines


@pytest.fixture(scope="module")
def named(contents: Contents) -> list[tuple[int, int, int]]:
    """Which process has which table: (table, event, pid) of every identity, in order. An address is used again."""
    return sorted((table, seq, pid_tid & 0xFFFFFFFF) for seq, _, _, pid_tid, *_, table in contents.tasks.T.tolist())


def rows_of(pids: set[int], rows: list[Row], named: list[tuple[int, int, int]]) -> list[Row]:
    """The records of tables while they are these processes'."""
    found = []
    for row in rows:
        at = bisect(named, (row.owner, row.seq, 1 << 32)) - 1
        if at >= 0 and named[at][0] == row.owner and named[at][2] in pids:
            found.append(row)
    return found


def open_files(line: dict[str, Any]) -> list[tuple[int, bytes, int]]:
    """What a line says to be open."""
    listed = line["table"] if "table" in line else [(line["fd"], line["link"], line["cloexec"])]
    return [(fd, bytes.fromhex(link), cloexec) for fd, link, cloexec in listed]


def test_every_descriptor_that_a_call_makes_has_the_name_that_proc_says(
    rows: list[Row], lines: list[dict[str, Any]], named: list[tuple[int, int, int]]
) -> None:
    """The program's own and those of the child that shares its table, as they come; the others' apart."""
    program = lines[0]["pid"]
    pids = {line["pid"] for line in lines if "fd" in line}
    (child,) = {line["pid"] for line in lines if "table" in line} & pids
    for group, not_told in ((pids - {child}, NOT_TOLD), ({child}, [])):
        told = [file for line in lines if "fd" in line and line["pid"] in group for file in open_files(line)]
        mine = rows_of(group, rows, named)
        begun = next(row.seq for row in mine if row.file == told[0])
        made = [row.file for row in mine if row.seq >= begun and not row.flags & FileFlag.SNAPSHOT]
        at, unmatched = 0, []
        for file in made:
            if at < len(told) and file == told[at]:
                at += 1
            else:
                unmatched.append(file[1])
        assert at == len(told), f"not found: {told[at]}"
        assert unmatched == not_told
        assert len(told) > 50 or program not in group


def test_a_new_table_is_recorded_whole_after_fork_unshare_and_exec(
    rows: list[Row], lines: list[dict[str, Any]], named: list[tuple[int, int, int]]
) -> None:
    checked = 0
    for pid, group in groupby((line for line in lines if "table" in line), key=lambda line: line["pid"]):
        wanted = [open_files(line) for line in group]
        mine = [row for row in rows_of({pid}, rows, named) if row.flags & FileFlag.SNAPSHOT]
        found = [[row.file for row in whole] for _, whole in groupby(mine, key=lambda row: (row.seq, row.owner))]
        assert found[-len(wanted) :] == wanted
        checked += len(wanted)
    assert checked == 4


def test_the_current_folder_is_recorded_for_all_who_share_it(rows: list[Row], lines: list[dict[str, Any]]) -> None:
    program = lines[0]["pid"]
    child = next(line["pid"] for line in lines if line.get("cwd") == b"/etc".hex())
    wanted = [bytes.fromhex(line["cwd"]) for line in lines if "cwd" in line and line["pid"] in (program, child)]
    folders = [row.path for row in rows if row.flags & FileFlag.CWD and row.owner == program << 32 | program]
    assert [path for path, _ in groupby(folders)] == [b"/tmp", *wanted]
    assert child != program


def test_nothing_was_left_without_a_name(contents: Contents, rows: list[Row]) -> None:
    assert contents.counters["unnamed"] == 0 == contents.counters["errors"]
    assert contents.counters["unreadable"] == 0
    assert contents.counters["files"] == len(rows) and all(row.path for row in rows)


def test_the_table_of_every_task_is_known(named: list[tuple[int, int, int]]) -> None:
    assert len({pid for _, _, pid in named}) > 4 and all(table for table, _, _ in named)


def test_a_filtered_capture_knows_its_files_too(tmp_path: Path) -> None:
    captured = capture_guest(tmp_path, "files", "--procs", "files")
    (part,) = discover([captured.segments]).parts
    contents = load(part)
    assert contents.counters["filtered"] > 0
    assert b"pipe:[" in b" ".join(row.path or b"" for row in _rows(contents))
