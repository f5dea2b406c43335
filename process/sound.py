"""Reads many small segments at once, if nothing about any of them is unusual; otherwise `read.py` reads them.

A block is a row of an array here: what `capture.reader` asks of one block after the other is asked of all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from capture.reader import counters_of, meta_of
from capture.segment import (
    BLOCK,
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    CRC,
    FILE_HEADER_SIZE,
    FILE_MAGIC,
    MAJOR,
    ROW_SIZES,
    BlockType,
    Encoding,
    SegmentError,
    inflate,
)
from process.discover import Part
from process.read import MAX_SEQUENCE, MAX_TOGETHER, kept_from
from process.repair import open_segment
from process.strings import StringTable

Numbers = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

_MOST_BLOCKS = 32
"""Of a file: capture writes some seven for each chunk."""
_MOST_RAW = 1 << 23
"""Bytes to which the blocks of a file may unpack: thirty times the largest small file."""
_KINDS = frozenset(BlockType)
_ENCODINGS = frozenset(Encoding)

_FILE = np.dtype({
    "names": ["magic", "major", "size", "segment", "flags", "capture", "first"],
    "formats": ["S8", "<u2", "<u4", "<u4", "<u2", "<u8", "<u8"],
    "offsets": [0, 8, 12, 16, 20, 24, 96],
    "itemsize": FILE_HEADER_SIZE,
})  # fmt: skip
"""What is asked of a file's header; of the capture's UUID its first half, as in the headers of blocks."""
_BLOCK = np.dtype({
    "names": ["magic", "type", "encoding", "index", "count", "raw", "length", "first", "segment", "capture", "crc",
              "own_crc"],
    "formats": ["S4", "<u2", "u1", "<u4", "<u4", "<u4", "<u4", "<u8", "<u4", "<u8", "<u4", "<u4"],
    "offsets": [0, 4, 6, 8, 12, 16, 20, 24, 32, 36, 44, 48],
    "itemsize": BLOCK_HEADER_SIZE,
})  # fmt: skip


@dataclass
class Blocks:
    """All blocks of one type, of one file after the other; none is empty.

    Attributes:
        owners: Number of the file that each is of: int64 of shape (n,), ascending.
        firsts: Number of its first record: int64.
        counts: Records: int64.
        encodings: As of `capture.segment.Encoding`.
        payloads: Inflated.
    """

    owners: Numbers
    firsts: Numbers
    counts: Numbers
    encodings: Sequence[int]
    payloads: Sequence[bytes | memoryview]


@dataclass
class Records:
    """What several files hold.

    Attributes:
        strings: Of all; the ids of each file's begin where those of the one before it end.
        string_counts: For each file the ids of its strings: up to which they reach.
        set_counts: Likewise of its sets.
        rows: All other records by the type of their block. No two EVENTS blocks of a file claim the same events.
    """

    strings: StringTable
    string_counts: Numbers
    set_counts: Numbers
    rows: Mapping[int, Blocks]


@dataclass
class Files:
    """Files in which nothing is unusual.

    Attributes:
        sizes: Bytes of each.
        counters: The ledger of each, by the names of ``COUNTERS``.
        kept_from: Of each, the sequence number before which capture has deleted segments on purpose.
        records: What they hold.
    """

    sizes: list[int]
    counters: list[dict[str, int]]
    kept_from: list[int]
    records: Records


class _UnusualError(Exception):
    """Something that `read.py` must look at."""


def read_sound(parts: Sequence[Part]) -> Files | None:
    """Read segments; None if one is not sealed, not as it was when it was found, or anything in it is unusual.

    Args:
        parts: Segments of one capture.
    """
    try:
        return _read(parts)
    except (_UnusualError, SegmentError, OSError):
        return None


def _read(parts: Sequence[Part]) -> Files:
    data = [_bytes_of(part) for part in parts]
    whole, sizes = b"".join(data), [len(one) for one in data]
    heads, offsets, owners = _blocks_of(parts, whole, np.cumsum(sizes))
    _check_sums(whole, heads, offsets)
    rows = {kind: _blocks(heads, offsets, owners, kind, whole) for kind in set(heads["type"].tolist())}
    _ask(rows.keys() <= _KINDS)
    counters = [counters_of(payload) for payload in rows.pop(BlockType.END).payloads]
    kept, metas = [0] * len(parts), rows.pop(BlockType.META, None)
    for owner, payload in zip(metas.owners.tolist(), metas.payloads, strict=True) if metas else ():
        kept[owner] = kept_from(meta_of(payload))
    texts = rows.pop(BlockType.STRINGS, None)
    strings, sets = StringTable(), rows.get(BlockType.SETS)
    _ask(texts is None or strings.add_run(1, texts.counts, texts.payloads))
    if BlockType.EVENTS in rows:
        _check_order(rows[BlockType.EVENTS], parts)
    return Files(sizes, counters, kept, Records(strings, _counted(texts, len(parts)), _counted(sets, len(parts)), rows))


def _ask(is_usual: bool) -> None:
    if not is_usual:
        raise _UnusualError


def _bytes_of(part: Part) -> bytes:
    """A sealed file that has no live ones beside it, as large as it was."""
    if part.sealed is None or part.live:
        raise _UnusualError
    file = open_segment(part.sealed)
    try:
        data = os.read(file, part.size + 1)
    finally:
        os.close(file)
    _ask(len(data) == part.size)
    return data


def _blocks_of(parts: Sequence[Part], whole: bytes, ends: Numbers) -> tuple[npt.NDArray[np.void], Numbers, Numbers]:
    """The headers of all blocks of all files, their offsets in the whole, and the numbers of their files.

    They are walked side by side: the first block of every file, then the second of those that have two ...
    """
    octets = np.frombuffer(whole, np.uint8)
    starts = np.concatenate(([0], ends[:-1]))
    files = _records(octets, starts, ends, _FILE)
    crcs = [(crc32c(whole[at : at + FILE_HEADER_SIZE - CRC.size]),) for at in starts.tolist()]
    _ask(crcs == [CRC.unpack_from(whole, at + FILE_HEADER_SIZE - CRC.size) for at in starts.tolist()])
    _ask(bool((files["magic"] == FILE_MAGIC).all() and (files["major"] <= MAJOR).all() and not files["flags"].any()))
    _ask(files["segment"].tolist() == [part.header.segment for part in parts])
    _ask(files["first"].tolist() == [part.header.first_event for part in parts])
    capture = np.frombuffer(parts[0].header.capture.bytes[:8], "<u8")
    _ask(bool((files["capture"] == capture).all()))
    at, open_files = starts + files["size"], np.arange(len(parts))
    heads, offsets, owners, raw = [], [], [], np.zeros(len(parts), np.int64)
    for index in range(_MOST_BLOCKS):
        some = _records(octets, at[open_files], ends[open_files], _BLOCK)
        _ask(bool((some["magic"] == BLOCK_MAGIC).all() and (some["index"] == index).all()))
        _ask(bool((some["capture"] == capture).all() and (some["segment"] == files["segment"][open_files]).all()))
        heads.append(some)
        offsets.append(at[open_files])
        owners.append(open_files)
        raw[open_files] += some["raw"]
        at[open_files] += BLOCK_HEADER_SIZE + some["length"].astype(np.int64)
        is_last = at[open_files] >= ends[open_files]
        _ask(bool(((some["type"] == BlockType.END) == is_last).all()))
        open_files = open_files[~is_last]
        if not len(open_files):
            break
    _ask(bool(not len(open_files) and (at == ends).all() and (raw <= _MOST_RAW).all() and raw.sum() <= MAX_TOGETHER))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return np.concatenate(heads)[order], np.concatenate(offsets)[order], owner[order]


def _records(octets: Octets, starts: Numbers, ends: Numbers, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Records that begin at some places, and end before others."""
    _ask(bool((starts + dtype.itemsize <= ends).all()))
    found: npt.NDArray[np.void] = octets[starts[:, None] + np.arange(dtype.itemsize)].view(dtype)[:, 0]
    return found


