"""Leaves appended to a table of an SQLite database: as they are, with new pages above them.

A table is a tree whose leaves hold rows alone: a leaf has no number of another page, unless a row is too long for one.
So those of another database are copied by the kernel, with no look at them; the pages above them, one in some hundred,
are made anew. (SQL takes seven times as long to copy rows, in the one process for which all others wait, even where it
copies them as they are stored, by its transfer optimization.)

The format is that of https://www.sqlite.org/fileformat2.html, which later versions of SQLite keep to; sections of it
are named where a fact is used. All numbers are big-endian. The databases are ones that this program has just written;
whatever is not as expected is left to SQL, which then says what is wrong.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
"""Page numbers, which count from 1; or rowids."""

_MAGIC: Final = b"SQLite format 3\0"
_INTERIOR, _LEAF = 5, 13
"""First byte of a page of a table's tree (1.6)."""
_PAGE: Final = struct.Struct(">BHHHB")
"""A page's header: its type, first free block, cells, where their content starts, fragmented bytes (1.6)."""
_NUMBER: Final = struct.Struct(">I")
"""A page's number: the right-most child, behind an interior page's header; and what a cell of it begins with (1.6)."""
_ABOVE: Final = _PAGE.size + _NUMBER.size
_LOCK: Final = 1 << 30
"""The page in which this byte lies is used for locks alone, and is in no tree (1.4)."""
_BITS: Final = 56
"""Rowids of so many bits are at most 8 bytes as a varint, 7 bits in each; the ninth would be another case (1.6)."""
_PIECE: Final = 1 << 20


class UnfitError(Exception):
    """No leaves can be appended to a table, or none of it to another; SQL can do it, or say what is wrong."""


@dataclass(frozen=True)
class _Header:
    """What a database says of itself (1.3).

    Attributes:
        kind: Versions, reserved bytes, schema format, auto-vacuum and text encoding, which must be alike.
        size: Bytes of a page.
        changes: The change counter.
        pages: Of the file.
        free: The first trunk page of the freelist, and how many pages are on it.
    """

    kind: tuple[bytes, ...]
    size: int
    changes: int
    pages: int
    free: tuple[int, int]

    @property
    def lock(self) -> int:
        """The page that is used for locks, if the file is so large."""
        return _LOCK // self.size + 1


@dataclass(frozen=True)
class _Tree:
    """A table's leaves, in order, and what is above them.

    Attributes:
        leaves: Their page numbers.
        last: Of each leaf, its last rowid, or one between it and the first of the next leaf.
        first: The first rowid of all; 0 if there are no rows, and no leaves then.
        above: Page numbers of all others, the root first.
    """

    leaves: Numbers
    last: Numbers
    first: int
    above: Numbers


