"""Reads segments and live files. docs/FORMAT.md is the specification.

The reader trusts no length: a header or a payload that fails its CRC32C costs its own block, and the next block is
found by its magic.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from crc32c import crc32c

from capture.live import AREAS, CONTROL, CONTROL_OFFSET, COUNTERS_OFFSET, LIVE_DATA_OFFSET, live_areas, live_blocks
from capture.segment import (
    BLOCK,
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    COUNTERS,
    CRC,
    MAX_RAW,
    ROW_SIZES,
    Block,
    BlockType,
    Header,
    SegmentError,
)

_MAX_META = 1 << 20
"""Bytes of JSON that are parsed, since parsed they take many times as much."""
_SMALL_META = 1 << 12
"""Bytes of JSON that are kept parsed, for the next segment."""
_KNOWN_TYPES = frozenset(BlockType)


class Damage(NamedTuple):
    """A stretch of a file that had to be passed over; type and records of its block are 0 if its header is lost."""

    offset: int
    length: int
    reason: str
    block_type: int
    records: int


@dataclass
class Segment:
    """One file, read: its sound blocks in file order, what had to be passed over, and its totals."""

    name: str
    header: Header
    blocks: list[Block]
    damage: list[Damage]
    sealed: bool
    counters: dict[str, int]
    meta: dict[str, Any]
    size: int
    indexes: list[int] = field(default_factory=list)
    """Of all its sound blocks, in file order; for a file whose blocks are all there they count from 0."""


def read_segment(path: Path) -> Segment:
    """Read a segment or a live file whole, passing over what is damaged.

    Raises:
        SegmentError: The file is no segment, is newer than this reader, or its header is damaged.
        OSError: The file cannot be read.
    """
    return parse_segment(path.read_bytes(), str(path))


def parse_segment(data: bytes, name: str) -> Segment:
    """`read_segment` for bytes in memory; ``name`` is for messages."""
    header = Header.unpack(data, name)
    if header.live:
        return _parse_live(data, name, header)
    return _parse(data, name, header, struct.unpack_from("<I", data, 12)[0], 0)


def parse_stretch(data: bytes, name: str, header: Header, offset: int) -> Segment:
    """Read a stretch of a segment's file as if there were no blocks outside of it.

    Args:
        data: It; begins with a block.
        name: For messages.
        header: Of the file.
        offset: Of the stretch in the file.
    """
    return _parse(data, name, header, 0, offset)


def _parse(data: bytes, name: str, header: Header, at: int, offset: int) -> Segment:
    """Take the blocks from ``at`` on; ``offset`` is that of ``data`` in the file."""
    segment = Segment(name, header, [], [], False, dict.fromkeys(COUNTERS, 0), {}, len(data))
    for found in _scan(data, header, at, offset):
        if isinstance(found, Damage):
            segment.damage.append(found)
            continue
        segment.indexes.append(found.index)
        if found.type == BlockType.END:
            segment.sealed = True
            segment.counters.update(_unpacked(found, counters_of))
        elif found.type == BlockType.META:
            segment.meta = _unpacked(found, meta_of)
        elif found.type in _KNOWN_TYPES:
            segment.blocks.append(found)
    return segment


def _scan(data: bytes, header: Header, at: int, offset: int) -> Iterator[Block | Damage]:
    """Walk the blocks; whatever lies between sound blocks is reported once, as damage."""
    view, lost_from = memoryview(data), -1
    while at < len(data):
        found = _block_at(view, at, header, offset)
        if found is None:
            lost_from = at if lost_from < 0 else lost_from
            following = data.find(BLOCK_MAGIC, at + 1)
            at = len(data) if following < 0 else following
            continue
        if lost_from >= 0:
            yield Damage(offset + lost_from, at - lost_from, "no sound block header", 0, 0)
            lost_from = -1
        yield found
        length = found.length if isinstance(found, Damage) else BLOCK_HEADER_SIZE + len(found.stored)
        at = found.offset - offset + length
    if lost_from >= 0:
        yield Damage(offset + lost_from, len(data) - lost_from, "no sound block header", 0, 0)


def _block_at(view: memoryview, at: int, header: Header, offset: int) -> Block | Damage | None:
    """The block whose header stands at ``at``; `Damage` for a bad payload; None if no sound header is there.

    The offset that is told is that in the file, where the view begins at ``offset``.
    """
    if at + BLOCK_HEADER_SIZE > len(view):
        return None
    magic, kind, encoding, _, index, count, raw, length, first, segment, capture, crc = BLOCK.unpack_from(view, at)
    if magic != BLOCK_MAGIC or CRC.unpack_from(view, at + BLOCK.size)[0] != crc32c(view[at : at + BLOCK.size]):
        return None
    start, place = at + BLOCK_HEADER_SIZE, offset + at
    if capture != header.capture.bytes[:8] or segment != header.segment:
        return Damage(place, min(BLOCK_HEADER_SIZE + length, len(view) - at), "block of another segment", 0, 0)
    if start + length > len(view):
        return Damage(place, len(view) - at, "truncated block", kind, count)
    stored = view[start : start + length]
    if crc32c(stored) != crc:
        return Damage(place, BLOCK_HEADER_SIZE + length, "payload CRC mismatch", kind, count)
    if raw > MAX_RAW:
        return Damage(place, BLOCK_HEADER_SIZE + length, f"claims {raw} bytes, more than any block has", kind, count)
    if kind in ROW_SIZES and ROW_SIZES[kind] * count != raw:
        return Damage(place, BLOCK_HEADER_SIZE + length, f"{raw} bytes do not hold {count} records", kind, 0)
    return Block(kind, encoding, index, count, first, raw, stored, place)


def _unpacked(block: Block, read: Callable[[bytes | memoryview], dict[str, Any]]) -> dict[str, Any]:
    """What a META or END block says; an unreadable one says nothing, since nothing depends on it."""
    if block.raw_length > _MAX_META:
        return {}
    try:
        return read(block.payload())
    except SegmentError:
        return {}


def meta_of(payload: bytes | memoryview) -> dict[str, Any]:
    """A META block's JSON object; empty if it is none."""
    data = bytes(payload)
    return dict(_small_object(data) if len(data) <= _SMALL_META else _object(data))


