"""Builds segments and live files in code, record by record, for tests of their readers."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

import zstandard

from capture.live import AREAS, CONTROL, CONTROL_OFFSET, COUNTERS_OFFSET, live_areas
from capture.sealer import event_planes
from capture.segment import (
    COUNTERS,
    EVENT_ROW,
    FILE_ROW,
    MARK_ROW,
    NO_FD,
    SET_ROW,
    STRING_INDEX,
    TASK_ROW,
    UNKNOWN,
    BlockType,
    Encoding,
    EventFlag,
    FileFlag,
    Header,
    StringFlag,
    TaskFlag,
    pack_block,
)

CAPTURE = uuid.UUID("11111111-2222-3333-4444-555555555555")
BEGAN = 1_700_000_000_000_000_000
RETURNED = int(EventFlag.RETURNED)
NOT_RETURNED = 0
LIST = int(StringFlag.LIST)

GETPID, EXECVE, EXIT_GROUP, OPENAT, READ, CLOSE, MMAP, NEWSTAT = 39, 59, 231, 257, 0, 3, 9, 4
"""Numbers of x86_64."""


def task(pid: int, tid: int | None = None) -> int:
    """The word that says which task an event is of."""
    return pid << 32 | (pid if tid is None else tid)


@dataclass
class Builder:
    """One segment in the making. What is added since the last `block` is the chunk being filled."""

    segment: int = 0
    first: int = 0
    capture: uuid.UUID = CAPTURE
    abi: str = "x86_64"
    word_size: int = 8
    big_endian: bool = False
    realtime_ns: int = BEGAN
    columns: bool = True
    planes: bool = False
    counters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.header = Header(
            self.capture,
            self.segment,
            self.abi,
            self.word_size,
            self.big_endian,
            self.realtime_ns,
            5,
            self.first,
            "test",
        )
        self.next = self.first
        self.stored: list[bytes] = []
        self._ids, self._set_ids = 0, 0
        self._index = 0
        self._events_total = 0
        self._begin()

    def _begin(self) -> None:
        self._chunk_first = self.next
        self._first_string, self._first_set, self._first_block = self._ids + 1, self._set_ids + 1, self._index
        self._rows: dict[str, list[bytes]] = {name: [] for name in AREAS if name != "string_bytes"}
        self._bytes = b""

    def string(self, data: bytes, flags: int = 0) -> int:
        """Add a string and give its id."""
        self._bytes += data
        self._rows["strings"].append(STRING_INDEX.pack(len(self._bytes), flags))
        self._ids += 1
        return self._ids

    def set(self, **strings: bytes | tuple[bytes, int] | int) -> int:
        """Add a set: `a0=b"..."`, with flags as a pair, or the id of a string."""
        ids = [0] * 6
        for name, value in strings.items():
            if not isinstance(value, int):
                value = self.string(*value) if isinstance(value, tuple) else self.string(value)
            ids[int(name[1:])] = value
        self._rows["sets"].append(SET_ROW.pack(*ids))
        self._set_ids += 1
        return self._set_ids

    def event(
        self, nr: int = GETPID, *args: int, ret: int = 0, who: int = task(7), time: int | None = None,
        duration: int = 10, strings: int = 0, flags: int = RETURNED, entry: int = 0,
    ) -> int:  # fmt: skip
        """Add an event and give its sequence number."""
        registers = [value & (1 << 64) - 1 for value in (*args, 0, 0, 0, 0, 0, 0)[:6]]
        began = self.next * 100 if time is None else time
        lasted = duration if flags & RETURNED else UNKNOWN
        self._rows["events"].append(
            EVENT_ROW.pack(began, lasted, who, *registers, ret & (1 << 64) - 1, nr, strings, flags, entry)
        )
        self.next += 1
        return self.next - 1

    def task(
        self, who: int = task(7), argv: bytes | None = b"sh\0-c\0ls\0", comm: bytes = b"sh", ppid: int = 1,
        flags: int = 0, seq: int | None = None, table: int = 0, start: int = 0,
    ) -> None:  # fmt: skip
        """Add an identity, from the next event on."""
        known = TaskFlag.PIDS | TaskFlag.COMM | (TaskFlag.ARGV if argv is not None else 0) | flags
        known |= TaskFlag.START if start else 0
        comm_id, argv_id = self.string(comm), self.string(argv or b"", LIST)
        since, pid, tid = self.next if seq is None else seq, who >> 32, who & 0xFFFFFFFF
        self._rows["tasks"].append(
            TASK_ROW.pack(since, who, 0x1000, pid, tid, ppid, known, start, comm_id, argv_id, table)
        )

    def file(self, owner: int, fd: int, path: bytes | None = None, flags: int = 0, seq: int | None = None) -> None:
        """Add what a descriptor of a table is, from the next event on; a folder with ``FileFlag.CWD``."""
        since, text = self.next if seq is None else seq, 0 if path is None else self.string(path)
        self._rows["files"].append(FILE_ROW.pack(since, owner, fd, text, flags, 0))

    def table(self, owner: int, files: dict[int, bytes], seq: int | None = None) -> None:
        """Add a whole table: descriptors and their paths."""
        for fd, path in files.items() or [(NO_FD, None)]:
            self.file(owner, fd, path, FileFlag.SNAPSHOT, seq)

    def mark(self, text: bytes) -> None:
        """Add a mark, from the next event on."""
        self._rows["marks"].append(MARK_ROW.pack(self.next, self.string(text), 0))

    def skip(self, events: int) -> None:
        """Lose events: close the chunk and leave their numbers out."""
        self.block()
        self.next += events
        self._begin()

    def block(self) -> None:
        """Seal the chunk: its records become blocks."""
        for kind, first, rows in self._parts():
            self.add(kind, rows[1], first, rows[0])
        self._begin()

    def _parts(self) -> list[tuple[BlockType, int, tuple[bytes, int]]]:
        rows = {name: (b"".join(rows), len(rows)) for name, rows in self._rows.items()}
        rows["strings"] = (rows["strings"][0] + self._bytes, rows["strings"][1])
        self._events_total += rows["events"][1]
        return [
            (kind, first, rows[name])
            for kind, first, name in (
                (BlockType.STRINGS, self._first_string, "strings"),
                (BlockType.SETS, self._first_set, "sets"),
                (BlockType.TASKS, self._chunk_first, "tasks"),
                (BlockType.MARKS, self._chunk_first, "marks"),
                (BlockType.FILES, self._chunk_first, "files"),
                (BlockType.EVENTS, self._chunk_first, "events"),
            )
            if rows[name][1]
        ]

    def add(self, kind: BlockType, count: int, first: int, payload: bytes, *, encoding: Encoding | None = None) -> None:
        """Add any block, forged ones too: its header and checksums are right, whatever it claims."""
        if encoding is None and kind is BlockType.EVENTS and self.planes:
            encoding, payload = Encoding.PLANES, event_planes(payload)
        elif encoding is None:
            encoding = Encoding.COLUMNS if kind is BlockType.EVENTS and self.columns else Encoding.ZSTD
            if encoding is Encoding.COLUMNS:
                words = [payload[at : at + 8] for at in range(0, len(payload), 8)]
                payload = b"".join(b"".join(words[column::12]) for column in range(12))
        stored = payload if encoding is Encoding.RAW else zstandard.compress(payload)
        self.stored.append(pack_block(self.header, kind, encoding, self._index, count, first, len(payload), stored))
        self._index += 1

    def data(self, sealed: bool = True) -> bytes:
        """The segment's bytes."""
        self.block()
        parts = [self.header.pack(), *self.stored]
        if sealed:
            totals = {"events": self._events_total} | self.counters
            words = struct.pack(f"<{len(COUNTERS)}Q", *(totals.get(name, 0) for name in COUNTERS))
            parts.append(
                pack_block(self.header, BlockType.END, Encoding.RAW, self._index, len(COUNTERS), 0, len(words), words)
            )
        return b"".join(parts)

    def write(self, folder: Path, name: str | None = None, sealed: bool = True) -> Path:
        """Write the segment file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (name or f"cap-{self.capture.hex[:6]}-{self.segment:06d}.seg")
        path.write_bytes(self.data(sealed))
        return path

    def live(self, folder: Path, chunk: int = 0) -> Path:
        """Write the chunk being filled as a live file, and seal it no further."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = {name: (b"".join(rows), len(rows)) for name, rows in self._rows.items()}
        counts = {name: len(self._bytes) if name == "string_bytes" else rows[name][1] for name in AREAS}
        rooms = {f"max_{name}": count + 3 for name, count in counts.items()}
        areas, length = live_areas(list(rooms.values()))
        data = bytearray(length)
        packed = replace(self.header, live=True).pack()
        data[: len(packed)] = packed
        words = counts | rooms | {"first_event": self._chunk_first, "first_string": self._first_string}
        words |= {"first_set": self._first_set, "first_block": self._first_block}
        struct.pack_into(f"<{len(CONTROL)}Q", data, CONTROL_OFFSET, *(words[name] for name in CONTROL))
        totals = (self.counters.get(name, 0) for name in COUNTERS)
        struct.pack_into(f"<{len(COUNTERS)}Q", data, COUNTERS_OFFSET, *totals)
        contents = {name: rows[name][0] for name in rows} | {"string_bytes": self._bytes}
        for name, value in contents.items():
            data[areas[name].offset : areas[name].offset + len(value)] = value
        path = folder / f"cap-{self.capture.hex[:6]}-{self.segment:06d}-{chunk:06d}.live"
        path.write_bytes(data)
        return path
