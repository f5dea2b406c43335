"""A limit on the memory of each worker: what slips past every check costs its segment, and never the machine.

It is RLIMIT_DATA, which since Linux 4.7 counts a process's private memory that it may write, used or not. (RLIMIT_AS
counts addresses: libraries, the stacks' and allocators' reserves, files that are mapped. A worker that has done nothing
yet has half a gigabyte of those.) numpy raises MemoryError at the limit; Polars' allocator aborts the process. Both
are survived by the others. The limit is far above what sound segments take: what workers reckon with, several times
over, and a share of the machine if that is more.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TIMES: Final = 4
"""Over what is reckoned; workers were measured to take up to 1.0 times that, and to reserve up to 1.7 times."""
_LEAST: Final = 1 << 30
"""Bytes beyond that."""
_CGROUPS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Backstop:
    """Bytes that a worker may take beyond what it begins with.

    Attributes:
        beside: One beside others.
        alone: One that does again, by itself, what others could not.
    """

    beside: int
    alone: int


def backstop(limit: int | None, jobs: int, reckoned: int) -> Backstop:
    """Where a worker is stopped.

    Args:
        limit: Bytes for all processes together that were asked for; None for none: then the machine's memory counts.
        jobs: Worker processes.
        reckoned: Bytes that a worker should take.
    """
    least = _TIMES * reckoned + _LEAST
    if limit is not None:
        return Backstop(max(least, limit), max(least, limit))
    machine = memory_of_machine()
    return Backstop(max(least, machine // (jobs + 1)), max(least, machine * 3 // 4))


def memory_of_machine() -> int:
    """Bytes that there are for all processes: the machine's, or what its container may use."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUPS:
        with suppress(OSError, ValueError):
            found.append(int(Path(path).read_text("ascii")))
    return min(found)


def confine(size: int) -> None:
    """Have this process take no more than so many bytes beyond what it has, and end quietly if it would.

    Does nothing where there is no such limit; a lower one that is there already stays.
    """
    if not sys.platform.startswith("linux"):
        return
    limit = _data() + size
    for number, wanted in ((resource.RLIMIT_DATA, limit), (resource.RLIMIT_CORE, 0)):
        soft, hard = resource.getrlimit(number)
        lowest = min([wanted, *(one for one in (soft, hard) if one != resource.RLIM_INFINITY)])
        resource.setrlimit(number, (lowest, hard))
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 2)  # where allocators say at length that they are out of memory: the parent does, in a line
    os.close(null)


def _data() -> int:
    """Bytes that RLIMIT_DATA counts now."""
    status = Path("/proc/self/status").read_text("ascii", "replace")
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:")), 0)
