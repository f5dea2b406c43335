"""``--max-memory``: what all processes hold together stays below it, and the rows are the same."""

from __future__ import annotations

import gc
import random
import sqlite3
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import synthetic
from conftest import BIN, command
from fd_world import World, write
from figures import Figure
from process import steps
from process.decode import Decoder
from process.errors import ProcessError
from process.garbage import collect_rarely, settle
from process.memory import Room, room
from process.output import Format
from process.pipeline import decode
from process.plan import Plan
from process.pool import Workers
from process.prepare import prepare
from process.text import size_of
from process.write_parquet import FD_GLOB, PART_GLOB, write_part
from process.write_sqlite import write_rows

M = 1 << 20
LIMIT = 170
"""MiB."""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture that takes clearly more than the limit if it may."""
    folder = tmp_path_factory.mktemp("captures")
    synthetic.generate(folder, 400_000, segment_size=M)
    return folder


def held(pid: int) -> int:
    """Bytes that a process and all below it hold now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        below = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in
                 (task / "children").read_text().split()]  # fmt: skip
    except OSError:  # it has ended
        return 0
    own = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return own + sum(held(child) for child in below)


def peak(*words: str | Path) -> tuple[int, str]:
    """Run the command; the most that its processes held together, and what it wrote to stderr."""
    line = [str(BIN / "process"), *map(str, words)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        most = 0
        while running.poll() is None:
            most = max(most, held(running.pid))
            time.sleep(0.01)
        assert running.stderr is not None
        told = running.stderr.read()
    assert running.returncode == 0, told
    return most, told


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.parametrize("format_", ["parquet", "sqlite"])
def test_a_limit_is_kept_and_changes_no_row(capture: Path, tmp_path: Path, format_: str, figure: Figure) -> None:
    outs = [tmp_path / f"{name}.{format_}" for name in ("free", "limited")]
    free, _ = peak(capture, "-o", outs[0], "-j2")
    limited, told = peak(capture, "-o", outs[1], "-j2", "--max-memory", f"{LIMIT}M")
    figure(f"MiB held by all processes, {format_}, without and with --max-memory {LIMIT}M",
           f"{free >> 20}, {limited >> 20}")  # fmt: skip
    assert limited < LIMIT * M and "--max-memory" not in told
    assert free > 1.1 * LIMIT * M
    if format_ == "parquet":
        for pattern in (PART_GLOB, FD_GLOB):
            assert_frame_equal(*(pl.read_parquet(out / pattern) for out in outs))
    else:
        for table in ("syscalls", "fd"):
            with closing(sqlite3.connect(outs[0])) as one, closing(sqlite3.connect(outs[1])) as other:
                rows = (database.execute(f"SELECT * FROM {table} ORDER BY id") for database in (one, other))
                assert all(mine == its for mine, its in zip_longest(*rows))


def test_too_small_a_limit_is_told_and_nothing_is_missing(tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "caps", 2000)
    done = command("process", tmp_path / "caps", "-o", tmp_path / "out.sqlite", "--max-memory", "10M")
    assert done.returncode == 0 and done.stdout.startswith("2,000 syscalls")
    assert done.stderr.startswith("process: warning: --max-memory 10M: not kept, ")
    assert len(done.stderr.splitlines()) == 1


def test_less_memory_is_smaller_steps_and_then_fewer_workers() -> None:
    sizes = [2 * M] * 10
    assert replace(room(None, 4, sizes), backstop=None) == Room(4)
    rooms = [room(limit * M, 4, sizes) for limit in range(2000, 0, -20)]
    assert [one.jobs for one in rooms] == sorted((one.jobs for one in rooms), reverse=True)
    for jobs in (1, 2, 3, 4):
        events = [one.events or 0 for one in rooms if one.jobs == jobs]
        assert events == sorted(events, reverse=True) and len(set(events)) > 1
    assert rooms[0].events == 1 << 17 and rooms[-1].jobs == 1
    assert (rooms[0].batch or 0) > (rooms[-1].batch or 0)


def test_what_is_no_size_is_wrong_usage(tmp_path: Path) -> None:
    done = command("process", tmp_path, "--max-memory", "much")
    assert (done.returncode, done.stderr) == (
        2, "process: error: --max-memory: 'much' is no size; write bytes, or 64K, 800M, 2G\n"
    )  # fmt: skip
    with pytest.raises(ProcessError):
        size_of("-1", "--max-memory")


@pytest.mark.parametrize("write", [write_part, write_rows])
def test_nothing_of_a_batch_is_left_when_it_is_done(
    write: Callable[[Plan, Path], object], capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    begin = Decoder.__init__

    def watched(self: Decoder, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        made.append(weakref.ref(self))

    monkeypatch.setattr(Decoder, "__init__", watched)
    plan = prepare([capture], Workers(1)).plans[0]
    gc.collect()
    gc.disable()  # a cycle would go at some time
    try:
        write(plan, tmp_path)
        assert len(made) == 1
        assert made[0]() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_batching")  # so that there are several batches
def test_workers_rest_while_plans_of_much_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = World(random.Random(2), shares=False)
    truth.run(2500)
    write(truth.events, tmp_path / "caps", [50, 100, 700])
    rested: list[int] = []
    monkeypatch.setattr(Workers, "rest", lambda self: rested.append(self.jobs))
    for number, most in enumerate((steps._MUCH, 1)):
        monkeypatch.setattr(steps, "_MUCH", most)
        decode([tmp_path / "caps"], tmp_path / f"{number}.parquet", Format.PARQUET, jobs=2)
    assert rested == [2]


def test_between_steps_nothing_is_kept_from_cycles_but_in_a_process_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process.garbage._is_ours", False)
    made: list[list[int]] = [[] for _ in range(1000)]
    thresholds = gc.get_threshold()
    try:
        gc.unfreeze()
        settle(False)
        assert gc.get_freeze_count() == 0
        collect_rarely()
        before = gc.get_freeze_count()
        made += [[] for _ in range(1000)]
        settle(False)
        assert gc.get_freeze_count() >= before + 1000
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
