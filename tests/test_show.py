"""``process show``: what people read is what was decoded."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from pathlib import Path

import polars as pl
import pytest

from captures import write_capture
from conftest import BIN, RECORDED, command
from process import frames
from process.errors import ProcessError
from process.selection import Selection, parse_calls, parse_time
from process.show import Printer, Style
from segments import BEGAN, CLOSE, EXECVE, GETPID, LIST, NEWSTAT, NOT_RETURNED, OPENAT, READ, Builder, task


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same capture as segments and in both formats."""
    folder = tmp_path_factory.mktemp("outputs")
    write_capture(folder / "caps")
    for name in ("run.sqlite", "run.parquet"):
        assert command("process", folder / "caps", "-o", folder / name, "-j", "1").returncode == 0
    return {"segments": folder / "caps", "sqlite": folder / "run.sqlite", "parquet": folder / "run.parquet"}


def shown(path: Path, *options: str) -> list[str]:
    done = command("process", "show", path, "-j", "1", *options)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


def test_lines_are_as_strace_prints_them(tmp_path: Path) -> None:
    builder = Builder()
    builder.task(task(7), argv=b"/bin/sh\0")
    cwd = (1 << 64) - 100
    builder.event(OPENAT, cwd, 0x7000, 0x80000, ret=3, strings=builder.set(a1=b'/tmp/a"\x1b[31m'))
    builder.event(OPENAT, cwd, 0x7000, 0, ret=-2, strings=builder.set(a1=b"/nowhere"))
    builder.event(READ, 3, 0x7100, 4096, ret=4096)
    builder.event(NEWSTAT, 0, 0x7200, ret=-14)
    builder.event(EXECVE, 1, 2, strings=builder.set(a0=b"/bin/ls", a1=(b"ls\0-l\0", LIST)), ret=0)
    builder.event(GETPID, who=task(7, 9), ret=0x7F0000001000)
    builder.mark(b"case 2")
    builder.event(CLOSE, 3, flags=NOT_RETURNED, who=task(8))
    builder.write(tmp_path)
    assert shown(tmp_path) == [
        r'[7 /bin/sh] openat(AT_FDCWD, "/tmp/a\"\x1b[31m", 0x80000, 0) = 3',
        '[7 /bin/sh] openat(AT_FDCWD, "/nowhere", 0, 0) = -1 ENOENT (No such file or directory)',
        r'[7 /bin/sh] read(3</tmp/a"\x1b[31m>, 0x7100, 0x1000) = 4096',
        "[7 /bin/sh] newstat(NULL, 0x7200) = -1 EFAULT (Bad address)",
        "[7 /bin/sh] execve(\"/bin/ls\", ['ls', '-l'], NULL) = 0",
        "[7/9 [none]] getpid() = 0x7f0000001000",
        "--- mark: case 2",
        "[8 [none]] close(3) = ? <unfinished>",
    ]


def test_segments_and_both_outputs_show_the_same(outputs: dict[str, Path]) -> None:
    for options in ((), ("-p", "8"), ("--errors",), ("-e", "openat,close", "-r", "-T"), ("-e", "!read", "-n", "7")):
        texts = [shown(path, *options) for path in outputs.values()]
        assert texts[0] and texts[0] == texts[1] == texts[2], options


@pytest.mark.parametrize(
    "selection",
    [
        Selection(pids=(8, 9)),
        Selection(processes=("sh",)),
        Selection(processes=("[kworker]", "nobody")),
        Selection(calls=("sys_openat", "sys_read")),
        Selection(calls=("sys_openat",), is_negated=True, errors=True),
        Selection(since=BEGAN + 20_000, until=BEGAN + 60_000),
        Selection(pids=(7,), calls=("sys_openat",), errors=True, since=BEGAN),
    ],
)
def test_frames_and_sql_select_the_same_rows(outputs: dict[str, Path], selection: Selection) -> None:
    rows = pl.scan_parquet(outputs["parquet"] / "part-*.parquet").sort("id").collect()
    by_frame = rows.filter(selection.expression())["id"].to_list()
    where, values = selection.where()
    with sqlite3.connect(outputs["sqlite"]) as connection:
        by_sql = [number for (number,) in connection.execute(f"SELECT id FROM syscalls WHERE {where}", values)]
    assert by_frame == by_sql and 0 < len(by_frame) < len(rows)


def test_the_last_component_of_a_name_is_enough(tmp_path: Path) -> None:
    builder = Builder()
    builder.task(task(7), argv=b"/usr/sbin/httpd\0")
    builder.task(task(8), argv=b"/usr/sbin/sshd\0")
    builder.event(GETPID, who=task(7))
    builder.event(GETPID, who=task(8))
    builder.write(tmp_path / "caps")
    assert command("process", tmp_path / "caps", "-o", tmp_path / "a.db").returncode == 0
    for path in (tmp_path / "caps", tmp_path / "a.db"):
        assert shown(path, "--name", "httpd") == shown(path, "--name", "/usr/sbin/httpd")
        assert [line.split("]")[0] for line in shown(path, "--name", "sshd")] == ["[8 /usr/sbin/sshd"]


