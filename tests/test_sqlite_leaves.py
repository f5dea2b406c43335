"""Rows that are made into pages are what SQLite reads, and takes no more room than its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from process.sqlite_file import Database
from process.sqlite_leaves import leaves
from process.text_array import TextArray
from process.values import Integers, Texts, Values

BITS = (7, 8, 15, 16, 23, 24, 31, 32, 47, 48, 63)
EDGES = sorted(
    value
    for value in {sign * (1 << bits) + d for bits in BITS for sign in (-1, 1) for d in (-1, 0, 1)}
    if -(2**63) <= value < 2**63
)
"""Integers about which SQLite takes another number of bytes."""
LENGTHS = (0, 1, 56, 57, 58, 59, 112, 113, 114, 115, 127, 128, 400)
"""Of texts: likewise for their own lengths, and for that of the row."""

Cells = Sequence[int | str | None]


def _table(columns: Mapping[str, Values], key: str | None = "id") -> str:
    typed = (f"{name} {'INTEGER' if isinstance(column, Integers) else 'TEXT'}" for name, column in columns.items())
    return f"CREATE TABLE t ({', '.join([*([f'{key} INTEGER PRIMARY KEY'] if key else []), *typed])})"


def _made(path: Path, rowids: np.ndarray, columns: Mapping[str, Values], size: int, key: str | None = "id") -> Path:
    """A database of rows that are given in two halves."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {size}")
        connection.execute(_table(columns, key))
    with closing(Database(path)) as database:
        for half in (slice(0, len(rowids) // 2), slice(len(rowids) // 2, None)):
            database.insert("t", rowids[half], {name: column.only(half) for name, column in columns.items()}, key)
        database.settle()
    return path


def _by_sqlite(
    path: Path, rowids: np.ndarray, cells: Mapping[str, Cells], columns: Mapping[str, Values], size: int
) -> Path:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {size}")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_table(columns))
        rows = zip(rowids.tolist(), *cells.values(), strict=True)
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * (len(cells) + 1))})", rows)
        connection.commit()
    return path


def _columns(cells: Mapping[str, Cells]) -> dict[str, Values]:
    return {name: _column(column, is_number=name.startswith("n")) for name, column in cells.items()}


def _column(cells: Cells, *, is_number: bool) -> Values:
    series = pl.Series(cells, dtype=pl.Int64 if is_number else pl.String)
    if not is_number:
        codes = np.where(series.is_null(), -1, np.arange(len(series), dtype=np.int32))
        return Texts(codes, TextArray.of(series.fill_null("").to_list()))
    valid = series.is_not_null().to_numpy() if series.null_count() else None
    return Integers(series.fill_null(0).to_numpy(), valid)


def _read(path: Path) -> tuple[list[tuple[object, ...]], list[tuple[str]]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT *, rowid FROM t").fetchall()
        return rows, connection.execute("PRAGMA integrity_check").fetchall()


def _payload(path: Path) -> tuple[int, ...]:
    """Bytes of rows, and how many pages hold them; the real SQLite counts."""
    with closing(sqlite3.connect(path)) as connection:
        found: tuple[int, ...] = connection.execute(
            "SELECT sum(payload), sum(ncell) FROM dbstat WHERE name = 't' AND pagetype = 'leaf'"
        ).fetchone()
        return found


def _same(folder: Path, cells: Mapping[str, Cells], rowids: np.ndarray, size: int) -> None:
    """What is written is what SQLite would have written."""
    columns = _columns(cells)
    made = _made(folder / "made", rowids, columns, size)
    expected = _by_sqlite(folder / "expected", rowids, cells, columns, size)
    assert _read(made) == (_read(expected)[0], [("ok",)])


@pytest.mark.parametrize("size", [512, 8192, 65536])
def test_integers_and_texts_of_every_length(tmp_path: Path, size: int) -> None:
    count = len(EDGES) * len(LENGTHS)
    numbers = (EDGES * len(LENGTHS))[:count]
    texts = [chr(97 + k % 26) * LENGTHS[k % len(LENGTHS)] for k in range(count)]
    cells: dict[str, Cells] = {
        "n1": numbers, "t1": texts, "n2": [None if k % 3 else k % 2 for k in range(count)],
        "t2": [None if k % 2 else "\u4e2d\0\u00e9"[k % 4 :] for k in range(count)], "n3": numbers[::-1],
    }  # fmt: skip
    _same(tmp_path, cells, np.arange(1, count + 1), size)


def test_rows_take_the_bytes_that_sqlite_gives_them(tmp_path: Path) -> None:
    count = 2000
    cells: dict[str, Cells] = {
        "n1": [EDGES[k % len(EDGES)] for k in range(count)],
        "t1": ["x" * LENGTHS[k % len(LENGTHS)] for k in range(count)],
        "n2": [None] * count,
        "n3": [k % 300 for k in range(count)],
    }
    rowids, columns = np.arange(100, 100 + count), _columns(cells)
    made = _made(tmp_path / "made", rowids, columns, 8192)
    assert _payload(made) == _payload(_by_sqlite(tmp_path / "expected", rowids, cells, columns, 8192))


def test_what_is_null_at_the_end_of_a_row_takes_no_room(tmp_path: Path) -> None:
    cells: dict[str, Cells] = {
        "n1": [5] * 90, "t1": ["x", None, None] * 30, "n2": [None] * 90, "t2": [None, None, "y"] * 30,
    }  # fmt: skip
    made = _made(tmp_path / "made", np.arange(90), _columns(cells), 8192)
    rows, check = _read(made)
    assert check == [("ok",)] and rows[:3] == [(0, 5, "x", None, None, 0), (1, 5, None, None, None, 1), (
        2, 5, None, None, "y", 2
    )]  # fmt: skip
    # Bytes of a row: its header's length, a type for each column, the key's among them, and the values.
    assert _payload(made) == (30 * ((1 + 3 + 2) + (1 + 2 + 1) + (1 + 5 + 2)), 90)


CELLS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.text(max_size=80),
        st.none() | st.integers(0, 1),
        st.none() | st.sampled_from(LENGTHS).map("z".__mul__),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CELLS, st.sampled_from([512, 1024, 65536]), st.integers(0, 2**40), st.integers(1, 300))
