"""What the CPU holds when a call is made or has come back: views of PANDA's CPU state, made once.

They are read from the CPU, not from syscalls2's context: the kernel keeps the argument registers over a call, while
what syscalls2 (PANDA 0.1.1.5) makes of them is wrong for register pairs, and its context of a call may be another
thread's that waits at the same instruction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from capture.abi import Abi
from capture.memory import GuestMemory
from capture.mips_pages import MipsPages
from capture.tracer import Args

Words = memoryview
"""The array of registers, as they are at any moment."""


def words_of(panda: Any, abi: Abi, cpu: Any) -> Words:
    """The CPU's registers."""
    registers = panda.ffi.cast(abi.state, cpu.env_ptr)
    for name in abi.registers:
        registers = getattr(registers, name)
    return memoryview(panda.ffi.buffer(registers)).cast("Q" if abi.word_size == 8 else "I")


def space_of(panda: Any, abi: Abi, cpu: Any) -> memoryview:
    """The register that tells address spaces apart, as a view of one element."""
    ffi, state = panda.ffi, panda.ffi.cast(abi.state, cpu.env_ptr)
    *outer, last = abi.space.path
    for name in outer:
        state = getattr(state, name)
    cell, at = ffi.addressof(state, last), 0
    kind = ffi.typeof(cell).item
    if kind.kind == "array":
        kind, at = kind.item, abi.space.index
    size = ffi.sizeof(kind)
    return memoryview(ffi.buffer(ffi.cast("char *", cell) + at * size, size)).cast("Q" if size == 8 else "I")


class Tables:
    """Stands in for `space_of` where the kernel's page tables are known, which do not move: element 0."""

    def __init__(self, pages: MipsPages, cpu: Any) -> None:
        self._pages, self._cpu = pages, cpu

    def __getitem__(self, index: int) -> int:
        """The address of the current table."""
        return self._pages.table(self._cpu)


def tables_of(panda: Any, abi: Abi, memory: GuestMemory, cpu: Any) -> Tables | None:
    """The guest's page tables, if the kernel's handler is where it should be and understood."""
    if not isinstance(memory.pages, MipsPages) or abi.refill_handler is None:
        return None
    base = getattr(panda.ffi.cast(abi.state, cpu.env_ptr), abi.refill_handler)
    return Tables(memory.pages, cpu) if memory.pages.find(cpu, base & 0xFFFFF000) else None


def arguments_of(abi: Abi, memory: GuestMemory, cpu: Callable[[], Any]) -> Callable[[Words], Args]:
    """A function that gives the six arguments of the call that the CPU is at.

    Args:
        abi: Where they are.
        memory: The guest's memory, for those on the stack.
        cpu: Gives PANDA's CPU.
    """
    if abi.stack is None:
        plain: Callable[[Words], Args] = itemgetter(*abi.args)
        return plain
    first, number, stack, long_calls = abi.args, abi.number, abi.stack, abi.long_calls
    rest = struct.Struct(f"{'>' if abi.big_endian else '<'}{8 - len(first)}I")
    nothing, offset = bytes(rest.size), len(first) * abi.word_size

    def on_the_stack(words: Words) -> Args:
        a0, a1, a2, a3 = (words[index] for index in first)
        data = memory.block(cpu(), (words[stack] + offset) & 0xFFFFFFFF, rest.size)
        a4, a5, a6, a7 = rest.unpack(nothing if data is None else data)
        if words[number] in long_calls:
            a0, a1 = a0 | a6 << 32, a1 | a7 << 32
        return a0, a1, a2, a3, a4, a5

    return on_the_stack
