"""Real guests under real PANDA: what is decoded is what they did."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.sizes import segments
from capture.segment import EventFlag
from conftest import Captured, capture_guest, command, decode
from lab import panda
from lab.guest import guest

pytestmark = pytest.mark.live

MARK, BEGIN, END = 9998, 0xBE617, 0xE17D
# Which strings a prctl takes depends on its first argument; capture goes by the prototype, which has none.
NOT_BY_PROTOTYPE = {("prctl", "1")}
# Calls whose result is text or bytes by prototype, and the end that is not part of it.
OUT_SHOWN = {"read": b"", "pread64": b"", "readlink": b"", "getcwd": b"\0", "getrandom": b""}
IN_BUFFERS = {"write", "pwrite64"}
STARTS_OVER = "execve"


def unescape(text: str) -> bytes:
    """The guest's bytes behind an escaped string: written anew here, so that it can disagree."""
    out, i, raw = b"", 0, text
    simple = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\", '"': b'"', "'": b"'", "0": b"\0"}
    while i < len(raw):
        if raw[i] != "\\":
            out, i = out + raw[i].encode(), i + 1
        elif raw[i + 1] == "x":
            out, i = out + bytes.fromhex(raw[i + 2 : i + 4]), i + 4
        else:
            out, i = out + simple[raw[i + 1]], i + 2
    return out


def signed(value: int) -> int:
    return value - (value >> 63 << 64)


@pytest.fixture(scope="module")
def rows(calls: Captured, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return decode(calls.segments, tmp_path_factory.mktemp("decoded") / "calls.parquet")


@pytest.fixture(scope="module")
def truth(calls: Captured) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in calls.second.splitlines()]
    assert len(lines) > 100 and "exit status 0" in calls.console
    return lines


