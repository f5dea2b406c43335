"""The chunk being filled: a memory-mapped live file that outlives a killed emulator."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from capture.live import AREAS, CONTROL, CONTROL_OFFSET, COUNTERS_OFFSET, live_areas
from capture.segment import COUNTERS, Header


@dataclass(frozen=True)
class Room:
    """How much a chunk holds of each kind, in records (bytes for ``string_bytes``)."""

    events: int = 32768
    strings: int = 32768
    string_bytes: int = 1 << 21
    sets: int = 32768
    tasks: int = 4096
    marks: int = 4096
    files: int = 16384


class Chunk:
    """A live file, mapped. The recorder writes into it with plain stores; nothing is flushed or waited for.

    A record counts once its area's word in ``control`` has been raised. The page cache keeps every store of a
    process that dies, so whatever was counted before a SIGKILL is in the file. (A crash of the host itself may
    lose a chunk that was not yet sealed.)

    Attributes:
        map: The file's bytes.
        control: The words of ``segment.CONTROL``, as uint64.
        counters: The words of ``segment.COUNTERS``, as uint64.
        offsets: Byte offset of each area in ``map``.
    """

    def __init__(self, path: Path, room: Room) -> None:
        """Create the file with its blocks allocated, so that a store can never meet a full disk.

        Raises:
            OSError: The file cannot be created, or the disk has no room for it.
        """
        self.path, self.room = path, room
        areas, length = live_areas(astuple(room))
        self.offsets = {name: area.offset for name, area in areas.items()}
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, length)
            self.map = mmap.mmap(descriptor, length)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        words = memoryview(self.map).cast("Q")
        self.control = words[CONTROL_OFFSET // 8 : CONTROL_OFFSET // 8 + len(CONTROL)]
        self.counters = words[COUNTERS_OFFSET // 8 : COUNTERS_OFFSET // 8 + len(COUNTERS)]
        self.header: Header | None = None
        """Of the segment that the chunk belongs to; None while it is a spare."""

    def open(self, header: Header, first_event: int, first_string: int, first_set: int, first_block: int) -> None:
        """Make the chunk readable: its segment's header, and what its areas start at."""
        words = {"first_event": first_event, "first_string": first_string, "first_set": first_set}
        words |= {"first_block": first_block}
        words |= {f"max_{name}": room for name, room in zip(AREAS, astuple(self.room), strict=True)}
        for name, value in words.items():
            self.control[CONTROL.index(name)] = value
        packed = replace(header, live=True).pack()
        self.map[: len(packed)] = packed
        self.header = header

    def rename(self, path: Path) -> None:
        """Give the file its name as a part of the capture; a folder that has vanished is not the guest's concern."""
        with suppress(OSError):
            self.path = self.path.rename(path)

    def committed(self) -> dict[str, int]:
        """The words of ``control`` by name."""
        return dict(zip(CONTROL, self.control, strict=True))

    def discard(self) -> None:
        """Remove the file; the mapping goes with the last view of it."""
        self.path.unlink(missing_ok=True)
