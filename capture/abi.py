"""Where an ABI keeps what a syscall is: PANDA's CPU state, and the registers in it.

Which calls an ABI has, and which of them need more than one look, is in `calls.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Space:
    """Where the CPU keeps the address space that is current.

    Attributes:
        path: Fields from the CPU state to it, outermost first.
        index: Which element, if that is an array.
        mask: The bits that tell address spaces apart.
        moves: Whether the kernel may give an address space another number at any time.
    """

    path: tuple[str, ...]
    index: int
    mask: int
    moves: bool = False


@dataclass(frozen=True)
class Abi:
    """One ABI of the guest.

    Attributes:
        name: As in the tables and in segment headers.
        panda_arch: PANDA's name of the machine.
        word_size: Bytes of a register, of a pointer, and of an element of PANDA's array of registers.
        big_endian: Byte order of the guest.
        user_limit: The first address that no process may pass to the kernel (TASK_SIZE_MAX).
        state: cffi's type of the CPU state.
        registers: Fields from the CPU state to the array of registers, outermost first.
        number: Index of the syscall's number.
        args: Index of each argument that is in a register.
        ret: Index of the return value.
        space: The address space.
        error: Index of the register that says, not 0, that ``ret`` is an errno; None: errors are negative.
        stack: Index of the stack pointer if the arguments after those in ``args`` are on the user's stack, each as
            far from it as if all were there; None: ``args`` are all.
        long_calls: Calls of seven or eight words. Only there the stack's last two are arguments.
        refill_handler: Field of the CPU state that says where mips' TLB refill handler is; None: there is no need.
        sixth_at: Index of the register that points to the sixth argument when the C library has entered by way of
            the vDSO's ``sysenter``; None: there is no such way.
    """

    name: str
    panda_arch: str
    word_size: int
    big_endian: bool
    user_limit: int
    state: str
    registers: tuple[str, ...]
    number: int
    args: tuple[int, ...]
    ret: int
    space: Space
    error: int | None = None
    stack: int | None = None
    long_calls: frozenset[int] = field(default=frozenset())
    refill_handler: str | None = None
    sixth_at: int | None = None


X86_64 = Abi(
    name="x86_64",
    panda_arch="x86_64",
    word_size=8,
    big_endian=False,
    user_limit=0x7FFFFFFFF000,  # arch/x86/include/asm/page_64.h, four-level paging
    state="CPUX86State *",
    registers=("regs",),
    number=0,
    args=(7, 6, 2, 10, 8, 9),  # rdi rsi rdx r10 r8 r9 in QEMU's order of regs (target/i386/cpu.h)
    ret=0,
    space=Space(("cr",), 3, (1 << 64) - 1),
)
I386 = Abi(
    name="i386",
    panda_arch="i386",
    word_size=4,
    big_endian=False,
    user_limit=0xC0000000,  # CONFIG_PAGE_OFFSET of a 3 GiB/1 GiB split, every distribution's
    state="CPUX86State *",
    registers=("regs",),
    number=0,
    args=(3, 1, 2, 6, 7, 5),  # ebx ecx edx esi edi ebp
    ret=0,
    space=Space(("cr",), 3, (1 << 32) - 1),
    sixth_at=5,  # arch/x86/entry/vdso/vdso32/system_call.S: ebp is pushed, then ebp points there
)
ARM = Abi(
    name="arm",
    panda_arch="arm",
    word_size=4,
    big_endian=False,
    user_limit=0xC0000000,
    state="CPUARMState *",
    registers=("regs",),
    number=7,
    args=(0, 1, 2, 3, 4, 5),
    ret=0,
    space=Space(("cp15", "ttbr0_el"), 1, 0xFFFFC000),  # below bit 14: attributes of the table (short descriptors)
)
AARCH64 = Abi(
    name="aarch64",
    panda_arch="aarch64",
    word_size=8,
    big_endian=False,
    user_limit=1 << 48,
    state="CPUARMState *",
    registers=("xregs",),
    number=8,
    args=(0, 1, 2, 3, 4, 5),
    ret=0,
    # PANDA 0.1.1.5 gives 0 for every address space here. Bit 0 is CnP; above bit 47 is the ASID, which is reassigned.
    space=Space(("cp15", "ttbr0_el"), 1, 0x0000FFFFFFFFFFFE),
)
_O32_LONG = frozenset({4000, 4254, 4305})
"""syscall, fadvise64_64 and sync_file_range (arch/mips/kernel/syscalls/syscall_o32.tbl): register pairs and a hole."""


def _mips(name: str, panda_arch: str, word_size: int, big_endian: bool) -> Abi:
    """The three MIPS ABIs pass the number in v0 and the rest from a0 on; o32 has four of these, the others eight."""
    o32 = word_size == 4
    return Abi(
        name=name,
        panda_arch=panda_arch,
        word_size=word_size,
        big_endian=big_endian,
        user_limit=0x7FFF8000 if o32 else 1 << 40,  # arch/mips/include/asm/processor.h, TASK_SIZE32 and TASK_SIZE64
        state="CPUMIPSState *",
        registers=("active_tc", "gpr"),
        number=2,
        args=(4, 5, 6, 7) if o32 else (4, 5, 6, 7, 8, 9),
        ret=2,
        # Eight bits that the kernel gives out anew, after a fork for one (arch/mips/mm: drop_mmu_context).
        space=Space(("CP0_EntryHi",), 0, 0xFF, moves=True),
        error=7,
        stack=29 if o32 else None,
        refill_handler="CP0_EBase" if o32 else None,
        long_calls=_O32_LONG if o32 else frozenset(),
    )


ABIS: Mapping[str, Abi] = MappingProxyType(
    {
        abi.panda_arch: abi
        for abi in (
            X86_64,
            I386,
            ARM,
            AARCH64,
            _mips("mips-o32", "mipsel", 4, big_endian=False),
            _mips("mips-o32", "mips", 4, big_endian=True),
            _mips("mips-n64", "mips64", 8, big_endian=True),
        )
    }
)
"""By PANDA's name of the machine: the ABI of its native programs."""


@dataclass(frozen=True)
class Other:
    """The ABI of the 32-bit programs that a 64-bit kernel runs too.

    Attributes:
        name: As in the tables.
        user_limit: As in `Abi`.
    """

    name: str
    user_limit: int


COMPAT: Mapping[str, Other] = MappingProxyType(
    {
        "x86_64": Other("i386", 0xFFFFE000),  # IA32_PAGE_OFFSET, arch/x86/include/asm/page_64_types.h
        "aarch64": Other("arm", 1 << 32),  # TASK_SIZE_32, arch/arm64/include/asm/processor.h
    }
)
"""By the name of the native ABI."""
