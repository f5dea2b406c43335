"""A file header with one wrong bit, put right: without it none of the file's sound blocks could be used."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import Array, c_char, c_int64
from functools import cache
from pathlib import Path

from crc32c import crc32c

from capture.reader import Damage, Segment, parse_segment
from capture.segment import FILE_HEADER_SIZE, FILE_MAGIC, MAJOR, MINOR, Header, SegmentError
from process.library import load

_USUAL = struct.pack("<8sHHI", FILE_MAGIC, MAJOR, MINOR, FILE_HEADER_SIZE)
"""What headers of this version begin with."""
_MANY = 1 << 11
"""Files that are opened by one call, which takes some hundredths of a second; fewer are not worth one."""
_THREADS = 4
REASON = "a wrong bit in the file's header, which its CRC tells"
"""What such a file's damage is called."""


def open_segment(path: str | Path) -> int:
    """Open a file for reading: a FIFO that has taken the place of a file is not waited for.

    Raises:
        OSError: It cannot be opened.
    """
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def read_head(path: str) -> tuple[bytes, int]:
    """A file's header, put right if need be, as bytes from which `Header.unpack` makes it; and the file's bytes.

    Raises:
        SegmentError: It is none, or too damaged.
        OSError: The file cannot be read.
    """
    file = open_segment(path)
    try:
        data, size = os.read(file, FILE_HEADER_SIZE), os.fstat(file).st_size
    finally:
        os.close(file)
    if len(data) == FILE_HEADER_SIZE and _is_usual(data):
        return data, size
    try:
        Header.unpack(data, path)
    except SegmentError:
        right = put_right(data)
        if right is None:
            raise
        Header.unpack(right, path)
        return right, size
    return data, size


def read_heads(paths: Sequence[str]) -> Iterator[tuple[bytes, int] | None]:
    """What `read_head` gives for each of many files, where that is plain: None where one has to look.

    Most of the time goes into opening files, which threads do side by side.
    """
    if len(paths) < _MANY:
        yield from [None] * len(paths)
        return
    library = load((), ("read_heads",))

    def some(first: int) -> tuple[bytes, array[int]]:
        names = [os.fsencode(path) + b"\0" for path in paths[first : first + _MANY]]
        heads, sizes = bytearray(FILE_HEADER_SIZE * len(names)), array("q", bytes(8 * len(names)))
        library.read_heads(b"".join(names), c_int64(len(names)), c_int64(FILE_HEADER_SIZE), _at(heads), _at(sizes))
        return bytes(heads), sizes

    with ThreadPoolExecutor(_THREADS) as threads:
        for heads, sizes in threads.map(some, range(0, len(paths), _MANY)):
            for k, size in enumerate(sizes):
                head = heads[FILE_HEADER_SIZE * k : FILE_HEADER_SIZE * (k + 1)]
                yield (head, size) if size >= 0 and _is_usual(head) else None


def _at(buffer: bytearray | array[int]) -> Array[c_char]:
    """Where a buffer is, for a compiled function."""
    return (c_char * memoryview(buffer).nbytes).from_buffer(buffer)


def read(path: Path) -> Segment:
    """Read a segment or a live file whole, passing over what is damaged.

    Raises:
        SegmentError: The file is no segment, is newer than this reader, or its header is too damaged.
        OSError: The file cannot be read.
    """
    with open(open_segment(path), "rb", buffering=0) as file:
        data = file.read()
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Segment:
    """`read` for bytes in memory; ``name`` is for messages."""
    header = put_right(data[:FILE_HEADER_SIZE])
    if header is None:
        return parse_segment(data, name)
    segment = parse_segment(header + data[FILE_HEADER_SIZE:], name)
    segment.damage.insert(0, Damage(0, FILE_HEADER_SIZE, REASON, 0, 0))
    return segment


def put_right(data: bytes) -> bytes | None:
    """A header's bytes with the one wrong bit turned; None if nothing is wrong with it, or more than that.

    CRC-32C tells all errors of up to five bits in so short a text apart, so that what has one wrong bit is not
    something else with four.
    """
    if len(data) < FILE_HEADER_SIZE or _is_sound(data):
        return None
    body, told = data[: FILE_HEADER_SIZE - 4], int.from_bytes(data[FILE_HEADER_SIZE - 4 : FILE_HEADER_SIZE], "little")
    bit = _bits().get(crc32c(body) ^ told)
    if bit is None:
        return None
    turned = bytearray(data)
    turned[bit >> 3] ^= 1 << (bit & 7)
    return bytes(turned) if _is_sound(turned) else None


@cache
def _bits() -> dict[int, int]:
    """The wrong bit by the difference that it makes to the checksum, whatever the other bits are: a CRC is linear."""
    size = FILE_HEADER_SIZE - 4
    none = crc32c(bytes(size))
    found = {1 << bit: 8 * size + bit for bit in range(32)}
    for bit in range(8 * size):
        found[crc32c((1 << bit).to_bytes(size, "little")) ^ none] = bit
    return found


def _is_usual(head: bytes) -> bool:
    """Whether a whole header is sound, and of this version."""
    return head.startswith(_USUAL) and _is_sound(head)


def _is_sound(data: bytes | bytearray) -> bool:
    return data.startswith(FILE_MAGIC) and crc32c(data[: FILE_HEADER_SIZE - 4]) == int.from_bytes(
        data[FILE_HEADER_SIZE - 4 : FILE_HEADER_SIZE], "little"
    )
