"""The segment format: byte layout, file header and block codec. docs/FORMAT.md is the specification.

Both stages share it, with `live.py` and `reader.py`. It knows bytes, not syscalls: it never looks inside an event
row. Every integer is little-endian, whatever the guest's byte order.
"""

from __future__ import annotations

import struct
import threading
import uuid
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

import zstandard
from crc32c import crc32c

MAJOR, MINOR = 1, 2
FILE_MAGIC = b"\x89SREEL\r\n"  # a high bit and a CR LF pair, so that a text-mode transfer is caught, as PNG does
BLOCK_MAGIC = b"\xb1SRB"
MAX_RAW = 1 << 26
"""No block unpacks to more bytes than this; a larger claim is damage, not a request for memory."""

BLOCK_EVENTS = 8192
"""Events of a block at the most: what a damaged one costs. 32768 make a capture 9 % smaller, 2048 11 % larger."""

SEGMENT_SUFFIX, LIVE_SUFFIX = ".seg", ".live"
LIVE_FLAG = 1
UNKNOWN = (1 << 64) - 1
"""A duration that is not known."""

_FILE = struct.Struct("<8sHHIIHBB16s16s24sQQQI16xI")
BLOCK = struct.Struct("<4sHBBIIIIQI8sI")
CRC = struct.Struct("<I")
FILE_HEADER_SIZE = _FILE.size
BLOCK_HEADER_SIZE = BLOCK.size + CRC.size

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


class SegmentError(ValueError):
    """A file that cannot be read as a segment at all. The text is one line: what, where, what to do."""


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
        return body[: -CRC.size] + CRC.pack(crc32c(body[: -CRC.size]))

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
        if crc32c(data[: FILE_HEADER_SIZE - CRC.size]) != crc or size < FILE_HEADER_SIZE:
            raise SegmentError(f"{name}: damaged file header (CRC mismatch at offset {FILE_HEADER_SIZE - 4})")
        return cls(
            _uuid(capture), segment, _text(abi), word, order == 2, real, mono, first, _text(tool),
            bool(flags & LIVE_FLAG), major, minor, pid,
        )  # fmt: skip


@dataclass(slots=True)
class Block:
    """One block of a segment: its header's fields and where its payload lies. Not frozen: thousands are made."""

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
            data = inflate(self.stored, self.raw_length, self.offset)
        else:
            raise SegmentError(f"block at offset {self.offset}: unknown encoding {self.encoding}; upgrade sysreel")
        size = ROW_SIZES.get(self.type)
        if len(data) != self.raw_length or (size is not None and size * self.count != len(data)):
            raise SegmentError(f"block at offset {self.offset}: {len(data)} bytes do not hold {self.count} records")
        return data


def pack_block(
    header: Header, kind: BlockType, encoding: Encoding, index: int, count: int, first: int, raw: int, stored: bytes
) -> bytes:
    """A block's bytes: header with both CRCs, then ``stored``."""
    head = BLOCK.pack(
        BLOCK_MAGIC, kind, encoding, 0, index, count, raw, len(stored), first, header.segment,
        header.capture.bytes[:8], crc32c(stored),
    )  # fmt: skip
    return head + CRC.pack(crc32c(head)) + stored


def inflate(stored: memoryview, raw_length: int, offset: int) -> bytes:
    """Inflate one frame, refusing before any allocation a frame that declares another size than the header.

    Raises:
        SegmentError: It does, or does not inflate to that.

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


@lru_cache(256)
def _uuid(data: bytes) -> uuid.UUID:
    """Few captures have many segments."""
    return uuid.UUID(bytes=data)


@lru_cache(256)
def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")
