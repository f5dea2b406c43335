"""Reads the project's tables: tab-separated text under a `# key: value` header.

Every table (errno, prototypes, string arguments) is written by
`scripts/make_tables.py` and read through this module, so that a damaged or
hand-edited table is refused in one place, with the file and the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import NoReturn

VERSION = "1"
"""Layout of the tables; a change of columns or of their meaning raises it."""


class TableError(ValueError):
    """A table is missing or malformed; the message is one line."""


@dataclass(frozen=True)
class Table:
    """A table's text, split into cells but not yet interpreted.

    Attributes:
        where: File name, for messages.
        header: The `# key: value` lines.
        lines: Line number (from 1) and cells of each row.
    """

    where: str
    header: Mapping[str, str]
    lines: Sequence[tuple[int, list[str]]]

    def fail(self, line: int, problem: str) -> NoReturn:
        """Raises TableError for a line of this table."""
        raise TableError(f"{self.where}:{line}: {problem}; make it again with scripts/make_tables.py")

    def numbered(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yields (line, number, other cells) of rows whose first cell is a number.

        Raises:
            TableError: A number is not decimal, or does not rise from row to row.
        """
        last = -1
        for line, (number, *cells) in self.lines:
            if not (number.isascii() and number.isdigit()):
                self.fail(line, f"{number!r} is not a decimal number")
            if int(number) <= last:
                self.fail(line, f"number {number} after {last}: rows are not in order")
            last = int(number)
            yield line, last, cells


def text(package: str, folder: str, abi: str) -> str:
    """Returns the text of `abi`'s table in a package's folder.

    The name is looked up among the files there and never joined to a path
    unseen: it may come from a segment, which is hostile input.

    Raises:
        TableError: There is no table for this ABI.
    """
    tables = {
        entry.name[: -len(".tsv")]: entry
        for entry in resources.files(package).joinpath(folder).iterdir()
        if entry.name.endswith(".tsv")
    }
    if abi not in tables:
        raise TableError(f"no table for ABI {abi!r} in {package}: have {', '.join(sorted(tables))}")
    return tables[abi].read_bytes().decode("ascii", "surrogateescape")


def parse(text: str, where: str, columns: Sequence[str]) -> Table:
    """Splits a table into header and rows.

    Args:
        text: The whole file.
        where: Its name, for messages.
        columns: The names its `# columns:` line must list.

    Raises:
        TableError: Another version or other columns, or a row that does not have
            one non-empty cell of ASCII for each column.
    """
    header: dict[str, str] = {}
    lines: list[tuple[int, list[str]]] = []
    for line, content in enumerate(text.splitlines(), 1):
        if content.startswith("# "):
            key, _, value = content[2:].partition(": ")
            header[key] = value
        else:
            lines.append((line, content.split("\t")))
    table = Table(where, header, lines)
    if header.get("version") != VERSION:
        table.fail(1, f"version {header.get('version')}, this program reads {VERSION}")
    if header.get("columns") != " ".join(columns):
        table.fail(1, f"columns are {header.get('columns')!r}, expected {' '.join(columns)!r}")
    for line, cells in lines:
        if not all(map(str.isascii, cells)):
            table.fail(line, "not ASCII")
        if len(cells) != len(columns):
            table.fail(line, f"{len(cells)} columns, expected {len(columns)}")
        if not all(cells):
            table.fail(line, f"empty {columns[cells.index('')]}")
    return table
