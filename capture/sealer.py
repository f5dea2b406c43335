"""Off the hot path: a thread that compresses full chunks into segment files and keeps spare chunks ready."""

from __future__ import annotations

import errno
import json
import os
import queue
import struct
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from operator import sub
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from capture.chunk import Chunk, Room
from capture.limits import SPARES
from capture.live import live_blocks
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
    pack_block,
)

SPARE_SUFFIX = ".spare"
_NUMBER = 80
"""Where the syscall number lies in an event row."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that may pass: what could not be written is tried again."""
_PAUSE = 0.2
"""Seconds after which the disk is looked at again."""
LEVEL = 6
"""Zstandard's level: on captures 3 takes a twentieth more space for a third of the time, 9 twice the time for 1 %."""
STRINGS_LEVEL, MANY_STRINGS_LEVEL = 16, 9
"""The level of STRINGS: a fifth smaller by 16 than by 9, for eight times the time. That is 0.2 s for each MB, which a
guest that makes new strings without end would not leave us: a block of more than `MANY_BYTES` gets the lower one."""
MANY_BYTES = 1 << 18


class Finished(NamedTuple):
    """A segment file that is closed."""

    path: Path
    size: int
    first_event: int


class Sealer:
    """Owns a capture's segment files. Its caller, the recorder, never waits for it until the capture ends.

    A chunk whose blocks cannot be written keeps its live file, so nothing is lost by it. If the disk is full, a spare
    makes room (a chunk takes less when it is sealed), or else it is tried again later, and no spare is made before
    that; without one the recorder counts what it drops.

    Attributes:
        failed: The last failure to write, for the summary.
        total: Bytes of all segment files that there are.
        kept_from: Sequence number before which all segments have been deleted to make room.
    """

    def __init__(
        self, directory: Path, stem: str, room: Room, meta: dict[str, Any], *, most: int = 0, keep: int = 0,
        tick: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Make the first spare, so that a folder that cannot be written is known at once.

        Args:
            directory: Where the segments go.
            stem: What their names begin with.
            room: Of a chunk.
            meta: For their META blocks.
            most: Chunks that there may be at a time; 0 for any number.
            keep: Bytes of closed segments beyond which the oldest are deleted; 0 for no limit.
            tick: Called several times a second.

        Raises:
            OSError: No live file can be made in ``directory``.
        """
        self.failed: str | None = None
        self.total = self.kept_from = 0
        self._directory, self._stem, self._room, self._meta = directory, stem, room, meta
        self._most, self._keep, self._tick = most, keep, tick
        self._made = self._chunks = 0
        self._header: Header | None = None
        """Of the segment that is open."""
        self._path = directory
        self._file, self._index, self._stored = -1, 0, 0
        self._finished: deque[Finished] = deque()
        self._counters = [0] * len(COUNTERS)
        self._is_full = self._is_torn = False
        self._spares: deque[Chunk] = deque([self._make_spare()])
        self._backlog: deque[Chunk] = deque()
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

    def close(self, segment: int, counters: list[int]) -> bool:
        """Seal what is queued, remove the spares, write the last END block. Waits until that is done.

        Args:
            segment: The newest segment's number.
            counters: Its ledger. If it never had a chunk, the segment before it tells what was dropped.

        Returns:
            Whether all that was recorded is in sealed segments.
        """
        self._jobs.put(None)
        self._thread.join()
        while (spare := self.spare()) is not None:
            self._guard(spare.discard)
        if self._header is not None and self._header.segment != segment:
            counters = [own + newer for own, newer in zip(self._counters, counters, strict=True)]
        if self._header is None:
            return False
        return self._guard(self._finish, counters) and not self._is_torn

    def _run(self) -> None:
        """The thread: seal chunks in their order, see to the spares, and look after a full disk again and again."""
        while True:
            while not self._backlog and self._wants_spare() and self._guard(self._add_spare):
                pass
            is_idle = not self._backlog and not self._wants_spare() and self._tick is None
            try:
                job = self._jobs.get(timeout=None if is_idle else _PAUSE)
            except queue.Empty:
                pass
            else:
                if job is None:
                    break
                self._backlog.append(job)
                del job  # its room on the disk is free only when nobody holds it
            if self._tick is not None:
                self._tick()
            self._seal_all(last=False)
        self._seal_all(last=True)

    def _wants_spare(self) -> bool:
        return len(self._spares) < SPARES and (not self._most or self._chunks < self._most)

    def _seal_all(self, last: bool) -> None:
        """Write what waits. On a full disk it goes on waiting, unless it is the last time."""
        while self._backlog:
            if self._guard(self._append, self._backlog[0]):
                self._guard(self._backlog.popleft().discard)
                self._chunks -= 1
            elif self._is_full and (spare := self.spare()) is not None:
                self._guard(spare.discard)
                self._chunks -= 1
                del spare
            elif self._is_full and not last:
                return
            else:
                self._backlog.popleft()
                self._is_torn = True

    def _guard(self, step: Callable[..., None], *arguments: Any) -> bool:
        """Run a step that touches the disk; a failure is kept for the summary and never raised."""
        try:
            step(*arguments)
        except OSError as error:
            self._note(error)
            return False
        return True

    def _note(self, error: OSError) -> None:
        self.failed = f"{error.strerror or error} ({error.filename or self._directory})"
        self._is_full = error.errno in _FULL

    def _make_spare(self) -> Chunk:
        self._made += 1
        spare = Chunk(self._directory / f"{self._stem}-{self._made:06d}{SPARE_SUFFIX}", self._room)
        self._chunks += 1
        return spare

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
        self._make_room(header)
        meta = {**self._meta, "kept_from": self.kept_from} if self.kept_from else self._meta
        data = json.dumps(meta, sort_keys=True).encode()
        self._path = self._directory / f"{self._stem}-{header.segment:06d}{SEGMENT_SUFFIX}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._stored = 0
        try:
            self._write(header.pack() + pack_block(header, BlockType.META, Encoding.RAW, 0, 1, 0, len(data), data))
        except OSError:
            os.close(self._file)
            raise
        self._header, self._index = header, 1

    def _make_room(self, header: Header) -> None:
        """Delete the oldest segments beyond what is to be kept."""
        while self._keep and self._finished and self.total > self._keep:
            oldest = self._finished.popleft()
            self.kept_from = self._finished[0].first_event if self._finished else header.first_event
            self.total -= oldest.size
            with suppress(OSError):
                oldest.path.unlink(missing_ok=True)

    def _finish(self, counters: list[int]) -> None:
        """Write the END block of the open segment and put the file on disk.

        A full disk leaves the segment open, to be tried again. Any other failure leaves it without its END block; the
        running file has its totals.
        """
        header = self._header
        if header is None:
            return
        stored, total = self._stored, self.total
        try:
            words = struct.pack(f"<{len(COUNTERS)}Q", *counters)
            self._write(
                pack_block(header, BlockType.END, Encoding.RAW, self._index, len(COUNTERS), 0, len(words), words)
            )
            os.truncate(self._file, self._stored)
            os.fsync(self._file)
            if not os.fstat(self._file).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "removed while it was written", str(self._path))
        except OSError as error:
            if error.errno in _FULL:
                self._stored, self.total = stored, total  # the next END block takes this one's place
                raise
            self._note(error)
            self._is_torn = True
        self._header = None
        self._finished.append(Finished(self._path, self._stored, header.first_event))
        with suppress(OSError):
            os.close(self._file)

    def _write(self, data: bytes) -> None:
        """Append to the open segment, all or nothing."""
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._file, data[done:] if done else data, self._stored + done)
        except OSError:
            with suppress(OSError):  # what stays there is written over, or is no sound block
                os.truncate(self._file, self._stored)
            raise
        self._stored += len(data)
        self.total += len(data)


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
