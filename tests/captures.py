"""A capture of several segments, as a folder, for tests that do not care what is in it."""

from __future__ import annotations

from pathlib import Path

from segments import CLOSE, EXECVE, GETPID, LIST, NOT_RETURNED, OPENAT, READ, Builder, task


def write_capture(folder: Path, segments: int = 4, events: int = 60) -> list[Path]:
    """Write segments that depend on each other: entries return later, identities and marks are carried on."""
    paths, first, entry = [], 0, -1
    for number in range(segments):
        builder = Builder(segment=number, first=first)
        if number % 2 == 0:
            builder.task(task(7), argv=b"sh\0-c\0%d\0" % number)
            builder.task(task(8), argv=None, comm=b"kworker", flags=16)
            builder.mark(b"phase %d" % number)
        if entry >= 0:
            builder.event(EXECVE, 1, 2, entry=first - entry, strings=builder.set(a0=b"/bin/ls", a1=(b"ls\0", LIST)))
        for k in range(events):
            who = task(7 + k % 3)
            name = builder.set(a1=b"/etc/%d" % (k % 5))
            nr = (OPENAT, READ, CLOSE, GETPID, 5000)[k % 5]
            strings = name if nr == OPENAT else 0
            builder.event(nr, k % 4, 0x7000 + k % 6, k, who=who, strings=strings, ret=k % 7 - 3)
            if k % 20 == 0:
                builder.block()
        entry = builder.event(EXECVE, 1, 2, flags=NOT_RETURNED)
        paths.append(builder.write(folder))
        first = builder.next
    return paths
