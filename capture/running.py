"""The running file: what a capture says of itself while it runs, for those who watch it and for its reader.

A small file beside the segments, mapped by the recorder and locked by it: it outlives a killed emulator, and needs no
room on a disk that is full. It goes when the capture has been sealed. docs/FORMAT.md has its layout.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from capture.segment import COUNTERS, FILE_HEADER_SIZE, Header, SegmentError

RUNNING_SUFFIX = ".running"
RUNNING_MAGIC = b"\x89SRUN\r\n\0"
RUNNING_LENGTH = 4096
HEADER_AT, HOST_AT, WORDS_AT = 8, 136, 256
_HOST_SIZE = 64
WORDS = ("ended", "next_event", "segment", "stored", "kept_from", "filling", "reserved6", "reserved7", *COUNTERS)
"""The words of a running file, in order; counters are those of the whole capture."""

_NEXT_EVENT, _SEGMENT, _STORED, _KEPT_FROM, _FILLING, _TOTALS = (
    WORDS.index(name) for name in ("next_event", "segment", "stored", "kept_from", "filling", COUNTERS[0])
)


def host_name() -> str:
    """This host's name, fit for a file name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in socket.gethostname())[:32] or "host"


class RunningFile:
    """The recorder's side of it.

    Attributes:
        words: The words of ``WORDS``, as uint64.
    """

    def __init__(self, path: Path, header: Header, host: str) -> None:
        """Create it, its block on the disk allocated, and lock it.

        Raises:
            OSError: It cannot be created.
        """
        self._path = path
        fresh = path.with_suffix(".spare")
        self._file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(self._file, 0, RUNNING_LENGTH)
            self._map = mmap.mmap(self._file, RUNNING_LENGTH)
            self._map[:HEADER_AT] = RUNNING_MAGIC
            self._map[HEADER_AT : HEADER_AT + FILE_HEADER_SIZE] = header.pack()
            name = host.encode("utf-8", "surrogateescape")[:_HOST_SIZE]
            self._map[HOST_AT : HOST_AT + len(name)] = name
            with suppress(OSError):  # a file system without locks: it is then not known who still runs
                fcntl.flock(self._file, fcntl.LOCK_EX)
            fresh.rename(path)  # whole and locked from its first moment
        except OSError:
            os.close(self._file)
            fresh.unlink(missing_ok=True)
            raise
        self.words = memoryview(self._map).cast("Q")[WORDS_AT // 8 : WORDS_AT // 8 + len(WORDS)]

    def tell(
        self, next_event: int, segment: int, stored: int, kept_from: int, is_filling: bool, totals: Iterable[int]
    ) -> None:
        """Bring it up to date."""
        words = self.words
        words[_SEGMENT], words[_STORED], words[_KEPT_FROM] = segment, stored, kept_from
        for word, value in enumerate(totals, _TOTALS):
            words[word] = value
        words[_NEXT_EVENT], words[_FILLING] = next_event, is_filling

    def handed_over(self, next_event: int) -> None:
        """A chunk is about to be sealed, and its live file removed: what it held must be missed without it."""
        self.words[_NEXT_EVENT] = next_event
        self.words[_FILLING] = 0

    def close(self, is_whole: bool) -> None:
        """The capture has ended: the file goes if all of it is in sealed segments."""
        if self._file < 0:
            return
        self.words[0] = 1
        with suppress(OSError):
            if is_whole:
                self._path.unlink(missing_ok=True)
        with suppress(OSError):
            os.close(self._file)
        self._file = -1


@dataclass(frozen=True)
class Running:
    """A running file, read.

    Attributes:
        path: The file.
        header: Of the capture's first segment: the capture, its clocks, the emulator's process id.
        host: Name of the host that records.
        is_running: Whether the recorder is alive, as its lock says.
        words: By the names of ``WORDS``.
    """

    path: Path
    header: Header
    host: str
    is_running: bool
    words: dict[str, int]


def read_running(path: Path) -> Running:
    """Read a running file.

    Raises:
        SegmentError: It is none, or is damaged.
        OSError: It cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        is_running = _is_locked(file)
        data = os.read(file, RUNNING_LENGTH)
    finally:
        os.close(file)
    if data[:HEADER_AT] != RUNNING_MAGIC or len(data) < RUNNING_LENGTH:
        raise SegmentError(f"{path}: no running file of a capture ({len(data)} bytes)")
    header = Header.unpack(data[HEADER_AT : HEADER_AT + FILE_HEADER_SIZE], str(path))
    host = data[HOST_AT : HOST_AT + _HOST_SIZE].rstrip(b"\0").decode("utf-8", "replace")
    values = struct.unpack_from(f"<{len(WORDS)}Q", data, WORDS_AT)
    return Running(path, header, host, is_running, dict(zip(WORDS, values, strict=True)))


def _is_locked(file: int) -> bool:
    """Whether a recorder has a running file locked; readers share theirs, and so do not see each other."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
