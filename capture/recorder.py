"""The hot path: events, strings and identities into the chunk being filled. Decodes and waits for nothing."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from capture.chunk import Chunk, Room
from capture.limits import Policy, Quota
from capture.live import AREAS, CONTROL, live_block_count
from capture.running import RUNNING_SUFFIX, RunningFile, host_name
from capture.sealer import Sealer
from capture.segment import (
    COUNTERS,
    EVENT_ROW,
    FILE_ROW,
    LIVE_SUFFIX,
    MARK_ROW,
    NO_FD,
    SET_ROW,
    STRING_INDEX,
    TASK_ROW,
    UNKNOWN,
    EventFlag,
    FileFlag,
    Header,
    StringFlag,
)
from capture.version import TOOL

MAX_STRING = 65536
"""Bytes of one string that are kept at the most, lists included; a reader relies on no such limit."""
_PACK_EVENT = EVENT_ROW.pack_into
_RESERVE_BYTES, _RESERVE_RECORDS = 8 * MAX_STRING, 16
"""Room that one more event may need: six strings, and the name and argv of a new task."""

_FULL, _ASKED = -1, -2
"""Limits that every event reaches: an area is all but full, or only a mark waits."""
_FILES = CONTROL.index("files")
_CWD, _SNAPSHOT = int(FileFlag.CWD), int(FileFlag.SNAPSHOT)
_RESET = int(EventFlag.CHILD | EventFlag.RESET)

String = tuple[int, bytes, int]
"""Position of an argument (0 to 5), the bytes read for it, its ``StringFlag`` bits."""

OpenFile = tuple[int, bytes | None, int]
"""A descriptor, its path as the kernel shows it (None: not known), its ``FileFlag`` bits."""


class Recorder:
    """Writes a capture into a folder, event by event.

    One writer: all methods but `mark` are called from one thread, the emulator's. None of them raises or waits once the
    constructor has returned, and `event` allocates nothing that outlives it.

    Attributes:
        counts: The ledger of the newest segment, by the names of ``segment.COUNTERS``. A back end adds to it what it
            could not read or would not keep.
        finished: The same for all segments before that one.
        capture: The capture's UUID.
        began: CLOCK_MONOTONIC at which it began, ns: event times count from it.
        is_whole: Whether it was closed, and all that was recorded is in sealed segments.
    """

    def __init__(
        self,
        directory: Path,
        abi: str,
        *,
        word_size: int = 8,
        big_endian: bool = False,
        segment_size: int = 64 << 20,
        segment_time: float = 0,
        max_size: int = 0,
        policy: Policy = Policy.DROP_NEWEST,
        room: Room | None = None,
        wait: bool = False,
        meta: dict[str, Any] | None = None,
        on_chunk: Callable[[], None] = lambda: None,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin a capture.

        Args:
            directory: Where the segments go; made if missing.
            abi: The guest's own ABI, by its name in the tables.
            word_size: Bytes of a guest register.
            big_endian: The guest's byte order.
            segment_size: Stored bytes after which a new segment is begun.
            segment_time: Seconds after which a new segment is begun, at the next event; 0 for never.
            max_size: Bytes that the capture may take, live files included; 0 for no limit.
            policy: What happens then: old segments are deleted, or events are counted as dropped.
            room: How much a chunk holds; the default suits everything but tests.
            wait: Wait for the sealer rather than drop events: for generated captures, never in an emulator.
            meta: Free-form facts for the segments' META block, as JSON values.
            on_chunk: Called when a chunk begins: identities must be recorded anew, so that a block that is lost takes
                the names of its own chunk with it and of no other.
            on_full: Called once when the policy is to stop and there is no more room. Events that still come are
                counted as dropped.

        Raises:
            OSError: The folder cannot be made or written.
        """
        self.capture = uuid.uuid4()
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.finished = dict.fromkeys(COUNTERS, 0)
        self._wait = wait
        self._directory, self._room = directory, room or Room()
        self._quota = Quota(segment_size, segment_time, max_size, policy, self._room)
        self._on_chunk, self._on_full, self._stored_before = on_chunk, on_full, 0
        directory.mkdir(parents=True, exist_ok=True)
        self._stem = f"{host_name()}-{os.getpid()}-{self.capture.hex[:12]}"
        self.began = time.monotonic_ns()
        self._header = Header(
            self.capture, 0, abi, word_size, big_endian, time.time_ns(), self.began, 0, TOOL, pid=os.getpid()
        )
        self._running = RunningFile(directory / f"{self._stem}{RUNNING_SUFFIX}", self._header, host_name())
        try:
            self._sealer = Sealer(
                directory, self._stem, self._room, meta or {}, most=self._quota.chunks, keep=self._quota.keep,
                tick=self._look if segment_time else None,
            )  # fmt: skip
        except OSError:
            self._running.close(True)
            raise
        self._chunk: Chunk | None = None
        self._chunks, self._stored = 0, 0
        self._next_event, self._next_string, self._next_set, self._next_block = 0, 1, 1, 1
        self._string_ids: dict[tuple[bytes, int], int] = {}
        self._set_ids: dict[tuple[String, ...], int] = {}
        self._scratch = bytearray(EVENT_ROW.size)
        self._first = self._events = self._bytes = self._at = self._limit = 0
        self._map, self._control = memoryview(self._scratch), memoryview(bytearray(8)).cast("Q")
        self._marked = ""
        self._is_open, self.is_whole = True, False
        self._writer = 0
        """The thread that records, once a chunk has been full."""
        self._asked: str | None = None
        self._later: str | None = None
        """The mark that holds, the one that begins with the next event, and the one that begins with the next reset."""
        self._attach(self._sealer.spare())
        self._tell()

    @property
    def segments(self) -> int:
        """How many segments the capture has so far."""
        return self._header.segment + 1

    @property
    def next_event(self) -> int:
        """The sequence number that the next event will get."""
        return self._first + self._events

    @property
    def failure(self) -> str | None:
        """The last failure to write, as one line, or None."""
        return self._sealer.failed

    @property
    def stored(self) -> int:
        """Bytes of the capture's segment files."""
        return self._sealer.total

    def totals(self) -> dict[str, int]:
        """The ledger of the whole capture, by the names of ``segment.COUNTERS``; what is being filled counts too."""
        found = {name: self.finished[name] + self.counts[name] for name in COUNTERS}
        chunk = self._chunk
        if chunk is not None:
            for name, count in chunk.committed().items():
                if name in AREAS:
                    found[name] += count
        return found

    def event(
        self, began: int, duration: int, task: int, a0: int, a1: int, a2: int, a3: int, a4: int, a5: int,
        ret: int, number: int, strings: int = 0, flags: int = 1, entry: int = 0,
    ) -> int:  # fmt: skip
        """Record one event and give its sequence number.

        Args:
            began: When the call was entered, ns since the capture began.
            duration: From entry to return, ns, or ``UNKNOWN``.
            task: As ``docs/FORMAT.md`` defines it: pid << 32 | tid, or an address-space id.
            a0: First raw argument register, below 2**64 as all of them.
            a1: Second.
            a2: Third.
            a3: Fourth.
            a4: Fifth.
            a5: Sixth.
            ret: Raw return register.
            number: Raw syscall number, below 2**32.
            strings: What `strings` gave for this event.
            flags: ``EventFlag`` bits.
            entry: For a return: how many events ago the same call's entry was recorded, 0 if it was not.
        """
        n = self._events
        _PACK_EVENT(
            self._map, self._at, began, duration, task, a0, a1, a2, a3, a4, a5, ret, number, strings, flags, entry,
        )  # fmt: skip
        self._at += 96
        self._events = self._control[0] = n + 1
        sequence = self._first + n
        if n >= self._limit:
            self._turn()
        return sequence

    def strings(self, found: tuple[String, ...]) -> int:
        """The id that stands for an event's strings, for `event`. Strings are stored once per segment."""
        known = self._set_ids.get(found)
        if known is not None:
            return known
        ids = [0] * 6
        for position, data, flags in found:
            ids[position] = self.string(data, flags)
        chunk = self._chunk
        if chunk is None or chunk.control[3] >= self._room.sets - 1:
            self._limit = _FULL
            return 0
        at = chunk.control[3]
        SET_ROW.pack_into(chunk.map, chunk.offsets["sets"] + SET_ROW.size * at, *ids)
        chunk.control[3] = at + 1
        self._set_ids[found] = self._next_set
        self._next_set += 1
        if at + _RESERVE_RECORDS >= self._room.sets:
            self._limit = _FULL
        return self._next_set - 1

    def string(self, data: bytes, flags: int = 0) -> int:
        """The id of a string in this segment; 0 if there was no room for it, which is counted."""
        if len(data) > MAX_STRING:
            data, flags = data[:MAX_STRING], flags | StringFlag.TRUNCATED
        known = self._string_ids.get((data, flags))
        if known is not None:
            return known
        chunk = self._chunk
        if chunk is None:  # its event is dropped with it
            return 0
        if chunk.control[1] >= self._room.strings or self._bytes + len(data) > self._room.string_bytes:
            self._limit = _FULL
            self.counts["unstored"] += 1
            return 0
        at, start = chunk.control[1], chunk.offsets["string_bytes"] + self._bytes
        chunk.map[start : start + len(data)] = data
        self._bytes += len(data)
        STRING_INDEX.pack_into(chunk.map, chunk.offsets["strings"] + STRING_INDEX.size * at, self._bytes, flags)
        chunk.control[2] = self._bytes
        chunk.control[1] = at + 1
        self._string_ids[data, flags] = self._next_string
        self._next_string += 1
        if at + _RESERVE_RECORDS >= self._room.strings or self._bytes + _RESERVE_BYTES > self._room.string_bytes:
            self._limit = _FULL
        return self._next_string - 1

    def identity(
        self, task: int, asid: int, pid: int, tid: int, ppid: int, flags: int, start_ns: int, comm: bytes, argv: bytes,
        argv_flags: int, table: int = 0,
    ) -> None:  # fmt: skip
        """Record who a task is, from the next event on.

        Args:
            task: The value that its events carry.
            asid: Its address-space id.
            pid: Its thread group; 0 if unknown, as ``tid`` and ``ppid``.
            tid: Its own id.
            ppid: Its parent's thread group.
            flags: ``TaskFlag`` bits: which fields are known.
            start_ns: When it started, ns since the guest booted.
            comm: Its name in the kernel.
            argv: Its argument vector, each argument ended by NUL.
            argv_flags: ``StringFlag`` bits of ``argv``.
            table: Its table of descriptors, as `files` is told it; 0 if unknown.
        """
        comm_id, argv_id = self.string(comm), self.string(argv, argv_flags | StringFlag.LIST)
        chunk = self._chunk
        if chunk is None:  # it is recorded anew when there is a chunk again
            return
        if chunk.control[4] >= self._room.tasks:
            self.counts["unstored"] += 1
            return
        at = chunk.control[4]
        TASK_ROW.pack_into(
            chunk.map, chunk.offsets["tasks"] + TASK_ROW.size * at, self.next_event, task, asid, pid, tid, ppid,
            flags, start_ns, comm_id, argv_id, table,
        )  # fmt: skip
        chunk.control[4] = at + 1
        if at + _RESERVE_RECORDS >= self._room.tasks:
            self._limit = _FULL

    def files(self, table: int, found: Sequence[OpenFile], snapshot: bool = False) -> None:
        """Record what descriptors of a table are, from the next event on: all of them, or none if there is no room.

        Args:
            table: Any number that stands for the table; tasks that share it have it in their identities.
            found: The descriptors.
            snapshot: Whether these are all that the table has.
        """
        if snapshot:
            found = [(fd, path, flags | _SNAPSHOT) for fd, path, flags in found] or [(NO_FD, None, _SNAPSHOT)]
        chunk, room = self._chunk, self._room.files
        if chunk is None:  # as an identity
            return
        if chunk.control[_FILES] + len(found) > room:
            self.counts["unstored"] += len(found)
            if 2 * len(found) <= room:  # more than half an area never fit: a new chunk would not help them
                self._limit = _FULL
            return
        for fd, path, flags in found:
            self.file(table, fd, path, flags)

    def folder(self, task: int, path: bytes | None) -> None:
        """Record a task's current folder, from the next event on; None: it is not known."""
        self.file(task, 0, path, _CWD)

    def file(self, owner: int, fd: int, path: bytes | None, flags: int) -> None:
        """Record one descriptor of a table, from the next event on; with ``FileFlag.CWD`` a task's folder."""
        number = 0 if path is None else self.string(path)
        chunk, room = self._chunk, self._room.files
        if chunk is None:
            return
        if (at := chunk.control[_FILES]) >= room:
            self.counts["unstored"] += 1
            self._limit = _FULL
            return
        offset = chunk.offsets["files"] + FILE_ROW.size * at
        FILE_ROW.pack_into(chunk.map, offset, self._first + self._events, owner, fd, number, flags, 0)
        chunk.control[_FILES] = at + 1
        if at + _RESERVE_RECORDS >= room:
            self._limit = _FULL

    def mark(self, text: str, at_reset: bool = False) -> None:
        """Give every event from the next one on a text, until the next mark. Any thread may call it.

        Args:
            text: Of the mark; empty for none.
            at_reset: Begin with the next reset, not with the next event.
        """
        if at_reset:
            self._later = text
            return
        if self._chunk is not None and self._writer == threading.get_ident():  # before the event that it begins with
            self._marked, self._asked = text, None
            self._write_mark(self.next_event)
            return
        self._asked = text
        if self._limit != _FULL:
            self._limit = _ASKED

    def reset(self, now: int) -> None:
        """Record that nothing from before holds: the machine has been put into another state.

        Args:
            now: When, ns since the capture began.
        """
        self.event(now, UNKNOWN, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, _RESET)
        text, self._later = self._later, None
        if text is not None:
            self._marked, self._asked = text, None
        if self._marked and self._chunk is not None:
            self._write_mark(self.next_event)

    def _take_mark(self, event: int) -> None:
        """Write the mark that was asked for; it begins with an event."""
        text, self._asked = self._asked, None
        if text is not None:
            self._marked = text
            if self._chunk is not None:
                self._write_mark(event)

    def _write_mark(self, event: int) -> None:
        """Write the mark that holds from an event on."""
        chunk = self._chunk
        if chunk is None:  # it is recorded when there is a chunk again
            return
        number = self.string(self._marked.encode("utf-8", "surrogateescape")) if self._marked else 0
        if chunk.control[5] >= self._room.marks:
            self.counts["unstored"] += 1
            return
        at = chunk.control[5]
        MARK_ROW.pack_into(chunk.map, chunk.offsets["marks"] + MARK_ROW.size * at, event, number, 0)
        chunk.control[5] = at + 1
        if at + _RESERVE_RECORDS >= self._room.marks:
            self._limit = _FULL

    def close(self) -> None:
        """Seal the capture. Waits for the sealer; call it when the guest has stopped. A second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        if self._chunk is not None:
            self._detach(self._chunk)
            self._chunk = None
            self._tell()
        self.is_whole = self._sealer.close(self._header.segment, self._totals())
        self._running.close(self.is_whole)

    def _turn(self) -> None:
        """The chunk is full (or there was none): take a spare, in a new segment if this one is large or old enough.

        Or a mark waits, which begins with the event that has just been recorded.
        """
        self._writer = threading.get_ident()
        chunk, asked = self._chunk, self._limit == _ASKED
        if asked:
            self._limit = self._room.events - 1
        self._take_mark(self.next_event - 1)
        if asked and chunk is not None and self._events <= self._limit and not self._is_tight(chunk):
            return
        had = chunk is not None
        if self._chunk is None:
            self.counts["dropped"] += self._events
            self._next_event += self._events
        else:
            self._stored += self._detach(self._chunk)
            self._stored = max(self._stored, self._sealer.stored(self._header.segment))
        quota = self._quota
        full = quota.is_full(self._stored_before + self._stored)
        if had and not full and (self._stored >= quota.segment_size or quota.is_late()):
            self._begin_segment()
        if full and quota.stops:
            tell, self._on_full = self._on_full, lambda: None  # once
            tell()
        spare = None if full else self._sealer.spare(self._wait)
        self._attach(spare)
        self._tell()
        if spare is not None:
            self._on_chunk()

    def _look(self) -> None:
        """Now and then, from the sealer's thread: the next event ends a segment that is old enough."""
        if self._quota.is_late() and self._events:
            self._limit = _FULL

    def _tell(self) -> None:
        """Bring the running file up to date. It counts whole chunks, and every event that is dropped."""
        sealer, totals = self._sealer, (self.finished[name] + self.counts[name] for name in COUNTERS)
        self._running.tell(
            self._next_event, self._header.segment, sealer.total, sealer.kept_from, self._chunk is not None, totals
        )

    def _is_tight(self, chunk: Chunk) -> bool:
        """Whether the next event might find no room for what belongs to it."""
        words, room = chunk.control, self._room
        pairs = ((1, room.strings), (3, room.sets), (4, room.tasks), (5, room.marks), (_FILES, room.files))
        tight = any(words[word] + _RESERVE_RECORDS >= most for word, most in pairs)
        return tight or self._bytes + _RESERVE_BYTES > room.string_bytes

    def _detach(self, chunk: Chunk) -> int:
        """Hand the chunk to the sealer. Gives a guess at its stored bytes, 12 an event."""
        control = chunk.committed()
        self._next_event = self._first + self._events
        self._next_block += live_block_count(control)
        for name in AREAS:
            self.counts[name] += control[name]
        for word, value in enumerate(self._totals()):
            chunk.counters[word] = value
        self._running.handed_over(self._next_event)
        self._sealer.seal(chunk)
        return 12 * control["events"]

    def _begin_segment(self) -> None:
        """Number a new segment; ids and counts start again in it."""
        self._quota.began = time.monotonic_ns()
        self._stored_before += self._stored
        self._stored, self._next_string, self._next_set, self._next_block = 0, 1, 1, 1
        self._header = replace(self._header, segment=self._header.segment + 1, first_event=self._next_event)
        self._string_ids.clear()
        self._set_ids.clear()
        for name in COUNTERS:
            self.finished[name] += self.counts[name]
            self.counts[name] = 0

    def _attach(self, chunk: Chunk | None) -> None:
        """Write into ``chunk`` from now on; with none, into a scratch row that counts as dropped."""
        self._chunk, self._first, self._events, self._bytes = chunk, self._next_event, 0, 0
        if chunk is None:
            self._map, self._at, self._limit = memoryview(self._scratch), 0, 0
            self._control = memoryview(bytearray(8)).cast("Q")
            return
        name = f"{self._stem}-{self._header.segment:06d}-{self._chunks:06d}{LIVE_SUFFIX}"
        self._chunks += 1
        chunk.open(self._header, self._next_event, self._next_string, self._next_set, self._next_block)
        chunk.rename(self._directory / name)
        self._map, self._at, self._control = memoryview(chunk.map), chunk.offsets["events"], chunk.control
        self._limit = self._room.events - 1
        if self._marked:
            self._write_mark(self._next_event)
        if self._asked is not None and self._limit != _FULL:  # asked for meanwhile
            self._limit = _ASKED

    def _totals(self) -> list[int]:
        return [self.counts[name] for name in COUNTERS]
