"""Big-endian mips: a program without a kernel makes o32 calls, and every one is found as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import command, decode
from lab import machines, panda
from lab.guest import bare
from thirty_two import compare

pytestmark = pytest.mark.live

ERRNOS = {2: "ENOENT", 13: "EACCES", 22: "EINVAL", 27: "EFBIG", 89: "ENOSYS", 122: "EOPNOTSUPP", 146: "ECONNREFUSED"}
"""Of mips: arch/mips/include/uapi/asm/errno.h."""


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The segments, and the lines that the program printed."""
    folder = tmp_path_factory.mktemp("bare")
    row, console = machines.machine("mips"), folder / "console"
    done = command(
        "capture", "-o", folder / "segments", "--arch", "mips", "--kernel", bare("mips"), "--append", "-",
        "--mem", "64M", "--serial", console, "--timeout", "60", "--", *row.options, env=panda.environment("mips"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stopped before the guest ended" not in done.stdout
    return folder / "segments", [json.loads(line) for line in console.read_text().splitlines()]


def test_every_call_of_a_big_endian_guest_is_decoded_exactly(
    captured: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Pairs high half first, words on the stack, errors by the flag in a3, results that look like errors."""
    segments, lines = captured
    rows = decode(segments, tmp_path / "bare.parquet").to_dicts()
    assert len(lines) == 21 and len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        errno = ERRNOS[line["ret"]] if line["failed"] else None
        compare(row, line, "mips-o32", -line["ret"] if errno else line["ret"], errno)


def test_the_header_says_big_endian_and_raw_words_are_numbers(captured: tuple[Path, list[dict[str, Any]]]) -> None:
    done = command("process", "dump", captured[0])
    records = [json.loads(line) for line in done.stdout.splitlines()]
    (header,) = [record for record in records if record["type"] == "segment"]
    assert (header["abi"], header["word_size"], header["big_endian"]) == ("mips-o32", 4, True)
    events = [record for record in records if record["type"] == "event"]
    for event, line in zip(events, captured[1], strict=True):
        if line["name"] == "socketcall":
            continue
        words = [int(str(word), 0) for word in event["args"]]
        found = [word & 0xFFFFFFFF for word in words] + [word >> 32 for word in words]
        wanted = [int(word, 16) for word in line["words"]]
        assert found[: len(wanted)] == wanted


def test_a_decoded_capture_is_the_same_whatever_the_number_of_workers(
    captured: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    one, two = (decode(captured[0], tmp_path / jobs, "-j", jobs) for jobs in ("1", "2"))
    assert isinstance(one, pl.DataFrame) and one.equals(two)
