"""Off the hot path: a thread that compresses full chunks into segment files and keeps spare chunks ready."""

from __future__ import annotations

import json
import os
import queue
import struct
import threading
import time
from array import array
from collections import deque
from itertools import chain
from operator import sub
from pathlib import Path
from typing import Any

import zstandard

from capture.chunk import Chunk, Room
from capture.segment import (
    COUNTERS,
    EVENT_ROW,
    ROW_SIZES,
    SEGMENT_SUFFIX,
    UNKNOWN,
    Block,
    BlockType,
    Encoding,
    Header,
    live_blocks,
    pack_block,
)

SPARES = 2
SPARE_SUFFIX = ".spare"
_NUMBER = 80
"""Where the syscall number lies in an event row."""
LEVEL = 6
"""Zstandard's level: on captures 3 takes a twentieth more space for a third of the time, 9 twice the time for 1 %."""
STRINGS_LEVEL, MANY_STRINGS_LEVEL = 16, 9
"""The level of STRINGS: a fifth smaller by 16 than by 9, for eight times the time. That is 0.2 s for each MB, which a
guest that makes new strings without end would not leave us: a block of more than `MANY_BYTES` gets the lower one."""
MANY_BYTES = 1 << 18


class Sealer:
    """Owns a capture's segment files. Its caller, the recorder, never waits for it until the capture ends.

    A chunk whose blocks cannot be written (a full disk) keeps its live file, so nothing is lost by it; a spare
    that cannot be made leaves the recorder without a chunk, and the recorder counts what it then drops.
    """

    def __init__(self, directory: Path, stem: str, room: Room, meta: dict[str, Any]) -> None:
        """Make the first spare, so that a folder that cannot be written is known at once.

        Raises:
            OSError: No live file can be made in ``directory``.
        """
        self.failed: str | None = None
        """The last failure to write, for the summary."""
        self._directory, self._stem, self._room, self._meta = directory, stem, room, meta
        self._made = 0
        self._header: Header | None = None
        """Of the segment that is open."""
        self._file, self._index, self._stored = -1, 0, 0
        self._counters = [0] * len(COUNTERS)
        self._spares: deque[Chunk] = deque([self._make_spare()])
        self._jobs: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sysreel-sealer", daemon=True)
        self._thread.start()

    def stored(self, segment: int) -> int:
        """Bytes of a segment so far; 0 unless it is the open one."""
        header = self._header
        return self._stored if header is not None and header.segment == segment else 0

    def spare(self, wait: bool = False) -> Chunk | None:
        """An empty chunk, or None if none is ready; ``wait`` is for generators, never for an emulator."""
        while wait and not self._spares and self._thread.is_alive():
            time.sleep(0.001)
        try:
            return self._spares.popleft()
        except IndexError:
            return None

    def seal(self, chunk: Chunk) -> None:
        """Hand over a full chunk."""
        self._jobs.put(chunk)

    def close(self, segment: int, counters: list[int]) -> None:
        """Seal what is queued, write the last END block, remove the spares. Waits until that is done.

        Args:
            segment: The newest segment's number.
            counters: Its ledger. If it never had a chunk, the segment before it tells what was dropped.
        """
        self._jobs.put(None)
        self._thread.join()
        if self._header is not None and self._header.segment != segment:
            counters = [own + newer for own, newer in zip(self._counters, counters, strict=True)]
        self._guard(self._finish, counters)
        while (spare := self.spare()) is not None:
            spare.discard()

    def _run(self) -> None:
        """The thread: seal a chunk, then see to the spares; look after the disk again while none can be made."""
        while True:
            while len(self._spares) < SPARES and self._guard(self._add_spare):
                pass
            try:
                chunk = self._jobs.get(timeout=None if len(self._spares) >= SPARES else 0.2)
            except queue.Empty:
                continue
            if chunk is None:
                return
            if self._guard(self._append, chunk):
                chunk.discard()

    def _guard(self, step: Any, *arguments: Any) -> bool:
        """Run a step that touches the disk; a failure is kept for the summary and never raised."""
        try:
            step(*arguments)
        except OSError as error:
            self.failed = f"{error.strerror or error} ({error.filename or self._directory})"
            return False
        return True

    def _make_spare(self) -> Chunk:
        self._made += 1
        return Chunk(self._directory / f"{self._stem}-{self._made:06d}{SPARE_SUFFIX}", self._room)

    def _add_spare(self) -> None:
        self._spares.append(self._make_spare())

    def _append(self, chunk: Chunk) -> None:
        """Write a chunk's blocks; on a failed write the file is cut back to the last whole chunk."""
        header = chunk.header
        if header is None:
            raise ValueError("a spare chunk cannot be sealed")
        if self._header is not None and self._header.segment != header.segment:
            self._finish(self._counters)
        if self._header is None:
            self._open(header)
        control = chunk.committed()
        blocks = list(live_blocks(memoryview(chunk.map), control))
        self._write(b"".join(_pack(header, block) for block in blocks))
        self._counters = list(chunk.counters)
        self._index = control["first_block"] + len(blocks)

    def _open(self, header: Header) -> None:
        """Begin a segment file: header and META block."""
        path = self._directory / f"{self._stem}-{header.segment:06d}{SEGMENT_SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._stored = 0
        meta = json.dumps(self._meta, sort_keys=True).encode()
        self._write(header.pack() + pack_block(header, BlockType.META, Encoding.RAW, 0, 1, 0, len(meta), meta))
        self._header, self._index = header, 1

    def _finish(self, counters: list[int]) -> None:
        """Write the END block of the open segment and put the file on disk."""
        header, self._header = self._header, None
        if header is None:
            return
        try:
            words = struct.pack(f"<{len(COUNTERS)}Q", *counters)
            self._write(
                pack_block(header, BlockType.END, Encoding.RAW, self._index, len(COUNTERS), 0, len(words), words)
            )
            os.fsync(self._file)
        finally:
            os.close(self._file)

    def _write(self, data: bytes) -> None:
        """Append to the open segment, all or nothing."""
        try:
            done = 0
            while done < len(data):
                done += os.write(self._file, data[done:] if done else data)
        except OSError:
            os.truncate(self._file, self._stored)
            os.lseek(self._file, self._stored, os.SEEK_SET)
            raise
        self._stored += len(data)


