"""Mutated segments, a short run of scripts/fuzz.py, and again all that has ever failed in one."""

from __future__ import annotations

from pathlib import Path

import fuzz
from figures import Figure
from segments import Builder


def test_mutated_segments_raise_nothing_unexpected(tmp_path: Path, figure: Figure) -> None:
    done = fuzz.fuzz(tmp_path, 11, tmp_path / "crashers", lambda tried: tried < 250)
    figure("mutated segments", f"{done.executions} executions, {done.decoded} with rows, {len(done.failures)} failures")
    assert not done.failures
    assert done.decoded > done.executions // 3, "most mutations get no further than the checksums"


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
