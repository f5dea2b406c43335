"""Stop and kill real runs of `process` at many moments: no worker, no temporary folder and no half output is left.

Each run decodes a generated capture with two workers, in a session of its own, half of them with ``--resume``. It gets
SIGINT or SIGTERM (itself, or its whole process group, as Ctrl-C does), once or twice, or SIGKILL, at a moment between
its start and its end. Then it is run again, and must give what a run gives that nobody disturbs; with ``--resume`` it
must do again only what the workers had in hand. Runs that had ended already do not count.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import polars as pl

from capture.chunk import Room
from source import Source

ROOT = Path(__file__).resolve().parent.parent
STOPS = (signal.SIGINT, signal.SIGTERM)
OUTPUTS = ("run.sqlite", "run.parquet")
JOBS = 2
STOPPED = "process: error: stopped; nothing is left of the output\n"
KEPT = "process: error: stopped; what is done is kept in OUT.resume: go on with --resume\n"
EACH = 500
ROOM = Room(events=EACH, strings=1000, string_bytes=1 << 20, sets=1000, tasks=64, marks=64, files=64)
"""A chunk of the capture, and a segment: of EACH events."""
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
        resume: Whether it keeps what it makes, and the next run takes it over.
    """

    out: str
    number: signal.Signals
    group: bool
    times: int
    moment: float
    force: bool
    resume: bool

    @property
    def options(self) -> list[str]:
        """Of the run."""
        return ["--force"] * self.force + ["--resume"] * self.resume


PROBLEMS = ("hangs", "orphans", "half outputs", "leftovers", "wrong statuses", "other rows", "work done twice")
"""What must not be."""


@dataclass
class Counts:
    """What came of all of them.

    Attributes:
        stopped: Runs that SIGINT or SIGTERM ended.
        killed: That SIGKILL ended.
        resumed: Of both, those with ``--resume``.
        finished: That had ended before, or were about to.
        redone: Steps that a run with ``--resume`` had begun, and that had to be done again, at the most.
        problems: How many of each kind.
        texts: A line for each.
    """

    stopped: int = 0
    killed: int = 0
    resumed: int = 0
    finished: int = 0
    redone: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)

    @property
    def moments(self) -> int:
        """At which a run was stopped or killed."""
        return self.stopped + self.killed


