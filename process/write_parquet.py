"""Step six, as Parquet: one part for each batch, and beside them the small tables as JSON, the table `fd` in pieces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from process.decode import Decoder
from process.fd_history import Sheet
from process.flush import Aside
from process.output import sync
from process.parquet import FILES, new_part
from process.plan import Plan
from process.pool import Failure, Workers
from process.schema import FD_COLUMNS, SCHEMA
from process.tables import Files, Table, Tables
from process.tally import Tally
from process.values import joined, split

PART_GLOB = "part-*.parquet"
FD_GLOB = "fd-*.pq"
"""Pieces of the table `fd`: Parquet, too, but of other columns, so that `*.parquet` is the rows alone."""
ROW_GROUP = 1 << 17
"""Rows of a row group: what a reader can skip by a column's minimum and maximum."""
_LINES = 1 << 16
"""Rows of a small table that are made into text at a time."""


def write_part(
    plan: Plan, folder: Path, columns: Sequence[str] = tuple(SCHEMA), events: int | None = None,
    told: Mapping[str, str] | None = None,
) -> tuple[Tally, Path]:  # fmt: skip
    """Decode a batch into its part of a dataset, ``events`` at a time.

    Runs in a worker, which is ``told`` the metadata of all parts.

    Raises:
        SegmentError: A segment is not what it was when it was surveyed.
        OSError: It cannot be read.
        ProcessError: The part cannot be written.
    """
    decoder = Decoder(plan, columns, events=events)
    path = folder / f"part-{plan.label}.parquet"
    with new_part(path, columns, told=told) as write:
        for made in decoder.columns():
            write(made)
            del made  # while the next slice is made
    return decoder.tally, path


def write_tables(
    folder: Path, tables: Iterable[tuple[str, Table | Files]], workers: Workers, aside: Aside,
    told: Mapping[str, str] | None = None,
) -> Tables:  # fmt: skip
    """Write each small table as NAME.json, a list of objects, one a line; workers write one in pieces, as Parquet.

    Args:
        folder: Of the dataset.
        tables: They, with their names, as they are made: those before are written meanwhile.
        workers: Make the pieces, and the others.
        aside: Puts all of them on the disk.
        told: The metadata of the pieces.

    Returns:
        They.

    Raises:
        OSError: The folder cannot be written.
        ProcessError: Likewise, or a worker failed.
    """
    written: Tables = {}
    for name, table in tables:
        written[name] = table
        if isinstance(table, Files):
            _write_pieces(table, workers, aside, partial(_write_piece, folder=folder, told=told))
        else:
            aside.do(workers.ahead(partial(_write_small, folder / f"{name}.json"), table))
    return written


def _write_small(path: Path, table: Table) -> None:
    """Write a small table.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("wb") as file:
        between = b"[\n"
        for some in _lines(table):
            file.write(between)
            file.write(some)
            between = b",\n"
        file.write(b"\n]\n" if between != b"[\n" else b"[]\n")
    sync(path)


def _lines(table: Table) -> Iterator[bytes]:
    """The rows of a table as text, some at a time."""
    encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
    names = tuple(table.columns)
    for start in range(0, len(table.rows), _LINES):
        some = (encode(dict(zip(names, row, strict=True))) for row in table.rows[start : start + _LINES])
        yield ",\n".join(some).encode()


Piece = tuple[int, list[Sheet]]
"""Its number, and what is in it."""


def _write_pieces(table: Files, workers: Workers, aside: Aside, write: Callable[[Piece], Path]) -> None:
    """Write a table that may be large; one without rows is a piece, too."""
    pieces: list[Piece] = [(0, [])]
    for sheet in table.sheets:
        if sum(one.count for one in pieces[-1][1]) + sheet.count > ROW_GROUP and pieces[-1][1]:
            pieces.append((len(pieces), []))
        pieces[-1][1].append(sheet)
    for outcome in workers.anew(write, pieces):
        aside.do(sync, write(outcome.item) if isinstance(outcome.result, Failure) else outcome.result)
        for sheet in outcome.item[1]:
            aside.do(sheet.forget)


def _write_piece(piece: Piece, folder: Path, told: Mapping[str, str] | None) -> Path:
    """Write some of a table's rows.

    Returns:
        The file.

    Raises:
        ProcessError: They cannot be written, or what was kept of them is gone.
    """
    number, sheets = piece
    path = folder / f"fd-{number:05d}.pq"
    with new_part(path, FD_COLUMNS, FILES, told) as write:
        if sheets:
            made, count = joined([sheet.columns() for sheet in sheets]), sum(sheet.count for sheet in sheets)
            for stretch in split(made, count, -(-count // ROW_GROUP)):
                write(stretch)
    return path
