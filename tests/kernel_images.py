"""Builds small kernel images in code: compressed, with BTF, kallsyms and ELF headers; no opaque files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Sequence

import zstandard

BASE = 0xFFFFFFFF81000000


def lz4_legacy(data: bytes) -> bytes:
    """Literals only, then a run of "a" as an overlapping match when there is one."""
    run = len(data) - len(data.rstrip(b"a"))
    literals, run = (data[: len(data) - run + 1], run - 1) if run > 20 else (data, 0)

    def extended(length: int) -> bytes:
        return b"\xff" * ((length - 15) // 255) + bytes([(length - 15) % 255]) if length >= 15 else b""

    token = min(len(literals), 15) << 4 | (min(run - 4, 15) if run else 0)
    block = bytes([token]) + extended(len(literals)) + literals
    if run:
        block += b"\x01\x00" + extended(run - 4) + b"\x00"
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd of unknown size": zstandard.ZstdCompressor(write_content_size=False).compress,
    "lz4": lz4_legacy,
}


def bzimage(payload: bytes, tail: bytes = b"") -> bytes:
    """A minimal x86 boot image: one setup sector, protocol 2.15, the payload 32 bytes into the kernel."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x20F)
    head[0x248:0x250] = struct.pack("<II", 32, len(payload + tail))
    return bytes(head) + bytes(32) + payload + tail


def elf(data: bytes, machine: int = 62) -> bytes:
    """An ELF file with one segment: all of `data`, linked at BASE, without sections."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, BASE, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, 4096, BASE, BASE, len(data), len(data), 4096)
    return head.ljust(4096, b"\0") + data


class BtfBuilder:
    """Collects type records; a type's id is what the method gives back."""

    def __init__(self) -> None:
        self.types, self.strings, self.count = b"", b"\0", 0

    def add(self, name: str, kind: int, vlen: int, value: int, trailer: bytes = b"", flag: int = 0) -> int:
        self.types += struct.pack("<III", self.name(name), flag << 31 | kind << 24 | vlen, value) + trailer
        self.count += 1
        return self.count

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def struct(self, name: str, *members: tuple[str, int, int], size: int = 64, flag: int = 0) -> int:
        """Members are (name, type id, offset in bits)."""
        trailer = b"".join(struct.pack("<III", self.name(m), kind, bits) for m, kind, bits in members)
        return self.add(name, 4, len(members), size, trailer, flag)

    def blob(self) -> bytes:
        head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return head + self.types + self.strings


def pad(data: bytes, to: int = 8) -> bytes:
    return data + bytes(-len(data) % to)


def kallsyms(symbols: Sequence[tuple[str, int]], layout: str = "6.4", percpu: bool = True) -> bytes:
    """Encode kallsyms tables as scripts/kallsyms.c does, with tokens for "sys_" and "__"."""
    tokens = {code: chr(code) for code in range(33, 127)} | {0x80: "sys_", 0x81: "__"}
    names, markers, offsets = b"", [], []
    for number, (name, address) in enumerate(symbols):
        if not number % 256:
            markers.append(len(names))
        packed = ("T" + name).encode().replace(b"sys_", b"\x80").replace(b"__", b"\x81")
        size = len(packed)
        names += bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
        names += packed
        offsets.append(address if address < 1 << 31 else BASE - 1 - address if percpu else address - BASE)
    table, index = b"", []
    for code in range(256):
        index.append(len(table))
        table += tokens.get(code, "").encode() + b"\0"
    count = len(symbols)
    where = pad(struct.pack(f"<{count}i", *offsets)) + struct.pack("<Q", BASE)
    what = pad(struct.pack("<I", count)) + pad(names) + pad(struct.pack(f"<{len(markers)}I", *markers))
    seqs = pad(b"".join(number.to_bytes(3, "big") for number in reversed(range(count))))
    text = pad(table) + struct.pack("<256H", *index)
    return {"6.1": where + what + text, "6.2": where + what + seqs + text, "6.4": what + text + where + seqs}[layout]


def some_symbols(percpu: bool = True) -> list[tuple[str, int]]:
    first = [("current_task", 0x1FB80)] if percpu else []
    return (
        first
        + [("_text", BASE)]
        + [(f"__x64_sys_{n:04}", BASE + 16 * n) for n in range(1, 1000)]
        + [("long_" + "n" * 300, BASE + 99999)]
    )


BASE_32 = 0xC0100000


def kallsyms_32(symbols: Sequence[tuple[str, int]], order: str = "<", plain: bool = False) -> bytes:
    """Encode the tables of a 32-bit kernel: words of 4 bytes, and before Linux 4.6 an address for each symbol."""
    names, markers = b"", []
    for number, (name, _) in enumerate(symbols):
        if not number % 256:
            markers.append(len(names))
        names += bytes([len(name) + 1]) + b"T" + name.encode()
    table, index = b"", []
    for code in range(256):
        index.append(len(table))
        table += (chr(code) if 33 <= code < 127 else "").encode() + b"\0"
    count = len(symbols)
    addresses = [address if plain else address - BASE_32 for _, address in symbols]
    where = struct.pack(f"{order}{count}I", *addresses) + (b"" if plain else struct.pack(f"{order}I", BASE_32))
    what = struct.pack(f"{order}I", count) + pad(names, 4) + struct.pack(f"{order}{len(markers)}I", *markers)
    return where + what + pad(table, 4) + struct.pack(f"{order}256H", *index)


SYMBOLS_32 = [("_stext", BASE_32), *((f"sys_{n:04}", BASE_32 + 16 * n) for n in range(1, 1000))]


def elf_32(data: bytes, machine: int, order: str = "<") -> bytes:
    """A 32-bit ELF file with one segment: all of `data`."""
    head = b"\x7fELF\x01" + (b"\x01" if order == "<" else b"\x02") + b"\x01" + bytes(9)
    head += struct.pack(f"{order}HHIIIIIHHHHHH", 2, machine, 1, BASE_32, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    head += struct.pack(f"{order}8I", 1, 4096, BASE_32, BASE_32, len(data), len(data), 7, 4096)
    return head.ljust(4096, b"\0") + data
