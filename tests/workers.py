"""Functions for workers, which spawn can import."""

from __future__ import annotations

import os
import signal
import struct
import time
from multiprocessing.connection import Connection

import numpy as np
import polars as pl

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


def die_elsewhere(here: int) -> str:
    """Nothing comes of it but in one process."""
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return "here"


def take_and_free(size: int) -> int:
    """The worker's process id, after it has used so many MiB, in arrays that malloc may keep."""
    arrays = [np.ones(1 << 17) for _ in range(size)]
    time.sleep(0.05)  # longer than another worker takes to begin the next item
    return os.getpid() if arrays else 0


def devour(kind: str) -> int:
    """Take some MiB, which are given back, or memory without end."""
    if kind.endswith(" MiB"):
        return len(b"\1" * (int(kind.split()[0]) << 20)) >> 20
    if kind != "nothing":
        poison(kind)
    return 0


def poison(kind: str) -> None:
    """End this process, or have it take memory without end, in pieces that it uses: numpy's or Polars'."""
    if kind == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    held: list[object] = []
    while True:
        held.append(np.ones(1 << 20) if kind == "numpy" else pl.select(pl.int_range(1 << 20).cast(pl.Float64)))


def half_write(lethal: bool) -> None:
    """Have this worker write half of its next result, and then die, or sleep until it is killed."""

    def write(self: Connection, data: bytes) -> None:
        os.write(self.fileno(), struct.pack("!i", len(data)) + data[: len(data) // 2])
        if lethal:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    Connection._send_bytes = write  # type: ignore[attr-defined]


def square_of_whole(number: int) -> int:
    """Square a number; of one the result is half written."""
    if number == 3:
        half_write(lethal=True)
    return number * number
