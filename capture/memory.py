"""Guest memory, read through PANDA into buffers made once."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from capture.arm64_pages import Arm64Pages
from capture.mips_pages import MipsPages
from capture.segment import StringFlag

# Plain integers: looking up a member of an enumeration costs more than all the rest of a line (Python 3.11).
_TRUNCATED, _UNREADABLE = int(StringFlag.TRUNCATED), int(StringFlag.UNREADABLE)
_LIST, _BUFFER = int(StringFlag.LIST), int(StringFlag.BUFFER)
_PAGE = 4096
_FIRST = 256
"""Most paths end within this many bytes; one read is then enough."""


class GuestMemory:
    """Reads the memory of the process that runs on ``cpu``. A read never raises: what is unmapped is None or flagged.

    Args:
        panda: A ``pandare.Panda``.
        word_size: Bytes of a guest pointer.
        big_endian: The guest's byte order.
        user_limit: Strings from here on are unreadable, as they are for the kernel: PANDA itself would read its memory.
        max_string: Bytes of a string that are kept.
        max_buffer: Bytes of a buffer that are kept; at most a page.
        max_vector: Elements of a string vector that are kept.
        pages: Reads what PANDA alone takes for unmapped, on mips and aarch64.
    """

    def __init__(
        self,
        panda: Any,
        word_size: int,
        big_endian: bool,
        user_limit: int,
        max_string: int,
        max_buffer: int,
        max_vector: int,
        pages: MipsPages | Arm64Pages | None = None,
    ) -> None:
        self._ffi, self.pages = panda.ffi, pages
        self.read: Callable[..., int] = pages.read if pages else panda.libpanda.panda_virtual_memory_read_external
        self._buffer = self._ffi.new("char[]", _PAGE)
        self._bytes = self._ffi.buffer(self._buffer)
        self.word_size = word_size
        self._order = "big" if big_endian else "little"
        self.user_limit = user_limit
        self._max_string, self._max_buffer, self._max_vector = max_string, max_buffer, max_vector

    def through(self, read: Callable[..., int]) -> GuestMemory:
        """The same memory, read in another way."""
        other = copy(self)
        other.read = read
        return other

    def word(self, cpu: Any, address: int, size: int = 0) -> int | None:
        """An unsigned integer of ``size`` bytes (a pointer's if 0), or None if it is not mapped."""
        size = size or self.word_size
        if self.read(cpu, address, self._buffer, size) < 0:
            return None
        return int.from_bytes(self._bytes[:size], self._order)  # type: ignore[arg-type]

    def block(self, cpu: Any, address: int, size: int) -> bytes | None:
        """``size`` bytes, at most a page, or None if one of them is not mapped."""
        if self.read(cpu, address, self._buffer, size) < 0:
            return None
        data: bytes = self._bytes[:size]
        return data

    def string(self, cpu: Any, address: int) -> tuple[bytes, int]:
        """The bytes before the NUL at ``address`` and ``StringFlag`` bits; reads no page that it need not."""
        data, size = b"", _FIRST
        while True:
            if address >= self.user_limit:
                return data, _UNREADABLE
            size = min(size, _PAGE - address % _PAGE, self._max_string + 1 - len(data))
            if self.read(cpu, address, self._buffer, size) < 0:
                return data, _UNREADABLE
            part: bytes = self._ffi.string(self._buffer, size)
            data += part
            if len(part) < size:
                return data, 0
            if len(data) > self._max_string:
                return data[: self._max_string], _TRUNCATED
            address, size = address + size, _PAGE

    def buffer(self, cpu: Any, address: int, length: int, most: int | None = None) -> tuple[bytes, int]:
        """The first bytes of a buffer, at the most ``most``, and ``StringFlag`` bits."""
        size = min(length, self._max_buffer if most is None else most, _PAGE)
        flags = _BUFFER | (_TRUNCATED if length > size else 0)
        if size == 0:
            return b"", flags
        data = self.block(cpu, address, size) if address + size <= self.user_limit else None
        return (b"", _BUFFER | _UNREADABLE) if data is None else (data, flags)

    def vector(self, cpu: Any, address: int) -> tuple[bytes, int]:
        """A NULL-terminated vector of strings, each ended by NUL, and ``StringFlag`` bits for the whole."""
        parts, flags, room = [], _LIST, self._max_vector * 64
        for _ in range(self._max_vector):
            pointer = self.word(cpu, address) if address < self.user_limit else None
            if not pointer:
                if pointer is None:
                    flags |= _UNREADABLE
                break
            text, text_flags = self.string(cpu, pointer)
            if text_flags & _UNREADABLE:
                flags |= _UNREADABLE
                break
            room -= len(text) + 1
            if room < 0:
                flags |= _TRUNCATED
                break
            parts.append(text)
            flags |= text_flags
            address += self.word_size
        else:
            if self.word(cpu, address) != 0:
                flags |= _TRUNCATED
        return b"".join(part + b"\0" for part in parts), flags
