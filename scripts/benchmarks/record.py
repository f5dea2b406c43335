"""What recording costs a guest: a run with ``capture`` against the same run with bare syscalls2. Needs the lab."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from benchmarks.measure import Cost, run, take_turns, tool
from benchmarks.part import Options, Part, Report
from lab import boot, panda
from lab.guest import Guest, guest


def _record(options: Options) -> Report:
    """Wall time of one guest run: plain, under bare syscalls2, and captured."""
    panda.prepare("x86_64")
    job = guest("x86_64", "bench", f"count={options.count}")
    ports = [options.scratch / "console", options.scratch / "port2"]
    costs = take_turns(
        options.repeats,
        {
            "plain": partial(_boot, job, ports),
            "syscalls2": partial(_boot, job, ports, syscalls2=True),
            "capture": partial(_capture, job, ports, options.scratch / "captured"),
        },
    )
    captured = costs["capture"].seconds
    return Report(
        {
            "loops": options.count,
            "seconds": {name: round(cost.seconds, 2) for name, cost in costs.items()},
            "times_syscalls2": round(captured / costs["syscalls2"].seconds, 3),
            "times_plain": round(captured / costs["plain"].seconds, 3),
        }
    )


def _boot(job: Guest, ports: list[Path], syscalls2: bool = False) -> Cost:
    return Cost(boot.boot(job, ports, syscalls2=syscalls2).wall_seconds, 0.0, 0)


def _capture(job: Guest, ports: list[Path], output: Path) -> Cost:
    shutil.rmtree(output, ignore_errors=True)
    command: list[str | Path] = [tool("capture"), "-o", output, "--kernel", job.kernel, "--initrd", job.initrd]
    command += ["--append", job.append, "--serial", ports[0], "--serial", ports[1]]
    return run(command, {**os.environ, **panda.environment("x86_64")})


PART = Part("record", "a guest's run with capture, against bare syscalls2 and nothing", _record, usual=False)
