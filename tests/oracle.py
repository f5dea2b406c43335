"""Guests that tell the truth about themselves: captured, decoded, and what they brought out."""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from conftest import command, decode
from lab import panda
from lab.guest import guest
from strace_compare import unescape

_SAID = re.compile(
    rb"who pid=(\d+) tid=(\d+) ppid=(\d+) comm=([0-9a-f]*) argv=([0-9a-f]*) cwd=([0-9a-f]*) ticket=(\d+) fds=(\S*)\n"
)


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
    """What a task said of itself: /proc's names.

    Attributes:
        pid: Its process.
        tid: Its number.
        ppid: Its process's parent.
        comm: The kernel's name of it.
        argv: Of its process.
        cwd: Its folder; empty if too long for the line.
        ticket: Third argument of the calls for whose first argument ``fds`` holds.
        fds: Its descriptors, and the file behind each; likewise.
    """

    pid: int
    tid: int
    ppid: int
    comm: bytes
    argv: tuple[bytes, ...]
    cwd: bytes
    ticket: int
    fds: dict[int, bytes]


def consult(folder: Path, arch: str, workload: str, *options: str) -> Oracle:
    """Boot a workload under the ``capture`` command, decode, and unpack what came out of the guest.

    A guest whose own program says that it has failed is booted once more: its scenes race each other on a slow host.
    """
    try:
        segments, texts = _boot(folder / "first", arch, workload, *options)
    except WorkloadFailed as failed:
        print(f"{arch} {workload}: {failed}; once more")
        segments, texts = _boot(folder / "second", arch, workload, *options)
    rows = decode(segments, folder / "rows.parquet")
    return Oracle(segments, rows, texts[0], _brought(texts[-1], "strace").decode(), _brought(texts[-1], "names"))


class WorkloadFailed(Exception):
    """The guest ran to its end, and its program found fault with what the guest's kernel did."""


def _boot(folder: Path, arch: str, workload: str, *options: str) -> tuple[Path, list[str]]:
    """Capture a guest: its segments, and what came out of its ports."""
    panda.prepare(arch)
    folder.mkdir()
    job = guest(arch, workload)
    ports = [folder / "console", *([folder / "port2"] if job.machine.second_serial else [])]
    segments, serial = folder / "segments", [word for port in ports for word in ("--serial", port)]
    done = command(
        "capture", "-o", segments, "--arch", arch, "--kernel", job.kernel, "--initrd", job.initrd,
        "--append", job.append, "--mem", job.machine.memory, "--buffers", "4096", *serial, *options,
        env=panda.environment(arch),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    texts = [port.read_text(encoding="utf-8", errors="backslashreplace") for port in ports]
    if "who: exit status 0" not in texts[0]:
        raise WorkloadFailed(texts[0][-2000:])
    return segments, texts


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
    comm, argv, cwd = (bytes.fromhex(match[group].decode()) for group in (4, 5, 6))
    pairs = (pair.split(":") for pair in match[8].decode().split(",") if pair)
    fds = {int(fd): bytes.fromhex(name) for fd, name in pairs}
    words = tuple(argv.split(b"\0")[:-1])
    return Said(int(match[1]), int(match[2]), int(match[3]), comm, words, cwd, int(match[7]), fds)


def statements(oracle: Oracle) -> list[tuple[Said, dict[str, Any]]]:
    """What each task said, and the row of the call with which it did, in the order of the rows."""
    shown = pl.col("arg1_repr").str.contains(r'\("who pid=')
    found = []
    for row in oracle.rows.filter((pl.col("name") == "sys_write") & shown).to_dicts():
        line = unescape(row["arg1_repr"].partition('("')[2].removesuffix('")'))
        me = said(line)
        assert me is not None and line in oracle.names, line
        found.append((me, row))
    assert len(found) == len(oracle.names.splitlines())
    return found
