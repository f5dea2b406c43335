"""Clean segments out of damaged ones: what is sound is copied as it is, and what is missing stays known as missing."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from capture.segment import (
    COUNTERS,
    SEGMENT_SUFFIX,
    BlockType,
    Encoding,
    Header,
    SegmentError,
    pack_block,
)
from process.discover import Part
from process.repair import read
from process.verify import Checked, Finding, check


class Recovered(NamedTuple):
    """What came of one segment.

    Attributes:
        path: The clean file.
        blocks: Copied.
        events: In them.
        findings: What is missing from it.
    """

    path: Path
    blocks: int
    events: int
    findings: list[Finding]


def recover(part: Part, folder: Path) -> Recovered:
    """Write one segment's sound blocks into a new file.

    Blocks are numbered anew. A segment that was sealed, or whose end is in a live file, gets totals: of its records
    those that are there, and as dropped the events that are not, so that their number remains known. Where the
    end is lost the file has no totals: nobody knows how many there were.

    Args:
        part: Which.
        folder: Where the file goes.

    Raises:
        SegmentError: A file cannot be used at all.
        OSError: A file cannot be read or written.
    """
    checked = check(part)
    header = replace(part.header, live=False)
    path, descriptor = _create(folder, part)
    with os.fdopen(descriptor, "wb") as file:
        file.write(header.pack())
        meta = json.dumps(_meta(part) | {"recovered_from": part.name}).encode()
        file.write(pack_block(header, BlockType.META, Encoding.RAW, 0, 1, 0, len(meta), meta))
        for index, (_, block) in enumerate(checked.blocks, 1):
            file.write(
                pack_block(
                    header, BlockType(block.type), Encoding(block.encoding), index, block.count, block.first,
                    block.raw_length, bytes(block.stored),
                )
            )  # fmt: skip
        if checked.contents.is_sealed or part.live:
            file.write(_totals(checked, header, 1 + len(checked.blocks)))
        file.flush()
        os.fsync(file.fileno())
    missing = [finding for finding in checked.findings if finding.loss]
    return Recovered(path, len(checked.blocks), checked.counts.get(BlockType.EVENTS, 0), missing)


def _create(folder: Path, part: Part) -> tuple[Path, int]:
    """A new file, named as the segment was."""
    name = part.sealed.stem if part.sealed else part.live[0].stem.rpartition("-")[0] or part.live[0].stem
    for number in range(1, 1000):
        path = folder / f"{name}{'' if number == 1 else f'-{number}'}{SEGMENT_SUFFIX}"
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            continue
    raise FileExistsError(f"{folder / name}: exists a thousand times")


def _meta(part: Part) -> dict[str, object]:
    """The segment's own facts, as far as they are there."""
    try:
        return read(part.sealed).meta if part.sealed else {}
    except (OSError, SegmentError):
        return {}


def _totals(checked: Checked, header: Header, index: int) -> bytes:
    """The END block."""
    counters, counts = checked.contents.counters, checked.counts
    ended = counters["events"] + counters["dropped"]
    if not checked.contents.is_sealed:  # a live file's totals end where its chunk begins
        ends = [block.first + block.count for _, block in checked.blocks if block.type == BlockType.EVENTS]
        ended = max([header.first_event + ended, *ends]) - header.first_event
    there = {
        "events": counts.get(BlockType.EVENTS, 0),
        "strings": counts.get(BlockType.STRINGS, 0),
        "sets": counts.get(BlockType.SETS, 0),
        "tasks": counts.get(BlockType.TASKS, 0),
        "marks": counts.get(BlockType.MARKS, 0),
        "files": counts.get(BlockType.FILES, 0),
    }
    there["dropped"] = min(max(ended - there["events"], 0), (1 << 64) - 1)  # forged totals add up to more than a word
    words = struct.pack(f"<{len(COUNTERS)}Q", *(there.get(name, counters[name]) for name in COUNTERS))
    return pack_block(header, BlockType.END, Encoding.RAW, index, len(COUNTERS), 0, len(words), words)
