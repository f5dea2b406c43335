"""Has a file put on the disk while it still grows, so that at its end there is little left to wait for."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

from process.output import sync


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
