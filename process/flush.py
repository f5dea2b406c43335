"""Has files put on the disk while other work goes on, so that at the end there is little left to wait for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import ParamSpec

from process.output import sync

Arguments = ParamSpec("Arguments")


class Flush:
    """What is in one file, put on the disk by a thread, which waits there for the disk."""

    def __init__(self, path: Path) -> None:
        """Begin with nothing."""
        self._path = path
        self._thread: Thread | None = None
        self._error: OSError | None = None

    def begin(self) -> None:
        """Begin with what is in the file now, unless what was there before is still under way.

        Raises:
            OSError: The disk has failed before.
        """
        if self._thread is None or not self._thread.is_alive():
            self.end()
            self._thread = Thread(target=self._run)
            self._thread.start()

    def end(self) -> None:
        """Wait for what is under way.

        Raises:
            OSError: The disk has failed; the kernel says so only once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            sync(self._path)
        except OSError as error:
            self._error = error


class Aside:
    """What mostly waits for the disk, done by a thread, one thing after the other; a context manager that ends it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._thread = ThreadPoolExecutor(1)
        self._begun: list[Future[None]] = []

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def do(self, function: Callable[Arguments, None], *given: Arguments.args, **named: Arguments.kwargs) -> None:
        """Call a function, sooner or later."""
        self._begun.append(self._thread.submit(function, *given, **named))

    def end(self) -> None:
        """Wait until all is done.

        Raises:
            Exception: What the first of the functions has raised that did.
        """
        for one in self._begun:
            one.result()
