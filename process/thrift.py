"""Thrift's compact protocol, as far as the headers and the footer of a Parquet file need it.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md; its sections are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_TRUE, _FALSE, _I16, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 4, 5, 6, 8, 9, 12
"""Types of fields ("Struct encoding")."""


class Value(NamedTuple):
    """A value as it is written.

    Attributes:
        kind: Its type.
        body: What follows the header of its field.
    """

    kind: int
    body: bytes


_BYTES = [bytes([number]) for number in range(0x80)]


def varint(number: int) -> bytes:
    """ULEB128 of a number that is not negative."""
    if number < 0x80:
        return _BYTES[number]
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _zigzag(number: int) -> bytes:
    """Of a signed one ("Integer encoding")."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def i16(number: int) -> Value:
    """An integer of 16 bits."""
    return Value(_I16, _zigzag(number))


def i32(number: int) -> Value:
    """An integer of 32 bits, or of an enumeration."""
    assert -1 << 31 <= number < 1 << 31
    return Value(_I32, _zigzag(number))


def i64(number: int) -> Value:
    """An integer of 64 bits."""
    return Value(_I64, _zigzag(number))


def boolean(flag: bool) -> Value:
    """A flag, which is in its field's type."""
    return Value(_TRUE if flag else _FALSE, b"")


def binary(data: bytes) -> Value:
    """Bytes."""
    return Value(_BINARY, varint(len(data)) + data)


def text(characters: str) -> Value:
    """A string."""
    return binary(characters.encode())


def fields(values: Mapping[int, Value | None], after: int = 0) -> bytes:
    """Fields by their ids, ascending, the next within 15; those that are None are left out.

    Args:
        values: They.
        after: The id of the field before them, if some are there already.
    """
    found, last = bytearray(), after
    for number, value in values.items():
        if value is not None:
            assert 0 < number - last <= 15
            found.append(number - last << 4 | value.kind)
            found += value.body
            last = number
    return bytes(found)


STOP = b"\0"
"""What ends the fields of a struct."""


def structure(body: bytes) -> Value:
    """A struct out of fields and `STOP`."""
    return Value(_STRUCT, body)


def struct(values: Mapping[int, Value | None]) -> Value:
    """A struct with some fields."""
    return Value(_STRUCT, fields(values) + STOP)


def listed(values: Iterable[Value], kind: int = _STRUCT) -> Value:
    """Values of one type ("List and Set"); ``kind`` is that of none."""
    found = list(values)
    kind = found[0].kind if found else kind
    assert all(value.kind == kind for value in found)
    head = bytes([len(found) << 4 | kind]) if len(found) < 15 else bytes([0xF0 | kind]) + varint(len(found))
    return Value(_LIST, head + b"".join(value.body for value in found))
