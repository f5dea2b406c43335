"""Stop and kill real runs of `process` at many moments: no worker, no temporary folder and no half output is left.

Each run decodes a generated capture with two workers, in a session of its own. It gets SIGINT or SIGTERM (itself, or
its whole process group, as Ctrl-C does), once or twice, or SIGKILL, at a moment between its start and its end. Then
it is run again, and must give what a run gives that nobody disturbs. Every third run, and the one after it, is made
with --resume: it may do again what workers had in hand, a segment each, and no more.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from capture.chunk import Room
from process.resume import folder_of
from source import Source

ROOT = Path(__file__).resolve().parent.parent
STOPS = (signal.SIGINT, signal.SIGTERM)
OUTPUTS = ("run.sqlite", "run.parquet")
STOPPED = "process: error: stopped; nothing is left of the output\n"
STOPPED_WITH_RESUME = "process: error: stopped; what is done is kept in OUT.resume: go on with --resume\n"
JOBS = 2
STEPS = """
import os, process.batch, process.resume as resume
process.batch.SMALL = 0
inner = resume._do
def told(item, **given):
    with open({log!r}, "a") as log:
        log.write("begun\\n")
    return inner(item, **given)
told.__module__, told.__qualname__ = "process.resume", "_do"
resume._do = told
"""
"""Makes each segment a step of its own, and each step tell that it has begun."""
ROOM = Room(events=2000, strings=4000, string_bytes=1 << 20, sets=4000, tasks=64, marks=64, files=64)
"""A chunk of the capture, and a segment."""
PATIENCE = 120.0
"""Seconds that a run, or what it leaves, may take to end before it counts as hanging."""


@dataclass(frozen=True)
class Stop:
    """What is done to a run.

    Attributes:
        out: Its output's name.
        number: The signal.
        group: Whether the whole process group gets it.
        times: How often.
        moment: When: between 0, its start, and 1, when an undisturbed run ends.
        force: Whether it replaces an output that is there.
        resume: Whether it, and the run after it, is made with ``--resume``.
    """

    out: str
    number: signal.Signals
    group: bool
    times: int
    moment: float
    force: bool
    resume: bool


@dataclass
class Counts:
    """What came of all of them.

    Attributes:
        runs: That were stopped or killed before they had ended.
        finished: That had ended, or were about to.
        resumed: Runs that went on where another was stopped.
        again: Segments that such a pair of runs has begun to survey or to decode twice, at most.
        problems: What must not be, a line each.
    """

    runs: int = 0
    finished: int = 0
    resumed: int = 0
    again: int = 0
    problems: list[str] = field(default_factory=list)


class Place:
    """A folder with a capture, in which runs are made.

    Attributes:
        folder: Where.
        segments: Of the capture.
        seconds: That an undisturbed run takes, by output.
        hashes: Of its rows, by output.
    """

    def __init__(self, folder: Path, events: int) -> None:
        """Make the capture, and decode it in peace."""
        self.folder = folder
        (folder / "tmp").mkdir()
        source = Source(folder / "caps", 5, segment_size=1, wait=True, room=ROOM)
        source.run(events)
        source.recorder.close()
        self.segments = len(list((folder / "caps").glob("*.seg")))
        (folder / "site").mkdir()
        self._log = folder / "site" / "log"
        (folder / "site" / "sitecustomize.py").write_text(STEPS.format(log=str(self._log)))
        self.seconds, self.hashes = {}, {}
        for out in OUTPUTS:
            began = time.monotonic()
            self.again(out)
            self.seconds[out] = time.monotonic() - began
            self.hashes[out] = rows_hash(folder / out)
            self.clear(out)

    def start(self, out: str, *options: str) -> subprocess.Popen[str]:
        """Begin a run in a session of its own."""
        code = "from process.cli import main; main()"
        line = [sys.executable, "-c", code, "caps", "-o", out, "-j", str(JOBS), "--quiet", *options]
        path = f"{self.folder / 'site'}:{ROOT}" if "--resume" in options else str(ROOT)
        return subprocess.Popen(
            line, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(self.folder / "tmp")},
        )  # fmt: skip

    def again(self, out: str, *options: str) -> None:
        """Run to the end.

        Raises:
            RuntimeError: It fails.
        """
        running = self.start(out, *options)
        text = running.communicate(timeout=600)[1]
        if running.returncode != 0:
            raise RuntimeError(f"a run that nobody disturbed ended with {running.returncode}: {text}")

    def left(self) -> list[str]:
        """Names of what is there beside the capture, the outputs and what ``--resume`` keeps."""
        mine = {"caps", "tmp", "site", *OUTPUTS, *(folder_of(Path(out)).name for out in OUTPUTS)}
        here = {path.name for path in self.folder.iterdir()} - mine
        return sorted(here | {path.name for path in (self.folder / "tmp").iterdir()})

    def again_begun(self) -> int:
        """Segments that runs with ``--resume`` have begun to survey, or to decode, again since the last call."""
        begun = self._log.read_text().count("\n") if self._log.exists() else 0
        self._log.unlink(missing_ok=True)
        return begun - 2 * self.segments

    def clear(self, out: str) -> None:
        """Remove an output, and what ``--resume`` has kept of it."""
        path = self.folder / out
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        shutil.rmtree(folder_of(path), ignore_errors=True)


def rows_hash(out: Path) -> str:
    """What the rows of an output come to; empty if it is not there."""
    if not out.exists():
        return ""
    if out.is_dir():
        rows: Iterable[object] = pl.read_parquet(out / "*.parquet").sort("id").iter_rows()
        return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()
    with closing(sqlite3.connect(out)) as base:
        if base.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            return "not sound"
        rows = base.execute("SELECT * FROM syscalls ORDER BY id")
        return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()


def session(leader: int) -> list[int]:
    """The processes of a session, zombies apart."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == leader and words[0] != "Z":
            found.append(int(path.parent.name))
    return found


