"""Generated captures, made by the real recorder: what scripts/bench decodes and the stress tests feed on.

The mix is that of a small Linux system at work (counted in the demo's guest): a quarter file reads and writes, 41 %
calls with a path, most pointers from few places, errors where paths are missing. With ``--adversarial`` most
pointers are unique and most strings are new.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from capture.recorder import Recorder, String
from capture.segment import EventFlag

RETURNED = int(EventFlag.RETURNED)
ENOENT = 2**64 - 2

MIX = (  # number, weight in %, argument that is a path, its share of failures in %
    (0, 14, None, 1),  # read
    (1, 11, None, 0),  # write
    (3, 13, None, 0),  # close
    (257, 17, 1, 20),  # openat
    (262, 14, 1, 30),  # newfstatat
    (21, 5, 0, 60),  # access
    (89, 3, 0, 50),  # readlink
    (87, 1, 0, 10),  # unlink
    (80, 1, 0, 0),  # chdir
    (9, 6, None, 0),  # mmap
    (11, 3, None, 0),  # munmap
    (12, 4, None, 0),  # brk
    (13, 3, None, 0),  # rt_sigaction
    (16, 2, None, 40),  # ioctl
    (39, 1, None, 0),  # getpid
    (61, 2, None, 10),  # wait4
)
RESULTS = {257: 0x1F, 3: 0, 262: 0, 21: 0, 87: 0, 80: 0, 11: 0, 13: 0, 16: 0}
"""Greatest results of calls: few descriptors are open at a time, and most calls only succeed; else 4095."""


def generate(
    directory: Path, events: int, *, processes: int = 40, paths: int = 4000, adversarial: bool = False,
    segment_size: int = 8 << 20, seed: int = 1,
) -> None:  # fmt: skip
    """Write a capture.

    Args:
        directory: Folder for the segments.
        events: How many.
        processes: How many make them.
        paths: How many different paths there are.
        adversarial: Unique pointers and new paths in most events.
        segment_size: Stored bytes of a segment.
        seed: Same seed, same events.
    """
    recorder = Recorder(directory, "x86_64", segment_size=segment_size, wait=True, meta={"generated": seed})
    source = random.Random(seed)
    tasks = [(1000 + i) << 32 | (1000 + i) for i in range(processes)]
    known = [f"/usr/lib/part{i % 37}/file-{i:05}.so".encode() for i in range(paths)]
    choices = source.choices(MIX, weights=[weight for _, weight, _, _ in MIX], k=min(events, 100_000))
    random64, number = source.getrandbits, len(choices)
    segment = -1
    for i in range(events):
        if recorder.segments != segment:
            segment = recorder.segments
            for task in tasks:
                pid = task >> 32
                recorder.identity(
                    task, pid << 12, pid, pid, 1, 15, 0, b"worker", b"worker-%d\0--serve\0" % (pid % 7), 0
                )
        call, _, path, failures = choices[i % number]
        bits = random64(64)
        pointer = 0x7FFC00000000 + (bits & 0xFFFFFFF0 if adversarial else (bits & 0xFF) << 4)
        args = [3 + (bits >> 8 & 15), pointer, 1 << (bits >> 12 & 15), 0, 0, 0]
        strings = 0
        if path is not None:
            name = b"/tmp/unique-%d" % i if adversarial and bits & 0x300 else known[(bits >> 16 & 0xFFFF) % paths]
            found: tuple[String, ...] = ((path, name, 0),)
            strings = recorder.strings(found)
            args[path] = pointer
        ret = ENOENT if (bits >> 40 & 0x7F) < failures * 1.28 else bits >> 48 & RESULTS.get(call, 0xFFF)
        recorder.event(
            i * 1700, 900 + (bits >> 32 & 0xFFF), tasks[(bits >> 20 & 0xFF) % processes],
            args[0], args[1], args[2], 0, 0, 0, ret, call, strings, RETURNED, 0,
        )  # fmt: skip
    recorder.close()


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: scripts/synthetic.py 1000000 -o capture-folder",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("events", type=int)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the segments")
    parser.add_argument("--adversarial", action="store_true", help="unique pointers, new strings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    began = time.monotonic()
    generate(options.output, options.events, adversarial=options.adversarial, seed=options.seed)
    print(f"{options.events:,} events in {time.monotonic() - began:.1f} s in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