def _check_sums(whole: bytes, heads: npt.NDArray[np.void], offsets: Numbers) -> None:
    """Both CRCs of every block."""
    view = memoryview(whole)
    starts = offsets + BLOCK_HEADER_SIZE
    _ask([crc32c(view[at : at + BLOCK.size]) for at in offsets.tolist()] == heads["own_crc"].tolist())
    bounds = zip(starts.tolist(), (starts + heads["length"]).tolist(), strict=True)
    _ask([crc32c(view[start:end]) for start, end in bounds] == heads["crc"].tolist())


def _blocks(heads: npt.NDArray[np.void], offsets: Numbers, owners: Numbers, kind: int, whole: bytes) -> Blocks:
    """The blocks of one type."""
    here = np.flatnonzero(heads["type"] == kind)
    some, starts = heads[here], offsets[here] + BLOCK_HEADER_SIZE
    counts, firsts, raws = (some[name].astype(np.int64) for name in ("count", "first", "raw"))
    if kind in ROW_SIZES:
        _ask(bool((counts * ROW_SIZES[kind] == raws).all()))
    _ask(kind in (BlockType.META, BlockType.END) or bool((counts > 0).all()))
    _ask(bool((firsts >= 0).all()))
    view, payloads, encodings = memoryview(whole), [], some["encoding"].tolist()
    ends = starts + some["length"]
    for start, end, encoding, raw in zip(starts.tolist(), ends.tolist(), encodings, raws.tolist(), strict=True):
        stored = view[start:end]
        _ask(encoding in _ENCODINGS and (encoding != Encoding.RAW or len(stored) == raw))
        payloads.append(stored if encoding == Encoding.RAW else inflate(stored, raw, start))
    return Blocks(owners[here], firsts, counts, encodings, payloads)


def _counted(blocks: Blocks | None, files: int) -> Numbers:
    """Records of each file, whose ids must begin with 1 and follow each other."""
    found = np.zeros(files, np.int64)
    if blocks is None:
        return found
    np.add.at(found, blocks.owners, blocks.counts)
    before = (np.cumsum(found) - found)[blocks.owners]
    _ask(bool((blocks.firsts == np.cumsum(blocks.counts) - blocks.counts - before + 1).all()))
    return found


def _check_order(events: Blocks, parts: Sequence[Part]) -> None:
    """No two blocks may claim the same events, nor one those of an earlier segment."""
    begin = np.array([min(part.header.first_event, MAX_SEQUENCE) for part in parts])[events.owners]
    _ask(bool((events.firsts <= MAX_SEQUENCE - events.counts).all() and (events.firsts >= begin).all()))
    ends = events.firsts + events.counts
    _ask(bool((events.firsts[1:] >= ends[:-1]).all()))
