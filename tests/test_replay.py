"""A recording that PANDA made at full speed, captured when it is replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import command, decode
from lab import panda
from lab.guest import guest
from test_live import compare_all

pytestmark = pytest.mark.live

HARNESS = Path(__file__).with_name("replay_harness.py")


def test_a_replay_gives_every_call_that_the_program_made_when_it_was_recorded(tmp_path: Path) -> None:
    job, environment = guest("x86_64", "calls", "lead=3 hold=60"), panda.environment("x86_64")
    machine = [str(job.kernel), str(job.initrd), job.append]
    told = [str(tmp_path / "console"), str(tmp_path / "second")]
    recording = str(tmp_path / "recording")
    done = subprocess.run(
        [sys.executable, str(HARNESS), "record", recording, *machine, *told],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    truth = [json.loads(line) for line in Path(told[1]).read_text("utf-8").splitlines()]
    assert len(truth) > 100
    again = [str(tmp_path / "console again"), str(tmp_path / "second again")]
    done = command(
        "capture", "run", HARNESS, "-o", tmp_path / "segments", "--buffers", "4096", "--max-string", "16384",
        "--", "replay", recording, *machine, *again, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = decode(tmp_path / "segments", tmp_path / "replay.parquet")
    compare_all(rows, truth)
    assert {"/calls", "busybox"} <= set(rows["procname"].to_list())
    assert rows["duration_ns"].null_count() == len(rows.filter(rows["status"] != "returned"))
