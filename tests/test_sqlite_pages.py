"""Tables that are put together page by page, as SQLite itself sees them afterwards."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from process import sqlite_pages
from process.sqlite_pages import Numbers, Pages, UnfitError

Row = tuple[int, str | None]
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, pad TEXT)"


def _database(path: Path, rows: Iterable[Row], size: int = 512, table: str = TABLE) -> Path:
    """A database of one table, with pages so small that few rows make a deep tree."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {size}")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(table)
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        connection.commit()
    return path


def _rows(first: int, count: int) -> list[Row]:
    return [(number, f"{number:09}" * 2) for number in range(first, first + count)]


def _parts(folder: Path, counts: Sequence[int], size: int = 512) -> tuple[list[Path], list[Row]]:
    """Databases whose rows follow each other, and all rows."""
    paths: list[Path] = []
    rows: list[Row] = []
    for number, count in enumerate(counts):
        made = _rows(len(rows) + 1, count)
        paths.append(_database(folder / f"part-{number}", made, size))
        rows += made
    return paths, rows


def _joined(parts: Sequence[Path]) -> list[bool]:
    """Append all to the first; which were taken."""
    joined = Pages(parts[0], "t")
    taken = [joined.take(part) for part in parts[1:]]
    joined.finish()
    return taken


def _check(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [
            text
            for check in ("integrity_check", "quick_check")
            for (text,) in connection.execute(f"PRAGMA {check}")
            if text != "ok"
        ]


def _read(path: Path) -> list[Row]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM t").fetchall()


def _depth(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 't'").fetchone()
    data, depth = path.read_bytes(), 1
    while data[(root - 1) * 512] == 5:
        root, depth = struct.unpack_from(">I", data, (root - 1) * 512 + 8)[0], depth + 1
    return depth


@pytest.mark.parametrize(
    "counts",
    [
        (1, 1), (1, 1, 1), (3, 500), (500, 1), (1, 5000), (5000, 1), (5000, 2, 700, 1, 5000), (6000, 6000),
        (7,) * 80, (1,) * 100, (40, 5000, 40),
    ],
    ids=lambda counts: "-".join(map(str, counts)) if len(counts) < 9 else f"{len(counts)} of {counts[0]}",
)  # fmt: skip
def test_sqlite_finds_every_row_of_all_parts_and_nothing_wrong(tmp_path: Path, counts: tuple[int, ...]) -> None:
    parts, rows = _parts(tmp_path, counts)
    before = [part.read_bytes() for part in parts[1:]]
    assert all(_joined(parts))
    assert _check(parts[0]) == [] and _read(parts[0]) == rows
    with closing(sqlite3.connect(parts[0])) as connection:
        for row in rows[:: max(1, len(rows) // 500)]:
            assert connection.execute("SELECT * FROM t WHERE id = ?", row[:1]).fetchall() == [row]
        assert connection.execute("SELECT count(*) FROM t WHERE id > 7 AND id <= 70").fetchone() == (
            sum(7 < row[0] <= 70 for row in rows),
        )
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert [part.read_bytes() for part in parts[1:]] == before


def test_trees_of_one_two_and_more_levels_are_among_these(tmp_path: Path) -> None:
    parts, _ = _parts(tmp_path, (1, 500, 5000))
    assert [_depth(part) for part in parts] == [1, 2, 3]


def test_sqlite_can_go_on_to_change_the_table(tmp_path: Path) -> None:
    parts, rows = _parts(tmp_path, (900, 3, 4000))
    assert all(_joined(parts))
    with closing(sqlite3.connect(parts[0])) as connection:
        connection.execute("DELETE FROM t WHERE id % 7 < 3")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(7 * k, "x" * (k % 300)) for k in range(1, 900)])
        connection.execute("CREATE TABLE other (pad TEXT)")
        connection.execute("INSERT INTO other SELECT pad FROM t")
        connection.commit()
    kept = [row for row in rows if row[0] % 7 >= 3] + [(7 * k, "x" * (k % 300)) for k in range(1, 900)]
    assert _check(parts[0]) == [] and _read(parts[0]) == sorted(kept)


def test_a_database_is_appended_to_again_after_sqlite_wrote_other_tables_into_it(tmp_path: Path) -> None:
    parts, rows = _parts(tmp_path, (700, 700, 700))
    assert _joined(parts[:2]) == [True]
    with closing(sqlite3.connect(parts[0])) as connection:
        connection.execute("CREATE TABLE other (pad TEXT)")
        connection.executemany("INSERT INTO other VALUES (?)", [("y" * 5000,), ("z",)])
        connection.commit()
    assert _joined([parts[0], parts[2]]) == [True]
    assert _check(parts[0]) == [] and _read(parts[0]) == rows


def test_numbers_of_rows_of_every_length(tmp_path: Path) -> None:
    ids = sorted({1 << k for k in range(56)} | {(1 << k) + d for k in range(6, 56) for d in (-1, 1)})
    rows = [(number, "p" * 60) for number in ids]
    parts = [_database(tmp_path / f"part-{k}", rows[k : k + 20]) for k in range(0, len(rows), 20)]
    assert all(_joined(parts)) and len(parts) > 5
    assert _check(parts[0]) == [] and _read(parts[0]) == rows


@pytest.mark.parametrize("first", [-3, 1 << 56], ids=["negative", "of nine bytes"])
def test_other_numbers_of_rows_are_left_to_sql(tmp_path: Path, first: int) -> None:
    path = _database(tmp_path / "whole", _rows(first, 100))
    with pytest.raises(UnfitError):
        Pages(path, "t")
    if first > 0:
        assert _joined([_database(tmp_path / "one", _rows(1, 1)), path]) == [False]


def test_pages_above_the_leaves_that_are_too_many_become_free(tmp_path: Path) -> None:
    """More than one page of the list of free pages can name."""
    rows = _rows(1, 150_000)
    whole = _database(tmp_path / "whole", reversed(rows))  # pages above the leaves are half full then
    assert _joined([whole, _database(tmp_path / "part", _rows(150_001, 1))]) == [True]
    assert _check(whole) == [] and _read(whole) == _rows(1, 150_001)
    with closing(sqlite3.connect(whole)) as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] > 130
        connection.execute("INSERT INTO t VALUES (160000, ?)", ["x" * 512 * 500])
        connection.commit()
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] == 0
    assert _check(whole) == []


