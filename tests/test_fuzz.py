"""Mutated segments, a short run of scripts/fuzz.py, and again all that has ever failed in one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import fuzz
from figures import SCRIPTS, Figure, count_figures
from segments import Builder


def test_mutated_segments_raise_nothing_unexpected(tmp_path: Path, figure: Figure) -> None:
    done = fuzz.fuzz(tmp_path, 11, tmp_path / "crashers", lambda tried: tried < 250)
    figure("mutated segments", f"{done.executions} executions, {done.decoded} with rows, {len(done.failures)} failures")
    assert not done.failures
    assert done.decoded > done.executions // 3, "most mutations get no further than the checksums"


def run_fuzzer(seconds: int, keep: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script, guided by coverage where that can be; ``path`` has modules of ours."""
    return subprocess.run(
        [sys.executable, SCRIPTS / "fuzz.py", "--minutes", str(seconds / 60), "--keep", keep, *words],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(path or "")}, timeout=600,
    )  # fmt: skip


def test_a_minute_guided_by_coverage_raises_nothing_unexpected(tmp_path: Path, figure: Figure) -> None:
    done = run_fuzzer(60, tmp_path / "crashers")
    assert done.returncode == 0, done.stderr[-4000:]
    found = count_figures(figure, "a minute of fuzzing", done)
    assert found["executions"] > 100 and found["segments with rows"] > 10
    assert found["unexpected exceptions, hangs, crashes"] == 0
    if fuzz.HAS_ATHERIS:
        assert found["segments kept for what they reach"] > 50 and found["branches reached"] > 1000


@pytest.mark.parametrize(
    ("bug", "kept"), [("raise ZeroDivisionError", ".seg"), ("os.abort()", "crash-"), ("time.sleep(999)", "timeout-")]
)
def test_a_planted_bug_is_found(tmp_path: Path, bug: str, kept: str) -> None:
    """It lies where only a mutation beneath the checksums gets: at a block whose numbers are beyond all others."""
    if not fuzz.HAS_ATHERIS:
        assert platform.machine() != "x86_64" or sys.version_info >= (3, 14), "Atheris has a wheel, and is not there"
        return
    (tmp_path / "buggy.py").write_text(
        "import os, time\n"
        "from capture.reader import read_segment\n"
        "from capture.segment import SegmentError\n"
        "from fuzz import decode\n"
        "def read(path):\n"
        "    try:\n"
        "        blocks = read_segment(path).blocks\n"
        "    except SegmentError:\n"
        "        return\n"
        "    if any(block.first > 1 << 20 for block in blocks):\n"
        f"        {bug}\n"
    )
    crashers = tmp_path / "crashers"
    done = run_fuzzer(120, crashers, "--targets", "buggy", "--patience", "2", "--first", path=tmp_path)
    assert done.returncode == 1, done.stdout
    assert any(kept in path.name for path in crashers.iterdir()), done.stderr


def test_what_has_failed_once_does_not_fail_again(tmp_path: Path) -> None:
    cases = sorted(fuzz.CRASHERS.glob("*.seg"))
    assert cases
    for case in cases:
        path = tmp_path / case.name
        path.write_bytes(case.read_bytes())
        fuzz.examine(path)


def test_a_failure_is_seen_and_kept(tmp_path: Path) -> None:
    """The fuzzer can fail: a reader that chokes on a mark is found."""
    builder = Builder()
    builder.mark(b"m")
    builder.event()
    assert fuzz.examine(builder.write(tmp_path / "a")) == 1

    def choke(path: Path) -> int:
        raise ZeroDivisionError(path)

    examine, fuzz.examine = fuzz.examine, choke
    try:
        done = fuzz.fuzz(tmp_path, 1, tmp_path / "crashers", lambda tried: tried < 3)
    finally:
        fuzz.examine = examine
    assert len(done.failures) == 3
    assert {path.name for path in (tmp_path / "crashers").iterdir()} == set(done.failures)
