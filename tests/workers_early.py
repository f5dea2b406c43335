"""Calls for a process that is there early; imports next to nothing, so that one that imports it may still fork."""

from __future__ import annotations

import os
import signal

_AT_FIRST = os.getpid()


def pid() -> int:
    """The process that makes the call."""
    return os.getpid()


def killed() -> int:
    """Likewise, but another than the one that has imported this does not survive it."""
    if os.getpid() != _AT_FIRST:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def raises() -> int:
    """Fail, and say where."""
    raise ArithmeticError("here" if os.getpid() == _AT_FIRST else "there")
