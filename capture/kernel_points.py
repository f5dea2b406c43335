"""Where in a running kernel a call begins and ends: addresses to hook, proven by the kernel's own code.

    x86_64   entry_SYSCALL_64 calls do_syscall_64(regs, number), which calls syscall_exit_to_user_mode(regs) when the
             call is done (Linux 5.8 and later): ``regs`` is the struct pt_regs of the program
    aarch64  el0_svc(regs) calls do_el0_svc(regs), and that el0_svc_common(regs, number, count, table); what follows the
             former is where the call is done; 32-bit programs' calls come to the latter also, with another table

Signals are not looked at yet there: the registers are still those of the call, and a result that stands for a call to
be made again (ERESTARTSYS) is still to be seen. Each task has one struct pt_regs, at the top of its kernel stack.
A new task begins in ret_from_fork with its stack pointer at it, one that ends goes through do_exit.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from capture.current import entry_in, registers_of
from capture.memory import GuestMemory

__all__ = ["LAYOUTS", "Layout", "Points", "find_points", "missing"]

_CODE: Final = 512
"""Bytes of a function that are looked at."""
_TABLE_REGISTER: Final = 3
_STAR: Final = 0x00230010
"""Upper half of MSR STAR as Linux sets it: __USER32_CS and __KERNEL_CS."""


@dataclass(frozen=True)
class Layout:
    """An architecture's struct pt_regs, and the registers of its CPU as PANDA numbers them.

    Attributes:
        at: Bytes from its beginning to the first that are read.
        words: What is read.
        args: Which of these words are the six arguments once the call is done.
        first_args: The same where it begins.
        ret: Which is the result.
        number: Which is the syscall's number, of 32 bits; all ones if no call is done.
        pc: Which is the address to which the call comes back.
        stack: The CPU's stack pointer.
        thread: The CPU's register that is not 0 in ret_from_fork in a thread of the kernel.
    """

    at: int
    words: struct.Struct
    args: tuple[int, int, int, int, int, int]
    first_args: tuple[int, int, int, int, int, int]
    ret: int
    number: int
    pc: int
    stack: int
    thread: int


LAYOUTS: Final = {
    # arch/x86/include/asm/ptrace.h, from r10 to ip: r10 r9 r8 ax cx dx si di orig_ax ip
    "x86_64": Layout(56, struct.Struct("<10Q"), (7, 6, 5, 0, 2, 1), (7, 6, 5, 0, 2, 1), 3, 8, 9, stack=4, thread=3),
    # arch/arm64/include/asm/ptrace.h: x0 to x5, pc, orig_x0, syscallno
    "aarch64": Layout(
        0, struct.Struct("<6Q208xQ8xQi"), (7, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5), 0, 8, 6, stack=31, thread=19
    ),
}
"""By the name of the ABI."""


@dataclass(frozen=True)
class Points:
    """Addresses in the running kernel, and the CPU's registers that matter there.

    Attributes:
        begin: A call begins.
        begin_regs: The register that points to the struct pt_regs there.
        begin_number: The register that has the number there, in its lower 32 bits.
        end: A call is done.
        end_regs: As ``begin_regs``.
        birth: A new task runs for the first time.
        death: A task ends.
        table: A register and what it holds where a call of the kernel's own ABI begins; None if no other begins there.
    """

    begin: int
    begin_regs: int
    begin_number: int
    end: int
    end_regs: int
    birth: int
    death: int
    table: tuple[int, int] | None = None


_NEEDED: Final = {
    "x86_64": ("entry_SYSCALL_64", "do_syscall_64", "syscall_exit_to_user_mode", "do_exit"),
    "aarch64": ("vectors", "el0_svc", "do_el0_svc", "el0_svc_common", "do_exit"),
}
_BIRTHS: Final = ("ret_from_fork_asm", "ret_from_fork")  # the former since Linux 6.5, where the latter is called by it


def missing(abi: str, symbols: Mapping[str, int]) -> str | None:
    """Why a kernel with these symbols cannot be hooked, or None if it may be."""
    if abi not in LAYOUTS:
        return f"not made for {abi}"
    absent = [name for name in _NEEDED[abi] if name not in symbols]
    if not any(name in symbols for name in _BIRTHS):
        absent.append(_BIRTHS[-1])
    return f"the profile has no {', '.join(absent)}" if absent else None


def find_points(panda: Any, abi: str, cpu: Any, memory: GuestMemory, symbols: Mapping[str, int]) -> Points | str | None:
    """Where to hook the kernel that runs.

    Args:
        panda: A ``pandare.Panda``.
        abi: The name of the guest's ABI, one of `LAYOUTS`.
        cpu: PANDA's CPU.
        memory: The guest's memory.
        symbols: Of which `missing` finds none missing.

    Returns:
        The points; a reason why there are none; or None: the kernel has not set up the CPU, or cannot be read now.
    """
    return (_on_x86_64 if abi == "x86_64" else _on_aarch64)(panda, cpu, memory, symbols)


def _on_x86_64(panda: Any, cpu: Any, memory: GuestMemory, symbols: Mapping[str, int]) -> Points | str | None:
    registers = registers_of(panda, cpu).cast("Q")
    at = entry_in(registers, symbols["entry_SYSCALL_64"])
    if at is None:
        return "the profile does not fit the kernel" if any(word >> 32 == _STAR for word in registers) else None
    moved = registers[at] - symbols["entry_SYSCALL_64"]
    begin, end = symbols["do_syscall_64"] + moved, symbols["syscall_exit_to_user_mode"] + moved
    entry, body = memory.block(cpu, registers[at], _CODE), memory.block(cpu, begin, _CODE // 2)
    if entry is None or body is None:
        return None
    if not _reaches_x86(entry, registers[at], begin) or not _reaches_x86(body, begin, end):
        return "the kernel's code is not what the profile says"
    birth = next(symbols[name] for name in _BIRTHS if name in symbols)
    return Points(begin, 7, 6, end, 7, birth + moved, symbols["do_exit"] + moved)


def _reaches_x86(code: bytes, address: int, target: int) -> bool:
    """Whether one of the bytes may begin a call of, or a jump to, the target."""
    relative = struct.Struct("<i")
    return any(
        address + i + 5 + relative.unpack_from(code, i + 1)[0] == target
        for i in range(len(code) - 4)
        if code[i] in (0xE8, 0xE9)
    )


def _on_aarch64(panda: Any, cpu: Any, memory: GuestMemory, symbols: Mapping[str, int]) -> Points | str | None:
    vectors = int(panda.ffi.cast("CPUARMState *", cpu.env_ptr).cp15.vbar_el[1])
    moved = vectors - symbols["vectors"]
    if moved % 4096:  # there are earlier vectors than the kernel's own, or the profile does not fit
        return None
    at, target = symbols["el0_svc"] + moved, symbols["do_el0_svc"] + moved
    code, body = memory.block(cpu, at, _CODE), memory.block(cpu, target, _CODE // 4)
    if code is None or body is None:
        return None
    table = _table_aarch64(struct.unpack(f"<{_CODE // 16}I", body), target)
    words = struct.unpack(f"<{_CODE // 4}I", code)
    for i in range(1, len(words) if table else 0):
        offset = (words[i] & 0x3FFFFFF) - ((words[i] & 0x2000000) << 1)
        # mov x0, xN; bl do_el0_svc
        if words[i] >> 26 == 0x25 and at + 4 * (i + offset) == target and words[i - 1] & 0xFFE0FFFF == 0xAA0003E0:
            birth = next(symbols[name] for name in _BIRTHS if name in symbols)
            begin, death = symbols["el0_svc_common"] + moved, symbols["do_exit"] + moved
            end_regs = words[i - 1] >> 16 & 31
            return Points(begin, 0, 1, at + 4 * (i + 1), end_regs, birth + moved, death, (_TABLE_REGISTER, table))
    return "the kernel's code is not what the profile says"


def _table_aarch64(words: tuple[int, ...], address: int) -> int:
    """The address that code puts into the fourth argument, by adrp and add; 0 if it does not."""
    pages: dict[int, int] = {}
    for i, word in enumerate(words):
        if word & 0x9F000000 == 0x90000000:
            page = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
            pages[word & 31] = (address + 4 * i & ~0xFFF) + ((page - ((page & 1 << 20) << 1)) << 12)
        elif word & 0xFFC0001F == 0x91000000 | _TABLE_REGISTER and word >> 5 & 31 in pages:
            return pages[word >> 5 & 31] + (word >> 10 & 0xFFF)
    return 0
