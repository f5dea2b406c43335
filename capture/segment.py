"""The segment format: byte layout, block codec and reader. docs/FORMAT.md is the specification.

This is the only module that both stages share. It knows bytes, not syscalls: it never looks inside an event
row. Every integer is little-endian, whatever the guest's byte order. The reader trusts no length: a header or a
payload that fails its CRC32C costs its own block, and the next block is found by its magic.
"""

from __future__ import annotations

import json
import struct
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from crc32c import crc32c

MAJOR, MINOR = 1, 2
FILE_MAGIC = b"\x89SREEL\r\n"  # a high bit and a CR LF pair, so that a text-mode transfer is caught, as PNG does
BLOCK_MAGIC = b"\xb1SRB"
MAX_RAW = 1 << 26
"""No block unpacks to more bytes than this; a larger claim is damage, not a request for memory."""
_MAX_META = 1 << 20
"""Bytes of JSON that are parsed, since parsed they take many times as much."""

BLOCK_EVENTS = 8192
"""Events of a block at the most: what a damaged one costs. 32768 make a capture 9 % smaller, 2048 11 % larger."""

SEGMENT_SUFFIX, LIVE_SUFFIX = ".seg", ".live"
LIVE_FLAG = 1
UNKNOWN = (1 << 64) - 1
"""A duration that is not known."""

_FILE = struct.Struct("<8sHHIIHBB16s16s24sQQQI16xI")
_BLOCK = struct.Struct("<4sHBBIIIIQI8sI")
_CRC = struct.Struct("<I")
FILE_HEADER_SIZE = _FILE.size
BLOCK_HEADER_SIZE = _BLOCK.size + _CRC.size

EVENT_ROW = struct.Struct("<3Q6QQIIII")
"""time_ns, duration_ns, task, args[6], ret, nr, strings, flags, entry: one event, 96 bytes."""
SET_ROW = struct.Struct("<6I")
"""The string id of each argument of an event, 0 where the argument has none."""
TASK_ROW = struct.Struct("<3QIIIIQIIQ")
"""seq, task, asid, pid, tid, ppid, flags, start_ns, comm, argv, table: one identity record."""
MARK_ROW = struct.Struct("<QII")
"""seq, string id, reserved: a text that applies to every event from ``seq`` on."""
FILE_ROW = struct.Struct("<QQIIII")
"""seq, owner, fd, path, flags, reserved: what a descriptor of a table, or a task's folder, is from ``seq`` on."""
STRING_INDEX = struct.Struct("<II")
"""End offset of a string in the block's bytes, and its flags."""


class BlockType(IntEnum):
    """What a block holds. A reader skips a type that it does not know."""

    META = 1
    STRINGS = 2
    SETS = 3
    TASKS = 4
    MARKS = 5
    EVENTS = 6
    FILES = 7
    END = 15


class Encoding(IntEnum):
    """How a payload is stored."""

    RAW = 0
    ZSTD = 1
    COLUMNS = 2
    """Rows cut into 8-byte columns, one after the other, then Zstandard."""
    PLANES = 3
    """Rows cut into bytes: the first of every row, then the second of every row ...; then Zstandard. The rows of an
    EVENTS block are brought into another order before: see docs/FORMAT.md."""


_KNOWN_TYPES = frozenset(BlockType)
ROW_SIZES: dict[int, int] = {
    BlockType.SETS: SET_ROW.size,
    BlockType.TASKS: TASK_ROW.size,
    BlockType.MARKS: MARK_ROW.size,
    BlockType.EVENTS: EVENT_ROW.size,
    BlockType.FILES: FILE_ROW.size,
    BlockType.END: 8,
}


