"""What a process of ours keeps that it does not need: objects in cycles, and memory that has been freed."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache

_NEW_OBJECTS = 100_000
"""After so many the youngest are looked through; Python's default is 700."""


def collect_rarely() -> None:
    """Look seldom: hardly any object of ours is part of a cycle, and thousands of small segments are many objects.

    Looking through all of them again and again takes a tenth of the time then.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 50, 100)


def give_back() -> None:
    """Give freed memory back to the kernel.

    A batch leaves holes of all sizes between what stays, and the next one does not fit them: without this a worker held
    a tenth more after each batch. It costs about a millisecond for 100 MB.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """malloc_trim(3), where the C library has it: glibc does, musl does not."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
