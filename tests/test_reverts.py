"""A fuzzing campaign live: a revert to a snapshot for each test case, and what is decoded of it.

Sixty cases by default; ``pytest --reverts 1000 tests/test_reverts.py`` is the long form.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from capture.segment import EventFlag
from conftest import command, decode
from lab import panda, qcow2
from lab.guest import guest

pytestmark = pytest.mark.live

MARK = 9998
TARGET, CASE = "/cases", "case-{}"


@dataclass(frozen=True)
class Campaign:
    """What came of it.

    Attributes:
        cases: How many.
        rows: Decoded.
        resets: Sequence numbers of the resets.
        told: What the harness has printed.
    """

    cases: int
    rows: pl.DataFrame
    resets: list[int]
    told: dict[str, Any]

    def of_case(self, number: int) -> list[dict[str, Any]]:
        """The rows between its revert and the next."""
        first, last = [*self.resets, 1 << 62][number - 1 : number + 1]
        return self.rows.filter(pl.col("seq").is_between(first, last, closed="none")).to_dicts()


@pytest.fixture(scope="module")
def campaign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder, job = tmp_path_factory.mktemp("reverts"), guest("x86_64", "cases")
    cases = int(request.config.getoption("--reverts"))
    disk = qcow2.empty(folder / "disk.qcow2")
    words = [str(word) for word in (job.kernel, job.initrd, job.append, disk, folder / "segments", cases)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("revert_harness.py")), *words],
        env={**os.environ, **panda.environment("x86_64")}, capture_output=True, text=True, timeout=2000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = decode(folder / "segments", folder / "reverts.parquet")
    dumped = command("process", "dump", folder / "segments").stdout.splitlines()
    events = [record for record in map(json.loads, dumped) if record["type"] == "event"]
    resets = sorted(event["seq"] for event in events if event["flags"] & EventFlag.RESET)
    return Campaign(cases, rows, resets, json.loads(done.stdout.splitlines()[-1]))


def test_every_revert_is_seen_and_every_row_carries_the_mark_of_its_case(campaign: Campaign) -> None:
    assert len(campaign.resets) == campaign.cases >= 20
    before = campaign.rows.filter(pl.col("seq") < campaign.resets[0])
    assert len(before) > 50 and before["mark"].null_count() == len(before)
    for number in range(1, campaign.cases + 1):
        rows = campaign.of_case(number)
        assert len(rows) > 20 and {row["mark"] for row in rows} == {f"case {number}"}
        assert [row["arg0"] for row in rows if row["nr"] == MARK] == [number, number]


def test_no_name_leaks_over_a_revert(campaign: Campaign) -> None:
    """Each case runs in the same processes with the same descriptors, for other programs, files and folders."""
    for number in range(1, campaign.cases + 1):
        rows, own = campaign.of_case(number), CASE.format(number)
        (parent, child) = (row["pid"] for row in rows if row["nr"] == MARK)
        child_rows = [row for row in rows if row["pid"] == child]
        executed = next(at for at, row in enumerate(child_rows) if row["name"] == "sys_execve")
        assert {row["procname"] for row in rows if row["pid"] == parent} == {TARGET}
        assert {row["procname"] for row in child_rows[executed + 1 :]} == {own}
        assert {row["procname"] for row in rows if row["pid"] not in (parent, child)} <= {"/bin/busybox", "busybox"}
        writes = [row["arg0_repr"] for row in rows if row["name"] == "sys_write"]
        spare, folder = 5 + number % 3, f"/tmp/d{number % 3}"
        assert writes == [f"fd=0x3(/tmp/{own})", f"fd={spare:#x}(/tmp/{own})", f"fd=0x4({folder}/here)"]
        opened = [row["arg0_repr"] for row in rows if row["name"] == "sys_openat"]
        assert opened == ["dfd=0xffffff9c(/tmp)", f"dfd=0xffffff9c({folder})"]


def test_what_is_under_way_at_a_revert_is_unfinished_and_every_other_call_has_its_duration(campaign: Campaign) -> None:
    for number in range(1, campaign.cases):
        rows = campaign.of_case(number)
        unfinished = {row["name"] for row in rows if row["status"] == "unfinished"}
        assert unfinished >= {"sys_wait4"} and unfinished <= {"sys_wait4", "sys_pause"}
    returned = campaign.rows.filter(pl.col("status") == "returned")
    assert returned["duration_ns"].null_count() == 0


def test_reverts_lose_nothing_begin_no_segment_and_take_no_memory(campaign: Campaign) -> None:
    told = campaign.told
    assert [told[name] for name in ("dropped", "unstored", "errors")] == [0, 0, 0]
    warm, *_, end = told["memory"][2:]
    assert end - warm < 4096, told["memory"]  # KiB; each revert reads 66 MiB
