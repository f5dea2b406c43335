"""A process's memory on aarch64 through its page tables, where PANDA alone takes it for unmapped.

PANDA 0.1.1.5 emulates a CPU that faults at a page whose access flag is not set, and its own reads fail there as well.
The kernel clears that flag in both page tables at a fork (ptep_set_wrprotect and pte_mkold in mm/memory.c), so that
much of a new process is unreadable until it has touched it: the arguments of its execve, for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_PAGE = 4096
_VALID, _TABLE = 1, 2
_OUTPUT = 0x0000FFFFFFFFF000
_BITS = 9
"""Bits of an address that one level translates, with pages of 4 KiB (ARM DDI 0487, D5.2)."""


def translated(entry_at: Callable[[int], int | None], table: int, control: int, address: int) -> int | None:
    """Translate an address of a program, whatever the access flags say; None if it is not mapped.

    Args:
        entry_at: Gives the 8 bytes at a physical address, None if there is no memory.
        table: TTBR0_EL1.
        control: TCR_EL1.
        address: Of the program.
    """
    bits = 64 - (control & 63)
    if control >> 14 & 3 or address >> bits:  # TG0: 0 is 4 KiB
        return None
    table &= _OUTPUT
    shift = 12 + (bits - 13) // _BITS * _BITS
    while True:
        entry = entry_at(table + (address >> shift & (1 << _BITS) - 1) * 8)
        if entry is None or not entry & _VALID or (shift == 12 and not entry & _TABLE):
            return None
        if shift == 12 or not entry & _TABLE:
            inside = (1 << shift) - 1
            return entry & _OUTPUT & ~inside | address & inside
        table, shift = entry & _OUTPUT, shift - _BITS


class Arm64Pages:
    """Reads what the page tables of the running process map, whether it has been touched or not."""

    def __init__(self, panda: Any) -> None:
        """Prepare to read; nothing is read before the first call."""
        self._panda = panda
        self._native = panda.libpanda.panda_virtual_memory_read_external
        self._physical = panda.libpanda.panda_physical_memory_read_external
        self._entry = panda.ffi.new("uint8_t[]", 8)
        self._bytes = panda.ffi.buffer(self._entry)

    def read(self, cpu: Any, address: int, buffer: Any, size: int) -> int:
        """As PANDA's function: below 0 if a byte is not mapped."""
        result: int = self._native(cpu, address, buffer, size)
        if result >= 0 or address >> 48:
            return result
        done, bytes_at = 0, self._panda.ffi.cast("uint8_t *", buffer)
        while done < size:
            length = min(size - done, _PAGE - (address + done) % _PAGE)
            at = self._translated(cpu, address + done)
            if at is None or self._physical(at, bytes_at + done, length) < 0:
                return -1
            done += length
        return 0

    def _translated(self, cpu: Any, address: int) -> int | None:
        """The physical address of a byte, or None."""
        registers = self._panda.ffi.cast("CPUARMState *", cpu.env_ptr).cp15
        return translated(self._word, int(registers.ttbr0_el[1]), int(registers.tcr_el[1].raw_tcr), address)

    def _word(self, at: int) -> int | None:
        """An entry of a table, by its physical address."""
        return None if self._physical(at, self._entry, 8) < 0 else int.from_bytes(self._bytes, "little")
