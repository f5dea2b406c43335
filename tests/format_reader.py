"""A second reader of the segment format, made from the tables of docs/FORMAT.md. Shares no code with capture/.

It serves to check the first reader and the page against each other, so it stops at the first thing that is not as
the page says. Its CRC-32C is computed bit by bit, its fields come from the page's tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import zstandard

PAGE = Path(__file__).resolve().parent.parent / "docs" / "FORMAT.md"
_ROW = re.compile(r"^\| (\d+) \| (\d+) \| (\S+) \| (\w+) \|", re.MULTILINE)
_WORD = re.compile(r"^\| (\d+) \| (\w+) \|", re.MULTILINE)

_RECORDS = {
    3: ("SETS", "Set"),
    4: ("TASKS", "Identity"),
    5: ("MARKS", "Mark"),
    6: ("EVENTS", "Event"),
    7: ("FILES", "File"),
}
"""Blocks of records of one size: their names, and the sections that describe the records."""

Fields = list[tuple[int, int, str, str]]


class NotAsDocumented(Exception):
    """The file does not follow the page."""


def sections() -> dict[str, str]:
    """The page's ``###`` sections by title."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def fields(section: str) -> Fields:
    """A table's rows (offset, size, type, name); a gap or an overlap between them is an error of the page."""
    rows = [(int(at), int(size), kind, name) for at, size, kind, name in _ROW.findall(sections()[section])]
    for (at, size, _, name), (following, *_) in pairwise(rows):
        if at + size != following:
            raise NotAsDocumented(f"{section}: {name} ends at {at + size}, the next field begins at {following}")
    return rows


def size_of(table: Fields) -> int:
    """Bytes of a record."""
    return table[-1][0] + table[-1][1]


def record(table: Fields, data: bytes) -> dict[str, Any]:
    """One record as a dict."""
    out: dict[str, Any] = {}
    for at, size, kind, name in table:
        raw = data[at : at + size]
        if len(raw) != size:
            raise NotAsDocumented(f"{name}: record cut short")
        if kind == "bytes":
            out[name] = raw
        elif kind == "text":
            out[name] = raw.rstrip(b"\0").decode("ascii")
        elif kind.endswith("]"):
            width, number = int(kind[1:3]) // 8, int(kind[4:-1])
            if width * number != size:
                raise NotAsDocumented(f"{name}: {kind} is not {size} bytes")
            out[name] = [int.from_bytes(raw[i * width : (i + 1) * width], "little") for i in range(number)]
        else:
            if int(kind[1:]) != 8 * size:
                raise NotAsDocumented(f"{name}: {kind} is not {size} bytes")
            out[name] = int.from_bytes(raw, "little")
    return out


def crc32c(data: bytes) -> int:
    """CRC-32C, one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def read(data: bytes) -> Iterator[tuple[str, Any]]:
    """A sealed segment's records in file order: ("header", dict), then (block type's name, record) pairs."""
    tables = {
        name: fields(name) for name in ("File header", "Block header", *(title for _, title in _RECORDS.values()))
    }
    header = record(tables["File header"], data)
    if header["magic"] != b"\x89SREEL\r\n" or header["crc"] != crc32c(data[:124]) or header["major"] != 1:
        raise NotAsDocumented("file header")
    yield "header", header
    at, index = header["length"], 0
    while at < len(data):
        block = record(tables["Block header"], data[at:])
        start = at + size_of(tables["Block header"])
        stored = data[start : start + block["stored_length"]]
        sound = (
            block["magic"] == b"\xb1SRB"
            and block["crc"] == crc32c(data[at : start - 4])
            and block["payload_crc"] == crc32c(stored)
            and block["segment"] == header["segment"]
            and block["capture"] == header["capture"][:8]
            and block["index"] == index
        )
        if not sound:
            raise NotAsDocumented(f"block {index} at offset {at}: {block}")
        yield from _records(block, _unpack(block, stored), tables)
        at, index = start + len(stored), index + 1


def _unpack(block: dict[str, Any], stored: bytes) -> bytes:
    """A block's payload as records."""
    if block["encoding"] == 0:
        return stored
    data = zstandard.ZstdDecompressor().decompress(stored)
    if len(data) != block["raw_length"]:
        raise NotAsDocumented(f"block {block['index']}: unpacks to {len(data)} bytes")
    if block["encoding"] == 1:
        return data
    count = block["count"]
    if block["encoding"] == 2:
        words = [data[i : i + 8] for i in range(0, len(data), 8)]
        return b"".join(b"".join(words[row::count]) for row in range(count))
    rows = [bytearray(data[row::count]) for row in range(count)]
    return b"".join(_in_order(rows) if block["type"] == 6 else rows)


def _in_order(stored: list[bytearray]) -> list[bytearray]:
    """EVENTS of encoding 3 in the order of their sequence numbers."""
    numbers = [bytes(row[80:84]) for row in stored]
    rows = [bytearray() for _ in stored]
    of_number = sorted(range(len(stored)), key=lambda at: (int.from_bytes(numbers[at], "little"), at))
    for row, at in zip(stored, of_number, strict=True):
        rows[at] = row
    time = 0
    for row, number in zip(rows, numbers, strict=True):
        time = (time + int.from_bytes(row[:8], "little")) % 2**64
        row[:8], row[80:84] = time.to_bytes(8, "little"), number
    return rows


def _records(block: dict[str, Any], data: bytes, tables: dict[str, Fields]) -> Iterator[tuple[str, Any]]:
    """A payload's records, each with the id or sequence number that it has where it has one."""
    kind, first = block["type"], block["first"]
    if kind == 1:
        yield "META", data
    elif kind == 2:
        entry, at = fields("String index entry"), 0
        blob = data[size_of(entry) * block["count"] :]
        for i in range(block["count"]):
            found = record(entry, data[i * size_of(entry) :])
            yield "STRINGS", {"id": first + i, "bytes": blob[at : found["end"]], "flags": found["flags"]}
            at = found["end"]
    elif kind in _RECORDS:
        name, title = _RECORDS[kind]
        table = tables[title]
        if size_of(table) * block["count"] != len(data):
            raise NotAsDocumented(f"block {block['index']}: {len(data)} bytes are not {block['count']} records")
        for i in range(block["count"]):
            found = record(table, data[i * size_of(table) : (i + 1) * size_of(table)])
            yield name, {"id": first + i, **found}
    elif kind == 15:
        names = [name for _, name in _WORD.findall(sections()["Totals"])]
        words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
        if len(words) > len(names):
            raise NotAsDocumented(f"{len(words)} totals")
        yield "END", dict.fromkeys(names, 0) | dict(zip(names, words, strict=False))
