"""What several sources make, in order, two of them at work at a time: for queries, which have one process.

Each thread reads, inflates and looks by itself. Where one inflated for the other, each block went from one processor to
the other, and a query now and then took half again as long.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from process.garbage import collecting_rarely
from process.text import processors

Item = TypeVar("Item")
Made = TypeVar("Made")

THREADS = 2
"""The interpreter's lock leaves nothing for more to do."""
_MOST = 1 << 24
"""Bytes that a source makes before they are asked for, and what it has in hand."""

ending = threading.Event()
"""Set once the interpreter ends."""


class _AtWork:
    """Counts who must not be in the middle of something when the interpreter ends."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, timeout)


at_work = _AtWork()


@atexit.register
def _end() -> None:
    """Let sources end before the interpreter does.

    A query that has its rows (`head`) leaves its source at work in a thread of Polars, and the interpreter's end would
    then abort the process (Polars 2.1, Python 3.11: "FATAL: exception not rethrown").
    """
    ending.set()
    at_work.wait(10.0)


def side_by_side(
    make: Callable[[Item], Iterator[Made]], items: Sequence[Item], size: Callable[[Made], int]
) -> Iterator[Made]:
    """All that is made of items, one after the other; the next one begins before its turn.

    Args:
        make: Begins to make things of an item, in a thread of its own if there are several.
        items: They.
        size: The bytes of a thing.

    Raises:
        Exception: Whatever ``make`` raises, in its item's turn.
    """
    if len(items) == 1 or processors() == 1:
        for item in items:
            yield from make(item)
        return
    each = (_Source(partial(make, item), size) for item in items)
    begun = deque(islice(each, THREADS))
    try:
        while begun:
            yield from begun[0].made()
            begun.popleft()
            begun.extend(islice(each, 1))
    finally:
        for source in begun:
            source.stop()


class _Source(Generic[Made]):
    """One at work; what it has made waits to be asked for."""

    def __init__(self, make: Callable[[], Iterator[Made]], size: Callable[[Made], int]) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Made, int]] = deque()
        self._held, self._is_done = 0, False
        self._error: BaseException | None = None
        threading.Thread(target=self._work, args=(make,), name="sysreel-query", daemon=True).start()

    def made(self) -> Iterator[Made]:
        """What it makes, in order."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_done)
                if not self._waiting:
                    break
                one, size = self._waiting.popleft()
                self._held -= size
                self._changed.notify_all()
            yield one
            del one  # while the next one is made
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Nobody asks any more."""
        with self._changed:
            self._is_done = True
            self._changed.notify_all()

    def _work(self, make: Callable[[], Iterator[Made]]) -> None:
        try:
            each = make()
            while self._is_wanted():
                with at_work, collecting_rarely:
                    one = next(each, None)
                if one is None:
                    break
                size = self._size(one)
                with self._changed:
                    self._waiting.append((one, size))
                    self._held += size
                    self._changed.notify_all()
                del one  # it is another's now
        except BaseException as error:
            self._error = error
        self.stop()

    def _is_wanted(self) -> bool:
        """Whether to make more, once there is room for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_done or self._held < _MOST)
            return not self._is_done and not ending.is_set()