class EventFlag(IntEnum):
    """Bits of an event row's ``flags``; bits 16 to 23 are the ABI's number, 0 for the segment's own ABI."""

    RETURNED = 1
    """The call came back: ``ret`` holds its value. Otherwise the row was written at entry."""
    INFERRED = 2
    """The return was not seen: a later call of the same task proves it (a successful execve, vfork's parent)."""
    CONTEXT = 4
    """A filter would have dropped the event; it was kept because it changes process or fd state."""
    TASK_IS_ASID = 8
    """``task`` is an address-space id: the capture had no way to see the kernel's current task."""
    ERROR = 16
    """The ABI tells errors apart by a flag of its own, and it was set: ``ret`` is the errno (mips: register a3)."""
    CHILD = 32
    """No call of its own: the child's side of a fork, as it comes back; ``ret`` is the parent's task, if known."""
    RESET = 64
    """With ``CHILD``: no call and no fork. The machine has been put into another state; nothing from before holds."""


ABI_NUMBERS = {
    name: number
    for number, name in enumerate(
        (
            "x86_64", "x32", "i386", "arm", "arm-oabi", "aarch64", "mips-o32", "mips-n32", "mips-n64", "powerpc",
            "powerpc64", "riscv32", "riscv64", "s390", "s390x", "sparc", "sparc64", "loongarch64",
        ),
        1,
    )
}  # fmt: skip
"""Names of ABIs as headers have them, and their numbers in an event's flags. The byte order is the header's."""


class StringFlag(IntEnum):
    """Bits of a string's flags."""

    TRUNCATED = 1
    """Longer than the capture's cap: the first bytes are there."""
    UNREADABLE = 2
    """Guest memory could not be read at some byte: what came before it is there."""
    LIST = 4
    """A vector of strings, each ended by a NUL byte."""
    BUFFER = 8
    """Bytes with a length of their own: a NUL among them ends nothing. Truncated to what was asked for."""


class TaskFlag(IntEnum):
    """Bits of an identity record's flags: which of its fields are known."""

    PIDS = 1
    COMM = 2
    ARGV = 4
    START = 8
    KERNEL = 16  # a thread with no memory of its own: a kernel thread
    DERIVED = 32  # read with offsets derived from the running kernel


class FileFlag(IntEnum):
    """Bits of a file record's flags."""

    CLOEXEC = 1
    """The descriptor is closed when its process executes a program."""
    CWD = 2
    """The task's current folder: ``owner`` is the task, ``fd`` means nothing."""
    SNAPSHOT = 4
    """One row of a whole table: all with this flag, this owner and this sequence number; the rest is closed."""


NO_FD = 0xFFFFFFFF
"""``fd`` of the one row that stands for an empty table."""

COUNTERS = (
    "events", "strings", "string_bytes", "sets", "tasks", "marks",
    "dropped", "unstored", "filtered", "context", "truncated", "unreadable", "inferred", "unmatched", "errors",
    "files", "unnamed",
)  # fmt: skip
"""The words of an END block and of a live file's counters, in order; new ones are appended.

Dropped events keep their sequence numbers, so that they are a gap to the reader; unstored are strings, identities,
marks and file records that found no room; unmatched are returns whose entry was not seen; unnamed are open
descriptors and folders whose path could not be read.
"""

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


class SegmentError(ValueError):
    """A file that cannot be read as a segment at all. The text is one line: what, where, what to do."""


class Damage(NamedTuple):
    """A stretch of a file that had to be passed over; type and records of its block are 0 if its header is lost."""

    offset: int
    length: int
    reason: str
    block_type: int
    records: int