def test_times_are_seconds_or_utc() -> None:
    first = BEGAN + 250_000_000  # 2023-11-14 22:13:20.25
    assert parse_time("1.5", first) == first + 1_500_000_000
    assert parse_time("2023-11-14T22:13:21.5", first) == BEGAN + 1_500_000_000
    assert parse_time("2023-11-14 22:13:21Z", first) == BEGAN + 1_000_000_000
    assert parse_time("22:13:21.000001", first) == BEGAN + 1_000_001_000
    for text in ("", "yesterday", "nan", "inf", "2023-13-01"):
        with pytest.raises(ProcessError, match="is no time"):
            parse_time(text, first)


def test_calls_are_named_as_strace_names_them() -> None:
    assert parse_calls(["open,close"]) == (("sys_open", "sys_close"), False)
    assert parse_calls(["trace=openat", "read"]) == (("sys_openat", "sys_read"), False)
    assert parse_calls(["!sys_write"]) == (("sys_write",), True)
    assert "sys_newstat" in parse_calls(["stat"])[0]
    assert parse_calls([]) == ((), False)
    with pytest.raises(ProcessError, match=r"no ABI has a syscall 'opnat'; did you mean openat\?"):
        parse_calls(["opnat"])
    with pytest.raises(ProcessError, match="either calls that are wanted"):
        parse_calls(["open", "!close"])


def test_time_and_duration_stand_at_both_ends(outputs: dict[str, Path]) -> None:
    lines = shown(outputs["segments"], "-t", "-T", "-e", "read")
    timed = [line for line in lines if not line.startswith("--- mark")]
    assert all(re.fullmatch(r"22:13:20\.\d{6} \[\d.* <\d+\.\d{6}>", line) for line in timed) and len(timed) > 40
    assert shown(outputs["segments"], "-r", "-n", "1")[-1].startswith("     0.000000 [")


def test_colours_are_for_terminals_and_for_those_who_ask(outputs: dict[str, Path]) -> None:
    assert "\x1b" not in "".join(shown(outputs["sqlite"]))
    coloured = shown(outputs["sqlite"], "--color", "always")
    assert re.sub(r"\x1b\[\d*m", "", "\n".join(coloured)) == "\n".join(shown(outputs["sqlite"]))
    assert any("\x1b[31m" in line for line in coloured)


def test_an_output_of_somebody_else_reaches_no_terminal_raw() -> None:
    hostile = {name: "a\x1b]0;x\x07\n\u202eb" for name in ("name", "procname", "mark", "retno_repr", "arg0_repr")}
    row = {name: hostile.get(name, 1 if dtype == pl.Int64 else None) for name, dtype in frames.SCHEMA.items()}
    row["status"] = "returned"
    schema_of = {name: pl.Int64 if dtype == pl.Int64 else pl.String for name, dtype in frames.SCHEMA.items()}
    (text,) = Printer(Style(colour=True)).lines(pl.DataFrame([row], schema=schema_of)).to_list()
    assert all(line.isprintable() for line in re.sub(r"\x1b\[\d*m", "", text).split("\n")) and text.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("-e", "nosuchcall"), 2, "no ABI has a syscall 'nosuchcall'"),
        (("--since", "later"), 2, "'later' is no time"),
        (("-p", "init"), 2, "Invalid value"),
        (("-n", "-1"), 2, "Invalid value"),
    ],
)
def test_a_wrong_option_is_named(outputs: dict[str, Path], options: tuple[str, ...], status: int, message: str) -> None:
    done = command("process", "show", outputs["sqlite"], *options)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.db").write_bytes(b"SQLite format 3\0" + bytes(4096))
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute("CREATE TABLE notes (text)")
    for name in ("empty", "a.db", "b.db", "missing"):
        done = command("process", "show", tmp_path / name)
        assert done.returncode == 1 and done.stderr.startswith("process: error: "), (name, done.stderr)
        assert done.stderr.count("\n") == 1 and name in done.stderr


def test_a_damaged_capture_is_shown_and_said_to_be(tmp_path: Path) -> None:
    path = write_capture(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    done = command("process", "show", tmp_path)
    assert done.returncode == 3 and "warning" in done.stderr and len(done.stdout.splitlines()) > 100


def test_a_reader_that_leaves_early_is_no_error() -> None:
    line = f"'{BIN / 'process'}' show '{RECORDED}' | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[2:] == ["0"] and done.stderr == ""


def test_help_has_examples() -> None:
    assert "process show run.sqlite -p 1234 --errors" in command("process", "show", "--help").stdout
