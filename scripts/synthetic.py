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

from capture.chunk import Room
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
    (61, 1, None, 10),  # wait4
    (33, 1, None, 0),  # dup2
)
RESULTS = {257: 0x1F, 3: 0, 262: 0, 21: 0, 87: 0, 80: 0, 11: 0, 13: 0, 16: 0}
"""Greatest results of calls: few descriptors are open at a time, and most calls only succeed; else 4095."""
_OPENAT, _NEWFSTATAT, _CLOSE, _DUP2, _FORK, _EXIT_GROUP = 257, 262, 3, 33, 57, 231
_AT_FDCWD = 2**64 - 100
_MOST_OPEN = 16
_LIFE = 4096
"""After so many events a process ends, and another is forked."""


def generate(
    directory: Path, events: int, *, processes: int = 40, paths: int = 4000, adversarial: bool = False,
    segment_size: int = 64 << 20, seed: int = 1, room: Room | None = None,
) -> None:  # fmt: skip
    """Write a capture.

    Args:
        directory: Folder for the segments.
        events: How many.
        processes: How many make them.
        paths: How many different paths there are.
        adversarial: Unique pointers and new paths in most events.
        segment_size: Stored bytes of a segment; that of `capture` if not told.
        seed: Same seed, same events.
        room: Of a chunk; no segment is smaller than one.
    """
    meta = {"generated": seed}
    recorder = Recorder(directory, "x86_64", segment_size=segment_size, wait=True, meta=meta, room=room)
    source = random.Random(seed)
    tasks = [(1000 + i) << 32 | (1000 + i) for i in range(processes)]
    known = [f"/usr/lib/part{i % 37}/file-{i:05}.so".encode() for i in range(paths)]
    choices = source.choices(MIX, weights=[weight for _, weight, _, _ in MIX], k=min(events, 100_000))
    random64, number = source.getrandbits, len(choices)
    segment = -1
    opened = [0] * processes  # how many descriptors each has, from 3 on
    for i in range(events):
        if recorder.segments != segment:
            segment = recorder.segments
            for task in tasks:
                _identify(recorder, task)
        call, _, path, failures = choices[i % number]
        bits = random64(64)
        who = (bits >> 20 & 0xFF) % processes
        if i % _LIFE < 2 and i >= _LIFE:
            who = i // _LIFE % (processes - 1) + 1
            number_of_child = 1000 + processes + i // _LIFE
            if i % _LIFE == 0:
                recorder.event(i * 1700, 0, tasks[who], 0, 0, 0, 0, 0, 0, 0, _EXIT_GROUP, 0, 0, 0)
            else:
                recorder.event(i * 1700, 900, tasks[0], 0, 0, 0, 0, 0, 0, number_of_child, _FORK, 0, RETURNED, 0)
                tasks[who], opened[who] = number_of_child << 32 | number_of_child, opened[0]
                _identify(recorder, tasks[who])
            continue
        pointer = 0x7FFC00000000 + (bits & 0xFFFFFFF0 if adversarial else (bits & 0xFF) << 4)
        args = [3 + (bits >> 8 & 15) % (opened[who] + 1), pointer, 1 << (bits >> 12 & 15), 0, 0, 0]
        strings = 0
        if path is not None:
            name = b"/tmp/unique-%d" % i if adversarial and bits & 0x300 else known[(bits >> 16 & 0xFFFF) % paths]
            found: tuple[String, ...] = ((path, name, 0),)
            strings = recorder.strings(found)
            args[path] = pointer
        ret = ENOENT if (bits >> 40 & 0x7F) < failures * 1.28 else bits >> 48 & RESULTS.get(call, 0xFFF)
        if call in (_OPENAT, _NEWFSTATAT):
            args[0] = _AT_FDCWD
        if call == _OPENAT and ret != ENOENT:
            opened[who] = min(opened[who] + 1, _MOST_OPEN)
            ret = 2 + opened[who]
        elif call == _CLOSE:
            args[0], ret, opened[who] = 2 + max(opened[who], 1), 0, max(opened[who] - 1, 0)
        elif call == _DUP2:
            args[1] = ret = bits >> 48 & 1
        recorder.event(
            i * 1700, 300 + (bits >> 32 & 0x3FF), tasks[who],
            args[0], args[1], args[2], 0, 0, 0, ret, call, strings, RETURNED, 0,
        )  # fmt: skip
    recorder.close()


def _identify(recorder: Recorder, task: int) -> None:
    """Say who a task is: of a program whose processes are all alike."""
    pid = task >> 32
    recorder.identity(task, pid << 12, pid, pid, 1, 15, 0, b"worker", b"worker-%d\0--serve\0" % (pid % 7), 0)


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
