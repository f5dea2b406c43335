"""Where a kernel without a profile keeps its current task: read out of the kernel's own code while it runs.

Kernels such as Debian's 686, armmp and malta list functions in kallsyms, but no variables. A few functions show the
variable, in instructions that have stayed the same for years (seen in Linux 6.1, compiled by gcc 12):

    x86      getpid begins with the load of `current_task`, relative to the per-cpu base
    arm      vector_swi loads `__entry_task`, relative to TPIDRPRW, since Linux 5.17 (reload_current); before that the
             task is in the thread_info at the bottom of the supervisor's stack
    mips     handle_sys loads `kernelsp` (get_saved_sp): the task is in the thread_info at the bottom of that stack
    aarch64  the handler of system calls loads `__entry_task`, relative to TPIDR_EL1, since Linux 4.15

All are of use while the guest is at a system call's instruction, in user mode. Nothing here is believed because it was
found: `derive.py` follows each pointer, and takes it only if a task is there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, Protocol

__all__ = ["FUNCTIONS", "Finder", "Memory", "candidates", "entry_in", "registers_of"]

Finder = Callable[[Any], "int | None"]
"""Gives the address of the task_struct that is current on a cpu, or None if it cannot be read."""

FUNCTIONS: Final = {
    "x86_64": "entry_SYSCALL_64 __do_sys_getpid __x64_sys_getpid __se_sys_getpid sys_getpid SyS_getpid",
    "i386": "entry_SYSENTER_32 __do_sys_getpid __ia32_sys_getpid __se_sys_getpid sys_getpid SyS_getpid",
    "arm": "vector_swi",
    "aarch64": "vectors el0t_64_sync el0_sync",
    "mips": "handle_sys",
    "mipsel": "handle_sys",
    "mips64": "handle_sys64 handle_sys",
}
"""By PANDA's name of the architecture: the functions to keep the addresses of. Older names come last."""

_CODE: Final = 256
"""Bytes of a function that are looked at."""
_STATE: Final = 16384
"""Bytes of PANDA's CPU state that hold an x86's registers: its TLB, which follows, is larger."""
_ALIGN: Final = 2 << 20
"""KASLR moves a kernel by multiples of this (CONFIG_PHYSICAL_ALIGN)."""
_KERNELGSBASE: Final = 3
"""Words from lstar to kernelgsbase in CPUX86State (target/i386/cpu.h of QEMU 2.9)."""
_GDT_PERCPU: Final = 27
"""GDT_ENTRY_PERCPU of a 32-bit kernel (arch/x86/include/asm/segment.h)."""
_STACKS: Final = (8192, 16384, 4096, 32768, 65536)
_LOAD_I386: Final = re.compile(rb"\x64?(?:\xa1|\x8b[\x05\x0d\x15\x1d\x25\x2d\x35\x3d])(....)", re.DOTALL)
_LOAD_X86_64: Final = re.compile(
    rb"\x65[\x48\x4c]\x8b(?:[\x04\x0c\x14\x1c\x24\x2c\x34\x3c]\x25|([\x05\x0d\x15\x1d\x25\x2d\x35\x3d]))(....)",
    re.DOTALL,
)


class Memory(Protocol):
    """Guest memory; a read that fails is None."""

    def word(self, cpu: Any, address: int, size: int = 0) -> int | None:
        """An unsigned integer of ``size`` bytes, a pointer's if 0."""

    def block(self, cpu: Any, address: int, size: int) -> bytes | None:
        """``size`` bytes, at most a page."""


