"""An SQLite database in the making: rows come in page by page where that is possible, else by SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from process.sqlite_leaves import Numbers, leaves
from process.sqlite_pages import Pages, UnfitError
from process.values import Integers, Values, rows_of

_SETTINGS: Final = ("page_size = 8192", "journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE")
"""Nobody else sees a file before it is whole, so it needs no journal. Pages of 4096 bytes hold 2 % less."""


class Database:
    """A database that nobody else uses. Either SQLite has it open, or its pages are written; each settles the other."""

    def __init__(self, path: Path) -> None:
        """Begin; the file appears when something is written."""
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._pages: Pages | None = None

    def sql(self) -> sqlite3.Connection:
        """A connection, which is in no transaction.

        Raises:
            sqlite3.Error: The file cannot be opened, or is no database.
            OSError: The disk is full.
        """
        if self._connection is None:
            self.settle()
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            for setting in _SETTINGS:
                self._connection.execute(f"PRAGMA {setting}")
        return self._connection

    def insert(self, table: str, rowids: Numbers, columns: Mapping[str, Values], key: str | None = None) -> None:
        """Append rows to a table.

        Args:
            table: Its name.
            rowids: int64, ascending from one that is greater than all that are there; SQL takes others.
            columns: All that take space but ``key``, in the table's order.
            key: The first column, if that is the rowid.

        Raises:
            sqlite3.Error: The file cannot be written.
            OSError: The disk is full.
        """
        done = 0
        with suppress(UnfitError):
            pages = self._opened(table)
            pages.expect(rowids)
            for made in leaves(rowids, [*([] if key is None else [None]), *columns.values()], pages.size):
                pages.add(made.pages, made.last)
                done = made.rows
        if done < len(rowids):  # a row is too long for a page
            rest: dict[str, Values] = {"rowid": Integers(rowids[done:])}
            rest |= {name: column.only(slice(done, None)) for name, column in columns.items()}
            into = f"INSERT INTO {table} ({', '.join(rest)}) VALUES ({', '.join('?' * len(rest))})"
            connection = self.sql()
            connection.execute("BEGIN")
            connection.executemany(into, rows_of(rest))
            connection.execute("COMMIT")

    def take(self, table: str, part: Path) -> bool:
        """Append the rows of a table of another database; False, with nothing changed, if SQL must do it.

        Raises:
            sqlite3.Error: The file cannot be written.
            OSError: A file cannot be read, or the disk is full.
        """
        with suppress(UnfitError):
            return self._opened(table).take(part)
        return False

    def _opened(self, table: str) -> Pages:
        """A table's pages, to write to.

        Raises:
            UnfitError: It must be done by SQL.
        """
        if self._pages is None or self._pages.table != table:
            self.settle()
            self._pages = Pages(self.path, table)
        return self._pages

    @contextmanager
    def attached(self, part: Path) -> Iterator[sqlite3.Connection]:
        """A connection for as long as another database is called ``part``."""
        connection = self.sql()
        connection.execute("ATTACH ? AS part", [str(part.absolute())])
        yield connection
        connection.execute("DETACH part")

    def settle(self) -> None:
        """Have a whole database on the disk, and nothing open.

        Raises:
            sqlite3.Error: The file cannot be written.
            OSError: The disk is full.
        """
        if self._pages is not None:
            self._pages.finish()
        self.close()

    def close(self) -> None:
        """Close what is open as it is; a second call does nothing."""
        if self._pages is not None:
            self._pages.close()
        if self._connection is not None:
            self._connection.close()
        self._pages = self._connection = None
