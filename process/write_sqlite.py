"""Step six, as SQLite: one wide table, the views of the logger that it replaces, and the small tables."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from capture.segment import ABI_NUMBERS
from process.decode import Decoder
from process.fd_history import Sheet
from process.output import unwritable
from process.plan import Plan
from process.pool import Failure, Workers
from process.schema import ARGS, SCHEMA
from process.sqlite_pages import Joined, UnfitError
from process.tables import Files, Tables, frame_of
from process.tally import Tally

if TYPE_CHECKING:
    import adbc_driver_sqlite.dbapi as adbc
    import pyarrow as pa

TABLE: Final = "syscalls"
_ARGUMENTS = ", ".join(f"arg{k}, arg{k}_repr" for k in range(ARGS))
_VIEWS = {
    f"CREATE VIEW event AS SELECT id, 'syscall' AS type, procname, proc_id FROM {TABLE}": ("procname", "proc_id"),
    f"CREATE VIEW syscall AS SELECT id, name, retno, retno_repr, {_ARGUMENTS} FROM {TABLE}": (
        "name", "retno", "retno_repr", *_ARGUMENTS.split(", ")
    ),
}  # fmt: skip
"""The views, and the columns without which there is none."""
_COPIES: Final[Mapping[str, str]] = {"pid": "proc_id"}
"""Columns that always equal another one: SQLite reads them there, and they take no space."""
_SETTINGS = ("page_size = 8192", "journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE")
"""Nobody else sees a file before it is whole, so it needs no journal. Pages of 4096 bytes hold 2 % less."""


def write_rows(
    plan: Plan, folder: Path, columns: Sequence[str] = tuple(SCHEMA), events: int | None = None
) -> tuple[Tally, Path]:
    """Decode a batch, ``events`` at a time, into a database of its own, which `SqliteWriter.append` takes.

    Runs in a worker.

    Raises:
        SegmentError: The segment is not what it was when it was surveyed.
        OSError: It cannot be read.
        ProcessError: The folder cannot be written.
    """
    from process.arrow import record_batch  # pyarrow takes time and memory that only those have who write

    decoder = Decoder(plan, columns, events=events)
    path = folder / f"part-{plan.label}.sqlite"
    abi: str | None = None
    number = -1
    with _new(path) as cursor:
        for number, made in enumerate(decoder.columns()):
            batch = record_batch(made)
            mine = _only_abi(batch)
            if number == 0:
                abi = mine
                cursor.execute(_table(columns, abi))
            elif abi is not None and mine != abi:
                abi = None
                for statement in _store_abi(columns):
                    cursor.execute(statement)
            cursor.adbc_ingest(TABLE, batch.select(_stored(columns, abi)), mode="append")
    if number < 0:
        path.unlink(missing_ok=True)  # no rows, no file
    return decoder.tally, path


@contextmanager
def _new(path: Path) -> Iterator[adbc.Cursor]:
    """A new database, for as long as it is written.

    Raises:
        ProcessError: It cannot be written.
    """
    import adbc_driver_sqlite.dbapi as adbc  # imports pyarrow, which takes time and memory: only where rows are made

    try:
        path.unlink(missing_ok=True)  # a worker that was killed may have left it
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        with adbc.connect(str(path.absolute()), autocommit=True) as connection, connection.cursor() as cursor:
            for setting in _SETTINGS:
                cursor.execute(f"PRAGMA {setting}")
            yield cursor
    except adbc.NotSupportedError:  # what Ctrl-C becomes: ADBC asks the driver to cancel, and SQLite's cannot
        raise KeyboardInterrupt from None
    except adbc.Error as error:
        raise unwritable(path, error) from None


def _only_abi(batch: pa.RecordBatch) -> str | None:
    """The ABI of all rows, if it is asked for and they have but one, of a name that is known."""
    found = batch["abi"].dictionary.to_pylist() if "abi" in batch.schema.names else []  # every row has one
    return found[0] if len(found) == 1 and found[0] in ABI_NUMBERS else None


def _generated(columns: Sequence[str], abi: str | None = None) -> dict[str, str]:
    """What SQLite makes when it is read, and out of what; ``abi``: of all rows, if there is but one."""
    copies = {name: of for name, of in _COPIES.items() if name in columns and of in columns}
    return copies if abi is None else {**copies, "abi": f"'{abi}'"}


def _stored(columns: Sequence[str], abi: str | None = None) -> list[str]:
    """The columns that take space."""
    generated = _generated(columns, abi)
    return [name for name in columns if name not in generated]


def _table(columns: Sequence[str], abi: str | None = None) -> str:
    """SQL that makes the wide table. An ABI that all rows have is a part of the definition, and takes no space."""
    generated = _generated(columns, abi)
    typed = (
        f"{name} {'INTEGER' if SCHEMA[name] == pl.Int64 else 'TEXT'}{' PRIMARY KEY' * (name == 'id')}"
        + (f" GENERATED ALWAYS AS ({generated[name]}) VIRTUAL" if name in generated else "")
        for name in columns
    )
    return f"CREATE TABLE {TABLE} ({', '.join(typed)})"


def _store_abi(columns: Sequence[str]) -> tuple[str, ...]:
    """SQL that has each row have its own ABI from now on."""
    names = ", ".join(_stored(columns))
    return (
        f"ALTER TABLE {TABLE} RENAME TO uniform",
        _table(columns),
        f"INSERT INTO {TABLE} ({names}) SELECT {names} FROM uniform",
        "DROP TABLE uniform",
    )


def _small_table(name: str, table: pl.DataFrame) -> str:
    """SQL that makes a table with the columns of a frame."""
    types = ("TEXT" if kind == pl.String else "INTEGER" for kind in table.dtypes)
    return f"CREATE TABLE {name} ({', '.join(map(' '.join, zip(table.columns, types, strict=True)))})"


def _write_sheet(sheet: Sheet, name: str, folder: Path) -> Path:
    """Write a piece of the table `fd` into a database of its own; runs in a worker."""
    path, table = folder / f"fd-{sheet.capture}-{sheet.first_id}.sqlite", frame_of(sheet)
    with _new(path) as cursor:
        cursor.execute(_small_table(name, table))
        rowids = pl.int_range(sheet.first_id, sheet.first_id + len(table), dtype=pl.Int64).alias("rowid")
        cursor.adbc_ingest(name, table.select(rowids, pl.all()), mode="append")
    return path


class SqliteWriter:
    """Puts a new database together. One writer: rows are given in order."""

    def __init__(self, path: Path, columns: Sequence[str] = tuple(SCHEMA)) -> None:
        """Begin; the file appears with the first rows, which have these columns."""
        self._path, self._columns = path, columns
        self._connection: sqlite3.Connection | None = None
        self._joined: Joined | None = None

    def append(self, part: Path) -> None:
        """Take the rows that `write_rows` made, and their file away. The first file becomes the database.

        A file in another folder is kept there (`resume.py`): it is copied.

        Raises:
            ProcessError: The disk is full.
        """
        try:
            if not part.exists():  # no rows, no file
                return
            is_mine = part.parent == self._path.parent
            if not self._path.exists():
                if is_mine:
                    part.rename(self._path)
                else:
                    shutil.copyfile(part, self._path)
                return
            if not self._join(part, TABLE):
                with self._attached(part):
                    self._take()
            if is_mine:
                part.unlink()
        except (sqlite3.Error, OSError) as error:
            raise unwritable(self._path, error) from None

    def _join(self, part: Path, table: str) -> bool:
        """Take the rows of a database page by page; whether that was possible."""
        if self._joined is None or self._joined.table != table:
            self._settle()
            with suppress(UnfitError):
                self._joined = Joined(self._path, table)
        return self._joined is not None and self._joined.take(part)

    def _settle(self) -> None:
        """Have on the disk what there is, and nothing open."""
        if self._joined is not None:
            self._joined.finish()
        if self._connection is not None:
            self._connection.close()
        self._joined = self._connection = None

    def _take(self) -> None:
        """Take the rows of the database that is called ``part``, by SQL.

        SQLite copies rows between tables of the same definition as they are stored (its transfer optimization,
        which needs ``SELECT *``). Definitions differ where some segments have one ABI and others several.
        """
        connection = self._opened()
        kept, new = (
            connection.execute(f"SELECT sql FROM {name}.sqlite_master WHERE name = '{TABLE}'").fetchone()[0]
            for name in ("main", "part")
        )
        if kept == new:
            connection.execute(f"INSERT INTO {TABLE} SELECT * FROM part.{TABLE}")
            return
        for statement in _store_abi(self._columns) if kept != _table(self._columns) else ():
            connection.execute(statement)
        names = ", ".join(_stored(self._columns))
        connection.execute(f"INSERT INTO {TABLE} ({names}) SELECT {names} FROM part.{TABLE}")

    def finish(self, tables: Tables, workers: Workers) -> None:
        """Write the views and the small tables, and close; workers make the pieces of a table that has some.

        Raises:
            ProcessError: The disk is full.
        """
        try:
            connection = self._opened()
            connection.execute("BEGIN")
            connection.execute(_table(self._columns).replace("TABLE", "TABLE IF NOT EXISTS", 1))
            for view, needed in _VIEWS.items():
                if set(needed) <= set(self._columns):
                    connection.execute(view)
            for name, table in tables.items():
                few = table.none() if isinstance(table, Files) else table
                connection.execute(_small_table(name, few))
                connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * few.width)})", few.iter_rows())
            connection.execute("COMMIT")
            for name, table in tables.items():
                for piece in self._pieces(name, table, workers) if isinstance(table, Files) else ():
                    if not self._join(piece, name):
                        with self._attached(piece):
                            self._opened().execute(f"INSERT INTO {name} SELECT * FROM part.{name}")
                    piece.unlink()
            self._settle()
        except (sqlite3.Error, OSError) as error:
            raise unwritable(self._path, error) from None

    def _pieces(self, name: str, table: Files, workers: Workers) -> Iterator[Path]:
        """The pieces of a table, each in a database of its own, in order."""
        write = partial(_write_sheet, name=name, folder=self._path.parent)
        for outcome in workers.anew(write, table.sheets):
            yield write(outcome.item) if isinstance(outcome.result, Failure) else outcome.result

    @contextmanager
    def _attached(self, part: Path) -> Iterator[None]:
        """For as long as another database is called ``part``."""
        connection = self._opened()
        connection.execute("ATTACH ? AS part", [str(part.absolute())])
        yield
        connection.execute("DETACH part")

    def close(self) -> None:
        """Close the database as it is; a second call does nothing."""
        if self._joined is not None:
            self._joined.close()
        if self._connection is not None:
            self._connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._settle()
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            for setting in _SETTINGS:
                self._connection.execute(f"PRAGMA {setting}")
        return self._connection