def test_any_rows_are_what_sqlite_would_have_stored(
    tmp_path: Path, rows: list[tuple[object, ...]], size: int, first: int, step: int
) -> None:
    cells: dict[str, Cells] = dict(zip(("n1", "t1", "n2", "t2"), map(list, zip(*rows, strict=True)), strict=True))
    _same(tmp_path, cells, first + step * np.arange(len(rows)), size)


@pytest.mark.parametrize("at", [0, 1, 500, 998, 999])
def test_a_row_that_is_too_long_for_a_page_and_those_behind_it_are_sqls(tmp_path: Path, at: int) -> None:
    texts = ["short"] * 1000
    texts[at] = "long" * 5000
    cells: dict[str, Cells] = {"t1": texts, "n1": list(range(1000))}
    _same(tmp_path, cells, np.arange(7, 1007), 8192)
    made = list(leaves(np.arange(1000), [None, *_columns(cells).values()], 8192))
    assert (made[-1].rows if made else 0) == at


@pytest.mark.parametrize("size", [512, 8192, 65536])
def test_the_longest_row_that_a_page_holds(tmp_path: Path, size: int) -> None:
    for length in range(size - 60, size - 20):
        cells: dict[str, Cells] = {"t1": ["x" * length], "n1": [1]}
        path = _made(tmp_path / "made", np.array([1]), _columns(cells), size)
        assert _read(path) == ([(1, "x" * length, 1, 1)], [("ok",)])
        is_short = bool(list(leaves(np.array([1]), [None, *_columns(cells).values()], size)))
        with closing(sqlite3.connect(path)) as connection:
            (overflows,) = connection.execute("SELECT count(*) FROM dbstat WHERE pagetype = 'overflow'").fetchone()
        assert is_short == (overflows == 0)


def test_texts_by_codes_some_of_which_are_null_or_the_same(tmp_path: Path) -> None:
    texts = TextArray.of(["a", "null", "b", "never", "", "a"])
    columns: dict[str, Values] = {
        "t1": Texts(np.array([0, -1, 2, -7, 4, 5] * 40, np.int64), texts),
        "t2": Texts(np.array([-1] * 240, np.int8), TextArray.of([])),
        "t3": Texts(np.array([0, 1, 0, 1, 1, 0] * 40, np.int8), TextArray.of(["", "a"])),
        "n1": Integers(np.arange(240), np.arange(240) % 2 == 0),
    }
    rows, check = _read(_made(tmp_path / "made", np.arange(240), columns, 512, key=None))
    assert check == [("ok",)]
    assert [row[0] for row in rows] == ["a", None, "b", None, "", "a"] * 40
    assert [row[1:] for row in rows] == [
        (None, ["", "a"][[0, 1, 0, 1, 1, 0][k % 6]], k if k % 2 == 0 else None, k) for k in range(240)
    ]


def test_more_rows_than_are_made_at_a_time(tmp_path: Path) -> None:
    count = 50_000
    columns: dict[str, Values] = {
        "n1": Integers(np.arange(count) * 1000), "t1": Texts(np.arange(count) % 3, TextArray.of(["x" * 30, "", "yy"])),
    }  # fmt: skip
    assert len(list(leaves(np.arange(count), list(columns.values()), 512))) > 30
    rows, check = _read(_made(tmp_path / "made", np.arange(count), columns, 512))
    assert check == [("ok",)]
    assert rows == [(k, k * 1000, ["x" * 30, "", "yy"][k % 3], k) for k in range(count)]


def test_no_rows_change_nothing(tmp_path: Path) -> None:
    columns: dict[str, Values] = {"n1": Integers(np.arange(0))}
    assert _read(_made(tmp_path / "made", np.arange(0), columns, 512)) == ([], [("ok",)])


@pytest.mark.parametrize("rowids", [[5, 4], [4, 2**56], [-7, 4]], ids=["descending", "of nine bytes", "negative"])
def test_numbers_of_rows_that_cannot_be_appended_are_left_to_sql(tmp_path: Path, rowids: list[int]) -> None:
    columns: dict[str, Values] = {"n1": Integers(np.arange(2))}
    path = _made(tmp_path / "made", np.array(rowids), columns, 512)
    assert _read(path) == (sorted((rowid, k, rowid) for k, rowid in enumerate(rowids)), [("ok",)])


def test_a_number_that_is_there_twice_is_no_row(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        _made(tmp_path / "made", np.array([4, 4]), {"n1": Integers(np.arange(2))}, 512)
