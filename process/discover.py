"""Step one: which files hold which segment of which capture. Goes by headers, not by names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from capture.running import RUNNING_SUFFIX, Running, read_running
from capture.segment import (
    FILE_HEADER_SIZE,
    FILE_MAGIC,
    LIVE_SUFFIX,
    SEGMENT_SUFFIX,
    Header,
    SegmentError,
)
from process.repair import open_segment, read, read_header

SegmentKey = tuple[int, int]
"""Number of the capture's UUID, and of the segment: numbers are compared much faster than UUIDs."""


class File(NamedTuple):
    """A file's header, and its bytes as they were when it was found."""

    header: Header
    size: int


@dataclass(frozen=True)
class Part:
    """One segment of a capture and the files that hold it.

    Attributes:
        header: Of the sealed file, else of the first live file.
        sealed: The ``.seg`` file, None if the emulator was killed before the first block was written.
        live: Live files by their header, in the order of their names.
        copies: Other files that hold the same segment and are not read.
        size: Bytes of the files that are read, as they were when they were found.
    """

    header: Header
    sealed: Path | None
    live: tuple[Path, ...]
    copies: tuple[Path, ...] = ()
    size: int = 0

    def __hash__(self) -> int:
        """By what tells segments apart: all fields would take long, and thousands of parts are looked up."""
        return hash((self.header.capture.int, self.header.segment))

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read, the sealed one first."""
        return ((self.sealed,) if self.sealed else ()) + self.live

    @property
    def name(self) -> str:
        """The files' names, for people."""
        return ", ".join(path.name for path in self.files)


@dataclass(frozen=True)
class Rejected:
    """A path that gave no segment.

    Attributes:
        message: One line: what, where, what to do.
        loss: Whether events may have been in it.
    """

    message: str
    loss: bool = True


@dataclass
class Found:
    """What the given paths hold.

    Attributes:
        parts: Segments by capture (the oldest first) and number.
        rejected: What could not be taken.
        running: What captures say of themselves that still run or were not sealed, where their folder was given.
    """

    parts: list[Part] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    running: dict[uuid.UUID, Running] = field(default_factory=dict)


def discover(paths: Iterable[Path]) -> Found:
    """Find the segments in files and folders.

    A folder gives every file in it that begins as a segment does, or is named like one; links in it are not
    followed, those that are given by name are. A file brings along
    the other files of its segment that lie beside it: a live file needs the strings of its segment.

    Args:
        paths: Files and folders, in any order; the result does not depend on it.
    """
    found = Found()
    files: dict[Path, File] = {}
    wanted: set[SegmentKey] = set()
    folders: dict[Path, list[Path]] = {}
    for path in sorted({_resolved(path) for path in paths}):
        if path.is_dir():
            found.running |= _running(path)
            before = len(files) + len(found.rejected)
            folders[path], untaken = _listed(path)
            for child in folders[path]:
                _take(child, files, found)
            found.rejected += [Rejected(text) for text in untaken]
            if len(files) + len(found.rejected) == before:
                found.rejected.append(Rejected(f"{path}: no segments in this folder; give one that capture wrote"))
            wanted.update(_key(files[child].header) for child in folders[path] if child in files)
        elif path.is_file():
            _take(path, files, found)
            if path in files:
                wanted.add(_key(files[path].header))
                if path.parent not in folders:
                    folders[path.parent], _ = _listed(path.parent)
                for beside in folders[path.parent]:
                    _take_beside(beside, files, path)
        elif path.exists():
            found.rejected.append(Rejected(f"{path}: neither a file nor a folder"))
        else:
            found.rejected.append(Rejected(f"{path}: no such file or folder"))
    found.parts = _group({path: file for path, file in files.items() if _key(file.header) in wanted})
    found.rejected = sorted(set(found.rejected), key=lambda rejected: rejected.message)
    return found


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links: RuntimeError up to Python 3.12
        return path.absolute()


def _key(header: Header) -> SegmentKey:
    return header.capture.int, header.segment


def _running(folder: Path) -> dict[uuid.UUID, Running]:
    """The running files of a folder; one that is damaged is passed over, since no event is in it."""
    running = {}
    for path in sorted(folder.glob(f"*{RUNNING_SUFFIX}")):
        try:
            one = read_running(path)
        except (SegmentError, OSError):
            continue
        running[one.header.capture] = one
    return running


