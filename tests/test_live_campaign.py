"""Real guests under real PANDA: full disks, signals, and watching from outside."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from capture.reader import read_segment
from conftest import BIN, command, decode
from figures import Figure, run_script, show_figures
from lab import panda
from lab.guest import guest

pytestmark = pytest.mark.live


def words_for(workload: str, segments: Path, console: Path, *options: str) -> list[str]:
    """The command that captures a workload."""
    job = guest("x86_64", workload)
    second = console.with_name("second")
    words = [BIN / "capture", "-o", segments, "--kernel", job.kernel, "--initrd", job.initrd, "--append", job.append]
    return [*map(str, words), "--serial", str(console), "--serial", str(second), *options]


def stats(output: Path) -> dict[str, int]:
    """The ledger of a Parquet output: counts by item."""
    found: list[dict[str, Any]] = json.loads((output / "stats.json").read_text())
    return {f"{row['stage']}: {row['item']}": row["count"] for row in found}


def test_a_full_disk_never_stops_the_guest_and_what_it_costs_is_counted(
    small_disk: Path, tmp_path: Path, figure: Figure
) -> None:
    segments, console = small_disk / "segments", tmp_path / "console"
    words = words_for("noise", segments, console, "--buffers", "4096")
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env={**os.environ, **panda.environment("x86_64")}
    )
    assert "noise: end" in console.read_text(errors="replace"), done.stderr[-2000:]
    told = {name: int(count.replace(",", "")) for name, count in _pairs(done.stderr)}
    assert told["dropped"] > 100 and "Traceback" not in done.stderr
    output = tmp_path / "rows.parquet"
    decoded = command("process", segments, "-o", output)
    assert decoded.returncode == 3 and f"events dropped by capture: {told['dropped']:,}" in decoded.stderr
    rows = pl.scan_parquet(f"{output}/*.parquet").collect()
    counts = stats(output)
    assert counts["capture: dropped"] == told["dropped"]
    missing = [count for item, count in counts.items() if item.startswith("read: events missing from capture")]
    assert missing == [told["dropped"]]
    assert len(rows) > 1000 and rows["seq"].is_unique().all()
    figure("tmpfs of 8 MiB, guests stopped", 0)
    figure("tmpfs of 8 MiB, rows / events dropped as capture says / as the ledger says",
           f"{len(rows)} / {told['dropped']} / {counts['capture: dropped']}")  # fmt: skip


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """`capture: warning: dropped 1,234, errors 5` as pairs."""
    for line in text.splitlines():
        if line.startswith("capture: warning: dropped"):
            for pair in line.removeprefix("capture: warning: ").split(", "):
                name, _, count = pair.partition(" ")
                yield name, count


def wait_for(condition: Callable[[], bool], run: subprocess.Popen[Any]) -> None:
    """Until it holds, or the run has ended."""
    while not condition() and run.poll() is None:
        time.sleep(0.02)
    assert run.poll() is None, "the capture has ended by itself"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_seals_the_capture_also_when_it_comes_twice_while_segments_are_begun(
    tmp_path: Path, number: signal.Signals, figure: Figure
) -> None:
    """Meanwhile its state is seen from outside, and with SIGTERM its line on a terminal."""
    segments, is_terminal = tmp_path / "segments", number is signal.SIGTERM
    words = words_for("busy", segments, tmp_path / "console", "--segment-size", "16K")
    master, slave = pty.openpty()
    with subprocess.Popen(
        words, env={**os.environ, **panda.environment("x86_64")}, stdout=subprocess.PIPE, text=True,
        stderr=slave if is_terminal else subprocess.DEVNULL,
    ) as run:  # fmt: skip
        os.close(slave)
        wait_for(lambda: len(list(segments.glob("*.seg"))) > 2, run)
        (shown,) = json.loads(command("capture", "status", segments, "--json").stdout)
        assert shown["state"] == "running" and shown["pid"] == run.pid and shown["events"] > 1000
        early = decode(segments, tmp_path / "early.parquet")
        stored = len(list(segments.glob("*.seg")))
        wait_for(lambda: len(list(segments.glob("*.seg"))) > stored, run)
        began = time.monotonic()
        run.send_signal(number)
        time.sleep(0.01)
        if run.poll() is None:
            run.send_signal(number)
        summary = run.stdout.read() if run.stdout else ""
        run.wait()
        seconds = time.monotonic() - began
    terminal = _drained(master)
    assert run.returncode == 0, terminal[-2000:]
    assert {path.suffix for path in segments.iterdir()} == {".seg"}
    assert all(read_segment(path).sealed for path in segments.iterdir())
    rows = decode(segments, tmp_path / "rows.parquet")
    captured = int(summary.split()[1].replace(",", ""))
    counts = stats(tmp_path / "rows.parquet")
    assert counts["capture: events"] == counts["read: events"] == captured >= len(rows) > len(early) > 1000
    whole = early.filter(pl.col("status") == "returned").select("seq", "name", "arg0", "retno", "tid", "procname")
    assert whole.join(rows, on=whole.columns, how="anti", nulls_equal=True).is_empty()
    if is_terminal:
        assert " events, " in terminal and " dropped, segment " in terminal
    figure(f"{number.name} twice under rotation, events lost", 0)
    figure(f"{number.name} twice under rotation, sealed in s", f"{seconds:.2f}")


def _drained(master: int) -> str:
    """All that was written to a terminal."""
    text = b""
    os.set_blocking(master, False)
    try:
        while piece := os.read(master, 65536):
            text += piece
    except OSError:
        pass
    os.close(master)
    return text.decode(errors="replace")


def test_a_capture_stays_below_its_limit_and_tells_what_it_deleted(figure: Figure) -> None:
    """Half a minute of what `scripts/soak.py` does for an hour."""
    done = run_script("soak.py", "--minutes", "0.5", "--max-size", "8M", "--workload", "noise")
    assert done.returncode == 0, done.stderr[-2000:]
    found = show_figures(figure, "half a minute below 8 MiB", done)
    assert int(found["events captured"]) > 1000 and int(found["most bytes of the folder"]) <= 8 << 20