def candidates(
    panda: Any, cpu: Any, memory: Memory, arch: str, symbols: Mapping[str, int], moved: int
) -> Iterator[Finder]:
    """The ways to the current task that the kernel's code shows, the likeliest first.

    Args:
        panda: A ``pandare.Panda``.
        cpu: Its CPU, at a system call's instruction.
        memory: Guest memory.
        arch: PANDA's name of the architecture.
        symbols: Link addresses of `FUNCTIONS`, as far as the kernel has them.
        moved: How far above them an aarch64 kernel runs.
    """
    if arch == "x86_64":
        return _x86_64(registers_of(panda, cpu).cast("Q"), cpu, memory, symbols)
    if arch == "i386":
        return _i386(
            panda.ffi.cast("CPUX86State *", cpu.env_ptr), registers_of(panda, cpu).cast("I"), cpu, memory, symbols
        )
    if arch == "arm":
        return _arm(panda.ffi.cast("CPUARMState *", cpu.env_ptr), cpu, memory, symbols)
    if arch == "aarch64":
        return _aarch64(panda.ffi.cast("CPUARMState *", cpu.env_ptr), cpu, memory, symbols, moved)
    return _mips(cpu, memory, symbols, ">" if arch in ("mips", "mips64") else "<", 8 if arch == "mips64" else 4)


def _at(memory: Memory, address: int, mask: int) -> Finder:
    """The task is what the word at a constant address points to: there is one CPU."""
    address &= mask
    return lambda cpu: memory.word(cpu, address)


def registers_of(panda: Any, cpu: Any) -> memoryview:
    """The CPU's state. pandare's header gives wrong places for what follows the vector registers (0.1.1.5)."""
    return memoryview(panda.ffi.buffer(panda.ffi.cast("char *", cpu.env_ptr), _STATE))


def entry_in(registers: memoryview, linked: int) -> int | None:
    """Which word is the register that holds the entry for system calls: linked there, and perhaps moved by KASLR."""
    places = (i for i, word in enumerate(registers) if word and not (word - linked) % _ALIGN)
    return next((i for i in places if abs(registers[i] - linked) < 1 << 30), None)


