"""Ctrl-C and SIGTERM: they raise KeyboardInterrupt where that does no harm, and are held back where it would."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM)


def obey() -> None:
    """Have SIGTERM end a command as Ctrl-C does, so that nothing half-made stays behind."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def ignore() -> None:
    """From here on nothing stops this process: what it came for is done, or is being cleared away."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals back until the end of the block; they are raised then.

    A process that is started within begins with both blocked (`begin_worker`), so that Ctrl-C, which reaches all
    processes of a terminal, does not find it before it has said what it makes of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in STOPS]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in zip(STOPS, before, strict=True):
            signal.signal(number, handler or signal.SIG_DFL)
    for stopped in came:
        signal.raise_signal(stopped)


@contextmanager
def mask_kept() -> Iterator[None]:
    """Block the same signals after the block as before it: what starts multiprocessing's tracker unblocks some."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def begin_worker() -> None:
    """Leave Ctrl-C to the parent; SIGTERM ends a worker at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
