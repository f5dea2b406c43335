"""Reads many small segments at once, if nothing about any of them is unusual; otherwise `read.py` reads them.

A block is a row of an array here: what `capture.reader` asks of one block after the other is asked of all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from crc32c import crc32c

from capture.reader import meta_of
from capture.segment import (
    BLOCK,
    BLOCK_HEADER_SIZE,
    BLOCK_MAGIC,
    COUNTERS,
    FILE_HEADER_SIZE,
    ROW_SIZES,
    BlockType,
    Encoding,
    SegmentError,
)
from process.discover import Part, Parts
from process.events import MAX_SEQUENCE
from process.read import MAX_TOGETHER, kept_from
from process.repair import open_segment
from process.strings import StringTable

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Octets = npt.NDArray[np.uint8]

_MOST_BLOCKS = 32
"""Of a file: capture writes some seven for each chunk."""
_MOST_RAW = 1 << 23
"""Bytes to which the blocks of a file may unpack: thirty times the largest small file."""
_KINDS = frozenset(BlockType)
_ENCODINGS = np.array(list(Encoding))

_FILE = np.dtype({
    "names": ["size", "segment", "flags", "capture", "first"],
    "formats": ["<u4", "<u4", "<u2", "<u8", "<u8"],
    "offsets": [12, 16, 20, 24, 96],
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
        encodings: As of `capture.segment.Encoding`: uint8.
        sizes: Bytes of each, inflated: int64.
        data: The inflated bytes of all, one after the other.
    """

    owners: Numbers
    firsts: Numbers
    counts: Numbers
    encodings: Octets
    sizes: Numbers
    data: bytes

    def payloads(self) -> list[memoryview]:
        """The bytes of each."""
        view, ends = memoryview(self.data), np.cumsum(self.sizes)
        bounds = zip((ends - self.sizes).tolist(), ends.tolist(), strict=True)
        return [view[start:end] for start, end in bounds]


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
        firsts: Sequence number of the first event of each, as its header has it: uint64.
        counters: The ledger of each, the words of ``COUNTERS``: uint64 of shape (n, words).
        kept_from: Of each, the sequence number before which capture has deleted segments on purpose: int64.
        records: What they hold.
    """

    firsts: Words
    counters: Words
    kept_from: Numbers
    records: Records


class _UnusualError(Exception):
    """Something that `read.py` must look at."""


def read_sound(parts: Parts) -> Files | None:
    """Read segments; None if one is not sealed, not as it was when it was found, or anything in it is unusual.

    Args:
        parts: Segments of one capture.
    """
    try:
        return _read(parts)
    except (_UnusualError, SegmentError, OSError):
        return None


def _read(parts: Parts) -> Files:
    data = [_bytes_of(held, size) for held, size in zip(parts.held, parts.sizes, strict=True)]
    whole = b"".join(data)
    files, heads, offsets, owners = _blocks_of(parts, whole)
    _check_sums(whole, heads, offsets)
    rows = {kind: _blocks(heads, offsets, owners, kind, whole) for kind in set(heads["type"].tolist())}
    _ask(rows.keys() <= _KINDS)
    counters = _counters(rows.pop(BlockType.END))
    kept, metas = np.zeros(len(parts), np.int64), rows.pop(BlockType.META, None)
    if metas is not None:  # of several the last one says it
        payloads = [bytes(payload) for payload in metas.payloads()]
        told = {payload: kept_from(meta_of(payload)) for payload in set(payloads)}  # most segments say the same
        kept[metas.owners] = [told[payload] for payload in payloads]
    texts = rows.pop(BlockType.STRINGS, None)
    strings, sets = StringTable(), rows.get(BlockType.SETS)
    _ask(texts is None or strings.add_run(1, texts.counts, texts.payloads()))
    if BlockType.EVENTS in rows:
        _check_order(rows[BlockType.EVENTS], files["first"])
    records = Records(strings, _counted(texts, len(parts)), _counted(sets, len(parts)), rows)
    return Files(files["first"].copy(), counters, kept, records)


def _ask(is_usual: bool) -> None:
    if not is_usual:
        raise _UnusualError


def _bytes_of(held: str | Part, size: int) -> bytes:
    """A sealed file that has no live ones beside it, as large as it was."""
    if isinstance(held, Part):
        if held.sealed is None or held.live:
            raise _UnusualError
        held = str(held.sealed)
    file = open_segment(held)
    try:
        data = os.read(file, size + 1)
    finally:
        os.close(file)
    _ask(len(data) == size)
    return data


def _blocks_of(parts: Parts, whole: bytes) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void], Numbers, Numbers]:
    """The headers of all files; those of all blocks, their offsets in the whole, and the numbers of their files.

    They are walked side by side: the first block of every file, then the second of those that have two ...
    """
    octets, ends = np.frombuffer(whole, np.uint8), np.cumsum(parts.sizes)
    starts = np.concatenate(([0], ends[:-1]))
    files = _records(octets, starts, ends, _FILE)
    _ask(files.tobytes() == b"".join(parts.heads))  # whose checksums were right
    _ask(not files["flags"].any())
    capture = files["capture"][0]
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
    return files, np.concatenate(heads)[order], np.concatenate(offsets)[order], owner[order]


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
    encodings, lengths = some["encoding"], some["length"].astype(np.int64)
    is_raw = encodings == Encoding.RAW
    if kind in ROW_SIZES:
        _ask(bool((counts * ROW_SIZES[kind] == raws).all()))
    _ask(kind in (BlockType.META, BlockType.END) or bool((counts > 0).all()))
    _ask(bool((firsts >= 0).all() and np.isin(encodings, _ENCODINGS).all() and (lengths == raws)[is_raw].all()))
    view = memoryview(whole)
    bounds = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
    payloads: list[Any] = [view[start:end] for start, end in bounds]
    packed = np.flatnonzero(~is_raw)
    if len(packed):
        inflated = _inflated([payloads[k] for k in packed.tolist()], raws[packed])
        for at, k in enumerate(packed.tolist()):
            payloads[k] = inflated[at]
    return Blocks(owners[here], firsts, counts, encodings, raws, b"".join(payloads))


def _inflated(frames: list[Any], raws: Numbers) -> Any:
    """Frames, inflated all at once; none may declare another size than its block's header, as for `inflate`."""
    try:
        _ask([zstandard.frame_content_size(frame) for frame in frames] == raws.tolist())
        sizes = raws.astype(np.uint64).tobytes()
        return zstandard.ZstdDecompressor().multi_decompress_to_buffer(frames, decompressed_sizes=sizes)
    except zstandard.ZstdError:
        raise _UnusualError from None


