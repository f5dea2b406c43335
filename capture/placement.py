"""Where the running kernel lies in memory, and how it is read while a program runs.

A profile has link addresses. KASLR moves an x86_64 kernel; PANDA 0.1.1.5 loads an aarch64 one 512 KiB higher than
it is linked. And a kernel that hides itself from programs (KPTI) is not in the page tables that the CPU then has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from capture.current import entry_in, registers_of
from capture.memory import GuestMemory
from capture.profile import Profile

_PAGE = 4096
_MASK = (1 << 64) - 1
_TRAMPOLINES = (0, 2 * _PAGE, _PAGE)
"""How far arm64's page table of the whole kernel is above the one for programs: TRAMP_SWAPPER_OFFSET, before it had a
name RESERVED_SWAPPER_OFFSET (arch/arm64/include/asm); 2 pages in Linux 6.1."""
_ABOVE_LINK = 0x80000


def places(panda: Any, cpu: Any, memory: GuestMemory, profile: Profile) -> Iterator[tuple[GuestMemory, int]]:
    """What to read the kernel with, and how far it may run above its link address, the likeliest first.

    Args:
        panda: A ``pandare.Panda``.
        cpu: Its CPU, which runs a program.
        memory: The guest's memory.
        profile: Of the guest's kernel: its functions.
    """
    symbols, ffi = profile.symbols, panda.ffi
    if "entry_SYSCALL_64" in symbols:
        linked, words = symbols["entry_SYSCALL_64"], registers_of(panda, cpu).cast("Q")
        entry = entry_in(words, linked)
        yield memory, 0 if entry is None else words[entry] - linked
    elif "vectors" in symbols:
        registers, cell = ffi.cast("CPUARMState *", cpu.env_ptr).cp15, ttbr1_of(panda, cpu)
        vectors = symbols["vectors"]
        for distance in _TRAMPOLINES:
            through = memory.through(_beside(memory.read, cell, distance)) if distance else memory
            for displacement in (int(registers.vbar_el[1]) - vectors, _ABOVE_LINK, 0):
                if through.block(cpu, vectors + displacement & _MASK, 8) is not None:
                    yield through, displacement
    else:
        yield memory, 0


def ttbr1_of(panda: Any, cpu: Any) -> memoryview:
    """TTBR1_EL1 of an aarch64, where its kernel's page table is: element 0 of a view."""
    registers = panda.ffi.cast("CPUARMState *", cpu.env_ptr).cp15
    return memoryview(panda.ffi.buffer(panda.ffi.addressof(registers, "ttbr1_el"))).cast("B").cast("Q")[1:2]


def _beside(read: Callable[..., int], cell: memoryview, distance: int) -> Callable[..., int]:
    """A way to read with the page table that lies ``distance`` bytes above the one in a register."""

    def mapped(*request: Any) -> int:
        table = cell[0]
        cell[0] = table + distance
        try:
            return read(*request)
        finally:
            cell[0] = table

    return mapped
