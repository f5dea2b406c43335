"""Guests that tell the truth about themselves: captured, decoded, and what they brought out."""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from conftest import command, decode
from lab import panda
from lab.guest import guest

_SAID = re.compile(rb"who pid=(\d+) tid=(\d+) ppid=(\d+) comm=([0-9a-f]*) argv=([0-9a-f]*)\n")


@dataclass(frozen=True)
class Oracle:
    """A run of the workload `who` or `names`.

    Attributes:
        segments: Folder of the capture.
        rows: Its decoded rows, in order.
        console: What the guest printed.
        strace: strace's log; empty where there is no strace.
        names: What the tasks said of themselves, a line each.
    """

    segments: Path
    rows: pl.DataFrame
    console: str
    strace: str
    names: bytes


@dataclass(frozen=True)
class Said:
    """What a task said of itself: /proc's comm and argv."""

    pid: int
    tid: int
    ppid: int
    comm: bytes
    argv: tuple[bytes, ...]


def consult(folder: Path, arch: str, workload: str, *options: str) -> Oracle:
    """Boot a workload under the ``capture`` command, decode, and unpack what came out of the guest."""
    panda.prepare(arch)
    job = guest(arch, workload)
    ports = [folder / "console", *([folder / "second"] if job.machine.second_serial else [])]
    segments, serial = folder / "segments", [word for port in ports for word in ("--serial", port)]
    done = command(
        "capture", "-o", segments, "--arch", arch, "--kernel", job.kernel, "--initrd", job.initrd,
        "--append", job.append, "--mem", job.machine.memory, "--buffers", "4096", *serial, *options,
        env=panda.environment(arch),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    texts = [port.read_text(encoding="utf-8", errors="backslashreplace") for port in ports]
    assert "who: exit status 0" in texts[0], texts[0][-2000:]
    rows = decode(segments, folder / "rows.parquet")
    return Oracle(segments, rows, texts[0], _brought(texts[-1], "strace").decode(), _brought(texts[-1], "names"))


def _brought(text: str, name: str) -> bytes:
    """A file that came out of a port; a terminal has added carriage returns."""
    lines = text.replace("\r", "").split("\n")
    if f"=== begin {name}" not in lines:
        return b""
    start, end = lines.index(f"=== begin {name}"), lines.index(f"=== end {name}")
    return gzip.decompress(base64.b64decode("".join(lines[start + 1 : end])))


def said(line: bytes) -> Said | None:
    """What a line says; None if it is no such line."""
    match = _SAID.fullmatch(line)
    if match is None:
        return None
    comm, argv = bytes.fromhex(match[4].decode()), bytes.fromhex(match[5].decode())
    return Said(int(match[1]), int(match[2]), int(match[3]), comm, tuple(argv.split(b"\0")[:-1]))