@dataclass(frozen=True)
class Header:
    """What a segment says about itself: everything needed to read it without any other file."""

    capture: uuid.UUID
    segment: int
    abi: str
    word_size: int
    big_endian: bool
    realtime_ns: int
    """Unix time at which the capture began, ns."""
    monotonic_ns: int
    """CLOCK_MONOTONIC of the recording host at that moment, ns. Event times count from it."""
    first_event: int
    tool: str
    live: bool = False
    major: int = MAJOR
    minor: int = MINOR
    pid: int = 0

    def pack(self) -> bytes:
        """The header's ``FILE_HEADER_SIZE`` bytes, CRC included."""
        body = _FILE.pack(
            FILE_MAGIC, self.major, self.minor, FILE_HEADER_SIZE, self.segment, LIVE_FLAG * self.live,
            self.word_size, 2 if self.big_endian else 1, self.capture.bytes, self.abi.encode(),
            self.tool.encode(), self.realtime_ns, self.monotonic_ns, self.first_event, self.pid, 0,
        )  # fmt: skip
        return body[: -_CRC.size] + _CRC.pack(crc32c(body[: -_CRC.size]))

    @classmethod
    def unpack(cls, data: bytes, name: str) -> Header:
        """Read a header.

        Raises:
            SegmentError: No segment, a newer major version, or a damaged header.
        """
        if data[: len(FILE_MAGIC)] != FILE_MAGIC:
            raise SegmentError(f"{name}: not a sysreel segment (no magic at offset 0)")
        if len(data) < FILE_HEADER_SIZE:
            raise SegmentError(f"{name}: truncated in its header ({len(data)} bytes); nothing to recover")
        (_, major, minor, size, segment, flags, word, order, capture, abi, tool, real, mono, first, pid,
         crc) = _FILE.unpack_from(data)  # fmt: skip
        if major > MAJOR:
            raise SegmentError(
                f"{name}: segment format {major}.{minor} is newer than this sysreel reads ({MAJOR}.x); upgrade sysreel"
            )
        if crc32c(data[: FILE_HEADER_SIZE - _CRC.size]) != crc or size < FILE_HEADER_SIZE:
            raise SegmentError(f"{name}: damaged file header (CRC mismatch at offset {FILE_HEADER_SIZE - 4})")
        return cls(
            uuid.UUID(bytes=capture), segment, _text(abi), word, order == 2, real, mono, first, _text(tool),
            bool(flags & LIVE_FLAG), major, minor, pid,
        )  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One block of a segment: its header's fields and where its payload lies."""

    type: int
    encoding: int
    index: int
    count: int
    first: int
    raw_length: int
    stored: memoryview = field(repr=False)
    offset: int
    """Of the block's header in its file, for messages."""

    def payload(self) -> bytes | memoryview:
        """The payload as ``encoding`` left it after decompression: rows, or as ``Encoding`` says.

        Raises:
            SegmentError: The payload does not unpack to exactly what the header says.
        """
        if self.encoding == Encoding.RAW:
            data: bytes | memoryview = self.stored
        elif self.encoding in (Encoding.ZSTD, Encoding.COLUMNS, Encoding.PLANES):
            data = _decompress(self.stored, self.raw_length, self.offset)
        else:
            raise SegmentError(f"block at offset {self.offset}: unknown encoding {self.encoding}; upgrade sysreel")
        size = ROW_SIZES.get(self.type)
        if len(data) != self.raw_length or (size is not None and size * self.count != len(data)):
            raise SegmentError(f"block at offset {self.offset}: {len(data)} bytes do not hold {self.count} records")
        return data


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


def pack_block(
    header: Header, kind: BlockType, encoding: Encoding, index: int, count: int, first: int, raw: int, stored: bytes
) -> bytes:
    """A block's bytes: header with both CRCs, then ``stored``."""
    head = _BLOCK.pack(
        BLOCK_MAGIC, kind, encoding, 0, index, count, raw, len(stored), first, header.segment,
        header.capture.bytes[:8], crc32c(stored),
    )  # fmt: skip
    return head + _CRC.pack(crc32c(head)) + stored


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
    segment = Segment(name, header, [], [], False, dict.fromkeys(COUNTERS, 0), {}, len(data))
    for found in _scan(data, header):
        if isinstance(found, Damage):
            segment.damage.append(found)
            continue
        segment.indexes.append(found.index)
        if found.type == BlockType.END:
            segment.sealed = True
            segment.counters.update(_counters(found))
        elif found.type == BlockType.META:
            segment.meta = _meta(found)
        elif found.type in _KNOWN_TYPES:
            segment.blocks.append(found)
    return segment