def _code(
    memory: Memory, cpu: Any, arch: str, symbols: Mapping[str, int], moved: int, pattern: re.Pattern[bytes]
) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Where each function of an architecture is, and the instructions in it that look like a pattern."""
    for function in FUNCTIONS[arch].split()[1:]:
        if function in symbols:
            address = symbols[function] + moved
            for match in pattern.finditer(memory.block(cpu, address, _CODE // 2) or b""):
                yield address, match


def _x86_64(registers: memoryview, cpu: Any, memory: Memory, symbols: Mapping[str, int]) -> Iterator[Finder]:
    linked = symbols.get("entry_SYSCALL_64", 0)
    at = entry_in(registers, linked)
    if at is None:
        return
    base = registers[at + _KERNELGSBASE]
    for address, match in _code(memory, cpu, "x86_64", symbols, registers[at] - linked, _LOAD_X86_64):
        (offset,) = struct.unpack("<i", match[2])
        yield _at(memory, base + offset + (address + match.end() if match[1] else 0), (1 << 64) - 1)


def _i386(env: Any, registers: memoryview, cpu: Any, memory: Memory, symbols: Mapping[str, int]) -> Iterator[Finder]:
    linked = symbols.get("entry_SYSENTER_32", 0)
    at = entry_in(registers, linked)
    moved = 0 if at is None else registers[at] - linked
    base = _percpu_base(env, cpu, memory)
    for _, match in _code(memory, cpu, "i386", symbols, moved, _LOAD_I386):
        (offset,) = struct.unpack("<I", match[1])  # as relocated; without a prefix, a variable of a kernel for one CPU
        yield _at(memory, offset + (base if match[0].startswith(b"\x64") else 0), (1 << 32) - 1)


def _percpu_base(env: Any, cpu: Any, memory: Memory) -> int:
    """Base of the segment that the kernel has in fs."""
    descriptor = memory.block(cpu, int(env.gdt.base) + 8 * _GDT_PERCPU, 8)
    if descriptor is None:
        return 0
    low, middle, high = struct.unpack("<2xHB2xB", descriptor)
    return int(low | middle << 16 | high << 24)


def _arm(env: Any, cpu: Any, memory: Memory, symbols: Mapping[str, int]) -> Iterator[Finder]:
    base, stack = int(env.cp15.tpidrprw_ns or env.cp15.tpidrprw_s), int(env.banked_r13[1])
    at = symbols.get("vector_swi", 0)
    code = memory.block(cpu, at, _CODE) if at else None
    words = struct.unpack(f"<{_CODE // 4}I", code) if code else ()
    for i, word in enumerate(words[:-4]):
        if word & 0xFFFF0FFF != 0xEE1D0F90:  # mrc p15, 0, Rx, c13, c0, 4: TPIDRPRW
            continue
        low, high = words[i + 1], words[i + 2]
        if low & 0xFFF00000 == 0xE3000000 and high & 0xFFF00000 == 0xE3400000:  # movw, movt
            offset = _immediate(high) << 16 | _immediate(low)
            yield _at(memory, base + offset, 0xFFFFFFFF)
        elif low & 0xFFFF0000 == 0xE59F0000:  # ldr Ry, [pc, #n]
            literal = memory.word(cpu, at + 4 * (i + 1) + 8 + (low & 0xFFF))
            yield _at(memory, base + (literal or 0), 0xFFFFFFFF)
    # struct thread_info of Linux 2.6 to 5.14: flags, preempt_count, addr_limit, task
    for size in _STACKS[:2]:
        yield lambda cpu, size=size: memory.word(cpu, (int(env.banked_r13[1]) & -size) + 12) if stack else None  # type: ignore[misc]


def _immediate(word: int) -> int:
    """The 16 bits that movw and movt carry."""
    return word >> 4 & 0xF000 | word & 0xFFF


def _aarch64(env: Any, cpu: Any, memory: Memory, symbols: Mapping[str, int], moved: int) -> Iterator[Finder]:
    base = int(env.cp15.tpidr_el[1])
    for function in FUNCTIONS["aarch64"].split()[1:]:
        at = symbols.get(function, 0) + moved
        code = memory.block(cpu, at, _CODE) if function in symbols else None
        words = struct.unpack(f"<{_CODE // 4}I", code) if code else ()
        for i, (page, add) in enumerate(pairwise(words)):
            if page & 0x9F000000 == 0x90000000 and add & 0xFFC00000 == 0x91000000:  # adrp, add
                pages = (page >> 5 & 0x7FFFF) << 2 | page >> 29 & 3
                pages -= (pages & 1 << 20) << 1
                place = (at + 4 * i & ~0xFFF) + (pages << 12) + (add >> 10 & 0xFFF)
                yield _at(memory, place + base, (1 << 64) - 1)


def _mips(cpu: Any, memory: Memory, symbols: Mapping[str, int], order: str, word_size: int) -> Iterator[Finder]:
    mask = (1 << 8 * word_size) - 1
    for function in ("handle_sys64", "handle_sys"):
        code = memory.block(cpu, symbols[function], _CODE) if function in symbols else None
        words = struct.unpack(f"{order}{_CODE // 4}I", code) if code else ()
        for i, word in enumerate(words):
            if word & 0xFFFF0000 != 0x3C1B0000:  # lui k1, %hi(kernelsp)
                continue
            load = next((w for w in words[i + 1 : i + 8] if w & 0xFFE00000 in (0x8F600000, 0xDF600000)), None)
            if load is None:  # lw or ld REG, %lo(kernelsp)(k1)
                continue
            high, low = struct.unpack(">hh", struct.pack(">HH", word & 0xFFFF, load & 0xFFFF))
            for size in _STACKS:
                yield _under(memory, ((high << 16) + low) & mask, size)


def _under(memory: Memory, pointer: int, size: int) -> Finder:
    """The task is the first member of the thread_info at the bottom of a stack, a pointer to which is at a constant."""

    def find(cpu: Any) -> int | None:
        stack = memory.word(cpu, pointer)
        return memory.word(cpu, stack & -size) if stack else None

    return find
