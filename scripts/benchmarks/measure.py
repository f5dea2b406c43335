"""Runs commands and takes the median of what they cost: wall time, processor time, memory of the whole tree."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.part import say

_SAMPLE = 0.05
"""Seconds between two looks at the memory."""
_PAGE = os.sysconf("SC_PAGESIZE")
_PROC = "/proc"


class StepError(Exception):
    """A command failed. The text is one line: which, and its last words."""


@dataclass(frozen=True)
class Cost:
    """What a step cost.

    Attributes:
        seconds: By the clock.
        cpu: Processor seconds of all its processes.
        peak: Most bytes that its processes had resident at one time; pages that they share are counted for each.
    """

    seconds: float
    cpu: float
    peak: int


def tool(name: str) -> str:
    """A console script of this environment."""
    return str(Path(sys.executable).parent / name)


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Raises:
        StepError: It fails.
    """
    return _run(command, environment)[0]


def task(name: str, *words: str | Path | int, threads: int = 1) -> Cost:
    """Run a function of `benchmarks.tasks` in a process of its own; the times are what it says it took.

    Raises:
        StepError: It fails.
    """
    command = [sys.executable, "-m", "benchmarks.tasks", name, *map(str, words)]
    environment = {"POLARS_MAX_THREADS": str(threads), "PYTHONPATH": str(Path(__file__).parents[1])}
    whole, output = _run(command, environment)
    spent = json.loads(output.splitlines()[-1])
    return Cost(spent["seconds"], spent["cpu"], whole.peak)


def take_turns(repeats: int, steps: Mapping[str, Callable[[], Cost]]) -> dict[str, Cost]:
    """The median of each step's costs, and its greatest peak.

    Steps take turns, there and back: a slow minute hits all alike, and none always comes after the same other one,
    whose memory the host of a virtual machine has not taken back yet.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in steps}
    for turn in range(repeats):
        for name, step in list(steps.items())[:: -1 if turn % 2 else 1]:
            os.sync()  # what the step before has left to write is not this one's
            costs[name].append(step())
            say(f"{turn + 1}/{repeats} {name}: {costs[name][-1].seconds:.2f} s")
    return {
        name: Cost(
            statistics.median(cost.seconds for cost in found),
            statistics.median(cost.cpu for cost in found),
            max(cost.peak for cost in found),
        )
        for name, found in costs.items()
    }


def _run(command: Sequence[str | Path], environment: Mapping[str, str] | None) -> tuple[Cost, str]:
    """What a command cost and what it printed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=err, env={**os.environ, **(environment or {})}
        )
        peaks: list[int] = [0]
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
        watch.start()
        try:
            # Its children's time is in it. Its memory is not to be used: it counts our own, from before the exec.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            ended.set()
            watch.join()
        seconds = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        text = out.read().decode("utf-8", "replace")
        if process.returncode:
            words = (err.read().decode("utf-8", "replace").strip() or text.strip()).splitlines()
            name = " ".join(str(word) for word in command[:4])
            raise StepError(f"{name} ... ended with status {process.returncode}: {words[-1] if words else 'no word'}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peaks[0]), text


def _watch(pid: int, peaks: list[int], ended: threading.Event) -> None:
    while not ended.wait(_SAMPLE):
        peaks[0] = max(peaks[0], _resident(pid))


def _resident(pid: int, above: bytes = b"") -> int:
    """Bytes that a process and its descendants have resident; 0 for one that has ended.

    A process that is about to run another program has the memory of the one that makes it (vfork), which is not counted
    twice: ``above`` is what the kernel says of that.

    It takes a processor from those that it looks at if they keep all busy, so it must take little: with `Path` it took
    three times as long, 0.03 s of four with two of them.
    """
    try:
        told = _read(f"{_PROC}/{pid}/statm")
        total = 0 if told == above else int(told.split()[1]) * _PAGE
        for thread in os.listdir(f"{_PROC}/{pid}/task"):
            children = _read(f"{_PROC}/{pid}/task/{thread}/children").split()
            total += sum(_resident(int(child), told) for child in children)
    except (OSError, IndexError):
        return 0
    return total


def _read(path: str) -> bytes:
    """What is in a file of the kernel's."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()