def between_marks(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The series' rows, in the order in which the calls began."""
    marks = rows.filter(pl.col("nr") == MARK)
    assert marks["arg1"].to_list() == [BEGIN, END]
    first, last = marks["id"].to_list()
    series = rows.filter(pl.col("id").is_between(first, last, closed="none"))
    return series.sort("time_ns", maintain_order=True).to_dicts()


def test_every_call_of_the_program_is_decoded_in_order_with_its_arguments_and_result(
    rows: pl.DataFrame, truth: list[dict[str, Any]]
) -> None:
    compare_all(rows, truth)


def compare_all(rows: pl.DataFrame, truth: list[dict[str, Any]]) -> None:
    """The program's own account, call by call; a program that starts over brings its C library's calls with it."""
    series = between_marks(rows)
    for tid in {line["tid"] for line in truth}:
        mine = [row for row in series if row["tid"] == tid]
        wanted = [line for line in truth if line["tid"] == tid]
        started_over = any(line["name"] == STARTS_OVER and line["ret"] == 0 for line in wanted)
        at = 0
        for line in wanted:
            while started_over and at < len(mine) and mine[at]["nr"] != line["nr"] & 0xFFFFFFFF:
                at += 1
            assert at < len(mine), f"not found: {line}"
            compare(mine[at], line)
            at += 1
        assert started_over or at == len(mine), f"tid {tid}: {mine[at:][0]} is not of the program"


def compare(row: dict[str, Any], line: dict[str, Any]) -> None:
    """Fail unless a row is what the program says it did."""
    told = f"\nrow  {row}\nline {line}"
    assert row["nr"] == line["nr"] & 0xFFFFFFFF, told
    assert (row["pid"], row["tid"]) == (line["pid"], line["tid"]), told
    values = [row[f"arg{i}"] for i in range(6) if row[f"arg{i}"] is not None]
    wanted_values = [signed(int(word, 16)) for word in line["args"]]
    if line["name"] is None:  # a call that does not exist has as many arguments as one likes
        wanted_values = wanted_values[: len(values)]
    assert values == wanted_values, told
    assert row["retno"] == line["ret"], told
    assert row["errno"] == line["errno"], told
    if line["errno"]:
        assert row["retno_repr"].startswith(line["errno"] + "("), told
    assert row["status"] == ("noreturn" if line["ret"] is None else "returned"), told
    for position, text in line["strings"].items():
        if (line["name"], position) not in NOT_BY_PROTOTYPE:
            shown = re.fullmatch(r'\w+=0x[0-9a-f]+\("(.*)"\)', row[f"arg{position}_repr"], re.DOTALL)
            assert shown, told
            wanted = bytes.fromhex(text)
            if line["name"] in IN_BUFFERS:
                wanted = wanted[: int(line["args"][int(position) + 1], 16)]
            assert unescape(shown[1]) == wanted, told
    for position, text in line["out"].items():
        shown = re.fullmatch(r'\w+=0x[0-9a-f]+\("(.*)"\)', row[f"arg{position}_repr"], re.DOTALL)
        if line["name"] in OUT_SHOWN:
            assert shown, told
            assert unescape(shown[1])[:64] == bytes.fromhex(text).removesuffix(OUT_SHOWN[line["name"]]), told
    for position, items in line["lists"].items():
        shown = re.fullmatch(r"\w+=0x[0-9a-f]+\(\[(.*)\]\)", row[f"arg{position}_repr"], re.DOTALL)
        assert shown, told
        found = re.findall(r"'((?:[^'\\]|\\.)*)'", shown[1])
        assert [unescape(item) for item in found] == [bytes.fromhex(item) for item in items], told


def test_names_come_from_the_kernel_table_and_unknown_numbers_are_kept(
    rows: pl.DataFrame, truth: list[dict[str, Any]]
) -> None:
    known = {line["nr"]: line["name"] for line in truth if line["name"]}
    for number, name in rows.select("nr", "name").unique().iter_rows():
        if number in known:
            assert name in (f"sys_{known[number]}", f"sys_new{known[number]}")
    unknown = rows.filter(pl.col("nr") == 9999).to_dicts()[0]
    assert unknown["errno"] == "ENOSYS" and unknown["arg0"] == -(2**63) and "9999" in unknown["name"]


def test_unreadable_strings_are_said_to_be_unreadable(rows: pl.DataFrame, truth: list[dict[str, Any]]) -> None:
    faults = [line for line in truth if line["name"] == "openat" and line["errno"] == "EFAULT"]
    assert len(faults) >= 5
    openats = [row for row in between_marks(rows) if row["name"] == "sys_openat"]
    shown = {row["arg1"]: row["arg1_repr"] for row in openats if row["errno"] == "EFAULT"}
    for line in faults:
        address = int(line["args"][1], 16)
        assert shown[signed(address)] == "filename=[NULL]" if address == 0 else "[unreadable]" in shown[signed(address)]


def test_the_shell_that_ran_the_program_and_the_program_have_their_names(rows: pl.DataFrame) -> None:
    names = set(rows["procname"].to_list())
    assert {"/calls", "busybox"} <= names and not names & {"?", "[none]", ""}
    exec_row = rows.filter((pl.col("name") == "sys_execve") & pl.col("arg0_repr").str.contains('"/calls"')).to_dicts()
    assert [row["status"] for row in exec_row] == ["returned"] and exec_row[0]["procname"] != "/calls"


def test_vfork_and_its_exec_are_one_row_each(rows: pl.DataFrame) -> None:
    series = pl.DataFrame(between_marks(rows), infer_schema_length=None)
    vforks = series.filter(pl.col("name") == "sys_vfork")
    assert vforks["status"].to_list() == ["returned"]
    child = vforks["retno"].item()
    execs = series.filter((pl.col("name") == "sys_execve") & (pl.col("tid") == child))
    assert execs.select("retno", "status").rows() == [(0, "returned")]


def test_the_demo_has_many_calls_of_many_processes_none_of_them_nameless(demo: Captured, tmp_path: Path) -> None:
    rows = decode(demo.segments, tmp_path / "demo.parquet")
    assert len(rows) >= 5000
    assert rows["proc_id"].n_unique() >= 8 and rows["procname"].n_unique() >= 8
    assert not set(rows["procname"].to_list()) & {"?", "", "[none]"}
    assert rows["seq"].is_unique().all() and rows["id"].to_list() == list(range(1, len(rows) + 1))
    assert "demo: end" in demo.console


def test_the_demo_takes_few_bytes_for_each_event(demo: Captured) -> None:
    """Strings, files and identities included; 14 is what scripts/bench holds it to, on a quiet machine."""
    found = segments(demo.segments)
    assert found["all"] <= 15, found
    assert set(found["blocks"]) == {"EVENTS", "STRINGS", "FILES", "SETS", "TASKS", "OTHERS"}


def test_one_worker_and_two_give_the_same_rows(demo: Captured, tmp_path: Path) -> None:
    one = decode(demo.segments, tmp_path / "one.parquet", "-j", "1")
    two = decode(demo.segments, tmp_path / "two.parquet", "-j", "2")
    assert one.equals(two)


def test_a_filter_keeps_its_process_whole_and_flags_what_it_keeps_of_others(tmp_path: Path) -> None:
    captured = capture_guest(tmp_path, "calls", "--procs", "calls", "--profile", str(profile_file(tmp_path)))
    rows = decode(captured.segments, tmp_path / "filtered.parquet")
    others = rows.filter(pl.col("procname") != "/calls")
    assert len(rows.filter(pl.col("procname") == "/calls")) > 100
    assert len(others) > 0
    assert set(others["name"].to_list()) <= {
        "sys_execve", "sys_open", "sys_openat", "sys_close", "sys_dup2", "sys_fcntl", "sys_clone", "sys_vfork",
        "sys_wait4", "sys_exit_group", "sys_chdir", "sys_prctl", "sys_rt_sigreturn", "sys_reboot", "sys_fork",
        "sys_pipe", "sys_pipe2", "sys_dup", "sys_set_tid_address",
    }  # fmt: skip


def profile_file(folder: Path) -> Path:
    """The guest's profile, made by the command."""
    path = folder / "guest.kernelinfo"
    done = command("capture", "profile", guest("x86_64", "calls").kernel, "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def kill_at(target: int, folder: Path) -> tuple[int, int]:
    """Run the harness until it has counted ``target`` events, kill it; gives its count and how many are lost."""
    job, counter = guest("x86_64", "busy"), folder / "counter"
    folder.mkdir()
    counter.write_bytes(bytes(8))
    words = [sys.executable, str(Path(__file__).with_name("harness.py")), str(job.kernel), str(job.initrd), job.append]
    environment = {**os.environ, **panda.environment("x86_64")}
    with (
        open(counter, "r+b") as file,
        subprocess.Popen(
            [*words, str(folder / "segments"), str(counter)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as run,
    ):  # fmt: skip
        count = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
        while count[0] < target and run.poll() is None:
            time.sleep(0.0005)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert run.returncode == -signal.SIGKILL, f"the guest ended by itself at {count[0]} events"
        told = int(count[0])
    recorded = raw_events(folder / "segments")
    completed = {event["seq"] - event["entry"] for event in recorded if event["entry"]}
    completed |= {event["seq"] for event in recorded if event["flags"] & EventFlag.CHILD}
    rows = decode(folder / "segments", folder / "killed.parquet")
    assert set(rows["seq"].to_list()) == {event["seq"] for event in recorded} - completed
    return told, len(set(range(told)) - {event["seq"] for event in recorded})


def raw_events(segments: Path) -> list[dict[str, Any]]:
    """The events as the command dumps them, nothing decoded."""
    done = command("process", "dump", segments)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return [record for record in records if record["type"] == "event"]


TARGETS = (1, 70, 256, 511, 900, 1300, 1792, 2600, 3333, 4200)


def test_kill_9_at_ten_moments_loses_no_recorded_event(tmp_path: Path) -> None:
    """The harness counts what its recorder was given; chunks hold 256 events, so that kills meet every stage."""
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda target: kill_at(target, tmp_path / str(target)), TARGETS))
    assert [missing for _, missing in results] == [0] * len(TARGETS)
    assert all(told >= target for (told, _), target in zip(results, TARGETS, strict=True))
