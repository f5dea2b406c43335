"""Step six, as SQLite: one wide table, the views of the logger that it replaces, and the small tables."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from capture.segment import ABI_NUMBERS
from process.decode import Decoder
from process.fd_history import Sheet
from process.flush import Flush
from process.output import unwritable
from process.plan import Plan
from process.pool import Failure, Workers
from process.schema import ARGS, FD_COLUMNS, SCHEMA, Kind, Kinds, kinds
from process.sqlite_file import Database
from process.tables import Files, Table, Tables
from process.tally import Tally
from process.values import Integers, Made, Texts

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
    decoder = Decoder(plan, columns, events=events)
    path = folder / f"part-{plan.label}.sqlite"
    abi: str | None = None
    has_rows = False
    with _new(path) as database:
        for made in decoder.columns():
            mine = _only_abi(made)
            if not has_rows:
                abi, has_rows = mine, True
                database.sql().execute(_table(columns, abi))
            elif abi is not None and mine != abi:
                abi = None
                for statement in _store_abi(columns):
                    database.sql().execute(statement)
            ids, stored = made["id"], {name: made[name] for name in _stored(columns, abi) if name != "id"}
            assert isinstance(ids, Integers)
            database.insert(TABLE, ids.values, stored, key="id")
            del made, ids, stored  # while the next slice is made
    if not has_rows:
        path.unlink(missing_ok=True)
    return decoder.tally, path


@contextmanager
def _new(path: Path) -> Iterator[Database]:
    """A new database, for as long as it is written.

    Raises:
        ProcessError: It cannot be written.
    """
    try:
        path.unlink(missing_ok=True)  # a worker that was killed may have left it
        with closing(Database(path)) as database:
            yield database
            database.settle()
    except (sqlite3.Error, OSError) as error:
        raise unwritable(path, error) from None


def _only_abi(made: Made) -> str | None:
    """The ABI of all rows, if it is asked for and they have but one, of a name that is known."""
    column = made.get("abi")
    if not isinstance(column, Texts):
        return None
    names = column.texts.to_list()
    found = {names[code] for code in np.flatnonzero(np.bincount(column.codes)).tolist()}  # every row has one
    return found.pop() if len(found) == 1 and found <= ABI_NUMBERS.keys() else None


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
        f"{name} {'INTEGER' if SCHEMA[name] is Kind.INTEGER else 'TEXT'}{' PRIMARY KEY' * (name == 'id')}"
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


def _small_table(name: str, columns: Kinds) -> str:
    """SQL that makes a table with some columns."""
    typed = (f"{column} {'INTEGER' if kind is Kind.INTEGER else 'TEXT'}" for column, kind in columns.items())
    return f"CREATE TABLE {name} ({', '.join(typed)})"


def _write_sheet(sheet: Sheet, name: str, folder: Path) -> Path:
    """Write a piece of the table `fd` into a database of its own; runs in a worker."""
    path, ids = folder / f"fd-{sheet.capture}-{sheet.first_id}.sqlite", np.arange(sheet.count) + sheet.first_id
    with _new(path) as database:
        database.sql().execute(_small_table(name, kinds(FD_COLUMNS)))
        database.insert(name, ids, sheet.columns())
    return path


class SqliteWriter:
    """Puts a new database together. One writer: rows are given in order."""

    def __init__(self, path: Path, columns: Sequence[str] = tuple(SCHEMA)) -> None:
        """Begin; the file appears with the first rows, which have these columns."""
        self._path, self._columns = path, columns
        self._database, self._flush = Database(path), Flush(path)

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
            if not self._database.take(TABLE, part):
                self._take(part)
            if is_mine:
                part.unlink()
            self._flush.begin()
        except (sqlite3.Error, OSError) as error:
            raise unwritable(self._path, error) from None

    def _take(self, part: Path) -> None:
        """Take the rows of a database by SQL.

        SQLite copies rows between tables of the same definition as they are stored (its transfer optimization,
        which needs ``SELECT *``). Definitions differ where some segments have one ABI and others several.
        """
        with self._database.attached(part) as connection:
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
            connection = self._database.sql()
            connection.execute("BEGIN")
            connection.execute(_table(self._columns).replace("TABLE", "TABLE IF NOT EXISTS", 1))
            for view, needed in _VIEWS.items():
                if set(needed) <= set(self._columns):
                    connection.execute(view)
            for name, table in tables.items():
                connection.execute(_small_table(name, table.columns))
                if isinstance(table, Table):
                    places = ", ".join("?" * len(table.columns))
                    connection.executemany(f"INSERT INTO {name} VALUES ({places})", table.rows)
            connection.execute("COMMIT")
            for name, table in tables.items():
                for piece in self._pieces(name, table, workers) if isinstance(table, Files) else ():
                    if not self._database.take(name, piece):
                        with self._database.attached(piece) as connection:
                            connection.execute(f"INSERT INTO {name} SELECT * FROM part.{name}")
                    piece.unlink()
            self._flush.end()
            self._database.settle()
        except (sqlite3.Error, OSError) as error:
            raise unwritable(self._path, error) from None

    def _pieces(self, name: str, table: Files, workers: Workers) -> Iterator[Path]:
        """The pieces of a table, each in a database of its own, in order."""
        write = partial(_write_sheet, name=name, folder=self._path.parent)
        for outcome in workers.anew(write, table.sheets):
            yield write(outcome.item) if isinstance(outcome.result, Failure) else outcome.result
            outcome.item.forget()

    def close(self) -> None:
        """Close the database as it is; a second call does nothing."""
        self._database.close()
        with suppress(OSError):  # what made it is already being raised
            self._flush.end()
