"""Reads the segments of a batch as if they were one: ids are shifted, and what is alike is unpacked all at once.

For small segments the way of `read.py`, block by block, would cost far more than their events do.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard

from capture.segment import Block, BlockType, Encoding, SegmentError
from process.batch import Batch
from process.discover import Part
from process.read import (
    HIGH,
    LOW,
    MAX_SEQUENCE,
    NR_STRINGS,
    TIME,
    Contents,
    Damage,
    EventBlock,
    Stretch,
    Words,
    broken,
    damage_of,
    in_order,
    join,
    load,
    pairs,
    words,
)
from process.strings import MAX_ID

Numbers = npt.NDArray[np.int64]

_ROWS = (BlockType.SETS, BlockType.TASKS, BlockType.MARKS, BlockType.FILES)
_COMM_ARGV, _TEXT, _FD_PATH = 6, 1, 2
"""Words with ids of strings: of ``TASK_ROW`` both halves, of ``MARK_ROW`` the low one, of ``FILE_ROW`` the high one."""


@dataclass
class Member:
    """One segment of a batch, beside its records.

    Attributes:
        part: Which.
        first: Sequence number of its first event; where there are none, of the one that might follow.
        end: One past its last event.
        events: That can be read, entry rows included.
        size: Bytes of its files.
        is_sealed: Whether it was closed properly.
        damage: What was passed over.
        counters: Its ledger.
        kept_from: Sequence number before which capture has deleted segments on purpose.
    """

    part: Part
    first: int
    end: int
    events: int
    size: int
    is_sealed: bool
    damage: list[Damage]
    counters: dict[str, int]
    kept_from: int


@dataclass
class Loaded:
    """A batch, read.

    Attributes:
        contents: All that could be read, as of one segment; its damage is that of all members.
        members: Those that could be read.
        failed: Those that could not be used at all, and why.
    """

    contents: Contents
    members: list[Member]
    failed: list[tuple[Part, str]] = field(default_factory=list)


def load_batch(batch: Batch) -> Loaded:
    """Read all segments of a batch.

    Raises:
        SegmentError: None can be used, or they cannot be read as one since they claim the same events.
        OSError: The only one cannot be read.
    """
    if len(batch.parts) == 1:
        contents = load(batch.parts[0])
        return Loaded(contents, [_member(batch.parts[0], contents)])
    merger = _Merger(batch)
    failed = []
    for part in batch.parts:
        try:
            merger.add(part)
        except SegmentError as error:
            failed.append((part, str(error)))
        except OSError as error:
            failed.append((part, f"{error.filename}: {error.strerror}"))
    if not merger.members:
        raise SegmentError(failed[0][1])
    return Loaded(merger.finish(), merger.members, failed)


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


def _member(part: Part, contents: Contents) -> Member:
    first = contents.events[0].first if contents.events else min(part.header.first_event, MAX_SEQUENCE)
    end = contents.events[-1].first + contents.events[-1].count if contents.events else first
    events = sum(block.count for block in contents.events)
    return Member(
        part,
        first,
        end,
        events,
        contents.size,
        contents.is_sealed,
        contents.damage,
        contents.counters,
        contents.kept_from,
    )


class _Merger:
    """Puts segments together.

    Attributes:
        members: Those that were taken.
    """

    def __init__(self, batch: Batch) -> None:
        self.members: list[Member] = []
        self._contents = Contents(batch.name, batch.header)
        self._events: list[tuple[int, EventBlock, bytes | memoryview]] = []
        self._rows: dict[int, list[tuple[int, Block, bytes | memoryview]]] = {kind: [] for kind in _ROWS}
        self._strings: list[int] = [0]
        self._sets: list[int] = [0]

    def add(self, part: Part) -> None:
        """Read a segment; what is wrong with a block is damage.

        Raises:
            SegmentError: A file cannot be used at all.
            OSError: A file cannot be read.
        """
        contents, blocks = join(part)
        number, events = len(self.members), []
        last_string, last_set = 0, 0
        payloads: dict[int, bytes | memoryview] = {}
        for file, block in blocks:
            try:
                payload = block.payload()
                taken = True
                if block.type == BlockType.EVENTS:
                    payloads[id(block)] = payload
                    events.append(EventBlock(block.first, block.count, file, block))
                elif block.type == BlockType.STRINGS:
                    taken = self._contents.strings.add(self._strings[-1] + block.first, block.count, payload)
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
        self._contents.breaks += contents.breaks
        contents.events = found = list(in_order(contents, events))
        self._events += [(number, one, payloads[id(one.block)]) for one in found]
        self._strings.append(self._strings[-1] + last_string)
        self._sets.append(self._sets[-1] + last_set)
        self.members.append(_member(part, contents))

    def finish(self) -> Contents:
        """All members as one segment.

        Raises:
            SegmentError: Two claim the same events, or have too many strings.
        """
        contents, members = self._contents, self.members
        if any(one.end > following.first for one, following in pairwise(members)):
            raise SegmentError(f"{contents.name}: segments claim the same events")
        if max(self._strings[-1], self._sets[-1]) >= MAX_ID:
            raise SegmentError(f"{contents.name}: too many strings")
        strings, sets = np.array(self._strings, np.int64), np.array(self._sets, np.int64)
        contents.strings.join()
        self._add_sets(strings, sets)
        contents.tasks, owner = self._together(BlockType.TASKS, contents.tasks)
        contents.tasks[_COMM_ARGV] = _shifted(contents.tasks[_COMM_ARGV], owner, strings, strings)
        contents.marks, owner = self._together(BlockType.MARKS, contents.marks)
        contents.marks[_TEXT] = _shifted(contents.marks[_TEXT], owner, strings, None)
        contents.files, owner = self._together(BlockType.FILES, contents.files)
        contents.files[_FD_PATH] = _shifted(contents.files[_FD_PATH], owner, None, strings)
        contents.events = self._stretches(sets)
        contents.damage = [damage for member in members for damage in member.damage]
        contents.breaks.sort()
        contents.is_sealed = members[-1].is_sealed
        contents.kept_from = max(member.kept_from for member in members)
        contents.size = sum(member.size for member in members)
        for member in members:
            for name, value in member.counters.items():
                if value:
                    contents.counters[name] += value
        return contents

    def _together(self, kind: int, none: Words) -> tuple[Words, Numbers]:
        """The rows of one kind of block, and the member that each is of."""
        blocks = self._rows[kind]
        if not blocks:
            return none.copy(), np.zeros(0, np.int64)
        found = _unpack(kind, [(block, payload) for _, block, payload in blocks])
        return found, np.repeat([number for number, _, _ in blocks], [block.count for _, block, _ in blocks])

    def _add_sets(self, strings: Numbers, sets: Numbers) -> None:
        found, owner = self._together(BlockType.SETS, np.zeros((3, 0), np.uint64))
        rows = pairs(np.stack([_shifted(word, owner, strings, strings) for word in found]))
        at = 0
        for number, block, _ in self._rows[BlockType.SETS]:
            self._contents.sets.add(int(sets[number]) + block.first, rows[at : at + block.count])
            at += block.count

    def _stretches(self, sets: Numbers) -> list[Stretch]:
        """The events, as few arrays as there can be."""
        if not self._events:
            return []
        blocks = [one for _, one, _ in self._events]
        counts = [one.count for one in blocks]
        found = _unpack(BlockType.EVENTS, [(one.block, payload) for _, one, payload in self._events])
        owner = np.repeat([number for number, _, _ in self._events], counts)
        found[NR_STRINGS] = _shifted(found[NR_STRINGS], owner, None, sets)
        made, start, at = list[Stretch](), 0, 0
        for k, one in enumerate(blocks):
            at += one.count
            if k + 1 == len(blocks) or blocks[k + 1].first != one.first + one.count:
                first = one.first + one.count - (at - start)
                made.append(Stretch(first, one.file, found[:, start:at]))
                start = at
        return made


def _shifted(pair: Words, owner: Numbers, low: Numbers | None, high: Numbers | None) -> Words:
    """Two ids in a word: each as it is in the batch.

    Args:
        pair: uint64 of shape (n,).
        owner: The member that each is of.
        low: Where the ids of each member begin, and where those of the last end, for the low half; None if it is no id.
        high: Likewise for the high half.
    """
    halves = []
    for ids, starts in ((pair & LOW, low), (pair >> HIGH, high)):
        if starts is not None:
            there = ids.astype(np.int64) <= (starts[1:] - starts[:-1])[owner]
            moved = ids + starts[owner].astype(np.uint64)
            ids = np.where(ids == 0, ids, np.where(there, moved, np.uint64(MAX_ID)))
        halves.append(ids)
    joined: Words = halves[0] | halves[1] << HIGH
    return joined


def _unpack(kind: int, blocks: Sequence[tuple[Block, bytes | memoryview]]) -> Words:
    """The words of blocks, one after the other: uint64 of shape (words of a record, records of all)."""
    planes = [k for k, (block, _) in enumerate(blocks) if block.encoding == Encoding.PLANES]
    counts = [block.count for block, _ in blocks]
    ends = np.cumsum(counts)
    width = len(blocks[0][1]) // 8 // counts[0] if counts[0] else 0
    found = np.zeros((width, int(ends[-1])), np.uint64)
    if planes:
        at = _places(planes, ends, counts)
        found[:, at] = _of_planes(kind, [blocks[k] for k in planes])
    for k in set(range(len(blocks))).difference(planes):
        found[:, ends[k] - counts[k] : ends[k]] = words(blocks[k][0])
    return found


def _places(chosen: Iterable[int], ends: Numbers, counts: Sequence[int]) -> Numbers | slice:
    """Where the records of some blocks are among those of all."""
    some = list(chosen)
    if len(some) == len(counts):
        return slice(None)
    return np.concatenate([np.arange(ends[k] - counts[k], ends[k]) for k in some])


def _of_planes(kind: int, blocks: Sequence[tuple[Block, bytes | memoryview]]) -> Words:
    """The words of blocks that are stored as byte planes; see `read.Unpacked`."""
    counts = [block.count for block, _ in blocks]
    octets = np.concatenate(
        [np.frombuffer(payload, np.uint8).reshape(-1, block.count) for block, payload in blocks], axis=1
    )
    width, total = len(octets) // 8, octets.shape[1]
    columns = np.ascontiguousarray(octets.reshape(width, 8, total).transpose(0, 2, 1))
    plain: Words = columns.view("<u8")[:, :, 0].astype(np.uint64, copy=False)
    if kind != BlockType.EVENTS:
        return plain
    numbers = plain[NR_STRINGS] & LOW
    block = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((numbers, block))
    found = np.empty_like(plain)
    found[:, order] = plain
    found[NR_STRINGS] = found[NR_STRINGS] & ~LOW | numbers
    times = np.cumsum(found[TIME])
    starts = np.cumsum(counts) - counts
    found[TIME] = times - np.repeat(np.concatenate(([np.uint64(0)], times))[starts], counts)
    return found
