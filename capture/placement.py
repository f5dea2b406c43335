"""Where the running kernel lies in memory, and how it is read while a program runs.

A profile has link addresses. KASLR moves an x86_64 kernel; PANDA 0.1.1.5 loads an aarch64 one 512 KiB higher than
it is linked. And a kernel that hides itself from programs (KPTI) is not in the page tables that the CPU then has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from capture.memory import GuestMemory
from capture.profile import Profile

_PAGE = 4096
_MASK = (1 << 64) - 1
_SWAPPER = b"swapper"
"""The name of init_task, with "/0" behind it once the scheduler is up (init_idle in kernel/sched/core.c)."""
_TRAMPOLINES = (0, 2 * _PAGE, _PAGE)
"""How far arm64's page table of the whole kernel is above that for programs (RESERVED_SWAPPER_OFFSET and, since
Linux 5.18, TRAMP_SWAPPER_OFFSET in arch/arm64/include/asm; 2 pages in 6.1)."""
_ABOVE_LINK = 0x80000


def place(panda: Any, cpu: Any, memory: GuestMemory, profile: Profile) -> tuple[GuestMemory, int]:
    """The memory to read the kernel with, and how far it runs above its link address.

    Whatever is tried is proven by init_task, which has the name "swapper". If nothing fits, the link address is as
    good as any: the caller will find no task there.

    Args:
        panda: A ``pandare.Panda``.
        cpu: Its CPU, which runs a program.
        memory: The guest's memory.
        profile: Of the guest's kernel.
    """
    init_task, comm = profile.values.get("task.init_addr"), profile["task.comm_offset"]
    for candidate, displacement in _candidates(panda, cpu, memory, profile):
        if init_task is None:
            return candidate, displacement
        name = candidate.block(cpu, init_task + displacement + comm & _MASK, len(_SWAPPER))
        if name == _SWAPPER:
            return candidate, displacement
    return memory, 0


def _candidates(panda: Any, cpu: Any, memory: GuestMemory, profile: Profile) -> Iterator[tuple[GuestMemory, int]]:
    """What may be, the likeliest first."""
    symbols, ffi = profile.symbols, panda.ffi
    if "entry_SYSCALL_64" in symbols:
        yield memory, ffi.cast("CPUX86State *", cpu.env_ptr).lstar - symbols["entry_SYSCALL_64"]
    elif "vectors" in symbols:
        registers = ffi.cast("CPUARMState *", cpu.env_ptr).cp15
        cell = memoryview(ffi.buffer(ffi.addressof(registers, "ttbr1_el"))).cast("B").cast("Q")[1:2]
        for distance in _TRAMPOLINES:
            through = memory.through(_beside(memory.read, cell, distance)) if distance else memory
            for displacement in (registers.vbar_el[1] - symbols["vectors"], _ABOVE_LINK):
                yield through, displacement
    yield memory, 0


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
