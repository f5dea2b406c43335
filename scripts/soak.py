"""A capture that runs for long below a limit: a busy guest under `capture --max-size --policy drop-oldest`.

Once a second the size of its folder and the memory of the emulator are looked at. In the end all that was kept is
decoded: every event from the first that was kept on must be a row, and those before it must be told as dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from capture.size import bytes_of
from lab import panda
from lab.guest import guest

BIN = Path(sys.executable).parent
ARCH = "x86_64"
SETTLED = 0.25
"""The share of a run after which its memory should no longer grow: by then the guest has touched its own."""


def folder_size(folder: Path) -> int:
    """Bytes that a folder's files have."""
    found = 0
    for entry in os.scandir(folder):
        try:
            found += entry.stat().st_size
        except FileNotFoundError:  # deleted meanwhile
            continue
    return found


def memory_of(pid: int) -> int:
    """Bytes that a process holds, 0 if it has ended; its files apart, which are the live ones of the capture."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def capture(words: list[str], folder: Path) -> tuple[int, list[int], str]:
    """Run it; gives the most that its folder had, its memory second by second, and what it said."""
    most, memory = 0, []
    environment = {**os.environ, **panda.environment(ARCH)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None:
            if folder.exists():
                most = max(most, folder_size(folder))
                memory.append(memory_of(run.pid))
            time.sleep(1)
        out, errors = run.communicate()
    if run.returncode:
        raise SystemExit(f"soak: capture ended with {run.returncode}: {errors[-2000:]}")
    return max(most, folder_size(folder)), [one for one in memory if one], out + errors


def _counted(pattern: str, text: str) -> int:
    """A number that the command has told; 0 if it has not."""
    found = re.search(pattern, text)
    return int(found[1].replace(",", "")) if found else 0


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if the limit was kept, and every event is a row or told as dropped."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: scripts/soak.py --minutes 60 --max-size 64M; needs the lab",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--max-size", default="64M")
    parser.add_argument("--workload", choices=("busy", "noise"), default="busy", help="noise fills a disk quickly")
    options = parser.parse_args(words)
    panda.prepare(ARCH)
    job = guest(ARCH, options.workload, "count=100000000")
    with tempfile.TemporaryDirectory(prefix="sysreel-soak-") as name:
        scratch = Path(name)
        segments, output = scratch / "segments", scratch / "rows.parquet"
        command: list[str | Path] = [
            BIN / "capture", "-o", segments, "--kernel", job.kernel, "--initrd", job.initrd, "--append", job.append,
            "--serial", scratch / "console", "--serial", scratch / "second", "--max-size", options.max_size,
            "--policy", "drop-oldest", "--timeout", str(options.minutes * 60), "--buffers", "4096",
        ]  # fmt: skip
        most, memory, said = capture([str(word) for word in command], segments)
        captured, unkept = (_counted(pattern, said) for pattern in (r"captured ([\d,]+) events", r"dropped ([\d,]+)"))
        done = subprocess.run([BIN / "process", segments, "-o", output], capture_output=True, text=True)
        if done.returncode not in (0, 3):
            raise SystemExit(f"soak: process ended with {done.returncode}: {done.stderr[-2000:]}")
        seq = pl.scan_parquet(f"{output}/*.parquet").select(pl.col("seq").sort()).collect()["seq"]
        told = {row["item"]: row["count"] for row in json.loads((output / "stats.json").read_text())}
    gone = sum(count for item, count in told.items() if "dropped on purpose" in item)
    dropped = told.get("dropped", 0)
    kept = told.get("events", 0)
    settled = memory[int(len(memory) * SETTLED) :]
    tenth = max(len(settled) // 10, 1)
    first, last = statistics.median(settled[:tenth]), statistics.median(settled[-tenth:])
    wrong = [
        text
        for text, holds in {
            f"{most} bytes are more than {options.max_size}": most <= bytes_of(options.max_size),
            f"{kept} kept, {gone} gone, {dropped} dropped; captured {captured}, dropped {unkept}": (
                kept + gone + dropped == captured + unkept
            ),
            f"{len(seq)} rows of {kept} events kept": len(seq) <= kept and seq.is_unique().all(),
            "a status of 3 where nothing is missing, or of 0 where it is": (done.returncode == 3)
            == bool(gone + dropped),
        }.items()
        if not holds
    ]
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"seconds: {len(memory)}")
    print(f"events captured: {captured}")
    print(f"events dropped on purpose, as the ledger says: {gone}")
    print(f"events dropped for want of room: {unkept}")
    print(f"rows: {len(seq)}")
    print(f"most bytes of the folder: {most}")
    print(f"memory of the emulator, a quarter of the way and at the end, KiB: {first // 1024:.0f} {last // 1024:.0f}")
    print(f"problems: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
