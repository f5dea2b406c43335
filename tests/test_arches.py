"""Guests of five architectures under real PANDA: what is recorded, and what is decoded, is what they did.

The guests' program, `guest/calls.c`, gives its own account: for each call the words that it put into registers and onto
the stack, and the arguments that these mean. Without a profile a task is an address space, so the account of each
thread must be found, in order, in the one stream of calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from capture.abi import ABIS
from capture.segment import EventFlag
from conftest import command, decode
from lab import machines, panda
from lab.guest import Guest, guest
from test_live import BEGIN, END, IN_BUFFERS, MARK, NOT_BY_PROTOTYPE, OUT_SHOWN, STARTS_OVER, unescape

pytestmark = pytest.mark.live

Line = dict[str, Any]
MAX_ERRNO = 4095


class Run:
    """One architecture's run: the guest's account, the raw events and the rows between the two marks."""

    def __init__(self, arch: str, folder: Path) -> None:
        self.arch, self.abi = arch, ABIS[arch]
        self.mask = (1 << 8 * self.abi.word_size) - 1
        job = guest(arch, "calls")
        console = capture(arch, job, folder)
        assert "exit status 0" in console
        second = folder / "second"
        text = second.read_text() if job.machine.second_serial else console.split("the truth begins")[1]
        self.truth: list[Line] = [json.loads(line) for line in text.splitlines() if line.startswith('{"index"')]
        assert [line["index"] for line in self.truth] == list(range(len(self.truth)))
        assert len({line["tid"] for line in self.truth}) == 4 and len(self.truth) > 120
        rows = decode(folder / "segments", folder / "calls.parquet")
        self.maps = rows.filter(pl.col("name").cast(pl.String).str.contains("^sys_mmap"))["arg5"].drop_nulls().to_list()
        first, last = rows.filter(pl.col("nr") == MARK)["time_ns"].to_list()
        between = rows.filter(pl.col("time_ns").is_between(first, last, closed="none"))
        self.rows = between.sort("time_ns", maintain_order=True).to_dicts()
        done = command("process", "dump", folder / "segments")
        assert done.returncode == 0, done.stderr
        self.events = {event["seq"]: event for event in map(json.loads, done.stdout.splitlines()) if "seq" in event}
        marks = [event["args"][1] for event in self.events.values() if event["nr"] == MARK]
        assert marks == [BEGIN, END]

    def matched(self) -> Iterator[tuple[dict[str, Any], Line]]:
        """Every row and its line: each thread's lines are in order, and every row is a line of one of them.

        A program that starts over brings its C library's calls with it; those have no line.
        """
        waiting = {tid: [line for line in self.truth if line["tid"] == tid] for tid in {x["tid"] for x in self.truth}}
        started_over = False
        for row in self.rows:
            heads = [lines for lines in waiting.values() if lines and self.is_same(row, lines[0])]
            if not heads:
                assert started_over, f"not of the program: {row}\nthreads are at {[x[:1] for x in waiting.values()]}"
                continue
            line = heads[0].pop(0)
            started_over |= line["name"] == STARTS_OVER and line["ret"] == 0
            yield row, line
        assert not any(waiting.values()), f"not found: {[lines[:1] for lines in waiting.values()]}"

    def is_same(self, row: dict[str, Any], line: Line) -> bool:
        """Whether a row's event has a line's number, words and result, all raw."""
        event, ret, flags = self.events[row["seq"]], line["ret"], 0
        words = [word & self.mask for word in event["args"]]
        if self.abi.word_size == 4:
            words += [word >> 32 for word in event["args"][:2]]
        if ret is not None:
            flags = EventFlag.RETURNED
            if self.abi.error is not None and -MAX_ERRNO <= ret < 0:
                ret, flags = -ret, flags | EventFlag.ERROR
        told = event["flags"] & (EventFlag.RETURNED | EventFlag.ERROR)
        same = event["nr"] == line["nr"] & 0xFFFFFFFF and told == flags
        same = same and words[: len(line["words"])] == [int(word, 16) for word in line["words"]]
        return same and event["ret"] == (0 if ret is None else ret & self.mask)


def capture(arch: str, job: Guest, folder: Path) -> str:
    """Boot a guest as a user would, with the machine's defaults; gives what is on its console."""
    done = command(
        "capture", "-o", folder / "segments", "--arch", arch, "--kernel", job.kernel, "--initrd", job.initrd,
        "--append", job.append, "--serial", folder / "console", "--serial", folder / "second",
        "--buffers", "4096", "--max-string", "16384", env=panda.environment(arch),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return (folder / "console").read_text(encoding="utf-8", errors="backslashreplace")


@pytest.fixture(scope="module", params=machines.TABLE)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(request.param, tmp_path_factory.mktemp(request.param))


def test_every_call_is_recorded_raw_and_decoded_with_its_arguments_result_and_errno(run: Run) -> None:
    for row, line in run.matched():
        compare(run, row, line)


def compare(run: Run, row: dict[str, Any], line: Line) -> None:
    """Fail unless a row is what the program says it did."""
    told = f"\nrow  {row}\nline {line}"
    if line["name"] is not None and run.arch != "x86_64":
        assert row["name"] in names(line["name"]), told
    values = [row[f"arg{i}"] for i in range(6) if row[f"arg{i}"] is not None]
    wanted = [int(word, 16) for word in line["args"]]
    if line["name"] is None:  # a call that does not exist has as many arguments as one likes
        wanted = wanted[: len(values)]
    assert [number(run, value) for value in values[: len(wanted)]] == [number(run, value) for value in wanted], told
    assert line["name"] is None or len(values) == len(wanted), told
    assert row["errno"] == line["errno"], told
    assert (line["ret"] is None) == (row["retno"] is None), told
    if line["ret"] is not None:  # an address is shown unsigned
        assert number(run, row["retno"]) == number(run, line["ret"]), told
    if line["errno"]:
        assert row["retno_repr"].startswith(line["errno"] + "("), told
    assert row["status"] == ("noreturn" if line["ret"] is None else "returned"), told
    for position, text in line["strings"].items():
        if (line["name"], position) not in NOT_BY_PROTOTYPE:
            said = bytes.fromhex(text)
            if line["name"] in IN_BUFFERS:
                said = said[: wanted[int(position) + 1]]
            assert shown(row, position) == said, told
    for position, text in line["out"].items():
        if line["name"] in OUT_SHOWN:
            found = shown(row, position)[:64]
            assert found == bytes.fromhex(text).removesuffix(OUT_SHOWN[line["name"]]), told
    for position, items in line["lists"].items():
        inner = re.fullmatch(r"\w+=0x[0-9a-f]+\(\[(.*)\]\)", row[f"arg{position}_repr"], re.DOTALL)
        assert inner, told
        assert [unescape(item) for item in re.findall(r"'((?:[^'\\]|\\.)*)'", inner[1])] == [
            bytes.fromhex(item) for item in items
        ], told


def names(name: str) -> set[str]:
    """What the kernel may call a call of that name: its own names for the oldest begin otherwise, or end in 16."""
    bare = name.removeprefix("arm_").removeprefix("_")
    others = {"sync_file_range": "sync_file_range2", "fadvise64": "fadvise64_64", "mmap2": "mmap_pgoff"}
    known = {name, bare, f"new{bare}", f"{bare}16", f"{bare}_time32", others.get(bare, bare)}
    return {f"sys_{each}" for each in known}


def number(run: Run, value: int) -> int:
    """A value as 64 bits; what fits a register of 32 is extended by its sign, since the account does not say which."""
    value &= (1 << 64) - 1
    if run.abi.word_size == 4 and (value < 1 << 32 or value >= (1 << 64) - (1 << 31)):
        value &= 0xFFFFFFFF
        value = (value - (value >> 31 << 32)) & (1 << 64) - 1
    return value


def shown(row: dict[str, Any], position: str) -> bytes:
    """The bytes that an argument's text shows."""
    text = re.fullmatch(r'\w+=0x[0-9a-f]+\("(.*)"\)', row[f"arg{position}_repr"], re.DOTALL)
    assert text, row
    return unescape(text[1])


def test_the_c_librarys_calls_have_their_sixth_argument(run: Run) -> None:
    """On i386 it enters by the vDSO, which puts that argument on the stack."""
    assert run.maps.count(3 if run.abi.word_size == 4 else 3 * 4096) == 1


def test_offsets_beyond_four_gigabytes_and_negative_successes_are_there(run: Run) -> None:
    """The account itself holds what this test is for: a program that failed to make these calls would prove little."""
    by_name: dict[str, list[Line]] = {}
    for line in run.truth:
        by_name.setdefault(str(line["name"]).removeprefix("arm_").removesuffix("64").removesuffix("64_"), []).append(
            line
        )
    for name in (
        "pread", "pwrite", "ftruncate", "truncate", "fadvise", "fallocate", "sync_file_range", "readahead",
        "fanotify_mark", "lookup_dcookie",
    ):  # fmt: skip
        assert any(int(word, 16) >> 32 not in (0, 0xFFFFFFFF) for line in by_name[name] for word in line["args"]), name
    if run.abi.word_size == 4:
        assert [line["ret"] for line in by_name["_llseek"]] == [0, -22]
    top = 1 << 8 * run.abi.word_size - 1
    assert any(line["ret"] is not None and line["ret"] < -MAX_ERRNO for line in by_name["lseek"])
    if run.arch in ("i386", "arm"):
        assert any(line["ret"] == 0xB0000000 - 2 * top for line in by_name["mmap2"])
