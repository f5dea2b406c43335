"""Runs functions over many items, in processes, and survives those that die."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from capture.segment import SegmentError
from process.backstop import Backstop, confine
from process.errors import ProcessError
from process.forking import may_fork
from process.garbage import BLOCK, Spare, collect_rarely, give_back, keep_freed, take
from process.memory import peak
from process.stopping import begin_worker, held, mask_kept
from process.text import processors

if TYPE_CHECKING:
    from process.resume import Resumed

_PIPE = 1 << 20
"""Bytes of a pipe to or from workers: as much as Linux allows anybody."""
_PATIENCE = 1.0
"""Seconds after which somebody looks whether a worker has died from whom a result is awaited."""
_TURN = 0.1
"""Seconds in which another worker takes the next call, although this process is busy sending it."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """What went wrong with one item.

    Attributes:
        reason: As a line.
        starved: Whether it was memory that there was not.
    """

    reason: str
    starved: bool = False


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """An item and what came of it."""

    item: Item
    result: Result | Failure


class Workers:
    """Worker processes, started when they are first needed, or beforehand; a context manager that ends them.

    Attributes:
        jobs: How many; with 1, all runs in this process.
        apart: Whether even one has a process of its own, whose memory is free when it ends.
        backstop: Where one is stopped that takes memory without end; None: nowhere. Of those that are yet to start.
        memory: Bytes that this process and they held at the most while there were any.
        threads: How many share what runs in this process.
        meanwhile: Called once, as soon as there is something that workers do; with one job, before it is done.
    """

    def __init__(self, jobs: int, *, threads: int = 1) -> None:
        self.jobs, self.apart, self.memory, self.threads = jobs, False, 0, threads
        self.backstop: Backstop | None = None
        self.meanwhile: Callable[[], object] | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._leaving: threading.Thread | None = None
        self._steps: Iterator[Callable[[], None]] = iter(())
        """What workers are still to do to get ready."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        with held():  # a second signal waits until the workers have ended
            if raised is not None and self._pool is not None and self._leaving is None:
                _kill(self._pool)
            self.end()

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Outcome[Item, Result]]:
        """Yield each item's outcome, in the items' order.

        A single item, or any with one job, runs in this process when its outcome is asked for, unless they are to
        be ``apart``. Otherwise workers are a little ahead of the caller, and no further. A worker that dies takes only
        its own item with it: what the others had in hand is run again, each item in a worker of its own, which finds
        the one that kills. So is an item for which a worker had too little memory beside others.

        Args:
            function: At the top level of a module. What it raises becomes a `Failure`, but for ProcessError,
                which ends the run.
            items: What to call it with; they are sent to the workers.
        """
        if self._is_here(len(items)):
            self._while_busy()
            if self.threads > 1 and len(items) > 1:
                yield from self._in_threads(function, items)
                return
            for item in items:
                yield Outcome(item, _guarded(function, item, self.apart))
            return
        self._steps = iter(())  # there is something better to do
        rest = deque(items)
        window: deque[tuple[Item, Future[Result | Failure]]] = deque()
        while rest or window:
            try:
                while rest and len(window) < 2 * self.jobs:  # whoever is done finds the next one there
                    with held():
                        window.append((rest[0], self._begin().submit(_guarded, function, rest[0], self.apart)))
                    rest.popleft()
                self._while_busy()
                result = _result(self._pool, window[0][1])
            except BrokenProcessPool:
                self.end()
                for item, future in window:
                    done = future.done() and future.exception() is None
                    yield Outcome(item, future.result() if done else self._alone(function, item))
                window.clear()
            else:
                item, _ = window.popleft()
                if isinstance(result, Failure) and result.starved and self.backstop is not None:
                    result = self._alone(function, item)
                yield Outcome(item, result)

    def _in_threads(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Outcome[Item, Result]]:
        """As `run`, in threads of this process."""
        pool = futures.ThreadPoolExecutor(self.threads)
        try:
            made = pool.map(partial(_guarded, function, is_limited=False), items)
            for item, result in zip(items, made, strict=True):
                yield Outcome(item, result)
        finally:
            pool.shutdown(cancel_futures=True)

    def _while_busy(self) -> None:
        call, self.meanwhile = self.meanwhile, None
        if call is not None:
            call()

    def anew(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Outcome[Item, Result]]:
        """As `run`; nothing is taken over from earlier runs."""
        return Workers.run(self, function, items)

    def ahead(self, function: Callable[[Item], Result], item: Item) -> Callable[[], Result]:
        """Begin a call now if there are workers; what is returned gives what comes of it, and else makes it itself."""
        if self._pool is None or self._leaving is not None:
            return partial(function, item)
        begun: Future[Result] | None = None
        with held(), suppress(BrokenProcessPool):
            begun = self._pool.submit(function, item)

        def result() -> Result:
            with suppress(BrokenProcessPool, CancelledError):
                if begun is not None:
                    return _result(self._pool, begun)
            return function(item)

        return result

    def announce(self, made: Path) -> None:
        """The output is whole, and about to get its name."""

    def settle(self, out: Path) -> None:
        """The output has its name."""

    def resumed(self) -> Resumed | None:
        """What earlier runs had done; None if nobody asked."""
        return None

    def _begin(self) -> ProcessPoolExecutor:
        if self._leaving is not None:
            self.end()
        if self._pool is None:
            self._pool = _pool(self.jobs, self.backstop.beside if self.backstop else None)
        return self._pool

    def begin(self, module: str, items: int) -> None:
        """Start workers for so many items now, with a module that they will need, while this process does other things.

        Does nothing if `run` would do without them.
        """
        if self._is_here(items):
            return
        if may_fork():  # they need not import it, each for itself
            import_module(module)
        with held(), suppress(BrokenProcessPool):  # one that is killed is another's task: see `run`
            pool = self._begin()
            for _ in range(min(self.jobs, items)):
                pool.submit(_import, module)

    def load(self, module: str, room: int = 0) -> None:
        """Have workers that have nothing to do get ready; no more at a time than leave this process a processor.

        Whoever is done waits behind those that have waited before, so that steps go round. Those that have not begun
        when there is something to `run` are left out: to take memory may last longer than there is time for it.

        Args:
            module: What they import.
            room: Bytes that they will need, and take beforehand (`garbage.take`).
        """
        steps = [partial(_import, module), *(partial(_have, size) for size in range(BLOCK, room + 1, BLOCK))]
        self._steps = iter([step for step in steps for _ in range(self.jobs)])

        def send(done: Future[None] | None = None) -> None:
            pool = self._pool if self._leaving is None else None
            if pool is None or (done is not None and (done.cancelled() or done.exception() is not None)):
                return
            step = next(self._steps, None)
            if step is not None:
                with suppress(RuntimeError):  # they have ended, or are about to
                    pool.submit(step).add_done_callback(send)

        for _ in range(max(1, processors() - 1)):
            with held():
                send()

    def rest(self) -> None:
        """Have workers that have nothing to do for a while give back the memory that they keep."""
        for _ in range(self.jobs):
            self.ahead(_rest, None)

    def _is_here(self, items: int) -> bool:
        """Whether so many items run in this process."""
        return not self.apart and (self.jobs == 1 or items <= 1)

    def dismiss(self) -> None:
        """Have idle ones end while this process does something else: it takes them some hundredths of a second."""
        if self._pool is not None and self._leaving is None:
            self._leaving = threading.Thread(target=self._pool.shutdown)
            self._leaving.start()

    def end(self) -> None:
        """End them; they are started again if anything else is to be run."""
        if self._leaving is not None:
            self._leaving.join()
            self._leaving = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self.memory = max(self.memory, peak(self.jobs))

    def _alone(self, function: Callable[[Item], Result], item: Item) -> Result | Failure:
        """Run one item in a fresh worker."""
        with _pool(1, self.backstop.alone if self.backstop else None) as pool:
            try:
                with held():
                    future = pool.submit(_guarded, function, item, True)
                return _result(pool, future)
            except BrokenProcessPool:
                return Failure("the worker that decoded it was killed (out of memory?); try fewer jobs (-j)")
            except BaseException:
                _kill(pool)
                raise


