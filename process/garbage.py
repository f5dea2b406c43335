"""What a process of ours keeps that it does not need: objects in cycles, and memory that has been freed."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

_PAGE = os.sysconf("SC_PAGESIZE")
_MOST = 1.1
"""Times what a batch took that began with nothing, or first of its kind: more is given back."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""malloc.h of glibc."""
_PR_SET_THP_DISABLE = 41
"""prctl.h of Linux."""
_BLOCK = 1 << 23
"""Bytes that are taken at once: so few that malloc keeps them."""
_LARGEST = 1 << 25
"""Bytes; glibc takes no greater threshold."""
_LITTLE = 160 << 20
"""Bytes that a process may go on to hold: two and a half times what it begins with."""
_THRESHOLDS = 100_000, 50, 100
"""After so many new objects the youngest are looked through; Python's default is 700."""
_is_ours = False
"""Whether this process is one in which Python may look seldom for good."""


def collect_rarely() -> None:
    """Look seldom: hardly any object of ours is part of a cycle, and thousands of small segments are many objects.

    Looking through all of them again and again takes a tenth of the time then.
    """
    global _is_ours
    _is_ours = True
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


class _Rarely:
    """As `collect_rarely` for as long as a block takes, in a process that is not ours; several may be under way."""

    def __init__(self) -> None:
        self._lock, self._count, self._before = threading.Lock(), 0, gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._before = gc.get_threshold()
                gc.set_threshold(*_THRESHOLDS)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                gc.set_threshold(*self._before)


collecting_rarely = _Rarely()


class Spare:
    """Freed memory that a process keeps for its next batch, which is mostly of the same size.

    The kernel clears each page that it gives out: an eighth of the time of a batch, if it has to begin with nothing.
    """

    def __init__(self) -> None:
        self._need, self._is_first = 0, True
        self._work: object = None

    def begin(self, work: object) -> None:
        """Call before a batch; ``work`` is what is done with it: another may need more."""
        if self._work is None:
            keep_freed()
        if work is not self._work:
            self._work, self._is_first = work, True

    def settle(self) -> None:
        """Call after a batch: what is held beyond the need of one goes back, with all that is free."""
        held = resident()
        if self._is_first:
            self._need = max(self._need, held)
        self._is_first = held > _MOST * self._need
        if self._is_first:
            give_back()


def keep_freed() -> None:
    """Have malloc keep what is freed until `give_back`, large arrays too; where it is glibc's."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGEST)
        set_option(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def take(size: int) -> None:
    """Have malloc keep so many bytes more than it has: to take them page by page costs most when others wait.

    Call `keep_freed` before.
    """
    import numpy as np

    blocks = [np.empty(_BLOCK, np.uint8) for _ in range(size // _BLOCK)]
    for block in blocks:
        block[::_PAGE] = 0


def take_small_pages() -> None:
    """Have the kernel give this process, and those that it starts, no huge pages; where it is Linux.

    numpy asks for some for large arrays. A batch fills each a few times: less is saved than clearing a huge page costs,
    where the host of a virtual machine has to find it first.
    """
    control = getattr(ctypes.CDLL(None), "prctl", None)
    if control is not None:
        control(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def give_back() -> None:
    """Give freed memory back to the kernel.

    A batch leaves holes of all sizes between what stays, and the next one does not fit them all: without this a worker
    held ever more. It costs about a millisecond for 100 MB.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


def settle(is_limited: bool) -> None:
    """Call between two kinds of work: what is free goes back, but for a little, which the next will take again.

    In a process of ours Python does not look for cycles in what there is now: it came to do so between two tables at
    the end, when workers wait, which took three times as long as to make them.

    Args:
        is_limited: Whether nobody may hold more than is needed.
    """
    if _is_ours:
        gc.freeze()
    if is_limited or resident() > _LITTLE:
        give_back()


def resident() -> int:
    """Bytes that this process holds in memory; 0 where nobody tells."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    except OSError:
        return 0


@cache
def _trim() -> Callable[[int], int] | None:
    """malloc_trim(3), where the C library has it: glibc does, musl does not."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
