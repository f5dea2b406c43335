"""The whole way from segments to an output: prepare, decode in parallel, write in order, publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from process.columns import show_files
from process.errors import ProcessError
from process.fd_records import shelve
from process.garbage import give_back
from process.ledger import Ledger
from process.memory import peak
from process.output import Format, check, publish, settle, workshop
from process.pool import Workers
from process.prepare import Prepared, prepare
from process.rerun import succeeded
from process.resume import Resumed, Resuming, link, may_replace
from process.schema import SCHEMA
from process.tables import Decoded, account, count_processes, processes, tables
from process.write_parquet import write_part, write_tables
from process.write_sqlite import SqliteWriter, write_rows


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
    columns: Sequence[str] = tuple(SCHEMA),
    memory: int | None = None,
    progress: Progress = Progress(),
) -> Summary:
    """Decode segments into an output, which appears whole or not at all.

    Args:
        paths: Files and folders of segments.
        out: The output.
        format_: What it is.
        jobs: Worker processes; 1 is this process. More need a main module that can be imported (``spawn``), and so
            does ``memory``.
        strict: Leave no output if anything is missing from it.
        force: Replace an output that exists.
        resume: Take over what earlier runs have made for this output, and keep what this one makes.
        columns: Of the output, as `schema.chosen` gives them.
        memory: Bytes that all processes may take together; None: what they need.
        progress: Is told how far it is.

    Raises:
        ProcessError: Nothing can be decoded, or the output cannot be written.
    """
    began = time.monotonic()
    replaces = force or (resume and may_replace(out))
    check(out, format_, replaces, paths)
    write = _write_parquet if format_ is Format.PARQUET else _write_sqlite
    try:
        with workshop(out) as folder, _workers(jobs, out, format_, columns, resume) as workers:  # they end first
            files = show_files(columns)
            prepared = prepare(paths, workers, progress.surveyed, files=files, history=files, memory=memory)
            if files and not resume:  # what is kept must not depend on so much
                prepared = prepared.with_pieces()
            if prepared.folder.path is not None:
                shelve([survey.effect.scan for survey in prepared.surveys], prepared.folder.path)
            give_back()
            progress.begin(sum(plan.rows for plan in prepared.plans))
            made, decoded = write(prepared, folder, workers, columns, progress.decoded)
            size = _size(made)
            if strict and prepared.ledger.lossy:
                return _summary(None, 0, prepared, decoded, began, workers)
            settle(made)
            progress.whole()
            if isinstance(workers, Resuming):
                workers.announce(made)
            publish(made, out, folder, force=replaces)
            if isinstance(workers, Resuming):
                workers.settle(out)
    except OSError as error:
        raise ProcessError(f"{out}: cannot be written: {error.strerror or error}; nothing is left of it") from None
    return _summary(out, size, prepared, decoded, began, workers)


def _workers(jobs: int, out: Path, format_: Format, columns: Sequence[str], resume: bool) -> Workers:
    return Resuming(jobs, out, {"format": format_.value, "columns": list(columns)}) if resume else Workers(jobs)


def _write_parquet(
    prepared: Prepared, workshop: Path, workers: Workers, columns: Sequence[str], advance: Callable[[int], object]
) -> tuple[Path, Decoded]:
    """Each worker decodes a batch and writes its part."""
    folder = workshop / "dataset"
    folder.mkdir()
    decoded: Decoded = []
    work = partial(write_part, folder=folder, columns=columns, events=prepared.room.events)
    for plan, (tally, part) in succeeded(work, prepared, workers):
        if part.parent != folder:
            link(part, folder / f"part-{plan.label}.parquet")
        decoded.append((plan, tally))
        advance(tally.rows)
    _finish(prepared, decoded, workers)
    write_tables(folder, tables(prepared, decoded, workers if show_files(columns) else None), workers)
    workers.end()
    return folder, decoded


def _write_sqlite(
    prepared: Prepared, workshop: Path, workers: Workers, columns: Sequence[str], advance: Callable[[int], object]
) -> tuple[Path, Decoded]:
    """Each worker decodes a batch into a database of its own; this process puts them together, in order."""
    path, decoded = workshop / "database", Decoded()
    with closing(SqliteWriter(path, columns)) as writer:
        work = partial(write_rows, folder=workshop, columns=columns, events=prepared.room.events)
        for plan, (tally, part) in succeeded(work, prepared, workers):
            writer.append(part)
            decoded.append((plan, tally))
            advance(tally.rows)
        _finish(prepared, decoded, workers)
        made = tables(prepared, decoded, workers if show_files(columns) else None)
        writer.finish(made, workers)
        workers.end()
    return path, decoded


def _finish(prepared: Prepared, decoded: Decoded, workers: Workers) -> None:
    """Complete the ledger; below a limit the small tables get other workers, which hold nothing yet.

    Raises:
        ProcessError: There were segments, and none could be decoded.
    """
    if workers.apart:
        workers.end()
    decoded.sort(key=lambda one: one[0].first_id)
    account(decoded, prepared.ledger)
    if not decoded:
        raise ProcessError("; ".join(note for _, note in prepared.ledger.notes()))


def _size(made: Path) -> int:
    return sum(path.stat().st_size for path in ([made] if made.is_file() else made.iterdir()))


def _summary(
    out: Path | None, size: int, prepared: Prepared, decoded: Decoded, began: float, workers: Workers
) -> Summary:
    rows = sum(tally.rows for _, tally in decoded)
    errors = sum(tally.errors for _, tally in decoded)
    processes_ = count_processes(processes(prepared, decoded))
    seconds, memory = time.monotonic() - began, max(workers.memory, peak())
    resumed = workers.resumed() if isinstance(workers, Resuming) else None
    return Summary(out, size, rows, processes_, errors, seconds, memory, prepared.ledger, resumed)
