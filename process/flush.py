"""Has files put on the disk while others are made, or one still grows: at the end there is little left to wait for."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread

from process.output import sync, unwritable


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


class Flushes:
    """Files that are whole, put on the disk one after the other, by a thread; a context manager that waits for it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._thread = ThreadPoolExecutor(1)
        self._under_way: list[tuple[Path, Future[None]]] = []

    def __enter__(self) -> Flushes:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, path: Path) -> None:
        """Take a file."""
        self._under_way.append((path, self._thread.submit(sync, path)))

    def end(self) -> None:
        """Wait until all of them are there.

        Raises:
            ProcessError: One of them cannot be written.
        """
        for path, one in self._under_way:
            try:
                one.result()
            except OSError as error:
                raise unwritable(path, error) from None
        self._under_way.clear()
