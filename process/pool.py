"""Runs one function over many items, in processes, and survives those that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Generic, TypeVar

from capture.segment import SegmentError
from process.errors import ProcessError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """What went wrong with one item, as a line."""

    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """An item and what came of it."""

    item: Item
    result: Result | Failure


def run(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Outcome[Item, Result]]:
    """Yield each item's outcome, in the items' order.

    With one job all runs in this process, one item at a time as outcomes are asked for. Otherwise workers are a
    little ahead of the caller, and no further. A worker that dies takes only its own item with it: what the others
    had in hand is run again, each item in a worker of its own, which finds the one that kills.

    Args:
        function: At the top level of a module. What it raises becomes a `Failure`, but
            ProcessError, which ends the run.
        items: What to call it with; they are sent to the workers.
        jobs: Workers.
    """
    if jobs == 1:
        for item in items:
            yield Outcome(item, _guarded(function, item))
        return
    rest = deque(items)
    window: deque[tuple[Item, Future[Result | Failure]]] = deque()
    pool = _pool(jobs)
    try:
        while rest or window:
            try:
                while rest and len(window) <= jobs:
                    window.append((rest[0], pool.submit(_guarded, function, rest[0])))
                    rest.popleft()
                item, future = window[0]
                result = future.result()
                window.popleft()
            except BrokenProcessPool:
                pool.shutdown()
                suspects = [(item, future) for item, future in window]
                window.clear()
                for item, future in suspects:
                    yield Outcome(item, _settled(future) or _alone(function, item))
                pool = _pool(jobs)
                continue
            yield Outcome(item, result)
    finally:
        pool.shutdown(cancel_futures=True)


def _settled(future: Future[Result | Failure]) -> Result | Failure | None:
    """The result of a call that was done before the pool broke."""
    return future.result() if future.done() and future.exception() is None else None


def _alone(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    """Run one item in a fresh worker."""
    with _pool(1) as pool:
        try:
            return pool.submit(_guarded, function, item).result()
        except BrokenProcessPool:
            return Failure("the worker that decoded it was killed (out of memory?); try fewer jobs (-j)")


def _guarded(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    """Call a function; what bad input raises is a result."""
    try:
        return function(item)
    except ProcessError:
        raise
    except SegmentError as error:
        return Failure(str(error))
    except OSError as error:
        return Failure(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError:
        return Failure("out of memory; try fewer jobs (-j)")
    except Exception as error:  # hostile input must not take the sound segments with it
        return Failure(f"internal error, please report it: {type(error).__name__}: {' '.join(str(error).split())}")


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Workers that are spawned, since Polars does not survive a fork, each with one thread of Polars."""
    os.environ["POLARS_MAX_THREADS"] = "1"  # read by Polars when a worker imports it
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
