"""Live files: the block that is being filled, as it lies in the mapped file. docs/FORMAT.md is the specification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from capture.segment import (
    BLOCK_EVENTS,
    EVENT_ROW,
    FILE_HEADER_SIZE,
    FILE_ROW,
    MARK_ROW,
    SET_ROW,
    STRING_INDEX,
    TASK_ROW,
    Block,
    BlockType,
    Encoding,
)

CONTROL = (
    "events", "strings", "string_bytes", "sets", "tasks", "marks", "first_event", "first_string", "first_set",
    "first_block", "max_events", "max_strings", "max_string_bytes", "max_sets", "max_tasks", "max_marks",
    "files", "max_files",
)  # fmt: skip
"""The words that follow a live file's header: how much of each area is committed, what it starts at, its room."""

AREAS = ("events", "strings", "string_bytes", "sets", "tasks", "marks", "files")
"""A live file's areas, in the order in which they lie. Each has two words of ``CONTROL``: NAME and max_NAME."""

CONTROL_OFFSET = FILE_HEADER_SIZE
COUNTERS_OFFSET = CONTROL_OFFSET + 8 * 32
LIVE_DATA_OFFSET = 4096


class Area(NamedTuple):
    """One area of a live file; ``size`` is that of one record, 1 for the string bytes."""

    name: str
    offset: int
    room: int
    size: int


def live_areas(rooms: Sequence[int]) -> tuple[dict[str, Area], int]:
    """Where each area of a live file lies, and the file's length.

    Args:
        rooms: The room of each area in the order of ``AREAS``.
    """
    sizes = (EVENT_ROW.size, STRING_INDEX.size, 1, SET_ROW.size, TASK_ROW.size, MARK_ROW.size, FILE_ROW.size)
    areas, at = {}, LIVE_DATA_OFFSET
    for name, room, size in zip(AREAS, rooms, sizes, strict=True):
        areas[name] = Area(name, at, room, size)
        at += -(-room * size // 8) * 8
    return areas, at


def live_blocks(data: bytes | memoryview, control: dict[str, int]) -> Iterator[Block]:
    """The committed part of a live file as raw blocks, in the order in which they are sealed."""
    areas, _ = live_areas([control[f"max_{name}"] for name in AREAS])
    view = memoryview(data)

    def committed(name: str) -> memoryview:
        area = areas[name]
        return view[area.offset : area.offset + control[name] * area.size]

    ends, text = committed("strings"), committed("string_bytes")
    used = STRING_INDEX.unpack_from(ends, len(ends) - STRING_INDEX.size)[0] if ends else 0
    strings = memoryview(b"".join((ends, text[:used])))
    pieces = [
        (BlockType.STRINGS, "strings", control["first_string"], control["strings"], strings),
        (BlockType.SETS, "sets", control["first_set"], control["sets"], committed("sets")),
        (BlockType.TASKS, "tasks", control["first_event"], control["tasks"], committed("tasks")),
        (BlockType.MARKS, "marks", control["first_event"], control["marks"], committed("marks")),
        (BlockType.FILES, "files", control["first_event"], control["files"], committed("files")),
    ]
    events = committed("events")
    for start in range(0, control["events"], BLOCK_EVENTS):
        rows = events[start * EVENT_ROW.size : (start + BLOCK_EVENTS) * EVENT_ROW.size]
        first = control["first_event"] + start
        pieces.append((BlockType.EVENTS, "events", first, len(rows) // EVENT_ROW.size, rows))
    index = control["first_block"]
    for kind, name, first, count, stored in pieces:
        if count:
            yield Block(kind, Encoding.RAW, index, count, first, len(stored), stored, areas[name].offset)
            index += 1


def live_block_count(control: dict[str, int]) -> int:
    """How many blocks `live_blocks` gives."""
    others = sum(control[name] > 0 for name in ("strings", "sets", "tasks", "marks", "files"))
    return others + -(-control["events"] // BLOCK_EVENTS)
