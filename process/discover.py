"""Step one: which files hold which segment of which capture. Goes by headers, not by names."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, overload

from capture.running import RUNNING_SUFFIX, Running, read_running
from capture.segment import (
    FILE_HEADER_SIZE,
    FILE_MAGIC,
    LIVE_FLAG,
    LIVE_SUFFIX,
    SEGMENT_SUFFIX,
    Header,
    SegmentError,
)
from process.repair import open_segment, read, read_head, read_heads

SegmentKey = tuple[bytes, int]
"""Bytes of the capture's UUID, and number of the segment: bytes are compared much faster than UUIDs."""

AGAIN = 4
"""How often files that capture seals while they are looked at, or read, are looked for again."""
_SUFFIXES = (SEGMENT_SUFFIX, LIVE_SUFFIX)
_HEAD = struct.Struct("<16xIHxx16s40xQ8xQ")
"""Of a file's header: the segment's number, flags, the capture's UUID, when the capture began, the first event."""


class File(NamedTuple):
    """A file's header as bytes, put right if need be, and the file's bytes as they were when it was found."""

    head: bytes
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


class Parts(Sequence[Part]):
    """Segments in order, as columns: of a hundred thousand small ones, few are ever asked for one by one.

    Attributes:
        heads: The header of each, as bytes.
        sizes: Bytes of its files; see `Part`.
        held: The path of its file, if that is sealed and the only one; else the segment itself.
    """

    def __init__(self, heads: list[bytes], sizes: list[int], held: list[str | Part]) -> None:
        self.heads, self.sizes, self.held = heads, sizes, held

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Parts:
        """The same of any segments."""
        if isinstance(parts, Parts):
            return parts
        some = list(parts)
        return cls([part.header.pack() for part in some], [part.size for part in some], list(some))

    def __len__(self) -> int:
        return len(self.held)

    @overload
    def __getitem__(self, index: int) -> Part: ...

    @overload
    def __getitem__(self, index: slice) -> Parts: ...

    def __getitem__(self, index: int | slice) -> Part | Parts:
        if isinstance(index, slice):
            return Parts(self.heads[index], self.sizes[index], self.held[index])
        held = self.held[index]
        if isinstance(held, Part):
            return held
        return Part(Header.unpack(self.heads[index], held), Path(held), (), size=self.sizes[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parts):
            return NotImplemented
        mine, theirs = ([_files(held) for held in one.held] for one in (self, other))
        return (self.heads, self.sizes, mine) == (other.heads, other.sizes, theirs)

    def __hash__(self) -> int:
        return hash((len(self.heads), *self.heads[:1]))

    def some(self, indices: Iterable[int]) -> Parts:
        """Some of them."""
        chosen = list(indices)
        return Parts([self.heads[k] for k in chosen], [self.sizes[k] for k in chosen], [self.held[k] for k in chosen])

    def numbers(self) -> list[SegmentKey]:
        """What tells each from all others."""
        return [_key(head) for head in self.heads]

    def firsts(self) -> list[int]:
        """Sequence number of the first event of each."""
        return [_HEAD.unpack_from(head)[-1] for head in self.heads]

    def names(self) -> list[str]:
        """`Part.name` of each."""
        return [held.name if isinstance(held, Part) else os.path.basename(held) for held in self.held]


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

    parts: Parts = field(default_factory=lambda: Parts([], [], []))
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
    files: dict[str, File] = {}
    beside: dict[str, File] = {}
    folders: dict[str, list[str]] = {}
    for path in sorted({_resolved(path) for path in paths}):
        name = str(path)
        if path.is_dir():
            found.running |= _running(path)
            before = len(files) + len(found.rejected)
            folders[name] = _take_all(name, files, found)
            if len(files) + len(found.rejected) == before:
                found.rejected.append(Rejected(f"{path}: no segments in this folder; give one that capture wrote"))
        elif path.is_file():
            _take(name, files, found)
            if name in files:
                folder = str(path.parent)
                if folder not in folders:
                    folders[folder], _ = _listed(folder)
                for other in folders[folder]:
                    if other not in files and other not in beside:
                        _take_beside(other, beside, files[name])
        elif path.exists():
            found.rejected.append(Rejected(f"{path}: neither a file nor a folder"))
        else:
            found.rejected.append(Rejected(f"{path}: no such file or folder"))
    if beside:
        wanted = {_key(file.head) for file in files.values()}
        files |= {path: file for path, file in beside.items() if _key(file.head) in wanted}
    found.parts = _group(files)
    found.rejected = sorted(set(found.rejected), key=lambda rejected: rejected.message)
    return found


def _take_all(folder: str, files: dict[str, File], found: Found) -> list[str]:
    """Take the files of a folder, and give their names.

    A live file that is gone when it is opened has been sealed meanwhile: then what has come since is looked for, where
    its events are.
    """
    known: dict[str, None] = {}
    untaken: list[str] = []
    for again in range(AGAIN + 1):
        listed, untaken = _listed(folder)
        fresh = [name for name in listed if name not in known]
        known |= dict.fromkeys(fresh)
        is_changing = False
        for child, head in zip(fresh, read_heads(fresh), strict=True):
            if head is not None:
                files.setdefault(child, File(*head))
            elif not _take(child, files, found, may_be_gone=child.endswith(LIVE_SUFFIX) and again < AGAIN):
                is_changing = True
        if not is_changing:
            break
    found.rejected += [Rejected(text) for text in untaken]
    return list(known)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links: RuntimeError up to Python 3.12
        return path.absolute()


def _key(head: bytes) -> SegmentKey:
    segment, _, capture, *_ = _HEAD.unpack_from(head)
    return capture, segment


def _is_live(head: bytes) -> bool:
    return bool(_HEAD.unpack_from(head)[1] & LIVE_FLAG)


def _files(held: str | Part) -> tuple[Path, ...]:
    """All files of a segment, copies too."""
    return (*held.files, *held.copies) if isinstance(held, Part) else (Path(held),)


def _running(folder: Path) -> dict[uuid.UUID, Running]:
    """The running files of a folder; one that is damaged is passed over, since no event is in it."""
    running = {}
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(RUNNING_SUFFIX))
    except OSError:
        return {}
    for name in names:
        try:
            one = read_running(folder / name)
        except (SegmentError, OSError):
            continue
        running[one.header.capture] = one
    return running


