"""A user's own script that records a guest with PANDA at full speed, or replays that; it knows nothing of sysreel.

usage: replay_harness.py record|replay RECORDING KERNEL INITRD APPEND CONSOLE SECOND

The recording begins while /init is idle before it runs the program, and ends when it says that the program has ended.
Begun amid the output on a serial port, where the kernel waits by reading the time stamp counter, about one recording in
thirty stood still: the counter did not go on.
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
        await_text(Path(console), b"calls: idle")
        time.sleep(1)  # until that is written, and the guest idle indeed
        panda.run_monitor_cmd(f"begin_record {recording}")
        await_text(Path(console), b"calls: exit status")
        panda.run_monitor_cmd("end_record")
        panda.end_analysis()

    panda.run()


if __name__ == "__main__":
    main()