def _listed(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that are segments or claim to be, and what is named as a segment and not opened.

    That is links, which may lead anywhere, and what is no file. A folder that is being written is listed twice: a file
    that was renamed while it was listed may not be in the list, although younger ones are.
    """
    try:
        found = _entries(folder)
        if any(name.endswith(LIVE_SUFFIX) for name in found):
            found |= _entries(folder)
    except OSError:
        return [], []
    files, untaken = [], []
    for name in sorted(found):
        entry, path = found[name], folder / name
        is_named = name.endswith((SEGMENT_SUFFIX, LIVE_SUFFIX)) and path.suffix in (SEGMENT_SUFFIX, LIVE_SUFFIX)
        if entry.is_file(follow_symlinks=False):
            if is_named or _has_magic(path):
                files.append(path)
        elif is_named and entry.is_symlink():
            untaken.append(f"{path}: a link, which is not followed out of a folder; give the file itself")
        elif is_named:
            untaken.append(f"{path}: named as a segment, but no file")
    return files, untaken


def _entries(folder: Path) -> dict[str, os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return {entry.name: entry for entry in entries}


def _has_magic(path: Path) -> bool:
    try:
        with open(open_segment(path), "rb") as file:
            return file.read(len(FILE_MAGIC)) == FILE_MAGIC
    except OSError:
        return False


def _take(path: Path, files: dict[Path, File], found: Found | None) -> None:
    """Read a file's header into ``files``, or say in ``found`` why not."""
    if path in files:
        return
    try:
        files[path] = File(*read_header(path))
    except (SegmentError, OSError) as error:
        if found is None:
            return
        text = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        found.rejected.append(Rejected(text, not _is_stillborn(path)))


def _take_beside(path: Path, files: dict[Path, File], given: Path) -> None:
    """Take what completes a given file: of two files of a segment one is live, else they are copies."""
    if path not in files:
        found: dict[Path, File] = {}
        _take(path, found, None)
        if path in found and (found[path].header.live or files[given].header.live):
            files[path] = found[path]


def current(part: Part) -> Part:
    """A segment's files as they are now: its capture still runs, and has sealed or begun some.

    They are looked for by the names that capture gives them, and taken if their headers agree.
    """
    known = part.files[0]
    stem = known.stem if known == part.sealed else known.stem.rpartition("-")[0]
    candidates = [known.with_name(stem + SEGMENT_SUFFIX), *known.parent.glob(f"{_escaped(stem)}-*{LIVE_SUFFIX}")]
    files: dict[Path, File] = {}
    for path in candidates:
        _take(path, files, None)
    mine = {path: header for path, (header, _) in files.items() if _key(header) == _key(part.header)}
    sealed = part.sealed or next((path for path, header in mine.items() if not header.live), None)
    return Part(part.header, sealed, tuple(sorted(path for path in mine if mine[path].live)), part.copies)


def _is_stillborn(path: Path) -> bool:
    """Whether a file was made just before its emulator was killed: no header, its events in a live file.

    Only here a name decides, since there is no header to go by.
    """
    try:
        torn = path.stat().st_size < FILE_HEADER_SIZE and FILE_MAGIC.startswith(path.read_bytes()[: len(FILE_MAGIC)])
    except OSError:
        return False
    return torn and any(path.parent.glob(f"{_escaped(path.stem)}-*{LIVE_SUFFIX}"))


def _escaped(name: str) -> str:
    """A name as a glob pattern that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _group(files: dict[Path, File]) -> list[Part]:
    """Files into segments, ordered by the capture's time and UUID, then by number."""
    sealed: dict[SegmentKey, list[Path]] = {}
    live: dict[SegmentKey, list[Path]] = {}
    began: dict[int, int] = {}
    for path, (header, _) in sorted(files.items(), key=lambda item: str(item[0])):
        key = _key(header)
        (live if header.live else sealed).setdefault(key, []).append(path)
        began[key[0]] = min(began.get(key[0], header.realtime_ns), header.realtime_ns)
    parts = []
    for key in sorted(sealed.keys() | live.keys(), key=lambda key: (began[key[0]], key)):
        copies = _best_first(sealed.get(key, []))
        others = tuple(sorted(live.get(key, []), key=lambda path: (path.name, str(path))))
        header = files[copies[0] if copies else others[0]].header
        size = sum(files[path].size for path in (*copies[:1], *others))
        parts.append(Part(header, copies[0] if copies else None, others, tuple(copies[1:]), size))
    return parts


def _best_first(copies: Sequence[Path]) -> list[Path]:
    """Copies of one segment, the soundest first, so that a damaged copy never wins over a sound one."""
    if len(copies) < 2:
        return list(copies)

    def loss(path: Path) -> tuple[bool, int, str, str]:
        try:
            segment = read(path)
        except (SegmentError, OSError):
            return True, 0, path.name, str(path)
        return bool(segment.damage), -segment.size, path.name, str(path)

    return sorted(copies, key=loss)