def counters_of(payload: bytes | memoryview) -> dict[str, int]:
    """An END block's words by name; words that this version does not know are left out."""
    return dict(zip(COUNTERS, struct.unpack(f"<{len(payload) // 8}Q", payload), strict=False))


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


_small_object = lru_cache(64)(_object)
"""The segments of a capture mostly have the same one."""


def _parse_live(data: bytes, name: str, header: Header) -> Segment:
    """Read a live file: what a killed emulator left of the block that it was filling."""
    if len(data) < LIVE_DATA_OFFSET:
        raise SegmentError(f"{name}: truncated live file ({len(data)} bytes); nothing to recover")
    words = struct.unpack_from(f"<{len(CONTROL)}Q", data, CONTROL_OFFSET)
    control = dict(zip(CONTROL, words, strict=True))
    rooms = [control[f"max_{area}"] for area in AREAS]
    if any(room > MAX_RAW for room in rooms) or live_areas(rooms)[1] != len(data):
        raise SegmentError(f"{name}: damaged live file (its areas do not fit its {len(data)} bytes)")
    if any(control[area] > room for area, room in zip(AREAS, rooms, strict=True)):
        raise SegmentError(f"{name}: damaged live file (more is committed than its areas hold)")
    counters = dict(zip(COUNTERS, struct.unpack_from(f"<{len(COUNTERS)}Q", data, COUNTERS_OFFSET), strict=True))
    return Segment(name, header, list(live_blocks(data, control)), [], False, counters, {}, len(data))
