"""The outputs, read by the tools that people use; they do not depend on how they were made."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import process
from captures import write_capture
from process.errors import ProcessError
from process.frames import SCHEMA
from process.output import Format
from process.pipeline import decode
from process.write_parquet import FD_GLOB
from segments import OPENAT, READ, Builder

OLD_SYSCALL = ["id", "name", "retno", "retno_repr"] + [n for k in range(6) for n in (f"arg{k}", f"arg{k}_repr")]


def sqlite_rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def dataset(path: Path) -> pl.DataFrame:
    return pl.scan_parquet(f"{path}/**/*.parquet").collect()


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("capture")
    write_capture(folder)
    return folder


@pytest.mark.parametrize("format_", Format)
def test_rows_and_ids_do_not_depend_on_workers_or_order(capture: Path, tmp_path: Path, format_: Format) -> None:
    paths = sorted(capture.iterdir())
    shuffled = random.sample(paths, len(paths))
    outputs = []
    for index, (inputs, jobs) in enumerate([([capture], 1), (paths, 2), (shuffled, 1), (shuffled, 3)]):
        out = tmp_path / f"{index}.{format_.value}"
        summary = decode(inputs, out, format_, jobs=jobs)
        assert not summary.ledger.lossy
        query = "SELECT * FROM syscalls"
        rows = sqlite_rows(out, query) if format_ is Format.SQLITE else dataset(out).rows()
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        assert len(rows) == summary.rows == 4 * 60 + 3 + 1
        outputs.append(rows)
    assert outputs[1:] == outputs[:1] * 3


def test_sqlite_and_parquet_and_scan_hold_the_same_rows(capture: Path, tmp_path: Path) -> None:
    decode([capture], tmp_path / "a.sqlite", Format.SQLITE)
    decode([capture], tmp_path / "a.parquet", Format.PARQUET)
    scanned = process.scan(capture).collect()
    assert scanned.schema == SCHEMA
    assert_frame_equal(dataset(tmp_path / "a.parquet"), scanned, categorical_as_str=True)
    assert sqlite_rows(tmp_path / "a.sqlite", "SELECT * FROM syscalls") == scanned.rows()


def test_the_old_clients_tables_are_there(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.db"
    decode([capture], out, Format.SQLITE)
    with sqlite3.connect(out) as connection:
        event = connection.execute("SELECT * FROM event")
        assert [column[0] for column in event.description] == ["id", "type", "procname", "proc_id"]
        syscall = connection.execute("SELECT * FROM syscall")
        assert [column[0] for column in syscall.description] == OLD_SYSCALL
        joined = connection.execute(
            "SELECT event.type, event.procname, event.proc_id, syscall.name, syscall.arg1_repr FROM event"
            " JOIN syscall ON event.id = syscall.id"
            " WHERE event.procname = 'sh' AND syscall.name = 'sys_openat'"
        ).fetchone()
    connection.close()
    assert joined == ("syscall", "sh", 7, "sys_openat", 'filename=0x7000("/etc/0")')


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 command here")
def test_the_sqlite3_command_finds_the_file_sound(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.sqlite"
    decode([capture], out, Format.SQLITE)
    check = subprocess.run(["sqlite3", out, "PRAGMA integrity_check"], capture_output=True, text=True, check=True)
    assert check.stdout == "ok\n"


def test_the_small_tables(capture: Path, tmp_path: Path) -> None:
    decode([capture], tmp_path / "a.sqlite", Format.SQLITE)
    decode([capture], tmp_path / "a.parquet", Format.PARQUET)
    for name in ("process", "fd", "segment", "stats"):
        rows = sqlite_rows(tmp_path / "a.sqlite", f"SELECT * FROM {name}")
        if name == "fd":
            assert rows and pl.read_parquet(tmp_path / "a.parquet" / FD_GLOB).rows() == rows
            continue
        objects = json.loads((tmp_path / "a.parquet" / f"{name}.json").read_text())
        assert [tuple(one.values()) for one in objects] == rows
    process_rows = sqlite_rows(
        tmp_path / "a.sqlite",
        "SELECT pid, ppid, procname, argv, first_seq, events FROM process ORDER BY first_seq",
    )
    assert process_rows[0] == (7, 1, "sh", '["sh", "-c", "0"]', 0, 20 + 1)
    assert process_rows[1] == (8, 1, "[kworker]", None, 1, 80)
    assert process_rows[2] == (9, None, "[none]", None, 2, 80)
    total = sqlite_rows(tmp_path / "a.sqlite", "SELECT sum(events) FROM process")[0][0]
    assert total == sqlite_rows(tmp_path / "a.sqlite", "SELECT count(*) FROM syscalls")[0][0]
    stats = dict(sqlite_rows(tmp_path / "a.sqlite", "SELECT stage || ' ' || item, count FROM stats"))
    assert stats["capture events"] == stats["read events"] == 4 * 61 + 3
    assert stats["decode rows"] == total
    assert stats["decode calls of x86_64 syscall 5000, which no table has"] == 48


@pytest.mark.usefixtures("no_batching")
def test_a_dataset_has_a_part_for_each_segment_and_one_schema(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    decode([capture], out, Format.PARQUET)
    parts = sorted(path.name for path in out.iterdir())
    assert parts == ["fd-00000.pq"] + [f"part-{k:05d}.parquet" for k in range(4)] + [
        "process.json",
        "segment.json",
        "stats.json",
    ]
    assert all(pl.read_parquet_schema(path) == SCHEMA for path in out.glob("*.parquet"))


def test_hostile_strings_and_large_integers_survive_sqlite(tmp_path: Path) -> None:
    builder = Builder()
    text = b"'; DROP TABLE syscalls; --\0\xff\xed\xa0\x80"
    builder.event(OPENAT, 1 << 63, 0x10, ret=1 << 63, strings=builder.set(a1=text))
    decode([builder.write(tmp_path)], tmp_path / "a.sqlite", Format.SQLITE)
    assert sqlite_rows(tmp_path / "a.sqlite", "SELECT arg0, retno, arg1_repr FROM syscalls") == [
        (-(1 << 63), -(1 << 63), 'filename=0x10("\'; DROP TABLE syscalls; --\\x00\\xff\\xed\\xa0\\x80")')
    ]


def test_a_capture_without_events_gives_an_empty_output(tmp_path: Path) -> None:
    segment = Builder().write(tmp_path)
    decode([segment], tmp_path / "a.sqlite", Format.SQLITE)
    decode([segment], tmp_path / "a.parquet", Format.PARQUET)
    assert sqlite_rows(tmp_path / "a.sqlite", "SELECT count(*) FROM syscall") == [(0,)]
    assert dataset(tmp_path / "a.parquet").schema == SCHEMA


def test_scan_applies_filters_projections_and_slices(capture: Path) -> None:
    whole = process.scan(capture).collect()
    lazy = process.scan([capture])
    wanted = lazy.filter(pl.col("name") == "sys_read").select("id", "arg0_repr").collect()
    assert_frame_equal(wanted, whole.filter(pl.col("name") == "sys_read").select("id", "arg0_repr"))
    assert_frame_equal(lazy.head(70).collect(), whole.head(70), categorical_as_str=True)
    assert_frame_equal(
        lazy.filter(pl.col("nr") == READ).slice(3, 5).collect(),
        whole.filter(pl.col("nr") == READ).slice(3, 5),
        categorical_as_str=True,
    )
    assert lazy.select(pl.len()).collect().item() == len(whole)


def test_scan_warns_of_what_is_missing_and_refuses_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no segments"):
        process.scan(tmp_path)
    paths = write_capture(tmp_path)
    paths[1].unlink()
    with pytest.warns(UserWarning, match="events missing"):
        assert len(process.scan(tmp_path).collect()) < 4 * 60


def test_a_script_that_stops_reading_early_ends_well(capture: Path) -> None:
    query = f"process.scan({str(capture)!r}).filter(polars.col('nr') >= 0).head(2).collect().height"
    script = f"import polars, process; print({query})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_importing_process_loads_neither_polars_nor_numpy() -> None:
    script = "import sys, process, process.cli; sys.exit(bool({'polars', 'numpy', 'pandare'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_slices_of_a_segment_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_capture(tmp_path)
    whole = process.scan(paths).collect()
    monkeypatch.setattr("process.slices.SLICE", 7)
    assert_frame_equal(process.scan(paths).collect(), whole, categorical_as_str=True)


def test_events_that_a_running_capture_adds_meanwhile_are_left_for_the_next_time(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    builder.block()
    path = builder.write(tmp_path)
    lazy = process.scan(path)
    builder.event()
    builder.write(tmp_path)
    assert lazy.collect()["seq"].to_list() == [0]


def test_events_that_a_live_file_gains_meanwhile_are_left_for_the_next_time(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    builder.live(tmp_path)
    with pytest.warns(UserWarning, match="not sealed"):
        lazy = process.scan(tmp_path)
    builder.event()
    builder.live(tmp_path)
    assert lazy.collect()["seq"].to_list() == [0]
