"""Blocks of events, inflated by a thread while those before them are looked at: for queries, which have one process.

Inflating is a third of a query's time, and needs no lock of the interpreter. Workers do without: each has a processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache, partial

from process.events import EventBlock, Ready, Stretch, Unpacked

_AHEAD = 3
"""Blocks at a time: a few hundred KB each."""

Unpacking = Callable[[], Unpacked | Ready]
"""Gives a block's events, or raises SegmentError if its payload does not unpack."""


def unpacking(blocks: Iterable[tuple[EventBlock | Stretch, int]], is_ahead: bool) -> Iterator[Unpacking]:
    """For each block what gives its first events; those of the next ones are being made then.

    Args:
        blocks: They, each with how many of its events are wanted.
        is_ahead: Whether a thread is to make them; otherwise they are made when they are asked for.
    """
    if not is_ahead:
        for block, count in blocks:
            yield partial(block.unpacked, count)
        return
    begun: deque[Unpacking] = deque()
    for block, count in blocks:
        begun.append(_thread().submit(_unpacked, block, count).result)
        if len(begun) >= _AHEAD:
            yield begun.popleft()
    yield from begun


def _unpacked(block: EventBlock | Stretch, count: int) -> Unpacked | Ready:
    """The first events of a block."""
    return block.unpacked(count)


@cache
def _thread() -> Executor:
    """One for all queries of a process: it inflates faster than they can look."""
    return ThreadPoolExecutor(1, "sysreel-inflate")