class Pages:
    """The pages of a database to whose table leaves are appended. Until `finish`, the file is no database.

    16 bytes of memory are held for each leaf.

    Attributes:
        table: Its name.
        size: Bytes of a page.
    """

    def __init__(self, path: Path, table: str) -> None:
        """Begin with the rows that are there.

        Raises:
            UnfitError: It must be done by SQL.
            OSError: The file cannot be opened.
        """
        self.table = table
        self._sql, self._root = _schema(path, table)
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._header = _header(self._file)
            tree = _tree(self._file, self._header, self._root)
        except BaseException:
            self.close()
            raise
        self.size, self._pages = self._header.size, self._header.pages
        self._spare = tree.above[1:].tolist()
        self._leaves, self._last = [tree.leaves], [tree.last]
        self._end = int(tree.last[-1]) if len(tree.last) else -1

    def expect(self, rowids: Numbers) -> None:
        """Say whether leaves with these rows can be appended.

        Raises:
            UnfitError: They cannot: not all lie behind each other, and behind those that are there.
        """
        if len(rowids) and (rowids[-1] >> _BITS or (np.diff(rowids, prepend=self._end) <= 0).any()):
            raise UnfitError

    def add(self, pages: npt.NDArray[np.uint8], last: Numbers) -> None:
        """Append leaves with rows that `expect` has seen.

        Args:
            pages: uint8 of shape (k, size).
            last: The last rowid of each.

        Raises:
            OSError: The disk is full.
        """
        numbers = self._more(len(pages))
        for run in np.split(np.arange(len(pages)), np.flatnonzero(np.diff(numbers) != 1) + 1):
            self._write(int(numbers[run[0]]), pages[run[0] : run[-1] + 1].reshape(-1).data)
        self._append(numbers, last)

    def take(self, part: Path) -> bool:
        """Append the rows of another database; False, with nothing changed, if it must be done by SQL.

        Raises:
            OSError: It cannot be read, or the disk is full.
        """
        file = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with suppress(UnfitError):
                sql, root = _schema(part, self.table)
                header = _header(file)
                tree = _tree(file, header, root)
                # One page is the schema's. Were there others, rows would reach into them.
                is_whole = header.pages == 1 + len(tree.leaves) + len(tree.above) + (header.pages >= header.lock)
                is_behind = tree.first > self._end and len(tree.leaves)
                if is_whole and is_behind and (sql, header.kind) == (self._sql, self._header.kind):
                    stored = np.sort(tree.leaves)
                    numbers = self._more(len(stored))
                    self._copy(file, stored, numbers)
                    self._append(numbers[np.searchsorted(stored, tree.leaves)], tree.last)
                    return True
            return False
        finally:
            os.close(file)

    def finish(self) -> None:
        """Make the file a database again, and close it.

        Raises:
            OSError: The disk is full.
        """
        if len(self._leaves) > 1:
            leaves, last = np.concatenate(self._leaves), np.concatenate(self._last)
            if len(leaves) == 1:  # it is the file's last page, and must be where the schema says that the root is
                self._copy(self._file, leaves, np.array([self._root]))
                self._pages -= 1
                os.ftruncate(self._file, self._pages * self.size)
            elif leaves[0] == self._root:  # likewise
                leaves[:1] = self._more(1)
                self._copy(self._file, np.array([self._root]), leaves[:1])
            self._raise(leaves, last)
        self.close()

    def close(self) -> None:
        """Close the file as it is; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _append(self, numbers: Numbers, last: Numbers) -> None:
        self._leaves.append(numbers)
        self._last.append(last)
        self._end = int(last[-1])

    def _raise(self, leaves: Numbers, last: Numbers) -> None:
        """Write the pages above all leaves, and the header."""
        spare = self._spare
        room = (self.size - _ABOVE) // (2 + _NUMBER.size + _lengths(last).max()) + 1
        while len(leaves) > 1:
            groups = np.array_split(np.arange(len(leaves)), -(-len(leaves) // room))  # each of two or more, as it must
            numbers = [self._root] if len(groups) == 1 else []
            while len(numbers) < len(groups):
                numbers.append(spare.pop() if spare else int(self._more(1)[0]))
            for number, group in zip(numbers, groups, strict=True):
                self._write(number, _interior(leaves[group], last[group[:-1]], self.size))
            leaves, last = np.array(numbers), last[[group[-1] for group in groups]]
        first, count = self._header.free
        most = self.size // 4 - 8  # old versions of SQLite take a trunk that is fuller for damaged (1.5)
        for at in range(0, len(spare), most):
            trunk, *rest = spare[at : at + most]
            self._write(trunk, np.array([first, len(rest), *rest], ">u4").tobytes().ljust(self.size, b"\0"))
            first = trunk
        changes = self._header.changes + 1 & 0xFFFFFFFF
        os.pwrite(self._file, struct.pack(">4I", changes, self._pages, first, count + len(spare)), 24)
        os.pwrite(self._file, _NUMBER.pack(changes), 92)  # the count of pages is valid for this state

    def _more(self, count: int) -> Numbers:
        """Numbers of new pages, at the end of the file."""
        numbers = np.arange(self._pages + 1, self._pages + 1 + count)
        numbers[numbers >= self._header.lock] += self._pages < self._header.lock
        self._pages = int(numbers[-1])
        return numbers

    def _copy(self, file: int, stored: Numbers, numbers: Numbers) -> None:
        """Copy pages from where they are stored, as those numbers."""
        size = self.size
        starts = np.flatnonzero((np.diff(stored, prepend=-1) != 1) | (np.diff(numbers, prepend=-1) != 1))
        for start, count in zip(starts, np.diff(starts, append=len(stored)), strict=True):
            at, to, left = ((int(n) - 1) * size for n in (stored[start], numbers[start], count + 1))
            while left:
                done = _transfer(file, self._file, left, at, to)
                at, to, left = at + done, to + done, left - done

    def _write(self, number: int, pages: bytes | memoryview) -> None:
        at = (number - 1) * self.size
        while pages:
            done = os.pwrite(self._file, pages, at)
            pages, at = pages[done:], at + done


def _transfer(source: int, target: int, count: int, at: int, to: int) -> int:
    """Copy bytes from a place in one file to a place in another; how many it were, at least one."""
    with suppress(OSError):  # two disks, or one that cannot; if it is full, writing says so
        if done := os.copy_file_range(source, target, count, at, to):
            return done
    data = os.pread(source, min(count, _PIECE), at)
    if not data:
        raise OSError("a part has become shorter")
    return os.pwrite(target, data, to)


def _schema(path: Path, table: str) -> tuple[str, int]:
    """A table's definition, and its root page."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute("SELECT sql, rootpage FROM sqlite_master WHERE tbl_name = ?", [table]).fetchall()
        except sqlite3.Error:
            raise UnfitError from None
    if len(rows) != 1:  # no table, or an index
        raise UnfitError
    sql, root = rows[0]
    return str(sql), int(root)


def _header(file: int) -> _Header:
    head = os.pread(file, 100, 0)
    if not head.startswith(_MAGIC):
        raise UnfitError
    size = struct.unpack_from(">H", head, 16)[0]
    size = 65536 if size == 1 else size
    changes, pages, *free = struct.unpack_from(">4I", head, 24)
    has_more, valid = _NUMBER.unpack_from(head, 52)[0], _NUMBER.unpack_from(head, 92)[0]  # largest root: auto-vacuum
    if head[20] or has_more or valid != changes or os.fstat(file).st_size != pages * size:
        raise UnfitError
    return _Header((head[16:24], head[44:48], head[56:60]), size, changes, pages, (free[0], free[1]))


