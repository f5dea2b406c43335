"""Reads the segments of a batch as if they were one: ids are shifted, and what is alike is unpacked all at once.

For small segments the way of `read.py`, block by block, would cost far more than their events do.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard

from capture.segment import COUNTERS, ROW_SIZES, Block, BlockType, Encoding, SegmentError
from process.batch import Batch
from process.discover import Part, Parts
from process.events import (
    HIGH,
    LOW,
    MAX_SEQUENCE,
    NR_STRINGS,
    TIME,
    Damage,
    EventBlock,
    Stretch,
    Words,
    damage_of,
    flat,
)
from process.grouping import ranges
from process.kernels_planes import unplane_all
from process.planes import Planes
from process.read import MAX_TOGETHER, Contents, broken, in_order, join, load, load_split, pairs
from process.sound import Blocks, Files, Records, read_sound
from process.strings import MAX_ID, StringTable

Numbers = npt.NDArray[np.int64]

_ROWS = (BlockType.SETS, BlockType.TASKS, BlockType.MARKS, BlockType.EVENTS, BlockType.FILES)
_COMM_ARGV, _TEXT, _FD_PATH = 6, 1, 2
"""Words with ids of strings: of ``TASK_ROW`` both halves, of ``MARK_ROW`` the low one, of ``FILE_ROW`` the high one."""


@dataclass
class Members:
    """The segments of a batch, beside their records: a column each.

    Attributes:
        parts: Which.
        firsts: Sequence number of the first event; where there are none, of the one that might follow: int64.
        ends: One past the last event: int64.
        events: That can be read, entry rows included: int64.
        sizes: Bytes of the files: int64.
        sealed: Whether it was closed properly.
        counters: Its ledger, the words of ``COUNTERS``: uint64 of shape (n, words).
        kept_from: Sequence number before which capture has deleted segments on purpose: int64.
        damage: What was passed over, of those of which anything was, by their indices.
    """

    parts: Parts
    firsts: Numbers
    ends: Numbers
    events: Numbers
    sizes: Numbers
    sealed: npt.NDArray[np.bool_]
    counters: Words
    kept_from: Numbers
    damage: dict[int, list[Damage]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.parts)

    @classmethod
    def of(cls, parts: Sequence[Part], read: Sequence[Contents]) -> Members:
        """Of segments that were read one by one."""
        firsts = [one.events[0].first if one.events else min(one.header.first_event, MAX_SEQUENCE) for one in read]
        ends = [
            one.events[-1].first + one.events[-1].count if one.events else first
            for first, one in zip(firsts, read, strict=True)
        ]
        return cls(
            Parts.of(parts),
            np.array(firsts, np.int64),
            np.array(ends, np.int64),
            np.array([sum(block.count for block in one.events) for one in read], np.int64),
            np.array([one.size for one in read], np.int64),
            np.array([one.is_sealed for one in read], np.bool_),
            np.array([[one.counters.get(name, 0) for name in COUNTERS] for one in read], np.uint64),
            np.array([one.kept_from for one in read], np.int64),
            {k: one.damage for k, one in enumerate(read) if one.damage},
        )

    def odd(self) -> list[int]:
        """Those of which more must be told than columns do: damaged, not sealed, of several files; ascending."""
        several = [k for k, held in enumerate(self.parts.held) if isinstance(held, Part)]
        return sorted({*several, *self.damage, *np.flatnonzero(~self.sealed).tolist()})

    def totals(self) -> dict[str, int]:
        """The ledger of all together."""
        low, high = (half.sum(axis=0).tolist() for half in (self.counters & LOW, self.counters >> HIGH))
        return {name: (high[k] << 32) + low[k] for k, name in enumerate(COUNTERS)}


@dataclass
class Loaded:
    """A batch, read.

    Attributes:
        contents: All that could be read, as of one segment; its damage is that of all members.
        members: Those that could be read.
        failed: Those that could not be used at all, and why.
    """

    contents: Contents
    members: Members
    failed: list[tuple[Part, str]] = field(default_factory=list)


def load_batch(batch: Batch) -> Loaded:
    """Read all segments of a batch.

    Raises:
        SegmentError: None can be used, or they cannot be read as one since they claim the same events or unpack to
            too much.
        OSError: The only one cannot be read.
    """
    if len(batch.parts) == 1:
        part = batch.parts[0]
        contents = load(part) if batch.split is None else load_split(part, batch.split)
        return Loaded(contents, Members.of(batch.parts, [contents]))
    files = read_sound(batch.parts)
    if files is not None:
        members = _members(batch.parts, files)
        return Loaded(_as_one(batch, members, files.records), members)
    gathered, failed = _Gathered(), []
    for part in batch.parts:
        try:
            gathered.add(part)
        except SegmentError as error:
            failed.append((part, str(error)))
        except OSError as error:
            failed.append((part, f"{error.filename}: {error.strerror}"))
        if gathered.held > MAX_TOGETHER:
            raise SegmentError(f"{batch.name}: unpack to more than {MAX_TOGETHER} bytes together")
    if not gathered.parts:
        raise SegmentError(failed[0][1])
    members = Members.of(gathered.parts, gathered.read)
    contents = _as_one(batch, members, gathered.records())
    contents.breaks = sorted(gathered.breaks)
    return Loaded(contents, members, failed)


def keep(contents: Contents, path: Path) -> bool:
    """Write a batch as it was read to a file that is private to this run; False if there is no room for it."""
    try:
        path.write_bytes(zstandard.ZstdCompressor(level=1).compress(pickle.dumps(contents, protocol=5)))
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True


def kept(path: Path) -> Contents | None:
    """What `keep` wrote; None if it is not there any more."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    contents: Contents = pickle.loads(zstandard.ZstdDecompressor().decompress(data))
    return contents


