"""A database that is put together out of the workers' own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from capture.segment import ABI_NUMBERS, EventFlag
from captures import write_capture
from process.pool import Workers
from process.prepare import prepare
from process.write_sqlite import TABLE, SqliteWriter, write_rows
from segments import GETPID, Builder

pytestmark = pytest.mark.usefixtures("no_batching")


def _parts(folder: Path) -> list[Path]:
    write_capture(folder / "segments", segments=3)
    with Workers(1) as workers:
        return [write_rows(plan, folder)[1] for plan in prepare([folder / "segments"], workers).plans]


def _rows(database: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT * FROM {TABLE} ORDER BY id").fetchall()


def test_the_rows_of_all_parts_are_there_as_they_were_and_the_parts_are_gone(tmp_path: Path) -> None:
    parts = _parts(tmp_path)
    expected = [row for part in parts for row in _rows(part)]
    assert len(parts) == 3 and len(expected) > 150
    with closing(SqliteWriter(tmp_path / "whole")) as writer:
        for part in parts:
            writer.append(part)
        writer.finish({"stats": pl.DataFrame({"severity": ["info"], "count": [1]})}, Workers(1))
    assert _rows(tmp_path / "whole") == expected
    assert not any(part.exists() for part in parts)
    with closing(sqlite3.connect(tmp_path / "whole")) as connection:
        assert connection.execute("SELECT * FROM stats").fetchall() == [("info", 1)]
        assert connection.execute("SELECT count(*) FROM event JOIN syscall USING (id)").fetchone() == (len(expected),)
        assert connection.execute(f"SELECT count(*) FROM {TABLE} WHERE pid IS NOT proc_id").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_rows_are_copied_as_they_are_stored(tmp_path: Path) -> None:
    """SQLite reads and writes whole records then: what makes it worth while to make them elsewhere."""
    first, second, _ = _parts(tmp_path)
    with closing(sqlite3.connect(first)) as connection:
        connection.execute("ATTACH ? AS part", [str(second)])
        plan = connection.execute(f"EXPLAIN INSERT INTO {TABLE} SELECT * FROM part.{TABLE}").fetchall()
    steps = {step[1] for step in plan}
    assert "RowData" in steps and "Column" not in steps


def test_what_a_killed_worker_left_is_written_anew(tmp_path: Path) -> None:
    part = _parts(tmp_path)[0]
    rows = _rows(part)
    part.write_bytes(part.read_bytes()[:10_000])
    with Workers(1) as workers:
        again = write_rows(prepare([tmp_path / "segments"], workers).plans[0], tmp_path)[1]
    assert again == part and _rows(part) == rows


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_segments_of_one_abi_and_of_several_come_together_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    i386 = int(EventFlag.RETURNED) | ABI_NUMBERS["i386"] << 16
    for number, mixed in enumerate((False, True, False)):
        builder = Builder(segment=number, first=10 * number)
        for k in range(10):
            builder.event(GETPID, flags=i386 if mixed and k % 2 else int(EventFlag.RETURNED))
        builder.write(tmp_path / "segments")
    with Workers(1) as workers:
        parts = [write_rows(plan, tmp_path)[1] for plan in prepare([tmp_path / "segments"], workers).plans]
    expected = sorted(row for part in parts for row in _rows(part))
    with closing(SqliteWriter(tmp_path / "whole")) as writer:
        for at in order:
            writer.append(parts[at])
        writer.finish({}, Workers(1))
    assert _rows(tmp_path / "whole") == expected
    assert [row[19] for row in expected] == ["x86_64"] * 10 + ["x86_64", "i386"] * 5 + ["x86_64"] * 10


def test_no_rows_at_all_are_a_table_without_any(tmp_path: Path) -> None:
    with closing(SqliteWriter(tmp_path / "whole")) as writer:
        writer.append(tmp_path / "part-of-a-segment-without-rows")
        writer.finish({}, Workers(1))
    assert _rows(tmp_path / "whole") == []


def test_a_segment_whose_later_rows_have_another_abi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process.slices.SLICE", 5)
    builder = Builder()
    for k in range(15):
        builder.event(GETPID, flags=int(EventFlag.RETURNED) | (ABI_NUMBERS["i386"] << 16 if k == 12 else 0))
        if k % 5 == 4:
            builder.block()
    builder.write(tmp_path / "segments")
    with Workers(1) as workers:
        _, part = write_rows(prepare([tmp_path / "segments"], workers).plans[0], tmp_path)
    assert [row[19] for row in _rows(part)] == ["x86_64"] * 12 + ["i386"] + ["x86_64"] * 2
