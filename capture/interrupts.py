"""Signals that end a run: they stop the guest, and never disturb what seals the capture."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run."""


def stop_on_signals(panda: Any, stop: Callable[[], None]) -> None:
    """Have a guest stopped by the signals that end a run, from its start on; call it in the main thread.

    pandare's own handler calls Python out of the signal handler itself. The main thread may be anywhere then, also
    where it waits for the interpreter's lock: the emulator hangs for good (pandare 0.1.1.5; seen at a second signal).
    Here the handler writes a byte into a pipe, and a thread reads it.

    Args:
        panda: The ``pandare.Panda``, not running yet.
        stop: Called in that thread, at the first signal only.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        if os.read(reader, 1):
            stop()

    def install(*_: Any) -> None:
        for number in ENDING:
            signal.signal(number, _nothing)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    # run() calls it in this thread when the emulator has been set up, with its own handlers in place
    panda._setup_internal_signal_handler = install
    threading.Thread(target=watch, name="sysreel-signals", daemon=True).start()


def ignore_signals() -> None:
    """All is done: a signal that comes while the process ends has nothing to stop, and no status to change."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Python's part of a signal that the pipe has told of."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals that end a run wait until the block is done; in the main thread only.

    Handlers that are not Python's are PANDA's and stop the guest: it has ended, and the signal has done its work.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    before = {number: signal.signal(number, note) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if arrived and before[signal.Signals(arrived[-1])] is not None:
            signal.raise_signal(arrived[-1])