def _listed(folder: str) -> tuple[list[str], list[str]]:
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
    files, untaken, prefix = [], [], os.path.join(folder, "")
    for name in sorted(found):
        entry, path = found[name], prefix + name
        is_named = name.endswith(_SUFFIXES) and name not in _SUFFIXES
        if entry.is_file(follow_symlinks=False):
            if is_named or _has_magic(path):
                files.append(path)
        elif is_named and entry.is_symlink():
            untaken.append(f"{path}: a link, which is not followed out of a folder; give the file itself")
        elif is_named:
            untaken.append(f"{path}: named as a segment, but no file")
    return files, untaken


def _entries(folder: str) -> dict[str, os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return {entry.name: entry for entry in entries}


def _has_magic(path: str) -> bool:
    try:
        with open(open_segment(path), "rb") as file:
            return file.read(len(FILE_MAGIC)) == FILE_MAGIC
    except OSError:
        return False


def _take(path: str, files: dict[str, File], found: Found | None, *, may_be_gone: bool = False) -> bool:
    """Read a file's header into ``files``, or say in ``found`` why not.

    Returns:
        False if it is gone, and may be: that is not said.
    """
    if path in files:
        return True
    try:
        files[path] = File(*read_head(path))
    except (SegmentError, OSError) as error:
        if may_be_gone and isinstance(error, FileNotFoundError):
            return False
        if found is None:
            return True
        text = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        found.rejected.append(Rejected(text, not _is_stillborn(Path(path))))
    return True


def _take_beside(path: str, beside: dict[str, File], given: File) -> None:
    """Take what completes a given file: of two files of a segment one is live, else they are copies."""
    found: dict[str, File] = {}
    _take(path, found, None)
    if path in found and (_is_live(found[path].head) or _is_live(given.head)):
        beside |= found


def current(part: Part) -> Part:
    """A segment's files as they are now: its capture still runs, and has sealed or begun some.

    They are looked for by the names that capture gives them, and taken if their headers agree.
    """
    known = part.files[0]
    stem = known.stem if known == part.sealed else known.stem.rpartition("-")[0]
    candidates = [known.with_name(stem + SEGMENT_SUFFIX), *known.parent.glob(f"{_escaped(stem)}-*{LIVE_SUFFIX}")]
    files: dict[str, File] = {}
    for path in candidates:
        _take(str(path), files, None)
    mine = (part.header.capture.bytes, part.header.segment)
    is_live = {Path(path): _is_live(head) for path, (head, _) in files.items() if _key(head) == mine}
    sealed = part.sealed or next((path for path in is_live if not is_live[path]), None)
    return Part(part.header, sealed, tuple(sorted(path for path in is_live if is_live[path])), part.copies)


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


def _group(files: dict[str, File]) -> Parts:
    """Files into segments, ordered by the capture's time and UUID, then by number."""
    found: dict[SegmentKey, list[str]] = {}
    began: dict[bytes, int] = {}
    for path, (head, _) in files.items():
        segment, _, capture, realtime, _ = _HEAD.unpack_from(head)
        found.setdefault((capture, segment), []).append(path)
        began[capture] = min(began.get(capture, realtime), realtime)
    made = Parts([], [], [])
    for key in sorted(found, key=lambda key: (began[key[0]], key)):
        path = found[key][0]
        head, size = files[path]
        held: str | Part = path
        if len(found[key]) > 1 or _is_live(head):
            held = _part(sorted(found[key]), files)
            head, size = files[str(held.files[0])].head, held.size
        made.heads.append(head)
        made.sizes.append(size)
        made.held.append(held)
    return made


def _part(paths: list[str], files: dict[str, File]) -> Part:
    """A segment of several files, or that is not sealed."""
    copies = _best_first([Path(path) for path in paths if not _is_live(files[path].head)])
    live = [Path(path) for path in paths if _is_live(files[path].head)]
    live.sort(key=lambda path: (path.name, str(path)))
    read = [*copies[:1], *live]
    header = Header.unpack(files[str(read[0])].head, str(read[0]))
    size = sum(files[str(path)].size for path in read)
    return Part(header, copies[0] if copies else None, tuple(live), tuple(copies[1:]), size)


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