def _tree(file: int, header: _Header, root: int) -> _Tree:
    """Find the leaves of a table. Of these, two are read: all leaves lie equally deep."""
    level, last, above = np.array([root]), np.zeros(1, np.int64), [np.empty(0, np.int64)]
    while (page := _page(file, header, level[0]))[0] == _INTERIOR:
        above.append(level)
        below = [_children(_page(file, header, number)) for number in level]
        level = np.concatenate([numbers for numbers, _ in below])
        last = np.concatenate([np.append(keys, end) for (_, keys), end in zip(below, last, strict=True)])
        if len(level) > header.pages:  # going in circles
            raise UnfitError
    if len(level) == 1 and not _PAGE.unpack_from(page)[2]:  # a table without rows
        return _Tree(level[:0], last[:0], 0, level)
    first = _rowids(page)[0]
    last[-1] = _rowids(_page(file, header, level[-1]))[-1]
    numbers = np.sort(np.concatenate([level, *above]))
    if numbers[0] < 2 or numbers[-1] > header.pages or not np.diff(numbers).all():
        raise UnfitError
    if first < 0 or last[-1] >> _BITS or (np.diff(last, prepend=first - 1) <= 0).any():
        raise UnfitError
    return _Tree(level, last, int(first), np.concatenate(above))


def _page(file: int, header: _Header, number: int) -> bytes:
    page = os.pread(file, header.size, (int(number) - 1) * header.size) if 1 < number <= header.pages else b""
    if len(page) != header.size or page[0] not in (_INTERIOR, _LEAF):
        raise UnfitError
    return page


def _cells(page: bytes) -> Numbers:
    """Where the cells of a page start, in order (1.6)."""
    count = _PAGE.unpack_from(page)[2]
    start = _ABOVE if page[0] == _INTERIOR else _PAGE.size
    if not count or start + 2 * count > len(page):
        raise UnfitError
    cells = np.frombuffer(page, ">u2", count, start).astype(np.int64)
    if cells.max() >= len(page):
        raise UnfitError
    return cells


def _children(page: bytes) -> tuple[Numbers, Numbers]:
    """The children of an interior page, and the keys between them: no rowid before one is larger (1.6)."""
    if page[0] != _INTERIOR:
        raise UnfitError
    cells = _cells(page)
    data = np.frombuffer(page + bytes(_BITS), np.uint8)
    children = data[cells[:, None] + np.arange(_NUMBER.size)].view(">u4")[:, 0].astype(np.int64)
    keys, _ = _varints(data, cells + _NUMBER.size)
    return np.append(children, _NUMBER.unpack_from(page, _PAGE.size)[0]), keys


def _rowids(page: bytes) -> Numbers:
    """The first and the last rowid of a leaf: a cell is the row's bytes, both as varints, and the row (1.6)."""
    if page[0] != _LEAF:
        raise UnfitError
    cells = _cells(page)[[0, -1]]
    data = np.frombuffer(page + bytes(_BITS), np.uint8)
    return _varints(data, cells + _varints(data, cells)[1])[0]


def _varints(data: npt.NDArray[np.uint8], at: Numbers) -> tuple[Numbers, Numbers]:
    """Numbers that begin at some places, and their lengths in bytes; of 8 bytes at most."""
    values, lengths = np.zeros_like(at), np.zeros_like(at)
    goes_on = np.ones(len(at), bool)
    for k in range(_BITS // 7):
        byte = data[at + k]
        values = np.where(goes_on, values << 7 | byte & 0x7F, values)
        lengths += goes_on
        goes_on &= byte >= 0x80
    if goes_on.any():
        raise UnfitError
    return values, lengths


def _lengths(values: Numbers) -> Numbers:
    """Bytes of each number as a varint."""
    return np.searchsorted(1 << np.arange(7, _BITS, 7), values, side="right") + 1


def _interior(children: Numbers, keys: Numbers, size: int) -> bytes:
    """An interior page; the cells' content lies at its end, in order."""
    most = _BITS // 7
    lengths = _lengths(keys)
    cells = np.empty((len(keys), _NUMBER.size + most), np.uint8)
    cells[:, : _NUMBER.size] = children[:-1].astype(">u4")[:, None].view(np.uint8)
    cells[:, _NUMBER.size :] = keys[:, None] >> 7 * np.arange(most - 1, -1, -1) & 0x7F
    cells[:, _NUMBER.size : -1] |= 0x80
    is_used = np.arange(-_NUMBER.size, most) >= most - lengths[:, None]
    is_used[:, : _NUMBER.size] = True
    content = cells[is_used].tobytes()
    ends = size - len(content) + np.cumsum(lengths + _NUMBER.size)
    starts = ends - lengths - _NUMBER.size
    head = _PAGE.pack(_INTERIOR, 0, len(keys), size - len(content), 0) + _NUMBER.pack(children[-1])
    return (head + starts.astype(">u2").tobytes()).ljust(size - len(content), b"\0") + content
