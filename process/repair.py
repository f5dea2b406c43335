"""A file header with one wrong bit, put right: without it none of the file's sound blocks could be used."""

from __future__ import annotations

import os
import struct
from functools import cache
from pathlib import Path

from crc32c import crc32c

from capture.reader import Damage, Segment, parse_segment
from capture.segment import FILE_HEADER_SIZE, FILE_MAGIC, MAJOR, MINOR, Header, SegmentError

_USUAL = struct.pack("<8sHHI", FILE_MAGIC, MAJOR, MINOR, FILE_HEADER_SIZE)
"""What headers of this version begin with."""
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
    if data.startswith(_USUAL) and len(data) == FILE_HEADER_SIZE and _is_sound(data):
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


def _is_sound(data: bytes | bytearray) -> bool:
    return data.startswith(FILE_MAGIC) and crc32c(data[: FILE_HEADER_SIZE - 4]) == int.from_bytes(
        data[FILE_HEADER_SIZE - 4 : FILE_HEADER_SIZE], "little"
    )
