"""A user's own PANDA script with the recorder in it, and beside it a count of its own: what test_live.py kills.

usage: harness.py KERNEL INITRD APPEND SEGMENTS COUNTER
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Any

from pandare import Panda

from capture import SyscallCapture
from capture.chunk import Room
from capture.profile_cache import profile_of


def main() -> None:
    kernel, initrd, append, segments, counter = sys.argv[1:]
    machine = ["-kernel", kernel, "-initrd", initrd, "-append", append, "-display", "none", "-no-reboot"]
    panda = Panda(arch="x86_64", mem="256M", os_version="linux-64-generic", extra_args=machine)
    room = Room(events=256, strings=2048, string_bytes=1 << 20, sets=2048, tasks=256, marks=64)
    options = {"outdir": segments, "profile": profile_of(Path(kernel)), "room": room, "segment_size": 20_000}
    panda.pyplugins.load(SyscallCapture, options)
    with open(counter, "r+b") as file:
        count = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
    recorder = panda.pyplugins.plugins["SyscallCapture"].recorder
    record = recorder.event

    def counted(*event: Any) -> int:
        sequence: int = record(*event)
        count[0] = sequence + 1
        return sequence

    recorder.event = counted
    panda.run()


if __name__ == "__main__":
    main()