def _import(module: str) -> None:
    """Import a module, which is not sent back: it cannot be."""
    import_module(module)


def _have(room: int) -> None:
    """Have so many bytes at hand."""
    keep_freed()
    take(room)


def _rest(_: None) -> None:
    """Give back all that is kept, and leave the next such call to another worker."""
    give_back()
    time.sleep(_TURN)


def _result(pool: ProcessPoolExecutor | None, future: Future[Result]) -> Result:
    """What a call gives, of a pool that may have ended.

    Raises:
        BrokenProcessPool: A worker has died. The pool finds out by itself, unless it has died while it wrote a result:
            then the pool waits for what is left of that, and the other workers wait until they may write.
    """
    while True:
        try:
            return future.result(_PATIENCE)
        except futures.TimeoutError:
            if pool is not None and any(worker.exitcode is not None for worker in _workers(pool)):
                _kill(pool)


def _kill(pool: ProcessPoolExecutor) -> None:
    """Kill workers, which would finish what they have in hand before they end.

    Who reads their results waits for all of one that is half written, for as long as anybody may write: this process,
    too.
    """
    for worker in _workers(pool):
        worker.kill()
    pipe = _writer(pool, "_result_queue")
    if pipe is not None:
        pipe.close()


def _workers(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    """Its processes; none if it has ended."""
    return list((pool._processes or {}).values())


def _writer(pool: ProcessPoolExecutor, queue: str) -> Any:
    """This process's end of a pipe between it and workers: what others call private may be gone one day, then None."""
    return getattr(getattr(pool, queue, None), "_writer", None)


_spare = Spare()


def _guarded(function: Callable[[Item], Result], item: Item, is_limited: bool) -> Result | Failure:
    """Call a function; what bad input raises is a result. Below a limit no memory is kept for the next call."""
    if not is_limited:
        _spare.begin(function.func if isinstance(function, partial) else function)
    try:
        return function(item)
    except ProcessError:
        raise
    except SegmentError as error:
        return Failure(str(error))
    except OSError as error:
        return Failure(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError:
        return Failure("out of memory; try fewer jobs (-j)", starved=True)
    except Exception as error:  # hostile input must not take the sound segments with it
        return Failure(f"internal error, please report it: {type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        if is_limited:
            give_back()
        else:
            _spare.settle()


def _pool(jobs: int, limit: int | None) -> ProcessPoolExecutor:
    """Workers, each with one thread of Polars, which few need.

    They are copies of this process, and there at once, if it has no threads yet and holds little; Polars starts some
    when it is imported, the pool itself one. Otherwise they are spawned, and import all that they need.

    Args:
        jobs: How many.
        limit: Bytes that each may take beyond what it begins with; None for any.
    """
    os.environ["POLARS_MAX_THREADS"] = "1"  # read by Polars when a worker imports it
    method = "fork" if may_fork() else "spawn"
    if method == "spawn":
        with mask_kept():  # workers must begin with what `held` has blocked
            resource_tracker.ensure_running()
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(limit,))
    _widen(pool)
    return pool


def _widen(pool: ProcessPoolExecutor) -> None:
    """Have room for a whole survey or plan in the pipes: else who sends one waits until the other gets a processor."""
    for queue in ("_call_queue", "_result_queue"):
        pipe = _writer(pool, queue)
        if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # not so much is allowed
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _begin_worker(limit: int | None) -> None:
    """Leave Ctrl-C to the parent, do not outlive it, and take no more memory than there is."""
    begin_worker()
    collect_rarely()
    if limit is not None:
        confine(limit)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent.

    Nothing is done until then, not even now and then: the call at hand would have to hand over the interpreter's lock,
    and wait until this thread gets a processor to take it. Looking ten times a second cost up to 40 ms each time.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
