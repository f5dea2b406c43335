"""What a process of ours keeps that it does not need: objects in cycles, and memory that has been freed."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_PAGE = os.sysconf("SC_PAGESIZE")
_MOST = 1.1
"""Times what a batch took that began with nothing, or first of its kind: more is given back."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""malloc.h of glibc."""
_PR_SET_THP_DISABLE = 41
"""prctl.h of Linux."""
_MADV_HUGEPAGE, _MADV_POPULATE_WRITE = 14, 23
"""mman.h of Linux; the second since 5.14."""
BLOCK = 31 << 20
"""Bytes that are taken at once: as many as malloc keeps. It writes to the first of them, which may be a huge page."""
_ROOM = 1 << 28
"""Bytes of addresses whose pages are to be huge: twice what a process holds that decodes."""
_LARGEST = 1 << 25
"""Bytes; glibc takes no greater threshold."""
_LITTLE = 128 << 20
"""Bytes that a process may go on to hold: twice what it begins with."""
_THRESHOLDS = 100_000, 50, 100
"""After so many new objects the youngest are looked through; Python's default is 700."""
_is_ours = False
"""Whether this process is one in which Python may look seldom for good."""
_is_roomy = False
"""Whether malloc is to take huge pages."""


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

    The kernel clears each page that it gives out: an eighth of the time of a batch, if it has to begin with nothing. As
    what is kept is used again and again, huge pages pay: finding small ones takes the processor a tenth of a batch.
    """

    def __init__(self) -> None:
        self._need, self._is_first = 0, True
        self._work: object = None

    def begin(self, work: object) -> None:
        """Call before a batch; ``work`` is what is done with it: another may need more."""
        if self._work is None:
            keep_freed()
            take_huge_pages()
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
    set_option = _of_libc("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGEST)
        set_option(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def take(size: int) -> None:
    """Have malloc keep so many bytes more than it has: to take them page by page costs most when others wait.

    Call `keep_freed` before.
    """
    with _blocks(size) as blocks:
        for block in blocks:
            if not _advise(block, _MADV_POPULATE_WRITE):
                ctypes.memset(block, 0, BLOCK)


def take_small_pages() -> None:
    """Have the kernel give this process, and those that it starts, no huge pages; where it is Linux.

    numpy asks for some for large arrays. What is filled a few times saves less by them than it costs to clear one,
    where the host of a virtual machine has to find it first. Who decodes takes them all the same (`take_huge_pages`).
    """
    _disable_huge_pages(True)


def take_huge_pages() -> None:
    """Have the kernel give this process huge pages from now on, for what malloc will take; where it does on request.

    A process that is not ours may have reasons to have none.
    """
    global _is_roomy
    _is_roomy = True
    if _is_ours:
        _disable_huge_pages(False)
    _make_room()


def _disable_huge_pages(is_disabled: bool) -> None:
    control = _of_libc("prctl")
    if control is not None:
        control(_PR_SET_THP_DISABLE, int(is_disabled), 0, 0, 0)


def _make_room() -> None:
    """Have malloc give out next what huge pages have been asked for: so much at the end of its heap, not used yet.

    What a process takes beyond it has small pages. A limit on memory counts it, used or not.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    with _blocks(_ROOM if limit == resource.RLIM_INFINITY else min(_ROOM, limit // 8)) as blocks:
        for block in blocks:
            _advise(block, _MADV_HUGEPAGE)


@contextmanager
def _blocks(size: int) -> Iterator[list[int]]:
    """Addresses of blocks of `BLOCK` bytes that malloc has given for the while, as far as there is so much."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    blocks = [block for _ in range(size // BLOCK) if (block := libc.malloc(BLOCK)) is not None]
    try:
        yield blocks
    finally:
        for block in blocks:
            libc.free(block)


def _advise(block: int, advice: int) -> bool:
    """madvise(2) for all pages of a block, so that no gap is left to the next one; whether it could be done."""
    advise = _of_libc("madvise")
    if advise is None:
        return False
    first, behind = block // _PAGE * _PAGE, -(-(block + BLOCK) // _PAGE) * _PAGE
    return advise(ctypes.c_void_p(first), ctypes.c_size_t(behind - first), advice) == 0


def give_back() -> None:
    """Give freed memory back to the kernel.

    A batch leaves holes of all sizes between what stays, and the next one does not fit them all: without this a worker
    held ever more. It costs about a millisecond for 100 MB.
    """
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)
    if _is_roomy:
        _make_room()


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
def _of_libc(name: str) -> Callable[..., int] | None:
    """A function of the C library, where it has it: glibc has all that are asked for here, musl some, others few."""
    return getattr(ctypes.CDLL(None), name, None)
