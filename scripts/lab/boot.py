"""Boot a guest under plain PANDA and record nothing: shows its console, then one JSON line with the times."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import machines, panda, workloads
from lab.guest import Guest, guest
from lab.store import LabError

EXAMPLE = 'example: scripts/lab-boot bench --syscalls2 --append "count=20000"'
# Run in a process of its own, with libpanda on its LD_LIBRARY_PATH. The time is that of the emulation alone.
EMULATE = """
import json, sys, time
from pandare import Panda
options = json.loads(sys.argv[1])
panda = Panda(**options["panda"])
if options["syscalls2"]:
    panda.load_plugin("syscalls2")
start = time.monotonic()
panda.run()
print(json.dumps({"emulated": time.monotonic() - start}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Outcome:
    """How a boot went.

    Attributes:
        finished: Whether the guest powered off in time; if not, it was killed.
        wall_seconds: From the start of the process to its end.
        emulated_seconds: `Panda.run()` alone; None when it was killed.
    """

    finished: bool
    wall_seconds: float
    emulated_seconds: float | None


def boot(job: Guest, ports: Sequence[Path], *, syscalls2: bool = False, seconds: float = 300) -> Outcome:
    """Boot `job`, its serial ports going to the files `ports`, and wait until it powers off.

    Raises:
        LabError: PANDA ended with an error.
    """
    row = job.machine
    machine = {"arch": row.arch, "mem": row.memory, "os_version": row.os_version}
    options = json.dumps({"panda": {**machine, "extra_args": job.options(*ports)}, "syscalls2": syscalls2})
    start = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", EMULATE, options],
            env=panda.environment(row.arch),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Outcome(finished=False, wall_seconds=round(time.monotonic() - start, 2), emulated_seconds=None)
    last = (done.stderr.splitlines() or ["no reason given"])[-1]
    if done.returncode != 0:
        raise LabError(f"PANDA ended with status {done.returncode}: {last}")
    emulated = round(json.loads(last)["emulated"], 2)
    return Outcome(finished=True, wall_seconds=round(time.monotonic() - start, 2), emulated_seconds=emulated)


def main(words: Sequence[str] | None = None) -> int:
    """The command line of scripts/lab-boot."""
    parser = argparse.ArgumentParser(prog="lab-boot", description=__doc__.splitlines()[0], epilog=EXAMPLE)
    parser.add_argument("workload", choices=workloads.TABLE)
    parser.add_argument("--arch", default="x86_64", choices=machines.TABLE, help="the guest's (x86_64)")
    parser.add_argument("--syscalls2", action="store_true", help="load syscalls2, without any callback")
    parser.add_argument("--seconds", type=float, default=300, help="stop the guest after this long (300)")
    parser.add_argument("--append", default="", help="more for the kernel command line")
    parser.add_argument("--port2", type=Path, help="file for what comes out of the second serial port")
    options = parser.parse_args(words)
    try:
        panda.prepare(options.arch)
        job = guest(options.arch, options.workload, options.append)
        with tempfile.TemporaryDirectory() as scratch:
            console = Path(scratch, "console")
            ports = [console, options.port2 or Path(scratch, "port2")]
            outcome = boot(job, ports, syscalls2=options.syscalls2, seconds=options.seconds)
            print(console.read_text(errors="backslashreplace"), end="")
    except LabError as error:
        print(f"lab-boot: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"workload": options.workload, "syscalls2": options.syscalls2, **asdict(outcome)}))
    return 0 if outcome.finished else 3


if __name__ == "__main__":
    sys.exit(main())
