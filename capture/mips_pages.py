"""The page tables of a mips guest: memory that PANDA, which looks into the TLB alone, takes for unmapped.

Where they are is in the kernel's own TLB refill handler, which it makes at boot and puts at the exception base
(arch/mips/mm/tlbex.c): it loads the table of the current address space from a variable of the kernel's, and shifts an
entry of it right to make what the CPU wants. Both are read out of its instructions. For kernels of 32 bits with pages
of 4 KiB and entries of 4 bytes.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

_LUI, _LW, _SPECIAL, _COP0 = 0o17, 0o43, 0o00, 0o20  # MIPS32 Instruction Set Manual, volume II
_SRL, _MTC0, _ENTRYLO0 = 0o02, 0o04, 2
_INSTRUCTIONS = 32
_KSEG0, _KSEG0_SIZE = 0x80000000, 0x20000000
_VALID, _PAGE = 2, 4096
_WORD = 0xFFFFFFFF


def handler_facts(code: bytes, big_endian: bool) -> tuple[int, int] | None:
    """The address of the pointer to the current table, and by how many bits an entry is shifted; None if not found.

    Args:
        code: The refill handler.
        big_endian: The guest's byte order.
    """
    high = pointer = shift = None
    for (word,) in struct.iter_unpack(">I" if big_endian else "<I", code):
        operation, rs, rd = word >> 26, word >> 21 & 31, word >> 11 & 31
        if operation == _LUI and high is None:
            high = (word & 0xFFFF) << 16
        elif operation == _LW and high is not None and pointer is None:
            pointer = (high + (word & 0xFFFF) - ((word & 0x8000) << 1)) & _WORD
        elif operation == _SPECIAL and word & 63 == _SRL and rd:
            shift = word >> 6 & 31  # srl, or rotr where the topmost bits forbid to read and to execute
        elif operation == _COP0 and rs == _MTC0 and rd == _ENTRYLO0 and pointer is not None and shift is not None:
            return pointer, shift
    return None


class MipsPages:
    """Reads a process's memory through its page tables where the TLB does not hold it."""

    def __init__(self, panda: Any, big_endian: bool) -> None:
        """Prepare to read; nothing is read before the first call.

        Args:
            panda: A ``pandare.Panda``.
            big_endian: The guest's byte order.
        """
        self._ffi, self._native = panda.ffi, panda.libpanda.panda_virtual_memory_read_external
        self._big_endian = big_endian
        self._word = panda.ffi.new("char[]", 4)
        self._bytes = panda.ffi.buffer(self._word)
        self._order: Literal["big", "little"] = "big" if big_endian else "little"
        self._pointer = self._shift = 0

    def find(self, cpu: Any, exception_base: int) -> bool:
        """Look the kernel's handler through; whether the tables are found."""
        code = self._ffi.new("char[]", 4 * _INSTRUCTIONS)
        if self._native(cpu, exception_base & _WORD, code, len(code)) < 0:
            return False
        facts = handler_facts(bytes(self._ffi.buffer(code)), self._big_endian)
        if facts is None or not self._kernel_word(cpu, facts[0]):
            return False
        self._pointer, self._shift = facts
        return True

    def table(self, cpu: Any) -> int:
        """The address of the current address space's table: tells address spaces apart. 0 if it is not known."""
        return self._kernel_word(cpu, self._pointer) if self._pointer else 0

    def read(self, cpu: Any, address: int, buffer: Any, size: int) -> int:
        """As PANDA's function: below 0 if a byte is not mapped."""
        result: int = self._native(cpu, address, buffer, size)
        if result >= 0 or not self._pointer or address + size > _KSEG0:
            return result
        done = 0
        while done < size:
            length = min(size - done, _PAGE - (address + done) % _PAGE)
            at = self._translated(cpu, address + done)
            if at is None or self._native(cpu, at, buffer + done, length) < 0:
                return -1
            done += length
        return 0

    def _translated(self, cpu: Any, address: int) -> int | None:
        """Where the kernel itself sees the byte at ``address``, or None."""
        entries = self._kernel_word(cpu, self.table(cpu) + (address >> 22) * 4)
        entry = self._kernel_word(cpu, entries + (address >> 12 & 0x3FF) * 4) >> self._shift
        physical = (entry >> 6) * _PAGE % (1 << 32)  # EntryLo's frame number begins at bit 6
        if not entry & _VALID or physical >= _KSEG0_SIZE:
            return None
        return _KSEG0 + physical + address % _PAGE

    def _kernel_word(self, cpu: Any, address: int) -> int:
        """A word of the kernel's unmapped memory; 0 if it is elsewhere."""
        if not _KSEG0 <= address < _KSEG0 + _KSEG0_SIZE or self._native(cpu, address, self._word, 4) < 0:
            return 0
        return int.from_bytes(self._bytes, self._order)
