"""Functions for workers, which spawn can import."""

from __future__ import annotations

import os
import signal
import time

from capture.segment import SegmentError
from process.errors import ProcessError


def square(number: int) -> int:
    """Square a number; some numbers fail, each in its way."""
    if number == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == -2:
        raise SegmentError("bad segment")
    if number == -3:
        raise ProcessError("disk is full")
    if number == -4:
        raise ZeroDivisionError("a\nbug")
    return number * number


def name_and_wait(number: int) -> int:
    """The worker's process id, after a while."""
    time.sleep(0.2)
    return os.getpid()
