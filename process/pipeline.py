"""The whole way from segments to an output: prepare, decode in parallel, write in order, publish.

Importing this loads next to nothing. What is found out beside all else begins at once (`early`), workers as soon as
there is what a survey needs; what comes after it (`steps`) is imported while they are at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from process.early import early, forget
from process.errors import ProcessError
from process.garbage import keep_freed, take
from process.output import Format, check, publish, settle, workshop
from process.schema import FD_COLUMNS, SCHEMA, kinds, show_files

if TYPE_CHECKING:
    from process.ledger import Ledger
    from process.pool import Workers
    from process.resume import Resumed
    from process.steps import Output
    from process.work import Work


_MOST = 1 << 27
"""Bytes of memory to have ready for plans; where they need more, it is not what counts."""


@dataclass(frozen=True)
class Summary:
    """What a decode did.

    Attributes:
        out: The output; None if ``strict`` left none.
        size: Its bytes.
        rows: Of the output.
        processes: Distinct processes.
        errors: Calls that failed.
        seconds: It took.
        memory: Bytes that all processes held, at most.
        ledger: All counts, losses among them.
        resumed: What of it earlier runs had done; None if nobody asked.
    """

    out: Path | None
    size: int
    rows: int
    processes: int
    errors: int
    seconds: float
    memory: int
    ledger: Ledger
    resumed: Resumed | None = None


@dataclass(frozen=True)
class Progress:
    """What to call as work goes on; both phases count events."""

    surveyed: Callable[[int], object] = lambda _: None
    begin: Callable[[int], object] = lambda _: None
    """Called with the rows to come."""
    decoded: Callable[[int], object] = lambda _: None
    whole: Callable[[], object] = lambda: None
    """Called when the output is whole, before it gets its name: too late to be stopped."""


def decode(
    paths: Sequence[Path],
    out: Path,
    format_: Format,
    *,
    jobs: int = 1,
    strict: bool = False,
    force: bool = False,
    resume: bool = False,
    columns: Sequence[str] | None = None,
    memory: int | None = None,
    progress: Progress = Progress(),
) -> Summary:
    """Decode segments into an output, which appears whole or not at all.

    Args:
        paths: Files and folders of segments.
        out: The output.
        format_: What it is.
        jobs: Worker processes; 1 is this process. Where this one has threads, more need a main module that can be
            imported (``spawn``), and so does ``memory``.
        strict: Leave no output if anything is missing from it.
        force: Replace an output that exists.
        resume: Take over what earlier runs have made for this output, and keep what this one makes.
        columns: Of the output, as `schema.chosen` gives them; None: all.
        memory: Bytes that all processes may take together; None: what they need.
        progress: Is told how far it is.

    Raises:
        ProcessError: Nothing can be decoded, or the output cannot be written.
    """
    began = time.monotonic()
    replaces = force or (resume and _may_replace(out))
    wanted = tuple(SCHEMA) if columns is None else columns
    check(out, format_, replaces, paths)
    try:
        with (
            _telling(format_, wanted, jobs, is_apart=memory is not None) as told,
            workshop(out) as folder,
            _workers(jobs, out, format_, wanted, resume) as workers,  # they end first
        ):
            from process.work import divide

            work = divide(paths, workers, memory)
            if not resume:  # what is taken over takes no workers
                workers.begin("process.survey", len(work.batches))
            keep_freed()
            from process.surveying import survey_work

            workers.meanwhile = partial(_make_ready, work, workers, format_)
            surveyed = survey_work(work, workers, progress.surveyed, files=show_files(wanted))
            from process.steps import make

            made = make(work, surveyed, folder, format_, workers, wanted, progress, keeps=resume, told=told)
            size = _size(made.path)
            if strict and made.ledger.lossy:
                workers.end()  # whose memory counts
                return _summary(None, 0, made, began, workers)
            settle(made.path)
            progress.whole()
            workers.announce(made.path)
            publish(made.path, out, folder, force=replaces)
            workers.settle(out)
    except OSError as error:
        raise ProcessError(f"{out}: cannot be written: {error.strerror or error}; nothing is left of it") from None
    return _summary(out, size, made, began, workers)


Told = tuple[Mapping[str, str], Mapping[str, str]]
"""What footers of Parquet tell of the rows, and of the table `fd`."""


def _telling(
    format_: Format, columns: Sequence[str], jobs: int, *, is_apart: bool
) -> AbstractContextManager[Callable[[], Told]]:
    """Find it out from now on, if anybody will ask; gives what gives it."""
    tell = partial(_tell, columns)
    if format_ is Format.PARQUET:
        return early(tell, jobs, is_apart=is_apart)
    forget()
    return nullcontext(tell)


def _tell(columns: Sequence[str]) -> Told:
    """Find it out. It takes Polars, which takes a tenth of a second to load."""
    from process.polars_types import parquet_metadata

    return parquet_metadata({name: SCHEMA[name] for name in columns}), parquet_metadata(kinds(FD_COLUMNS))


def _make_ready(work: Work, workers: Workers, format_: Format) -> None:
    """While workers survey, load what comes after it, and take the memory that will be needed then.

    Plans need two thirds of what the segments' files have, and take a fifth less time if it is there already; the table
    `fd` needs the rest, for as much.
    """
    for module in ("process.steps", f"process.write_{format_.value}"):
        import_module(module)
    stored = sum(work.found.parts.sizes)
    if workers.jobs > 1 and not workers.apart and stored <= _MOST:
        take(stored)


def _may_replace(out: Path) -> bool:
    from process.resume import may_replace

    return may_replace(out)


def _workers(jobs: int, out: Path, format_: Format, columns: Sequence[str], resume: bool) -> Workers:
    if not resume:
        from process.pool import Workers

        return Workers(jobs)
    from process.resume import Resuming

    return Resuming(jobs, out, {"format": format_.value, "columns": list(columns)})


def _size(made: Path) -> int:
    return sum(path.stat().st_size for path in ([made] if made.is_file() else made.iterdir()))


def _summary(out: Path | None, size: int, made: Output, began: float, workers: Workers) -> Summary:
    from process.memory import peak

    seconds, memory = time.monotonic() - began, max(workers.memory, peak())
    return Summary(out, size, made.rows, made.processes, made.errors, seconds, memory, made.ledger, workers.resumed())