def test_rows_that_are_longer_than_a_page_stay_whole_in_the_first_database_and_are_left_to_sql_in_others(
    tmp_path: Path,
) -> None:
    long: list[Row] = [(number, "x" * 3000 * (number % 50 == 0)) for number in range(1, 300)]
    whole = _database(tmp_path / "whole", long)
    assert _joined([whole, _database(tmp_path / "part", _rows(300, 300))]) == [True]
    assert _check(whole) == [] and _read(whole) == [*long, *_rows(300, 300)]
    other = _database(tmp_path / "other", [*_rows(1, 10), (11, "x" * 500)])
    assert _joined([_database(tmp_path / "first", [(0, "")]), other]) == [False]


def _two_tables(path: Path) -> None:
    with closing(sqlite3.connect(_database(path, _rows(101, 100)))) as connection:
        connection.execute("CREATE TABLE other (pad TEXT)")


_OTHERS: dict[str, Callable[[Path], object]] = {
    "not behind": lambda path: _database(path, _rows(50, 100)),
    "no rows": lambda path: _database(path, []),
    "another page size": lambda path: _database(path, _rows(101, 100), 1024),
    "another definition": lambda path: _database(path, _rows(101, 100), table=f"{TABLE} STRICT"),
    "an index": lambda path: _database(path, _rows(101, 100), table=TABLE.replace("PRIMARY KEY", "UNIQUE")),
    "a second table": _two_tables,
    "no database": lambda path: path.write_bytes(b"x" * 4096),
    "no bytes": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(_database(path, _rows(101, 100)).read_bytes()[:-512]),
}


@pytest.mark.parametrize("kind", _OTHERS)
def test_what_cannot_be_appended_so_changes_nothing(tmp_path: Path, kind: str) -> None:
    whole, path = _database(tmp_path / "whole", _rows(1, 100)), tmp_path / "part"
    before = whole.read_bytes()
    _OTHERS[kind](path)
    assert _joined([whole, path]) == [False]
    assert whole.read_bytes() == before


