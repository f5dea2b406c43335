"""A call that a process of its own makes from the start on, while the command still loads what it is made of.

Only then is the command small, and without threads, so that a copy of it is there at once.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from process.stopping import begin_worker, held

Result = TypeVar("Result")


class Early(Generic[Result]):
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
