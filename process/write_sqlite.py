"""Step six, as SQLite: one wide table, the views of the logger that it replaces, and the small tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import adbc_driver_sqlite.dbapi as adbc
import polars as pl

from capture.segment import ABI_NUMBERS
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
_COPIES: Final[Mapping[str, str]] = {"pid": "proc_id"}
"""Columns that always equal another one: SQLite reads them there, and they take no space."""
_STORED = tuple(name for name in SCHEMA if name not in _COPIES)
_NAMES = ", ".join(_STORED)
_BUT_ABI = tuple(name for name in _STORED if name != "abi")
_SETTINGS = ("page_size = 8192", "journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE")
"""Nobody else sees a file before it is whole, so it needs no journal. Pages of 4096 bytes hold 2 % less."""


def write_rows(plan: Plan, folder: Path) -> tuple[Tally, Path]:
    """Decode a segment into a database of its own, which `SqliteWriter.append` takes. Runs in a worker.

    Raises:
        SegmentError: The segment is not what it was when it was surveyed.
        OSError: It cannot be read.
        ProcessError: The folder cannot be written.
    """
    decoder = Decoder(plan)
    path = folder / f"part-{plan.position:05d}.sqlite"
    try:
        path.unlink(missing_ok=True)  # a worker that was killed may have left it
    except OSError as error:
        raise unwritable(path, error) from None
    abi: str | None = None
    number = -1
    try:
        with adbc.connect(str(path.absolute()), autocommit=True) as connection, connection.cursor() as cursor:
            for setting in _SETTINGS:
                cursor.execute(f"PRAGMA {setting}")
            for number, frame in enumerate(decoder.frames()):
                mine = _only_abi(frame)
                if number == 0:
                    abi = mine
                    cursor.execute(_table(abi))
                elif abi is not None and mine != abi:
                    abi = None
                    for statement in _STORE_ABI:
                        cursor.execute(statement)
                cursor.adbc_ingest(TABLE, frame.select(_STORED if abi is None else _BUT_ABI), mode="append")
    except adbc.Error as error:
        raise unwritable(path, error) from None
    if number < 0:
        path.unlink(missing_ok=True)  # no rows, no file
    return decoder.tally, path


def _only_abi(frame: pl.DataFrame) -> str | None:
    """The ABI of all rows, if they have but one, of a name that is known."""
    found = frame["abi"].unique().to_list()
    return found[0] if len(found) == 1 and found[0] in ABI_NUMBERS else None


def _table(abi: str | None) -> str:
    """SQL that makes the wide table. An ABI that all rows have is a part of the definition, and takes no space."""
    generated = {**_COPIES, **({} if abi is None else {"abi": f"'{abi}'"})}
    columns = (
        f"{name} {'INTEGER' if dtype == pl.Int64 else 'TEXT'}{' PRIMARY KEY' * (name == 'id')}"
        + (f" GENERATED ALWAYS AS ({generated[name]}) VIRTUAL" if name in generated else "")
        for name, dtype in SCHEMA.items()
    )
    return f"CREATE TABLE {TABLE} ({', '.join(columns)})"


_STORE_ABI = (
    f"ALTER TABLE {TABLE} RENAME TO uniform",
    _table(None),
    f"INSERT INTO {TABLE} ({_NAMES}) SELECT {_NAMES} FROM uniform",
    "DROP TABLE uniform",
)
"""From now on each row has its own ABI."""


class SqliteWriter:
    """Puts a new database together. One writer: rows are given in order."""

    def __init__(self, path: Path) -> None:
        """Begin; the file appears with the first rows."""
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def append(self, part: Path) -> None:
        """Take the rows that `write_rows` made, and their file away. The first file becomes the database.

        SQLite copies rows between tables of the same definition as they are stored (its transfer optimization,
        which needs ``SELECT *``). That takes a sixth of the time in which they were made, side by side. Definitions
        differ where some segments have one ABI and others several.

        Raises:
            ProcessError: The disk is full.
        """
        try:
            if not part.exists():  # no rows, no file
                return
            if not self._path.exists():
                part.rename(self._path)
                return
            connection = self._opened()
            connection.execute("ATTACH ? AS part", [str(part.absolute())])
            kept, new = (
                connection.execute(f"SELECT sql FROM {name}.sqlite_master WHERE name = '{TABLE}'").fetchone()[0]
                for name in ("main", "part")
            )
            if kept == new:
                connection.execute(f"INSERT INTO {TABLE} SELECT * FROM part.{TABLE}")
            else:
                for statement in _STORE_ABI if kept != _table(None) else ():
                    connection.execute(statement)
                connection.execute(f"INSERT INTO {TABLE} ({_NAMES}) SELECT {_NAMES} FROM part.{TABLE}")
            connection.execute("DETACH part")
            part.unlink()
        except (sqlite3.Error, OSError) as error:
            raise unwritable(self._path, error) from None

    def finish(self, tables: dict[str, tuple[Sequence[str], list[tuple[Any, ...]]]]) -> None:
        """Write the views and the small tables, and close.

        Raises:
            ProcessError: The disk is full.
        """
        try:
            connection = self._opened()
            connection.execute("BEGIN")
            connection.execute(_table(None).replace("TABLE", "TABLE IF NOT EXISTS", 1))
            for view in _VIEWS:
                connection.execute(view)
            for name, (columns, rows) in tables.items():
                typed = ", ".join(f"{column} {'TEXT' if column in TEXT_COLUMNS else 'INTEGER'}" for column in columns)
                connection.execute(f"CREATE TABLE {name} ({typed})")
                connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)
            connection.execute("COMMIT")
            self.close()
        except sqlite3.Error as error:
            raise unwritable(self._path, error) from None

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        if self._connection is not None:
            self._connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            for setting in _SETTINGS:
                self._connection.execute(f"PRAGMA {setting}")
        return self._connection
