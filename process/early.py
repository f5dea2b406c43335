"""A call that a process of its own makes from the start on, while the command still loads what it is made of.

Only then is the command small, and without threads, so that a copy of it is there at once.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from process.forking import may_fork
from process.stopping import begin_worker, held

Result = TypeVar("Result")


@contextmanager
def early(call: Callable[[], Result], jobs: int, *, is_apart: bool = False) -> Iterator[Callable[[], Result]]:
    """Begin a call now, and end its process with the block.

    Args:
        call: What to do; it gives little, which is asked for once.
        jobs: Worker processes that there will be; with 1 the call is made in this process when it is asked for.
        is_apart: Whether even then this process is not to make it.

    Returns:
        A function that gives what comes of it, or makes the call itself if no other process can.
    """
    if (jobs == 1 and not is_apart) or not may_fork():
        yield call
        return
    os.environ["POLARS_MAX_THREADS"] = "1"
    begun = _Early(call)
    try:
        yield begun.result
    finally:
        begun.end()


class _Early(Generic[Result]):
    """What is to come of a call."""

    def __init__(self, call: Callable[[], Result]) -> None:
        """Begin it. What it gives is sent, and should be little."""
        self._call = call
        context = multiprocessing.get_context("fork")
        self._made, made = context.Pipe(duplex=False)
        with held():
            self._process = context.Process(target=_make, args=(call, made))
            self._process.start()
        made.close()

    def result(self) -> Result:
        """What it gives; asked once. Made here if that process could not, or was killed."""
        try:
            result: Result = self._made.recv()
        except (EOFError, OSError):
            return self._call()
        finally:
            self.end()
        return result

    def end(self) -> None:
        """End the process, whatever it has done."""
        self._process.kill()
        self._process.join()
        self._made.close()


def _make(call: Callable[[], Result], made: Connection) -> None:
    """Make the call; what it raises is for the command to find out, which makes it again."""
    begin_worker()
    with suppress(Exception):
        made.send(call())
