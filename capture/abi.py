"""Where an ABI keeps what a syscall is: PANDA's CPU state and the registers in it.

Which calls an ABI has, and which of them need more than one look, is in `calls.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Abi:
    """One ABI of the guest.

    Attributes:
        name: As in the tables and in segment headers.
        panda_arch: PANDA's name of the machine.
        word_size: Bytes of a register.
        big_endian: Byte order of the guest.
        user_limit: The first address that no process may pass to the kernel (TASK_SIZE_MAX).
        registers: cffi's type of the CPU state that holds ``regs``.
        args: Index in ``regs`` of the six arguments.
        ret: Index in ``regs`` of the return value.
    """

    name: str
    panda_arch: str
    word_size: int
    big_endian: bool
    user_limit: int
    registers: str
    args: tuple[int, int, int, int, int, int]
    ret: int


X86_64 = Abi(
    name="x86_64",
    panda_arch="x86_64",
    word_size=8,
    big_endian=False,
    user_limit=0x7FFFFFFFF000,  # arch/x86/include/asm/page_64.h, four-level paging
    registers="CPUX86State *",
    args=(7, 6, 2, 10, 8, 9),  # rdi rsi rdx r10 r8 r9 in QEMU's order of regs (target/i386/cpu.h)
    ret=0,
)

ABIS = {abi.panda_arch: abi for abi in (X86_64,)}
"""By PANDA's name of the machine: the ABI of its native programs."""
