"""Whether a copy of this process would do as one of its own."""

from __future__ import annotations

import os

from process.garbage import resident

_SMALL = 128 << 20
"""Bytes that a process may hold of which copies are made: each counts as large as it."""


def may_fork() -> bool:
    """Whether a copy of this process would be whole, which it is not if there are other threads, and small."""
    try:
        return len(os.listdir("/proc/self/task")) == 1 and resident() <= _SMALL
    except OSError:  # not Linux, whose libraries may not survive a fork
        return False