def _scan(data: bytes, header: Header) -> Iterator[Block | Damage]:
    """Walk the blocks of a file; whatever lies between sound blocks is reported once, as damage."""
    view, at, lost_from = memoryview(data), struct.unpack_from("<I", data, 12)[0], -1
    while at < len(data):
        found = _block_at(view, at, header)
        if found is None:
            lost_from = at if lost_from < 0 else lost_from
            following = data.find(BLOCK_MAGIC, at + 1)
            at = len(data) if following < 0 else following
            continue
        if lost_from >= 0:
            yield Damage(lost_from, at - lost_from, "no sound block header", 0, 0)
            lost_from = -1
        yield found
        at = found.offset + (found.length if isinstance(found, Damage) else BLOCK_HEADER_SIZE + len(found.stored))
    if lost_from >= 0:
        yield Damage(lost_from, len(data) - lost_from, "no sound block header", 0, 0)


def _block_at(view: memoryview, at: int, header: Header) -> Block | Damage | None:
    """The block whose header stands at ``at``; `Damage` for a bad payload; None if no sound header is there."""
    if at + BLOCK_HEADER_SIZE > len(view):
        return None
    magic, kind, encoding, _, index, count, raw, length, first, segment, capture, crc = _BLOCK.unpack_from(view, at)
    if magic != BLOCK_MAGIC or _CRC.unpack_from(view, at + _BLOCK.size)[0] != crc32c(view[at : at + _BLOCK.size]):
        return None
    start = at + BLOCK_HEADER_SIZE
    if capture != header.capture.bytes[:8] or segment != header.segment:
        return Damage(at, min(BLOCK_HEADER_SIZE + length, len(view) - at), "block of another segment", 0, 0)
    if start + length > len(view):
        return Damage(at, len(view) - at, "truncated block", kind, count)
    stored = view[start : start + length]
    if crc32c(stored) != crc:
        return Damage(at, BLOCK_HEADER_SIZE + length, "payload CRC mismatch", kind, count)
    if raw > MAX_RAW:
        return Damage(at, BLOCK_HEADER_SIZE + length, f"claims {raw} bytes, more than any block has", kind, count)
    if kind in ROW_SIZES and ROW_SIZES[kind] * count != raw:
        return Damage(at, BLOCK_HEADER_SIZE + length, f"{raw} bytes do not hold {count} records", kind, 0)
    return Block(kind, encoding, index, count, first, raw, stored, at)


def _decompress(stored: memoryview, raw_length: int, offset: int) -> bytes:
    """Inflate one frame, refusing before any allocation a frame that declares another size than the header.

    zstandard's ``max_output_size`` is ignored for a frame that declares its size (python-zstandard 0.25).
    """
    try:
        declared = zstandard.frame_content_size(stored)
        if declared != raw_length:
            raise SegmentError(f"block at offset {offset}: its frame declares {declared} bytes, not {raw_length}")
        return _decompressor().decompress(stored, max_output_size=raw_length)
    except zstandard.ZstdError as error:
        raise SegmentError(f"block at offset {offset}: {error}") from None


_of_thread = threading.local()


def _decompressor() -> zstandard.ZstdDecompressor:
    """The thread's own: to make one costs more than a small block, and threads must not share it."""
    found: zstandard.ZstdDecompressor | None = getattr(_of_thread, "decompressor", None)
    if found is None:
        found = _of_thread.decompressor = zstandard.ZstdDecompressor()
    return found


def _meta(block: Block) -> dict[str, Any]:
    """The META block's JSON object; an unreadable one is an empty object, since nothing depends on it."""
    if block.raw_length > _MAX_META:
        return {}
    try:
        value = json.loads(bytes(block.payload()))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _counters(block: Block) -> dict[str, int]:
    """An END block's words by name; words that this version does not know are left out."""
    try:
        data = block.payload()
    except SegmentError:
        return {}
    return dict(zip(COUNTERS, struct.unpack(f"<{len(data) // 8}Q", data), strict=False))


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")


# --- live files: the block that is being filled -------------------------------------------------------------


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