class Place:
    """A folder with a capture, in which runs are made.

    Attributes:
        folder: Where.
        segments: Of the capture.
        seconds: That an undisturbed run takes at the least, by output.
        hashes: Of its rows, by output.
    """

    def __init__(self, folder: Path, events: int) -> None:
        """Make the capture, and decode it in peace."""
        self.folder = folder
        (folder / "tmp").mkdir()
        self.steps = folder / "tmp.steps"
        source = Source(folder / "caps", 5, segment_size=1, wait=True, room=ROOM)
        source.run(events)
        source.recorder.close()
        self.segments = len(list((folder / "caps").glob("*.seg")))
        self.seconds: dict[str, float] = {}
        self.hashes = {}
        for out in OUTPUTS:
            began = time.monotonic()
            self.again(out)
            self.seconds[out] = time.monotonic() - began
            self.hashes[out] = rows_hash(folder / out)
            self.clear(out)

    def start(self, out: str, *options: str) -> subprocess.Popen[str]:
        """Begin a run in a session of its own, with a small part of the environment."""
        self.steps.write_bytes(b"")
        line = [sys.executable, "-c", "import told_steps; told_steps.main()", "caps", "-o", out, "-j", str(JOBS)]
        return subprocess.Popen(
            [*line, *options], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
            env={
                **os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}", "TMPDIR": str(self.folder / "tmp"),
                "STEPS": str(self.steps),
            },
        )  # fmt: skip

    def again(self, out: str, *options: str) -> str:
        """Run to the end; gives what it says.

        Raises:
            RuntimeError: It fails.
        """
        running = self.start(out, *options)
        said, text = running.communicate(timeout=600)
        if running.returncode != 0:
            raise RuntimeError(f"a run that nobody disturbed ended with {running.returncode}: {text}")
        return said

    def kept(self, out: str) -> Path:
        """Where results for an output are kept."""
        return self.folder / f"{out}.resume"

    def done(self, out: str) -> int:
        """Steps whose results are kept."""
        return len(list(self.kept(out).glob("*.entry")))

    def left(self, out: str, *, whole: bool) -> list[str]:
        """Names of what is there beside the capture and the outputs, and in the folder of results, if all is done."""
        folders = {self.kept(out).name for out in OUTPUTS}
        here = {path.name for path in self.folder.iterdir()} - {"caps", "tmp", self.steps.name, *OUTPUTS, *folders}
        inside = {path.name for path in self.kept(out).glob("*.tmp")} if whole else set()
        return sorted(here | inside | {path.name for path in (self.folder / "tmp").iterdir()})

    def clear(self, out: str) -> None:
        """Remove an output."""
        path = self.folder / out
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)

    def ready(self, stop: Stop) -> None:
        """Have what a run finds: an old output or none, and no results."""
        shutil.rmtree(self.kept(stop.out), ignore_errors=True)
        if not stop.force:
            self.clear(stop.out)
        elif not (self.folder / stop.out).exists():
            self.again(stop.out)


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

    def problem(kind: str, text: str) -> None:
        counts.problems[kind] += 1
        counts.texts.append(f"{stop}: {text}")

    place.ready(stop)
    wanted = place.hashes[stop.out]
    before = wanted if stop.force else ""
    running = place.start(stop.out, *stop.options)
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
        problem("hangs", "hangs")
        os.killpg(running.pid, signal.SIGKILL)
        text = running.communicate()[1]
    if alive := _wait_for_end(running.pid):
        problem("orphans", f"{len(alive)} processes are left")
        os.killpg(running.pid, signal.SIGKILL)
    status = running.returncode
    now = rows_hash(place.folder / stop.out)
    if now not in ("", wanted) or (before and not now):
        problem("half outputs", "what is there is neither the old output nor a whole one")
    if status == 0:
        counts.finished += 1
    else:
        counts.stopped += stop.number != signal.SIGKILL
        counts.killed += stop.number == signal.SIGKILL
        counts.resumed += stop.resume
        if now and not before and stop.number != signal.SIGKILL:
            problem("wrong statuses", "stopped, but there is an output")
    if stop.number != signal.SIGKILL:
        if left := place.left(stop.out, whole=False):
            problem("leftovers", f"left {left}")
        early = status == -stop.number or (status, text) == (1, "process: error: stopped\n")  # before it had begun
        early |= text.startswith("Fatal Python error: init_")  # and before Python had: status 1, too
        if status != 0 and not early and (status, text) != (1, KEPT if stop.resume else STOPPED):
            problem("wrong statuses", f"status {status}, {text!r}")
    done = place.done(stop.out)
    redone = place.steps.stat().st_size - done
    counts.redone = max(counts.redone, redone)
    if redone > JOBS:
        problem("work done twice", f"{redone} steps that were begun are not kept")
    options = ["--resume"] * stop.resume + ["--force"] * bool(now)
    said = place.again(stop.out, *options)
    if rows_hash(place.folder / stop.out) != wanted:
        problem("other rows", "the rows are others when it is run again")
    if stop.resume and _made(said) != 2 * place.segments - done:
        problem("work done twice", f"{done} steps were done of {place.segments} segments; then {said.splitlines()[0]}")
    if left := place.left(stop.out, whole=True):
        problem("leftovers", f"the next run has left {left}")
        for path in [*place.folder.glob(".sysreel-*"), *(place.folder / "tmp").iterdir()]:
            shutil.rmtree(path)


def _made(said: str) -> int:
    """Steps that a run with ``--resume`` says that it has done."""
    found = re.search(r"^\d+ segments taken over, (\d+) decoded, (\d+) surveyed$", said, re.MULTILINE)
    return sum(map(int, found.groups())) if found else -1


def stops(moments: int, seed: int) -> Iterator[Stop]:
    """What is done: all kinds in turn, at moments that are spread over a run; more than are asked for."""
    source = random.Random(seed)
    kinds = list(product((*STOPS, signal.SIGKILL), OUTPUTS, (False, True), (False, True)))
    for k in range(2 * moments):
        if k % len(kinds) == 0:
            source.shuffle(kinds)
        number, out, resume, force = kinds[k % len(kinds)]
        is_kill = number == signal.SIGKILL
        times = 1 if is_kill else source.choice((1, 1, 2))
        moment = (k % moments + source.random()) / moments
        yield Stop(out, number, not is_kill and source.random() < 0.5, times, moment, force, resume)


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if nothing was left that must not be."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: scripts/kill_processes.py 100 --seed 7",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("moments", type=int, help="at which a run is stopped or killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=4000, help=f"of the capture; a segment for {EACH}")
    options = parser.parse_args(words)
    counts = Counts()
    folder = Path(tempfile.mkdtemp(prefix="sysreel-kill-"))
    try:
        place = Place(folder, options.events)
        for stop in stops(options.moments, options.seed):
            if counts.moments < options.moments:
                stop_one(place, stop, counts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for text in counts.texts[:20]:
        print(text, file=sys.stderr)
    print(f"runs stopped: {counts.stopped}")
    print(f"runs killed: {counts.killed}")
    print(f"of both, with --resume: {counts.resumed}")
    print(f"runs that had ended before: {counts.finished}")
    print(f"segments done again by {JOBS} workers, at most: {counts.redone}")
    for name in PROBLEMS:
        print(f"{name}: {counts.problems[name]}")
    return 1 if counts.texts else 0


if __name__ == "__main__":
    sys.exit(main())
