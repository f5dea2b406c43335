"""Runs that are stopped, killed, or get in each other's way: nothing half-made, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from captures import write_capture
from figures import Figure, count_figures, run_script
from kill_processes import PROBLEMS
from process.errors import ProcessError
from process.output import Format
from process.pipeline import Progress, decode
from process.temporary import Temporary, remove_stale, temporary

HERE = Path(__file__).parent
FORMATS = [("a.sqlite", Format.SQLITE), ("a.parquet", Format.PARQUET)]


def count(out: Path) -> int:
    """Rows of an output."""
    if out.is_dir():
        return len(pl.read_parquet(out / "*.parquet"))
    with closing(sqlite3.connect(out)) as base:
        return int(base.execute("SELECT count(*) FROM syscalls").fetchone()[0])


def test_stopped_and_killed_runs_leave_nothing_and_give_the_same_rows_again(figure: Figure) -> None:
    done = run_script("kill_processes.py", "10")
    found = count_figures(figure, "process stopped or killed", done)
    assert done.returncode == 0, done.stderr
    assert found["runs stopped"] + found["runs killed"] == 10
    assert found["of both, with --resume"] >= 2  # of five; those that end before they are stopped are made again
    assert found["segments done again by 2 workers, at most"] <= 2
    assert not any(found[name] for name in PROBLEMS)


def test_an_output_disk_that_fails_at_any_call_leaves_the_old_output_or_the_whole_new(figure: Figure) -> None:
    done = run_script("failing_output.py")
    found = count_figures(figure, "process on a failing disk", done)
    assert done.returncode == 0, done.stderr
    assert found["faults"] > 100 and found["runs that failed"] > found["faults"] // 2
    assert found["old outputs lost, half outputs, leftovers, unclear messages"] == 0


def test_a_commit_disturbed_at_every_line_leaves_the_old_output_or_the_new(tmp_path: Path, figure: Figure) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "commit_harness.py", tmp_path], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{HERE.parent}:{HERE}"}, timeout=300,
    )  # fmt: skip
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == 16 and all(case["lines"] > 40 for case in cases)
    figure("commits killed or interrupted, at every line", f"{sum(case['lines'] for case in cases)}: half outputs 0")
    assert not [problem for case in cases for problem in case["problems"]]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("name", "format_"), FORMATS)
def test_two_runs_with_one_output_give_one_whole_output(
    tmp_path: Path, name: str, format_: Format, force: bool
) -> None:
    """The second comes between the first's check and its commit."""
    write_capture(tmp_path / "one")
    write_capture(tmp_path / "two", segments=2)
    out = tmp_path / "out" / name
    out.parent.mkdir()

    def other() -> None:
        decode([tmp_path / "two"], out, format_, force=force)

    if force:
        decode([tmp_path / "one"], out, format_, progress=Progress(whole=other), force=True)
        assert count(out) == 244
    else:
        with pytest.raises(ProcessError, match="has come to exist meanwhile, and is kept"):
            decode([tmp_path / "one"], out, format_, progress=Progress(whole=other))
        assert count(out) == 122
    assert os.listdir(out.parent) == [name]


@pytest.mark.parametrize("when", ["begin", "whole"])
@pytest.mark.parametrize(("name", "format_"), FORMATS)
def test_an_output_folder_that_is_removed_meanwhile_is_told(
    tmp_path: Path, name: str, format_: Format, when: str
) -> None:
    write_capture(tmp_path / "caps")
    out = tmp_path / "out" / name
    out.parent.mkdir()
    progress = Progress(**{when: lambda *_: shutil.rmtree(out.parent)})
    with pytest.raises(ProcessError, match="cannot be written: ") as raised:
        decode([tmp_path / "caps"], out, format_, progress=progress)
    assert "\n" not in str(raised.value) and str(out.parent) in str(raised.value), raised.value
    assert not out.parent.exists()


def test_folders_of_killed_runs_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    left = tmp_path / ".sysreel-0011223344556677.tmp"
    (left / "dataset").mkdir(parents=True)
    moved = tmp_path / ".sysreel-8899aabbccddeeff.tmp"
    (moved / "replaced").mkdir(parents=True)
    (tmp_path / "elsewhere" / "x").mkdir(parents=True)
    (tmp_path / ".sysreel-link.tmp").symlink_to("elsewhere")
    (tmp_path / ".sysreel-file.tmp").write_text("")
    mine = Temporary(tmp_path)
    with temporary(tmp_path) as folder:
        assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700
    remove_stale(tmp_path)
    kept = {mine.path.name, moved.name, "elsewhere", ".sysreel-link.tmp", ".sysreel-file.tmp"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert (tmp_path / "elsewhere" / "x").is_dir()
    mine.remove()
    assert not mine.path.exists()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(("name", "format_"), FORMATS)
def test_nobody_else_gets_at_what_is_half_made_and_outputs_have_the_modes_of_the_user(
    tmp_path: Path, name: str, format_: Format, mask: int
) -> None:
    """Temporary folders and that of --resume are the owner's alone, whatever the umask; outputs go by the umask."""
    write_capture(tmp_path / "caps")
    (tmp_path / "out").mkdir()
    seen: list[Path] = []

    def look() -> None:
        folders = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
        assert all(path.stat().st_mode & 0o777 == 0o700 for path in folders), folders
        seen.extend(folders)

    before = os.umask(mask)
    try:
        decode([tmp_path / "caps"], tmp_path / "out" / name, format_, resume=True, progress=Progress(whole=look))
    finally:
        os.umask(before)
    assert {path.suffix for path in seen} == {".tmp", ".resume"}
    made = [tmp_path / "out" / name, *(tmp_path / "out" / name).rglob("*")]
    allowed = {path: 0o777 if path.is_dir() else 0o666 for path in made}
    assert {path: path.stat().st_mode & 0o7777 for path in made} == {path: allowed[path] & ~mask for path in made}