def _pack(header: Header, block: Block) -> bytes:
    """A live file's block as it is stored: compressed, records of fixed size as planes."""
    rows, encoding, level = bytes(block.stored), Encoding.ZSTD, LEVEL
    if block.type == BlockType.EVENTS:
        rows, encoding = event_planes(rows), Encoding.PLANES
    elif block.type in ROW_SIZES:
        rows, encoding = planes(rows, ROW_SIZES[block.type]), Encoding.PLANES
    elif block.type == BlockType.STRINGS:
        level = STRINGS_LEVEL if len(rows) <= MANY_BYTES else MANY_STRINGS_LEVEL
    stored = zstandard.ZstdCompressor(level=level).compress(rows)
    return pack_block(
        header,
        BlockType(block.type),
        encoding,
        block.index,
        block.count,
        block.first,
        block.raw_length,
        stored,
    )


def planes(rows: bytes, size: int) -> bytes:
    """Rows of ``size`` bytes as that many planes: the k-th byte of every row, for each k."""
    return b"".join([rows[k::size] for k in range(size)])


def event_planes(rows: bytes) -> bytes:
    """Event rows as planes, rows of one syscall together: they are alike, and pack into a fifth less space.

    The planes of the syscall number keep the events' own order, from which a reader has the order of the others.
    Times become differences to the event before. ``array`` and slices do this without NumPy.
    """
    size = EVENT_ROW.size
    words = array("Q", rows)
    times = words[:: size // 8]
    words[:: size // 8] = _steps(times)
    own, numbers = words.tobytes(), array("I", rows)[_NUMBER // 4 :: size // 4]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    by_number = b"".join([own[size * i : size * i + size] for i in order])
    return b"".join([(own if _NUMBER <= k < _NUMBER + 4 else by_number)[k::size] for k in range(size)])


def _steps(times: array[int]) -> array[int]:
    """The difference of each time to the one before, modulo 2**64; the first to 0."""
    before = chain((0,), times)
    try:
        return array("Q", array("q", map(sub, times, before)).tobytes())
    except OverflowError:  # no clock's times, but they are recorded nonetheless
        return array("Q", [(time - old) & UNKNOWN for time, old in zip(times, chain((0,), times), strict=False)])