def _members(parts: Parts, files: Files) -> Members:
    """Of files in which nothing is unusual."""
    count = len(parts)
    firsts = np.minimum(files.firsts, np.uint64(MAX_SEQUENCE)).astype(np.int64)
    ends, counts = firsts.copy(), np.zeros(count, np.int64)
    events = files.records.rows.get(BlockType.EVENTS)
    if events is not None:  # by file and in order
        has_any, at = np.unique(events.owners, return_index=True)
        firsts[has_any] = events.firsts[at]
        ends[events.owners] = events.firsts + events.counts  # of several the last one stays
        np.add.at(counts, events.owners, events.counts)
    sizes, sealed = np.array(parts.sizes, np.int64), np.ones(count, np.bool_)
    return Members(parts, firsts, ends, counts, sizes, sealed, files.counters, files.kept_from)


class _Gathered:
    """Segments read one by one.

    Attributes:
        parts: Those that were taken.
        read: They, with no records but events.
        held: Bytes to which their blocks unpacked.
        breaks: See `Contents.breaks`; in no order.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.read: list[Contents] = []
        self.held = 0
        self.breaks: list[int] = []
        self._rows: dict[int, list[tuple[int, Block, bytes | memoryview]]] = {kind: [] for kind in _ROWS}
        self._strings = StringTable()
        self._string_counts: list[int] = []
        self._string_end = 0
        self._set_counts: list[int] = []

    def add(self, part: Part) -> None:
        """Read a segment; what is wrong with a block is damage.

        Raises:
            SegmentError: A file cannot be used at all.
            OSError: A file cannot be read.
        """
        contents, blocks = join(part)
        number, events = len(self.parts), []
        last_string, last_set = 0, 0
        payloads: dict[int, bytes | memoryview] = {}
        for file, block in blocks:
            try:
                payload = block.payload()
                self.held += len(payload)
                taken = True
                if block.type == BlockType.EVENTS:
                    payloads[id(block)] = payload
                    events.append(EventBlock(block.first, block.count, file, block))
                elif block.type == BlockType.STRINGS:
                    taken = self._strings.add(self._string_end + block.first, block.count, payload)
                    last_string = max(last_string, block.first + block.count - 1) if taken else last_string
                elif block.type in self._rows and block.count:
                    taken = block.type != BlockType.SETS or block.first + block.count <= MAX_ID + 1
                    if taken:
                        self._rows[block.type].append((number, block, payload))
                    if taken and block.type == BlockType.SETS:
                        last_set = max(last_set, block.first + block.count - 1)
                if not taken:
                    contents.damage.append(damage_of(file, block, "its records contradict its header"))
            except SegmentError as error:
                contents.damage.append(damage_of(file, block, str(error)))
                contents.breaks += broken(block)
        self.breaks += contents.breaks
        contents.events = found = list(in_order(contents, events))
        self._rows[BlockType.EVENTS] += [(number, one.block, payloads[id(one.block)]) for one in found]
        self._string_counts.append(last_string)
        self._string_end += last_string
        self._set_counts.append(last_set)
        self.parts.append(part)
        self.read.append(contents)

    def records(self) -> Records:
        """What all of them hold."""
        self._strings.join()
        rows = {
            kind: Blocks(
                owners=np.array([number for number, _, _ in some]),
                firsts=np.array([min(block.first, MAX_SEQUENCE) for _, block, _ in some]),
                counts=np.array([block.count for _, block, _ in some]),
                encodings=np.array([block.encoding for _, block, _ in some], np.uint8),
                sizes=np.array([len(payload) for _, _, payload in some], np.int64),
                data=b"".join(payload for _, _, payload in some),
            )
            for kind, some in self._rows.items() if some
        }  # fmt: skip
        return Records(self._strings, np.array(self._string_counts), np.array(self._set_counts), rows)


def _as_one(batch: Batch, members: Members, records: Records) -> Contents:
    """All members as one segment.

    Raises:
        SegmentError: Two claim the same events, or have too many strings.
    """
    if (members.ends[:-1] > members.firsts[1:]).any():
        raise SegmentError(f"{batch.name}: segments claim the same events")
    strings, sets = (_Ids(np.concatenate(([0], np.cumsum(one)))) for one in (records.string_counts, records.set_counts))
    if max(strings.starts[-1], sets.starts[-1]) >= MAX_ID:
        raise SegmentError(f"{batch.name}: too many strings")
    strings.renumbered = records.strings.unite(int(strings.starts[-1]))
    contents, rows = Contents(batch.name, batch.header, strings=records.strings), records.rows
    if BlockType.SETS in rows:
        _add_sets(contents, rows[BlockType.SETS], strings, sets)
    if BlockType.TASKS in rows:
        contents.tasks, owner = _together(BlockType.TASKS, rows[BlockType.TASKS])
        contents.tasks[_COMM_ARGV] = _shifted(contents.tasks[_COMM_ARGV], owner, strings, strings)
    if BlockType.MARKS in rows:
        contents.marks, owner = _together(BlockType.MARKS, rows[BlockType.MARKS])
        contents.marks[_TEXT] = _shifted(contents.marks[_TEXT], owner, strings, None)
    if BlockType.FILES in rows:
        contents.files, owner = _together(BlockType.FILES, rows[BlockType.FILES])
        contents.files[_FD_PATH] = _shifted(contents.files[_FD_PATH], owner, None, strings)
    if BlockType.EVENTS in rows:
        contents.events = _stretches(rows[BlockType.EVENTS], sets, members.parts)
    contents.damage = [damage for some in members.damage.values() for damage in some]
    contents.is_sealed = bool(members.sealed[-1])
    contents.kept_from = int(members.kept_from.max())
    contents.size = int(members.sizes.sum())
    contents.counters |= members.totals()
    return contents


def _together(kind: int, blocks: Blocks) -> tuple[Words, Numbers]:
    """The rows of one kind of block, and the member that each is of."""
    return _unpack(kind, blocks), np.repeat(blocks.owners, blocks.counts)


def _add_sets(contents: Contents, blocks: Blocks, strings: _Ids, sets: _Ids) -> None:
    found, owner = _together(BlockType.SETS, blocks)
    rows = pairs(np.stack([_shifted(word, owner, strings, strings) for word in found]))
    firsts, ends = sets.starts[blocks.owners] + blocks.firsts, np.cumsum(blocks.counts)
    runs = np.flatnonzero(firsts[1:] != firsts[:-1] + blocks.counts[:-1]) + 1  # where ids do not go on
    for start, end in pairwise((0, *runs.tolist(), len(firsts))):
        contents.sets.add(int(firsts[start]), rows[ends[start] - blocks.counts[start] : ends[end - 1]])


def _stretches(blocks: Blocks, sets: _Ids, parts: Parts) -> list[Stretch]:
    """The events, as few arrays as there can be."""
    found, owner = _together(BlockType.EVENTS, blocks)
    found[NR_STRINGS] = _shifted(found[NR_STRINGS], owner, None, sets)
    firsts, ends = blocks.firsts, np.cumsum(blocks.counts)
    runs = np.flatnonzero(firsts[1:] != firsts[:-1] + blocks.counts[:-1]) + 1
    return [
        Stretch(
            int(firsts[start]),
            parts[int(blocks.owners[start])].name,
            found[:, ends[start] - blocks.counts[start] : ends[end - 1]],
        )
        for start, end in pairwise((0, *runs.tolist(), len(firsts)))
    ]


@dataclass
class _Ids:
    """Ids of one kind, in all members.

    Attributes:
        starts: Where those of each member begin, and where those of the last end.
        renumbered: What they have become since, from 0 on; None if nothing has.
    """

    starts: Numbers
    renumbered: Numbers | None = None

    def shifted(self, ids: Words, owner: Numbers) -> Words:
        """Ids of members as they are in the batch; one that its member does not have is one that nobody has."""
        there = ids.astype(np.int64) <= np.diff(self.starts)[owner]
        moved = ids.astype(np.int64) + self.starts[owner]
        if self.renumbered is not None:
            moved = self.renumbered[np.where(there, moved, 0)]
        return np.where(ids == 0, ids, np.where(there, moved, MAX_ID).astype(np.uint64))


def _shifted(pair: Words, owner: Numbers, low: _Ids | None, high: _Ids | None) -> Words:
    """Two ids in a word: each as it is in the batch.

    Args:
        pair: uint64 of shape (n,).
        owner: The member that each is of.
        low: What the low half is an id of; None if it is none.
        high: Likewise.
    """
    halves = [
        half if ids is None else ids.shifted(half, owner) for half, ids in ((pair & LOW, low), (pair >> HIGH, high))
    ]
    joined: Words = halves[0] | halves[1] << HIGH
    return joined


def _unpack(kind: int, blocks: Blocks) -> Words:
    """The words of blocks, one after the other: uint64 of shape (words of a record, records of all)."""
    counts, ends = blocks.counts, np.cumsum(blocks.counts)
    in_planes = blocks.encodings == Encoding.PLANES
    if in_planes.all():
        return _of_planes(kind, counts, blocks.data)
    payloads, found = blocks.payloads(), np.zeros((ROW_SIZES[kind] // 8, int(ends[-1])), np.uint64)
    planes = np.flatnonzero(in_planes)
    if len(planes):
        at = ranges(ends[planes] - counts[planes], ends[planes])
        found[:, at] = _of_planes(kind, counts[planes], b"".join([payloads[k] for k in planes.tolist()]))
    for k in np.flatnonzero(~in_planes).tolist():
        start, end = int(ends[k] - counts[k]), int(ends[k])
        found[:, start:end] = flat(int(blocks.encodings[k]), end - start, payloads[k], len(found))
    return found


def _of_planes(kind: int, counts: Numbers, data: bytes) -> Words:
    """The words of blocks that are stored as byte planes; see `events.Unpacked`."""
    found = np.empty((ROW_SIZES[kind] // 8, int(counts.sum())), np.uint64)
    if kind != BlockType.EVENTS:
        unplane_all(data, counts, None, found)
    elif not unplane_all(data, counts, (NR_STRINGS, TIME), found):
        size, start = 8 * len(found), 0
        for count in counts.tolist():
            payload = memoryview(data)[size * start : size * (start + count)]
            Planes(payload, len(found), count, NR_STRINGS).fill(
                found[:, start : start + count], range(len(found)), TIME
            )
            start += count
    return found