def _wait_for_end(leader: int) -> list[int]:
    """Processes of a session that do not end."""
    until = time.monotonic() + PATIENCE
    while (alive := session(leader)) and time.monotonic() < until:
        time.sleep(0.02)
    return alive


def stop_one(place: Place, stop: Stop, counts: Counts) -> None:
    """Make a run, stop it, look at what is left, run it again."""

    def problem(text: str) -> None:
        counts.problems.append(f"{stop}: {text}")

    before = place.hashes[stop.out] if stop.force else ""
    options = ["--resume"] if stop.resume else ["--force"] if stop.force else []
    running = place.start(stop.out, *options)
    time.sleep(stop.moment * place.seconds[stop.out])
    for _ in range(stop.times):
        try:
            (os.killpg if stop.group else os.kill)(running.pid, stop.number)
        except ProcessLookupError:
            break
        time.sleep(0.01)
    try:
        text = running.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        problem("hangs")
        os.killpg(running.pid, signal.SIGKILL)
        text = running.communicate()[1]
    if alive := _wait_for_end(running.pid):
        problem(f"{len(alive)} processes are left")
        os.killpg(running.pid, signal.SIGKILL)
    status = running.returncode
    now = rows_hash(place.folder / stop.out)
    if now not in ("", place.hashes[stop.out]) or (before and not now):
        problem("what is there is neither the old output nor a whole one")
    if status == 0:
        counts.finished += 1
    else:
        counts.runs += 1
        if now and not before and stop.number != signal.SIGKILL:
            problem("stopped, but there is an output")
    if stop.number != signal.SIGKILL:
        if place.left():
            problem(f"left {place.left()}")
        early = status == -stop.number or (status, text) == (1, "process: error: stopped\n")  # before it had begun
        if status != 0 and not early and (status, text) != (1, STOPPED_WITH_RESUME if stop.resume else STOPPED):
            problem(f"status {status}, {text!r}")
    if now and not before and not stop.resume:
        options = ["--force"]
    place.again(stop.out, *options)
    if rows_hash(place.folder / stop.out) != place.hashes[stop.out]:
        problem("the rows are others when it is run again")
    if place.left():
        problem(f"the next run has left {place.left()}")
        for path in [*place.folder.glob(".sysreel-*"), *(place.folder / "tmp").iterdir()]:
            shutil.rmtree(path)
    if stop.resume:
        counts.resumed += 1
        again = place.again_begun()
        counts.again = max(counts.again, again)
        if not 0 <= again <= JOBS:
            problem(f"{again} segments were begun again")
    if not stop.force:
        place.clear(stop.out)


def stops(moments: int, seed: int) -> Iterator[Stop]:
    """What is done: stops and kills in turn, of both outputs in turn, at moments that are spread over a run."""
    source = random.Random(seed)
    for k in range(moments):
        out, is_kill = OUTPUTS[k % 2], k // 2 % 2 == 1
        number = signal.SIGKILL if is_kill else source.choice(STOPS)
        times = 1 if is_kill else source.choice((1, 1, 2))
        moment = 1.05 * source.choice((k + source.random(), moments * source.random())) / moments
        resume = k % 3 == 2
        group, force = not is_kill and source.random() < 0.5, k // 4 % 2 == 1 and not resume
        yield Stop(out, number, group, times, moment, force, resume)


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if nothing was left that must not be."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: scripts/kill_processes.py 100 --seed 7",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("moments", type=int, help="at which a run is stopped or killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=20_000, help="of the capture")
    options = parser.parse_args(words)
    counts = Counts()
    folder = Path(tempfile.mkdtemp(prefix="sysreel-kill-"))
    try:
        place = Place(folder, options.events)
        for stop in stops(options.moments, options.seed):
            if stop.force and not (folder / stop.out).exists():
                place.again(stop.out)
            elif not stop.force:
                place.clear(stop.out)
            stop_one(place, stop, counts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for text in counts.problems[:20]:
        print(text, file=sys.stderr)
    print(f"runs stopped or killed: {counts.runs}")
    print(f"runs that had ended before: {counts.finished}")
    print(f"runs that went on with --resume: {counts.resumed}")
    print(f"segments that two workers did again, at most: {counts.again}")
    print(f"hangs, orphans, half outputs, leftovers, wrong statuses, other rows: {len(counts.problems)}")
    return 1 if counts.problems else 0


if __name__ == "__main__":
    sys.exit(main())
