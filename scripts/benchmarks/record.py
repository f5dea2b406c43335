"""What recording costs a guest: one run with each way to see its calls, against nothing and bare syscalls2.

Needs the lab. The ratios are of processor time, since a busy machine stretches all else: an emulator computes from
beginning to end, so on an idle machine that is its time by the clock, plus what the sealer's thread does beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost, run, take_turns, tool
from benchmarks.part import Options, Part, Report, Target
from capture.profile_cache import profile_of
from lab import panda
from lab.guest import Guest, guest
from lab.store import LabError

_PLAIN = "import json, sys; from pandare import Panda; panda = Panda(**json.loads(sys.argv[1]))"
_RUN = "panda.run()"


def _record(arch: str, options: Options) -> Report:
    """Costs of one guest run, and of a call by the guest's own clock."""
    panda.prepare(arch)
    job, scratch = guest(arch, "bench", f"count={options.count}"), options.scratch
    profile, console = scratch / f"{arch}.kernelinfo", scratch / "console"
    profile_of(job.kernel).save(profile)
    environment = {**os.environ, **panda.environment(arch)}
    loops: dict[str, dict[str, list[float]]] = {}

    def emulated(name: str, prepare: Callable[[], list[str | Path]]) -> Cost:
        """One run of the guest, and what it says."""
        console.unlink(missing_ok=True)
        cost = run(prepare(), environment)
        said = loops.setdefault(name, {})
        for line in console.read_text(errors="replace").splitlines():
            if line.startswith('{"loop"'):
                loop = json.loads(line)
                said.setdefault(loop["loop"], []).append(loop["ns_per_call"])
        if len(said) != 3:
            raise LabError(f"{name}: the guest did not end its workload")
        return cost

    steps: dict[str, Callable[[], list[str | Path]]] = {
        "nothing": partial(_bare, job, console, ""),
        "bare syscalls2": partial(_bare, job, console, 'panda.load_plugin("syscalls2")'),
        "syscalls2": partial(capturing, job, console, scratch / "captured", "syscalls2"),
        "kernel-hook": partial(capturing, job, console, scratch / "captured", "kernel-hook"),
        "inline logger": partial(_inline, job, console, scratch, profile),
    }
    costs = take_turns(options.repeats, {name: partial(emulated, name, step) for name, step in steps.items()})
    bare, nothing, hook = costs["bare syscalls2"].cpu, costs["nothing"].cpu, costs["kernel-hook"].cpu
    return Report(
        {"loops": options.count, "runs": _table(costs, loops)},
        [
            Target(f"{arch}: kernel-hook, times bare syscalls2", 0.85, round(hook / bare, 3), at_most=True),
            Target(f"{arch}: kernel-hook, times nothing", 1.7, round(hook / nothing, 3), at_most=True),
            Target(
                f"{arch}: syscalls2, times bare syscalls2", 1.25, round(costs["syscalls2"].cpu / bare, 3), at_most=True
            ),
        ],
    )


def _table(costs: Mapping[str, Cost], loops: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """A row for each way: seconds, ratios of processor time, and the median of each loop by the guest's clock."""
    bare, nothing = costs["bare syscalls2"].cpu, costs["nothing"].cpu
    return {
        name: {
            "seconds": round(cost.seconds, 2),
            "cpu_seconds": round(cost.cpu, 2),
            "times_nothing": round(cost.cpu / nothing, 3),
            "times_syscalls2": round(cost.cpu / bare, 3),
            **{f"{loop}_us": round(statistics.median(found) / 1000, 1) for loop, found in loops[name].items()},
        }
        for name, cost in costs.items()
    }


def _bare(job: Guest, console: Path, prepare: str) -> list[str | Path]:
    """PANDA alone, or with a plugin."""
    row = job.machine
    machine = {"arch": row.arch, "mem": row.memory, "os_version": row.os_version, "extra_args": job.options(console)}
    return [sys.executable, "-c", "\n".join((_PLAIN, prepare, _RUN)), json.dumps(machine)]


def capturing(job: Guest, console: Path, output: Path, backend: str = "auto") -> list[str | Path]:
    """The command, with a profile: names, strings and paths of descriptors."""
    shutil.rmtree(output, ignore_errors=True)
    words: list[str | Path] = [tool("capture"), "-o", output, "--arch", job.machine.arch, "--kernel", job.kernel]
    words += ["--initrd", job.initrd, "--append", job.append, "--backend", backend, "--serial", console]
    return words


def _inline(job: Guest, console: Path, scratch: Path, profile: Path) -> list[str | Path]:
    """The logger."""
    database, script = scratch / "inline.sqlite", Path(__file__).with_name("inline_guest.py")
    database.unlink(missing_ok=True)
    # Its modules are those of scripts/ and of the project.
    starter = f"import sys; sys.path.insert(0, {str(script.parents[1])!r}); import runpy; sys.argv = sys.argv[1:]; "
    starter += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return [
        sys.executable, "-c", starter, script, job.machine.arch, profile, database, "--", *job.options(console),
    ]  # fmt: skip


ABOUT = "a guest's run with capture, against nothing, bare syscalls2 and the inline logger"
PARTS = (
    Part("record", f"x86_64: {ABOUT}", partial(_record, "x86_64"), usual=False),
    Part("record-aarch64", f"aarch64: {ABOUT}", partial(_record, "aarch64"), usual=False),
)
