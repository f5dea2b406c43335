"""32-bit programs on 64-bit kernels: every call is found as the program says, beside the native ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import command, decode
from lab import panda
from lab.guest import guest
from thirty_two import compare

pytestmark = pytest.mark.live

MARK, BEGIN, END = 9998, 0xBE617, 0xE17D
OTHER = {"x86_64": "i386", "aarch64": "arm"}
GATES = {"i386": {"int80", "vdso"}, "arm": {"arm", "thumb"}}


@dataclass(frozen=True)
class Run:
    """A guest's run: its architecture, its rows, and what its program printed."""

    arch: str
    rows: pl.DataFrame
    lines: list[dict[str, Any]]

    @property
    def abi(self) -> str:
        """The ABI of the program."""
        return OTHER[self.arch]


def boot(arch: str, folder: Path, *extra: str) -> Run:
    """Boot the workload under the capture command, and decode."""
    job = guest(arch, "compat")
    console, second = folder / "console", folder / "second"
    ports = [console, second] if job.machine.second_serial else [console]
    done = command(
        "capture", "-o", folder / "segments", "--arch", arch, "--kernel", job.kernel, "--initrd", job.initrd,
        "--append", job.append, *(word for port in ports for word in ("--serial", port)), "--buffers", "4096",
        "--timeout", "120", "--", *job.machine.options, *extra, env=panda.environment(arch),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "compat: exit status 0" in console.read_text(errors="replace"), done.stderr
    assert "errors" not in done.stderr and "no kernel-hook" not in done.stderr, done.stderr
    lines = [json.loads(line) for line in ports[-1].read_text(errors="replace").splitlines() if line[:1] == "{"]
    return Run(arch, decode(folder / "segments", folder / "compat.parquet"), lines)


@pytest.fixture(scope="module", params=OTHER)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return boot(request.param, tmp_path_factory.mktemp(request.param))


def assert_all_found(run: Run) -> None:
    """Every line is a row, in the order in which the calls began, and no other row is between the marks."""
    assert len(run.lines) > 70 and {line["gate"] for line in run.lines} == GATES[run.abi]
    rows = run.rows.sort("time_ns", maintain_order=True).filter(pl.col("abi") == run.abi)
    marks = rows.with_row_index().filter(pl.col("nr") == MARK)
    assert marks["arg1"].to_list() == [BEGIN, END]
    first, last = marks["index"].to_list()
    series = rows[first + 1 : last].to_dicts()
    pid = run.lines[0]["pid"]
    main = [line for line in run.lines if line["pid"] == pid]
    mine = [row for row in series if row["pid"] in (pid, None) and not is_childs(row)]
    assert len(mine) == len(main), [row["name"] for row in mine]
    for row, line in zip(mine, main, strict=True):
        compare(row, line, run.abi, line["ret"], line["errno"])


def is_childs(row: dict[str, Any]) -> bool:
    """Whether a row is of a child's only call, the execve of a native program."""
    return row["name"] == "sys_execve" and "busybox" in row["arg0_repr"]


def test_every_call_of_a_32_bit_program_is_decoded_by_its_own_table(run: Run) -> None:
    assert_all_found(run)


def test_the_execve_that_ends_the_32_bit_program_has_its_arguments(run: Run) -> None:
    lines = [line for line in run.lines if line["name"] == "execve" and line["ret"] == 0]
    rows = [row for row in run.rows.sort("time_ns").to_dicts() if is_childs(row) and row["abi"] == run.abi]
    assert len(rows) == len(lines) == 2
    for row, line in zip(rows, lines, strict=True):
        if row["pid"] is None:  # where tasks are address spaces, no one sees it come back
            assert row["status"] in ("returned", "noreturn", "unfinished")
            row["status"], row["retno"] = "returned", 0
        compare(row, line, run.abi, line["ret"], line["errno"])


def test_native_calls_of_the_same_guest_keep_their_abi(run: Run) -> None:
    native = run.rows.filter(pl.col("abi") == run.arch)
    assert set(run.rows["abi"].to_list()) == {run.arch, run.abi} and len(native) > 100
    assert {"sys_execve", "sys_mount", "sys_reboot"} <= set(native["name"].to_list())
    assert not [name for name in native["name"].unique().to_list() if "unknown" in name]


def test_sysenter_of_an_intel_cpu_is_seen_too(tmp_path: Path) -> None:
    """There the vDSO enters the kernel by another instruction, which tells the CPU no return address."""
    assert_all_found(boot("x86_64", tmp_path, "-cpu", "qemu64,vendor=GenuineIntel"))
