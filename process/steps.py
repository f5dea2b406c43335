"""What is done between a survey and an output: plan, decode, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from process.errors import ProcessError
from process.flush import Aside
from process.garbage import settle
from process.ledger import Ledger
from process.memory import taken_by
from process.output import Format, link, sync
from process.pipeline import Progress, Told
from process.pool import Workers
from process.prepare import Prepared, plan_work
from process.rerun import succeeded
from process.schema import show_files
from process.surveying import Surveyed
from process.tables import Decoded, Tables, account, count_processes, each_table, tables
from process.work import Work

_MUCH = 1 << 23
"""Bytes of changes of descriptors. Plans of more take eight times as much to make: meanwhile workers hold nothing."""


@dataclass(frozen=True)
class Output:
    """What was made.

    Attributes:
        path: Where it is.
        rows: Of it.
        processes: Distinct processes.
        errors: Calls that failed.
        ledger: All counts, losses among them.
    """

    path: Path
    rows: int
    processes: int
    errors: int
    ledger: Ledger


def make(
    work: Work, surveyed: Surveyed, folder: Path, format_: Format, workers: Workers, columns: Sequence[str],
    progress: Progress, *, keeps: bool, told: Callable[[], Told],
) -> Output:  # fmt: skip
    """Make an output, which is then to be published.

    Args:
        work: What there is to do.
        surveyed: What came of its survey, with files if any column may show one.
        folder: Takes the output, and what it is put together of.
        format_: What it is.
        workers: Who does it.
        columns: Of the output.
        progress: Is told how far it is.
        keeps: Whether what workers make is kept for other runs.
        told: Gives what footers of Parquet tell; asked once, and for no other output.

    Raises:
        ProcessError: Nothing can be decoded, or the output cannot be written.
        OSError: Likewise.
    """
    files = show_files(columns)
    is_much = sum(survey.effect.scan.changes.nbytes for survey in surveyed.surveys) > _MUCH
    room = 0 if workers.apart or is_much else taken_by(max(survey.events for survey in surveyed.surveys))
    if is_much:  # before anything that one of them would be at when the other rests twice
        workers.rest()
    workers.load(f"process.write_{format_.value}", room)
    write = partial(_write_parquet, told=told) if format_ is Format.PARQUET else _write_sqlite
    prepared = plan_work(work, surveyed, history=files)
    if files and not keeps:  # what is kept must not depend on all of the capture
        prepared = prepared.with_pieces()
    settle(workers.apart)
    progress.begin(sum(plan.rows for plan in prepared.plans))
    path, decoded, made = write(prepared, folder, workers, columns, progress.decoded)
    rows, errors = sum(tally.rows for _, tally in decoded), sum(tally.errors for _, tally in decoded)
    return Output(path, rows, count_processes(made), errors, prepared.ledger)


def _write_parquet(
    prepared: Prepared, workshop: Path, workers: Workers, columns: Sequence[str], advance: Callable[[int], object], *,
    told: Callable[[], Told],
) -> tuple[Path, Decoded, Tables]:  # fmt: skip
    """Each worker decodes a batch and writes its part."""
    from process.write_parquet import write_part, write_tables

    folder = workshop / "dataset"
    folder.mkdir()
    decoded: Decoded = []
    of_rows, of_files = told()
    work = partial(write_part, folder=folder, columns=columns, events=prepared.room.events, told=of_rows)
    with Aside() as aside:
        for plan, (tally, part) in succeeded(work, prepared, workers):
            if part.parent != folder:
                part = link(part, folder / f"part-{plan.label}.parquet")
            aside.do(sync, part)
            decoded.append((plan, tally))
            advance(tally.rows)
        _finish(prepared, decoded, workers)
        small = each_table(prepared, decoded, workers if show_files(columns) else None)
        made = write_tables(folder, small, workers, aside, of_files)
        workers.dismiss()
        aside.end()
    return folder, decoded, made


def _write_sqlite(
    prepared: Prepared, workshop: Path, workers: Workers, columns: Sequence[str], advance: Callable[[int], object]
) -> tuple[Path, Decoded, Tables]:
    """Each worker decodes a batch into a database of its own; this process puts them together, in order."""
    from process.write_sqlite import SqliteWriter, write_rows

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
        workers.dismiss()
    return path, decoded, made


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
