"""Mutated segments: what lies beneath the checksums is changed, and sealed anew; sometimes bytes, with no care.

A file of which only a checksum is wrong gets no further than that check.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from capture.chunk import Room
from capture.reader import Segment, parse_segment
from capture.recorder import Recorder
from capture.segment import (
    ABI_NUMBERS,
    BLOCK_MAGIC,
    FILE_HEADER_SIZE,
    MAX_RAW,
    BlockType,
    Encoding,
    EventFlag,
    Header,
    SegmentError,
    StringFlag,
    pack_block,
)

NUMBERS = (*range(60), 72, 78, 80, 81, 89, 101, 157, 231, 257, 272, 290, 292, 293, 322, 425, 435, 436, 9999)
"""Of x86_64: calls with paths, descriptors, forks, ends, and one that is none."""
ROOM = Room(events=16, strings=64, string_bytes=1 << 20, sets=64, tasks=64, marks=32, files=32)
LARGE = Room(events=256, strings=1024, string_bytes=1 << 20, sets=1024, tasks=256, marks=128, files=256)
"""A chunk that nothing is sealed of: a live file with all that was recorded."""
EDGES = (
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0xFF,
    0xFFFF,
    1 << 31,
    (1 << 31) - 1,
    (1 << 32) - 1,
    1 << 63,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


@dataclass
class Piece:
    """A block, to be changed and packed again.

    Attributes:
        kind: Its type, any number.
        encoding: Any number.
        index: Of the block in its file.
        count: Records that it claims.
        first: Number of the first.
        payload: Unpacked.
        raw: Bytes that it claims; None for what it has.
    """

    kind: int
    encoding: int
    index: int
    count: int
    first: int
    payload: bytearray
    raw: int | None = None

    def pack(self, header: Header) -> bytes:
        """The block with sound checksums, whatever it claims."""
        stored = bytes(self.payload) if self.encoding == Encoding.RAW else zstandard.compress(bytes(self.payload), 1)
        raw = len(self.payload) if self.raw is None else self.raw
        kind, encoding = BlockType(self.kind), Encoding(self.encoding)
        index, count, raw = (value & 2**32 - 1 for value in (self.index, self.count, raw))
        return pack_block(header, kind, encoding, index, count, self.first & 2**64 - 1, raw, stored)


def seeds(folder: Path, segment_size: int = 4000) -> list[bytes]:
    """Sound segments of about a size, and live files, by the real recorder, with every kind of record."""
    for seed, abi in enumerate(("x86_64", "x86_64", "arm", "mips", "x86_64")):
        source, is_live = random.Random(seed), seed == 4
        recorder = Recorder(
            folder / str(seed), abi, segment_size=segment_size, room=LARGE if is_live else ROOM, wait=True
        )
        for k in range(60):
            pid = source.choice((100, 101, 102))
            task = pid << 32 | source.choice((pid, pid + 50))
            if k % 9 == 0:
                recorder.mark(f"mark {k}")
                recorder.identity(task, pid << 12, pid, task & 0xFFFFFFFF, 1, 31, 7, b"sh", b"sh\0-c\0", 0, table=pid)
                recorder.files(pid, [(0, b"/dev/console", 0), (1, b"pipe:[7]", 0)], snapshot=True)
                recorder.folder(task, b"/tmp")
            text = ((1, b"/tmp/%d" % source.randrange(9), 0), (2, source.randbytes(9), int(StringFlag.BUFFER)))
            strings = recorder.strings(text[: source.randrange(3)]) if source.random() < 0.7 else 0
            a, b, c, d, e, f = (source.choice((0, 1, 3, 5, 0x7000, *EDGES)) for _ in range(6))
            ret = source.choice((0, 3, 103, (1 << 64) - 2))
            flags = int(EventFlag.RETURNED) if source.random() < 0.9 else 0
            recorder.event(100 * k, 50, task, a, b, c, d, e, f, ret, source.choice(NUMBERS), strings, flags)
        if is_live:
            found = [path.read_bytes() for path in sorted((folder / str(seed)).iterdir()) if path.suffix == ".live"]
        recorder.close()
    return [path.read_bytes() for path in sorted(folder.glob("*/*.seg"))] + found


def pieces(segment: Segment) -> list[Piece]:
    """The blocks of records of a sealed segment."""
    return [
        Piece(block.type, block.encoding, block.index, block.count, block.first, bytearray(block.payload()))
        for block in segment.blocks
    ]


class Mutator:
    """Makes segments out of others."""

    def __init__(self, seed: int, scramble: Callable[[bytes], bytes] | None = None) -> None:
        """Prepare.

        Args:
            seed: Of what is chosen.
            scramble: Changes bytes in a way of its own, which is used beside those that are here.
        """
        self._random, self._scramble = random.Random(seed), scramble

    def mutated(self, data: bytes) -> bytes:
        """Another one, made of a segment, or of bytes that need not be one."""
        choose = self._random
        try:
            segment = parse_segment(data, "seed")
            header, blocks = segment.header, pieces(segment)
        except SegmentError:
            return self._raw(data)
        if header.live or choose.random() < 0.2:
            return self._raw(data)
        for _ in range(choose.choice((1, 1, 2, 4, 8))):
            choose.choice((self._payload, self._payload, self._payload, self._claim, self._order))(blocks)
        if choose.random() < 0.15:
            header = self._header(header)
        packed = b"".join(block.pack(header) for block in blocks)
        if choose.random() < 0.5 or header != segment.header:
            return header.pack() + packed
        first = segment.blocks[0].offset if segment.blocks else FILE_HEADER_SIZE  # what says who has written it stays
        return header.pack() + data[FILE_HEADER_SIZE:first] + packed + data[data.rfind(BLOCK_MAGIC) :]

    def _raw(self, data: bytes) -> bytes:
        """Bytes changed, cut, doubled or moved, with no care for checksums."""
        choose, out = self._random, bytearray(data)
        if self._scramble and choose.random() < 0.5:
            return self._scramble(data)
        for _ in range(choose.choice((1, 1, 3, 9))):
            at = choose.randrange(len(out) + 1) if choose.random() < 0.6 else choose.randrange(min(len(out), 500) + 1)
            size = choose.choice((1, 2, 4, 8, 96, 700))
            kind = choose.randrange(5)
            if kind == 0:
                out[at : at + 8] = choose.choice(EDGES).to_bytes(8, "little")
            elif kind == 1:
                out[at : at + size] = choose.randbytes(size)
            elif kind == 2:
                del out[at : at + size]
            elif kind == 3:
                out[at:at] = out[max(0, at - size) : at]
            elif len(out) > FILE_HEADER_SIZE + 1:
                del out[choose.randrange(FILE_HEADER_SIZE, len(out)) :]
        return bytes(out)

    def _payload(self, blocks: list[Piece]) -> None:
        """A word of a payload, or some of its bytes."""
        choose = self._random
        payload = choose.choice(blocks).payload if blocks else bytearray()
        if not payload:
            return
        if self._scramble and choose.random() < 0.5:
            payload[:] = self._scramble(bytes(payload))
            return
        width = choose.choice((4, 8))
        at = choose.randrange(len(payload)) // width * width
        kind = choose.randrange(5)
        if kind == 0:
            payload[at : at + width] = (choose.choice(EDGES) & (1 << 8 * width) - 1).to_bytes(width, "little")
        elif kind == 1:
            payload[at : at + width] = choose.randbytes(width)
        elif kind == 2:
            payload[at] ^= 1 << choose.randrange(8)
        elif kind == 3:
            other = choose.randrange(len(payload)) // width * width
            payload[at : at + width] = payload[other : other + width]
        else:
            del payload[at : at + choose.choice((1, width, 96))]

    def _claim(self, blocks: list[Piece]) -> None:
        """A field of a block's header."""
        choose = self._random
        if not blocks:
            return
        block = choose.choice(blocks)
        edge = choose.choice((*EDGES, block.count + 1, block.first + 1, max(block.first - 1, 0)))
        kind = choose.randrange(6)
        if kind == 0:
            block.count = edge
        elif kind == 1:
            block.first = edge
        elif kind == 2:
            block.kind = int(choose.choice(list(BlockType)))
        elif kind == 3:
            block.encoding = int(choose.choice(list(Encoding)))
        elif kind == 4:
            block.index = edge
        else:
            block.raw = choose.choice((edge, MAX_RAW, MAX_RAW + 1, len(block.payload) + 1))

    def _order(self, blocks: list[Piece]) -> None:
        """Blocks left out, doubled, or in another order."""
        choose = self._random
        if not blocks:
            return
        at, other = choose.randrange(len(blocks)), choose.randrange(len(blocks))
        kind = choose.randrange(3)
        if kind == 0:
            del blocks[at]
        elif kind == 1:
            blocks.insert(other, replace(blocks[at], payload=bytearray(blocks[at].payload)))
        else:
            blocks[at], blocks[other] = blocks[other], blocks[at]

    def _header(self, header: Header) -> Header:
        """A field of the file's header."""
        choose = self._random
        edge = choose.choice(EDGES)
        return choose.choice(
            (
                replace(header, abi=choose.choice((*ABI_NUMBERS, "", "\x1b[31m", "no such"))),
                replace(header, word_size=choose.choice((0, 1, 4, 8, 255))),
                replace(header, big_endian=not header.big_endian),
                replace(header, first_event=edge),
                replace(header, realtime_ns=edge),
                replace(header, monotonic_ns=edge),
                replace(header, segment=edge & (1 << 32) - 1),
                replace(header, minor=choose.choice((0, 1, 9))),
            )
        )