def _counted(blocks: Blocks | None, files: int) -> Numbers:
    """Records of each file, whose ids must begin with 1 and follow each other."""
    found = np.zeros(files, np.int64)
    if blocks is None:
        return found
    np.add.at(found, blocks.owners, blocks.counts)
    before = (np.cumsum(found) - found)[blocks.owners]
    _ask(bool((blocks.firsts == np.cumsum(blocks.counts) - blocks.counts - before + 1).all()))
    return found


def _counters(ends: Blocks) -> Words:
    """The words of the END block of each file, which are as many in each."""
    _ask(bool((ends.sizes == ends.sizes[0]).all()))
    told = np.frombuffer(ends.data, "<u8").reshape(len(ends.owners), -1)[:, : len(COUNTERS)]
    found = np.zeros((len(told), len(COUNTERS)), np.uint64)
    found[:, : told.shape[1]] = told
    return found


def _check_order(events: Blocks, firsts: Words) -> None:
    """No two blocks may claim the same events, nor one those of an earlier segment."""
    begin = np.minimum(firsts, np.uint64(MAX_SEQUENCE)).astype(np.int64)[events.owners]
    _ask(bool((events.firsts <= MAX_SEQUENCE - events.counts).all() and (events.firsts >= begin).all()))
    ends = events.firsts + events.counts
    _ask(bool((events.firsts[1:] >= ends[:-1]).all()))
