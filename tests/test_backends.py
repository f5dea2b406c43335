"""The two back ends show the same: one run of a guest, recorded by both at once, gives the same rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from capture.profile import Profile
from capture.profile_cache import profile_of
from capture.reader import read_segment
from conftest import capture_guest, command, decode
from lab import panda
from lab.guest import guest
from test_live import BEGIN, END, MARK

pytestmark = pytest.mark.live

OWN = ["id", "seq", "time_ns", "duration_ns", "capture"]
"""Columns that differ: each back end has its own clock, and kernel-hook sees a call end before signals are handled."""


def both(arch: str, workload: str, folder: Path) -> list[pl.DataFrame]:
    """The rows of kernel-hook and those of syscalls2, each task's in the order in which its calls began."""
    job = guest(arch, workload)
    words: list[str | Path] = [sys.executable, Path(__file__).with_name("both_backends.py"), arch]
    words += [job.kernel, job.initrd, job.append]
    environment = {**os.environ, **panda.environment(arch)}
    done = subprocess.run([*words, folder], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "exit status 0" in (folder / "console").read_text(errors="replace")
    found = []
    for backend in ("kernel-hook", "syscalls2"):
        rows = decode(folder / backend, folder / f"{backend}.parquet")
        assert backend_of(folder / backend) == {backend}
        found.append(rows.sort("tid", "time_ns", maintain_order=True).drop(OWN))
    return found


def backend_of(segments: Path) -> set[object]:
    """What the segments themselves say of how they were made."""
    return {read_segment(path).meta["backend"] for path in segments.iterdir()}


def differing(hooked: pl.DataFrame, traced: pl.DataFrame) -> list[tuple[object, ...]]:
    """(tid, name, status, column, one value, other value) of each cell that is not the same."""
    assert hooked.select("tid", "nr", "status").rows() == traced.select("tid", "nr", "status").rows()
    return [
        (*key, column, one, other)
        for column in hooked.columns
        for key, one, other in zip(
            hooked.select(pl.col("tid", "name", "status").cast(pl.String)).rows(), hooked[column].to_list(),
            traced[column].to_list(), strict=True,
        )
        if one != other
    ]  # fmt: skip


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_both_back_ends_show_the_same_calls(arch: str, tmp_path: Path) -> None:
    """Bad pointers, signals, threads, vfork, execve and calls that never come back are among them."""
    hooked, traced = both(arch, "calls", tmp_path)
    assert hooked.filter(pl.col("nr") == MARK)["arg1"].to_list() == [BEGIN, END]
    assert len(hooked) > 400 and hooked["procname"].n_unique() > 2
    assert differing(hooked, traced) == []


def test_both_back_ends_show_the_same_processes_and_files(tmp_path: Path) -> None:
    """Only a thread that dies of another's execve may be named otherwise: kernel-hook names it before that is over."""
    hooked, traced = both("x86_64", "names", tmp_path)
    assert len(hooked) > 4000 and (hooked["status"] == "unfinished").sum() >= 3
    others = [
        cell for cell in differing(hooked, traced) if cell[2:] != ("unfinished", "procname", "/who", "taken over")
    ]
    assert others == []


def test_a_kernel_that_is_not_what_its_profile_says_is_recorded_by_syscalls2(tmp_path: Path) -> None:
    profile = profile_of(guest("x86_64", "calls").kernel)
    wrong = {**profile.symbols, "do_syscall_64": profile.symbols["do_syscall_64"] + 32}
    Profile(profile.group, profile.name, profile.values, wrong).save(tmp_path / "wrong.kernelinfo")
    captured = capture_guest(tmp_path, "calls", "--profile", str(tmp_path / "wrong.kernelinfo"))
    rows = decode(captured.segments, tmp_path / "calls.parquet")
    assert rows.filter(pl.col("nr") == MARK)["arg1"].to_list() == [BEGIN, END] and "/calls" in set(rows["procname"])
    assert backend_of(captured.segments) == {"syscalls2"}


def test_kernel_hook_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path) -> None:
    job = guest("x86_64", "calls")
    words: list[str | Path] = [
        "capture",
        "-o",
        tmp_path / "segments",
        "--kernel",
        job.kernel,
        "--backend",
        "kernel-hook",
    ]
    done = command(*words, "--profile", "none", env=panda.environment("x86_64"))
    assert done.returncode == 1 and "kernel-hook cannot be used: there is no profile" in done.stderr
