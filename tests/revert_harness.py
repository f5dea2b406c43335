"""A fuzzing campaign in small: one snapshot, and for each test case a revert to it, with the recorder loaded.

usage: revert_harness.py KERNEL INITRD APPEND DISK SEGMENTS CASES

Prints a JSON object: KiB of memory after each tenth of the cases, and the recorder's totals.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from pandare import Panda

from capture import SyscallCapture
from capture.chunk import Room
from capture.profile_cache import profile_of

ASK, NEXT, DONE = 0x5EED, 1, 2
EAX, EBX = 0, 3


def resident() -> int:
    """KiB of memory that this process has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def main() -> None:
    kernel, initrd, append, disk, segments, cases = sys.argv[1:]
    machine = ["-kernel", kernel, "-initrd", initrd, "-append", append, "-display", "none", "-no-reboot"]
    machine += ["-drive", f"if=none,format=qcow2,file={disk}"]
    panda = Panda(arch="x86_64", mem="80M", os_version="linux-64-generic", extra_args=machine)
    room = Room(events=1024, strings=4096, string_bytes=1 << 20, sets=4096, tasks=1024, marks=256, files=4096)
    options = {"outdir": segments, "profile": profile_of(Path(kernel)), "room": room, "segment_size": 20_000}
    panda.pyplugins.load(SyscallCapture, options)
    plugin = panda.pyplugins.plugins["SyscallCapture"]
    case, ready, done = 0, threading.Event(), threading.Event()
    memory: list[int] = []

    @panda.cb_guest_hypercall  # type: ignore[untyped-decorator]  # pandare has no type information
    def answer(cpu: Any) -> bool:
        registers = panda.ffi.cast("CPUX86State *", cpu.env_ptr).regs
        if registers[EAX] != ASK:
            return False
        if registers[EBX] == NEXT:
            ready.set()
            registers[EAX] = case
        else:
            done.set()
        return True

    @panda.queue_blocking  # type: ignore[untyped-decorator]
    def campaign() -> None:
        nonlocal case
        ready.wait()
        panda.run_monitor_cmd("savevm root")
        for case in range(1, int(cases) + 1):
            plugin.mark(f"case {case}", at_revert=True)
            panda.revert_sync("root")
            done.wait()
            done.clear()
            if case % max(1, int(cases) // 10) == 0:
                memory.append(resident())
        panda.end_analysis()

    panda.run()
    plugin.close()
    print(json.dumps({"memory": memory, **plugin.recorder.counts}))


if __name__ == "__main__":
    main()
