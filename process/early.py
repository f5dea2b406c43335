"""A call that a process of its own makes from the start on, while the command still loads what it is made of.

Only then is the command small, and without threads, so that a copy of it is there at once. What the call takes may be
loaded even before anybody knows whether it will be made (`expect`).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

from process.forking import may_fork
from process.stopping import begin_worker, held

Result = TypeVar("Result")


class _Early:
    """A process that makes one call.

    It ends with this process: by itself if nobody is left who could tell it the call, else as multiprocessing ends what
    is a daemon.
    """

    def __init__(self, module: str | None = None) -> None:
        """Start it, with a module to import until the call is told."""
        os.environ["POLARS_MAX_THREADS"] = "1"
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        with held():
            self._process = context.Process(target=_make, args=(there, self._here, module), daemon=True)
            self._process.start()
        there.close()

    def tell(self, call: Callable[[], object]) -> None:
        """Have it make a call, which can be pickled. What it gives is sent, and should be little."""
        with suppress(OSError):  # it was killed: `result` finds out
            self._here.send(call)

    def result(self) -> Any:
        """What the call has given; asked once.

        Raises:
            EOFError, OSError: It was killed, or the call has raised.
        """
        return self._here.recv()

    def end(self) -> None:
        """End the process, whatever it has done."""
        self._process.kill()
        self._process.join()
        self._here.close()


_expected: list[_Early] = []
"""The process that waits for a call, if there is one."""


def expect(module: str | None = None) -> None:
    """Start a process for a call that may come, with a module to load: `early` takes it, or ends it; else we end it."""
    if not _expected and may_fork():
        _expected.append(_Early(module))


@contextmanager
def early(call: Callable[[], Result], jobs: int, *, is_apart: bool = False) -> Iterator[Callable[[], Result]]:
    """Begin a call now, and end its process with the block.

    Args:
        call: What to do, at the top level of a module; it gives little, which is asked for once.
        jobs: Worker processes that there will be; with 1 the call is made in this process when it is asked for.
        is_apart: Whether even then this process is not to make it.

    Returns:
        A function that gives what comes of it, or makes the call itself if no other process can.
    """
    if jobs == 1 and not is_apart:
        forget()
    else:
        expect()
    if not _expected:
        yield call
        return
    begun = _expected.pop()

    def result() -> Result:
        """Made here if that process could not, or was killed."""
        try:
            return cast(Result, begun.result())
        except (EOFError, OSError):
            return call()
        finally:
            begun.end()

    try:
        begun.tell(call)
        yield result
    finally:
        begun.end()


def forget() -> None:
    """End the process that waits for a call, which will not come."""
    while _expected:
        _expected.pop().end()


def _make(here: Connection, there: Connection, module: str | None) -> None:
    """Make the call that comes; what it raises is for the command to find out, which makes it again."""
    begin_worker()
    there.close()  # so that its end is seen here
    with suppress(Exception):
        if module is not None:
            import_module(module)
        here.send(here.recv()())
