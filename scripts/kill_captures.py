"""Kill captures with SIGKILL at random moments, and decode what they leave.

Each capture is a process of its own with the real recorder and sealer, fed by a seeded source (scripts/source.py). It
says in shared memory how many events its recorder has taken. What was taken before the kill must be in the files.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from source import Source, check

MOST = 800
"""Events that a capture is killed after, at the most."""


@dataclass(frozen=True)
class Killed:
    """A capture that was killed.

    Attributes:
        folder: What it left.
        seed: Of its source.
        taken: Events that its recorder had taken, at least.
    """

    folder: Path
    seed: int
    taken: int


def kill_one(folder: Path, seed: int) -> Killed:
    """Start a capture, and kill it at a moment that follows from the seed."""
    moment = random.Random(seed)
    shared = mmap.mmap(-1, 8)
    taken = memoryview(shared).cast("Q")
    child = os.fork()
    if child == 0:
        try:
            source = Source(folder, seed, wait=True, segment_size=moment.choice((3000, 20_000, 1 << 20)))
            while True:
                taken[0] = source.step() + 1
        finally:
            os._exit(1)
    after = moment.randrange(MOST) if moment.random() < 0.9 else 0
    while taken[0] < after:
        time.sleep(0.0001)
    time.sleep(moment.random() * 0.003)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WTERMSIG(status) != signal.SIGKILL:
        raise RuntimeError(f"the capture of seed {seed} ended by itself: {status}")
    for spare in folder.glob("*.spare"):
        spare.unlink()
    return Killed(folder, seed, taken[0])


def verify(killed: Killed) -> tuple[int, int, list[str]]:
    """Decode what a capture left.

    Returns:
        Events that its recorder had taken and that are not there; rows; what is wrong, as text.
    """
    if not any(killed.folder.glob("*.live")) and not any(killed.folder.glob("*.seg")):
        return killed.taken, 0, []
    from process.discover import discover

    captures = {str(part.header.capture) for part in discover([killed.folder]).parts}
    if len(captures) != 1:
        return killed.taken, 0, [f"seed {killed.seed}: {len(captures)} captures"]
    (found,) = check(killed.folder, dict.fromkeys(captures, killed.seed)).values()
    wrong = found.wrong + [f"seed {killed.seed}: loss: {item}" for item in found.losses]
    return len(set(range(killed.taken)) - set(found.sequences)), len(found.sequences), wrong


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if nothing was lost and nothing was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: scripts/kill_captures.py 10000 --seed 7",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=1, help="of the first capture; the others follow")
    options = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="sysreel-kill-"))
    totals = [0, 0, 0]
    problems: list[str] = []
    try:
        killed = [kill_one(folder / str(i), options.seed + i) for i in range(options.kills)]
        for one in killed:
            lost, rows, wrong = verify(one)
            totals = [totals[0] + one.taken, totals[1] + rows, totals[2] + lost]
            problems += wrong
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems[:20]:
        print(problem, file=sys.stderr)
    print(f"kills: {options.kills}")
    print(f"events taken before the kill: {totals[0]}")
    print(f"rows: {totals[1]}")
    print(f"events lost: {totals[2]}")
    print(f"wrong rows and losses told: {len(problems)}")
    return 1 if totals[2] or problems else 0


if __name__ == "__main__":
    sys.exit(main())
