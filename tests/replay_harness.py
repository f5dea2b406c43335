"""A user's own script that records a guest with PANDA at full speed, or replays that; it knows nothing of sysreel.

usage: replay_harness.py record|replay RECORDING KERNEL INITRD APPEND CONSOLE SECOND

The recording begins when the kernel says on its console that init begins, and ends when /init says that the program
has ended.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pandare import Panda


def await_text(console: Path, text: bytes) -> None:
    while text not in console.read_bytes():
        time.sleep(0.005)


def main() -> None:
    what, recording, kernel, initrd, append, console, second = sys.argv[1:]
    machine = ["-kernel", kernel, "-initrd", initrd, "-append", append, "-display", "none", "-no-reboot"]
    machine += ["-serial", f"file:{console}", "-serial", f"file:{second}"]
    panda = Panda(arch="x86_64", mem="96M", os_version="linux-64-generic", extra_args=machine)
    if what == "replay":
        panda.run_replay(recording)
        return

    @panda.queue_blocking  # type: ignore[untyped-decorator]  # pandare has no type information
    def record() -> None:
        await_text(Path(console), b"Run /init")
        panda.run_monitor_cmd(f"begin_record {recording}")
        await_text(Path(console), b"calls: exit status")
        panda.run_monitor_cmd("end_record")
        panda.end_analysis()

    panda.run()


if __name__ == "__main__":
    main()
