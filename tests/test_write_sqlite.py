"""A database that is put together out of the workers' own."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import pytest

from capture.segment import ABI_NUMBERS, EventFlag
from captures import write_capture
from process.fd_history import Sheet
from process.fd_records import NEVER
from process.fd_rows import ROW, Stretch
from process.frames import frame
from process.pool import Workers
from process.prepare import prepare
from process.schema import FD_COLUMNS, TEXT_COLUMNS, kinds
from process.sqlite_file import Database
from process.tables import Files, Table
from process.text_array import TextArray
from process.write_sqlite import TABLE, SqliteWriter, _write_sheet, write_rows
from segments import BEGAN, GETPID, Builder

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
        writer.finish({"stats": Table(kinds(("severity", "count")), [("info", 1)])}, Workers(1))
    assert _rows(tmp_path / "whole") == expected
    assert not any(part.exists() for part in parts)
    with closing(sqlite3.connect(tmp_path / "whole")) as connection:
        assert connection.execute("SELECT * FROM stats").fetchall() == [("info", 1)]
        assert connection.execute("SELECT count(*) FROM event JOIN syscall USING (id)").fetchone() == (len(expected),)
        assert connection.execute(f"SELECT count(*) FROM {TABLE} WHERE pid IS NOT proc_id").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_only_what_a_page_cannot_hold_is_copied_by_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attached: list[str] = []
    attach = Database.attached

    def attach_and_tell(self: Database, part: Path) -> AbstractContextManager[sqlite3.Connection]:
        attached.append(part.name)
        return attach(self, part)

    monkeypatch.setattr(Database, "attached", attach_and_tell)
    parts = _parts(tmp_path)
    with closing(sqlite3.connect(parts[1])) as connection:
        connection.execute(f"UPDATE {TABLE} SET arg0_repr = ? WHERE id % 9 = 0", ["x" * 20_000])
        connection.commit()
    expected = [row for part in parts for row in _rows(part)]
    with closing(SqliteWriter(tmp_path / "whole")) as writer:
        for part in parts:
            writer.append(part)
        assert attached == [parts[1].name]
        writer.finish({"fd": Files(_sheets(tmp_path)[:2])}, Workers(1))
    assert attached == [parts[1].name]
    assert _rows(tmp_path / "whole") == expected
    with closing(sqlite3.connect(tmp_path / "whole")) as connection:
        assert connection.execute("SELECT count(*) FROM fd").fetchone() == (8,)
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


def _sheets(folder: Path) -> list[Sheet]:
    """Pieces of the table `fd`: one in memory, one in a file, one without rows; with nulls, large and odd values."""
    rows = np.zeros(4, ROW)
    for name, values in {
        "program": [-1, 0, 1, 0],
        "pid": [-1, 0, 7, 2**32 - 1],
        "fd": [0, 1, 2, 2**31 - 1],
        "name": [-1, 0, 1, 2],
        **{key: [0, 1, 2, 3] for key in ("source", "cloexec")},
        "how": [0, 1, 2, 9],
        "ended": [-1, 0, 4, 5],
        **{key: [-1, 0, 5, 2**62] for key in ("seq", "end_seq")},
        **{key: [-(2**63), 0, 9, NEVER] for key in ("time", "end_time")},
        "group": list(range(4)),
    }.items():
        rows[name] = values
    names = TextArray.of(["", "x'; --", "\u00e9\u4e2d"])
    Stretch(rows[::-1].copy(), names).save(folder / "kept")
    programs = np.array([5, -1])
    return [
        Sheet((Stretch(rows, names),), 1, 1, 4, programs, BEGAN),
        Sheet((folder / "kept",), 1, 5, 4, programs, BEGAN),
        Sheet((Stretch(rows[:0], names),), 2, 9, 0, programs, BEGAN),
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_table_in_pieces_is_what_inserting_row_by_row_would_make(tmp_path: Path, jobs: int) -> None:
    table = Files(_sheets(tmp_path))
    frames = [frame(sheet.columns()) for sheet in table.sheets]
    typed = ", ".join(f"{name} {'TEXT' if name in TEXT_COLUMNS else 'INTEGER'}" for name in FD_COLUMNS)
    with closing(sqlite3.connect(tmp_path / "expected")) as connection:
        connection.execute(f"CREATE TABLE fd ({typed})")
        for some in frames:
            connection.executemany(f"INSERT INTO fd VALUES ({', '.join('?' * some.width)})", some.iter_rows())
        connection.commit()
    with closing(SqliteWriter(tmp_path / "whole")) as writer, Workers(jobs) as workers:
        writer.finish({"fd": table}, workers)
    types = ", ".join(f"typeof({name})" for name in FD_COLUMNS)
    found = []
    for name in ("expected", "whole"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            rows = connection.execute(f"SELECT rowid, *, {types} FROM fd ORDER BY rowid").fetchall()
            found.append((rows, connection.execute("SELECT sql FROM sqlite_master WHERE name = 'fd'").fetchall()))
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found[0] == found[1] and len(found[0][0]) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"expected", "kept", "whole"}


def test_pieces_of_a_table_are_copied_as_they_are_stored(tmp_path: Path) -> None:
    first, second, *_ = (_write_sheet(sheet, "fd", tmp_path) for sheet in _sheets(tmp_path))
    with closing(sqlite3.connect(first)) as connection:
        connection.execute("ATTACH ? AS part", [str(second)])
        plan = connection.execute("EXPLAIN INSERT INTO fd SELECT * FROM part.fd").fetchall()
    steps = {step[1] for step in plan}
    assert "RowData" in steps and "Column" not in steps
