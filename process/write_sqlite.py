"""Step six, as SQLite: one wide table, the views of the logger that it replaces, and the small tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import adbc_driver_sqlite.dbapi as adbc
import polars as pl

from process.decode import Decoder
from process.output import unwritable
from process.plan import Plan
from process.schema import ARGS, SCHEMA, TEXT_COLUMNS
from process.tally import Tally

TABLE: Final = "syscalls"
_ARGUMENTS = ", ".join(f"arg{k}, arg{k}_repr" for k in range(ARGS))
_VIEWS = (
    f"CREATE VIEW event AS SELECT id, 'syscall' AS type, procname, proc_id FROM {TABLE}",
    f"CREATE VIEW syscall AS SELECT id, name, retno, retno_repr, {_ARGUMENTS} FROM {TABLE}",
)


class SqliteWriter:
    """Writes a new database. One writer: rows are given in order."""

    def __init__(self, path: Path) -> None:
        """Create the table and open it for rows.

        Nobody else sees the file before it is whole, so it needs no journal.

        Raises:
            ProcessError: The file cannot be written.
        """
        self._path = path
        columns = ", ".join(
            f"{name} {'INTEGER' if dtype == pl.Int64 else 'TEXT'}{' PRIMARY KEY' * (name == 'id')}"
            for name, dtype in SCHEMA.items()
        )
        self._execute(f"CREATE TABLE {TABLE} ({columns})", *_VIEWS)
        self._connection = adbc.connect(str(path.absolute()), autocommit=True)
        self._cursor = self._connection.cursor()
        for setting in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "cache_size = -65536",
            "locking_mode = EXCLUSIVE",
        ):
            self._cursor.execute(f"PRAGMA {setting}")

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows.

        Raises:
            ProcessError: The disk is full.
        """
        try:
            self._cursor.adbc_ingest(TABLE, frame, mode="append")
        except adbc.Error as error:
            raise unwritable(self._path, error) from None

    def finish(self, tables: dict[str, tuple[Sequence[str], list[tuple[Any, ...]]]]) -> None:
        """Write the small tables and close.

        Raises:
            ProcessError: The disk is full.
        """
        self.close()
        for name, (columns, rows) in tables.items():
            typed = ", ".join(f"{column} {'TEXT' if column in TEXT_COLUMNS else 'INTEGER'}" for column in columns)
            holes = ", ".join("?" * len(columns))
            self._execute(f"CREATE TABLE {name} ({typed})", (f"INSERT INTO {name} VALUES ({holes})", rows))

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._cursor.close()
        self._connection.close()

    def _execute(self, *statements: str | tuple[str, list[tuple[Any, ...]]]) -> None:
        try:
            with sqlite3.connect(self._path) as connection:
                for statement in statements:
                    if isinstance(statement, str):
                        connection.execute(statement)
                    else:
                        connection.executemany(*statement)
            connection.close()
        except sqlite3.Error as error:
            raise unwritable(self._path, error) from None


def spill(plan: Plan, folder: Path) -> tuple[Tally, list[Path]]:
    """Decode a batch into Arrow files, which `unspill` gives back. Runs in a worker.

    Raises:
        SegmentError: The segment is not what it was when it was surveyed.
        OSError: It cannot be read.
        ProcessError: The folder cannot be written.
    """
    decoder = Decoder(plan)
    paths = []
    for number, frame in enumerate(decoder.frames()):
        path = folder / f"{plan.label}-{number:05d}.arrow"
        try:
            frame.write_ipc(path)  # not compressed: read once, at once
        except Exception as error:
            raise unwritable(path, error) from None
        paths.append(path)
    return decoder.tally, paths


def unspill(paths: list[Path]) -> Iterator[pl.DataFrame]:
    """The frames of `spill`, each removed once it has been read."""
    for path in paths:
        frame = pl.read_ipc(path)
        path.unlink()
        yield frame