def test_whatever_stands_in_a_part_it_is_taken_or_not(tmp_path: Path) -> None:
    """A part is not looked at closely; but reading it ends, and without an error of another kind."""
    random_ = random.Random(1)
    sound = _database(tmp_path / "sound", _rows(101, 2000)).read_bytes()
    part, taken = tmp_path / "part", []
    for _ in range(300):
        data = bytearray(sound)
        pages = [at for at in range(512, len(data), 512) if data[at] == 5]
        for _change in range(random_.choice([1, 3, 50])):
            data[random_.choice([random_.randrange(100), random_.choice(pages) + random_.randrange(512)])] = (
                random_.choice([0, 1, 5, 13, 0x7F, 0x80, 0xFF])
            )
        part.write_bytes(data)
        whole = tmp_path / "whole"
        whole.unlink(missing_ok=True)
        taken += _joined([_database(whole, _rows(1, 100)), part])
    assert len(taken) == 300 and {True, False} == set(taken)


def test_a_tree_in_a_circle_ends(tmp_path: Path) -> None:
    part = _database(tmp_path / "part", _rows(101, 2000))
    data = bytearray(part.read_bytes())
    (cell,) = struct.unpack_from(">H", data, 512 + 12)  # the root is page 2
    assert data[512] == 5
    data[512 + cell : 512 + cell + 4] = struct.pack(">I", 2)
    part.write_bytes(data)
    assert _joined([_database(tmp_path / "whole", _rows(1, 100)), part]) == [False]


def _wrong_child(children: Numbers, keys: Numbers) -> tuple[Numbers, Numbers]:
    return np.append(children[:-1], children[-1] - 1), keys


def _wrong_key(children: Numbers, keys: Numbers) -> tuple[Numbers, Numbers]:
    return children, keys - 1


def _wrong_order(children: Numbers, keys: Numbers) -> tuple[Numbers, Numbers]:
    return children[::-1], keys


@pytest.mark.parametrize("wrong", [_wrong_child, _wrong_key, _wrong_order])
def test_the_check_notices_a_page_that_is_joined_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Numbers, Numbers], tuple[Numbers, Numbers]]
) -> None:
    right = sqlite_pages._interior
    monkeypatch.setattr(sqlite_pages, "_interior", lambda children, keys, size: right(*wrong(children, keys), size))
    parts, _ = _parts(tmp_path, (200, 200))
    assert all(_joined(parts))
    assert _check(parts[0]) != []


def _grown(path: Path, pages: int) -> None:
    """Let a database have so many pages: all that are new are free, and nothing is written of most of them."""
    head = bytearray(path.read_bytes())
    (size,), (old,) = struct.unpack_from(">H", head, 16), struct.unpack_from(">I", head, 28)
    size = 65536 if size == 1 else size
    free, before = list(range(old + 1, pages + 1)), 0
    with open(path, "r+b") as file:
        while free:
            trunk, *rest = free[-size // 4 + 8 :]
            del free[-size // 4 + 8 :]
            file.seek((trunk - 1) * size)
            file.write(struct.pack(f">{2 + len(rest)}I", before, len(rest), *rest))
            before = trunk
        struct.pack_into(">3I", head, 28, pages, before, pages - old)
        file.seek(0)
        file.write(head[:size])
        file.truncate(pages * size)


def test_the_page_that_sqlite_locks_stays_free(tmp_path: Path) -> None:
    """It is the one at 1 GiB; the file has holes there."""
    lock, size = (1 << 30) // 65536 + 1, 65536
    parts = [_database(tmp_path / f"part-{k}", _rows(1 + 30_000 * k, 30_000), size) for k in range(3)]
    rows = _rows(1, 90_000)
    _grown(parts[0], lock - 3)
    assert _check(parts[0]) == []
    assert all(_joined(parts))
    assert _check(parts[0]) == [] and _read(parts[0]) == rows
    with open(parts[0], "rb") as file:
        file.seek((lock - 1) * size)
        assert file.read(size) == bytes(size)
        assert file.seek(0, os.SEEK_END) > (lock + 20) * size
    last = _database(tmp_path / "last", _rows(90_001, 1), size)
    assert _joined([parts[0], last]) == [True]
    assert _check(parts[0]) == [] and _read(parts[0]) == [*rows, *_rows(90_001, 1)]


def test_disks_that_cannot_copy_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", fail)
    monkeypatch.setattr(sqlite_pages, "_PIECE", 700)
    parts, rows = _parts(tmp_path, (500, 500))
    assert all(_joined(parts))
    assert _check(parts[0]) == [] and _read(parts[0]) == rows
