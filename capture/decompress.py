"""Undo the compressions a Linux kernel can be packed with, within a size limit.

The formats are those of `scripts/Makefile.lib` (`cmd_gzip` ... `cmd_zstd22`, Linux 6.12). The build appends
the unpacked size (u32, little-endian) to most of them: bytes after the stream's end are expected and ignored.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import zstandard

__all__ = ["MAGICS", "ProfileError", "decompress", "is_compressed"]


class ProfileError(ValueError):
    """A kernel image or profile cannot be used. One line: what, where (file, offset), what to do."""


class _Stream(Protocol):
    """What zlib, bz2 and lzma decompressors share."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _stream(make: Callable[[], _Stream]) -> Callable[[bytes, int], bytes]:
    """Wrap a standard library decompressor so that a cut-off stream is an error, not a short result."""

    def run(packed: bytes, limit: int) -> bytes:
        stream = make()
        unpacked = stream.decompress(packed, limit + 1)
        if not stream.eof and len(unpacked) <= limit:
            raise EOFError("the stream is cut off")
        return unpacked

    return run


def _zstd(packed: bytes, limit: int) -> bytes:
    # Not decompress(max_output_size=...), ignored when the frame declares its own size (zstandard 0.25), nor
    # stream_reader, which takes a cut-off frame for a short one. Small steps bound what one call unpacks to.
    stream, unpacked = zstandard.ZstdDecompressor().decompressobj(), bytearray()
    for at in range(0, len(packed), 1024):
        unpacked += stream.decompress(packed[at : at + 1024])
        if stream.eof or len(unpacked) > limit:
            return bytes(unpacked)
    raise EOFError("the stream is cut off")


def _lz4_legacy(packed: bytes, limit: int) -> bytes:
    """Decode an LZ4 legacy frame: u32 magic, then blocks of u32 packed size and data, 8 MiB unpacked at most.

    Source: lz4/doc/lz4_Frame_format.md, "Legacy frame". The size that `cmd_lz4` appends cannot hold a block.
    """
    unpacked, at = bytearray(), 4
    while at + 4 < len(packed) and len(unpacked) <= limit:
        end = at + 4 + int.from_bytes(packed[at : at + 4], "little")
        if end > len(packed):
            raise EOFError("the stream is cut off")
        block = _lz4_block(packed[at + 4 : end], 8 << 20)
        unpacked += block
        at = end
        if len(block) < 8 << 20:  # only the last one is shorter; in a zImage, all kinds of things follow
            return bytes(unpacked)
    appended = packed[at:]
    if len(unpacked) <= limit and appended not in (b"", len(unpacked).to_bytes(4, "little")):
        raise EOFError("the stream is cut off")
    return bytes(unpacked)


def _lz4_block(block: bytes, limit: int) -> bytes:
    """Decode one LZ4 block (lz4/doc/lz4_Block_format.md); IndexError when it is cut off.

    Written for speed: Debian's 6.1 amd64 cloud kernel is LZ4, two million sequences.
    """
    out, at, size = bytearray(), 0, len(block)
    while at < size:
        token = block[at]
        at += 1
        if token >= 0xF0:
            length, at = _lz4_length(block, at)
            out += block[at : at + length]
            at += length
        elif token >= 0x10:
            length = token >> 4
            out += block[at : at + length]
            at += length
        if at >= size:
            break  # the last sequence has literals only
        distance = block[at] | block[at + 1] << 8
        at += 2
        count = (token & 15) + 4
        if count == 19:
            count, at = _lz4_length(block, at)
            count += 4
        start = len(out) - distance
        if not distance or start < 0 or start + distance + count > limit:
            raise ValueError("a match points outside its block")
        if count <= distance:
            out += out[start : start + count]
        else:  # the match overlaps what it writes: its bytes repeat
            out += (out[start:] * (count // distance + 1))[:count]
    if at != size or len(out) > limit:
        raise ValueError("a literal points outside its block")
    return bytes(out)


def _lz4_length(block: bytes, at: int) -> tuple[int, int]:
    """Read the bytes that extend a length of 15; give back the length and the offset behind them."""
    length = 15
    while block[at] == 255:
        length += 255
        at += 1
    return length + block[at], at + 1


_MEMORY: Final = 256 << 20  # for LZMA's dictionary, which the stream chooses; kernels use 64 MiB at most

_FORMATS: Final[dict[bytes, Callable[[bytes, int], bytes]]] = {
    b"\x1f\x8b\x08": _stream(lambda: zlib.decompressobj(wbits=31)),
    b"BZh": _stream(bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)),
    b"\x5d\x00\x00": _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY)),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x02\x21\x4c\x18": _lz4_legacy,
}

MAGICS: Final = tuple(_FORMATS)
"""What a stream of each known compression begins with."""

_ERRORS: Final = (ValueError, EOFError, IndexError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def is_compressed(data: bytes) -> bool:
    """Tell whether `data` begins with the magic number of a known compression."""
    return data.startswith(MAGICS)


def decompress(packed: bytes, limit: int, where: str) -> bytes:
    """Unpack one compressed stream; bytes after its end are ignored.

    Args:
        packed: the stream, beginning with its magic number.
        limit: the most bytes to give back.
        where: file and offset, for error texts.

    Raises:
        ProfileError: the format is unknown, the stream is damaged, or it holds more than `limit` bytes.
    """
    run = next((run for magic, run in _FORMATS.items() if packed.startswith(magic)), None)
    if run is None:
        raise ProfileError(f"{where}: unknown compression (starts {packed[:6].hex(' ')}); give the vmlinux")
    try:
        unpacked = run(packed, limit)
    except _ERRORS as error:
        raise ProfileError(f"{where}: damaged compressed kernel ({error}); fetch the file again") from error
    if len(unpacked) > limit:
        raise ProfileError(f"{where}: unpacks to more than {limit >> 20} MiB; this is not a kernel image")
    return unpacked
