"""The ABIs that have tables: one row each.

The kernel symbols are those that choose between prototypes in include/linux/syscalls.h; the files that select them for
an architecture are arch/*/Kconfig and arch/*/include/asm/unistd.h (Linux 6.1). CONFIG_ARCH_SPLIT_ARG64 is nobody's
here: with it the header would split a 64-bit argument, which the process stage does by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Abi:
    """One row.

    Attributes:
        name: Name of the ABI and of its files.
        package: Debian package with its UAPI headers.
        include: Folders of that package to search for headers, in order.
        bits: BITS_PER_LONG.
        config: Kernel symbols that choose between prototypes.
        unistd: Header of the syscall numbers.
        table: The kernel's table of entry points; empty where the entry points stand in `unistd` itself.
        defines: Macros of the compiler, as far as the headers ask for them.
        base: What the headers add to the numbers although it is not in the register.
        errno: Header of the errnos.
    """

    name: str
    package: str
    include: tuple[str, ...]
    bits: int
    config: frozenset[str]
    unistd: str = "asm/unistd.h"
    table: str = ""
    defines: Mapping[str, str] = field(default_factory=dict)
    base: int = 0
    errno: str = "asm/errno.h"

    @property
    def narrow(self) -> bool:
        """Whether a register has 4 bytes; those of n32 have 8."""
        return self.bits == 32 and self.name != "mips-n32"


X86 = "linux-libc-dev", ("usr/include/x86_64-linux-gnu", "usr/include")
X86_64_TABLE = "arch/x86/entry/syscalls/syscall_64.tbl"
I386_TABLE = "arch/x86/entry/syscalls/syscall_32.tbl"
UTIME = frozenset({"__ARCH_WANT_SYS_UTIME"})
BACKWARDS = frozenset({"CONFIG_CLONE_BACKWARDS"})
# Calls that only 32-bit ABIs have. OLD_SIGSUSPEND3 has two arguments before the mask.
OLD = frozenset({"__ARCH_WANT_STAT64", "CONFIG_HAVE_UID16", "CONFIG_OLD_SIGACTION", "__ARCH_WANT_SYS_OLD_GETRLIMIT"})
SUSPEND, SUSPEND3 = frozenset({"CONFIG_OLD_SIGSUSPEND"}), frozenset({"CONFIG_OLD_SIGSUSPEND3"})
ODD = frozenset({"CONFIG_ODD_RT_SIGACTION"})


def _cross(architecture: str, triplet: str) -> tuple[str, tuple[str, ...]]:
    return f"linux-libc-dev-{architecture}-cross", (f"usr/{triplet}/include",)


def _mips(name: str, bits: int, sim: str, config: frozenset[str]) -> Abi:
    """A MIPS ABI. The numbers are the same in both byte orders: so are the headers."""
    sizes = {"_MIPS_SIM": sim, "_MIPS_SZLONG": str(bits)}  # asm/sgidefs.h: _MIPS_SIM_ABI32 is 1, NABI32 2, ABI64 3
    table = f"arch/mips/kernel/syscalls/syscall_{name.removeprefix('mips-')}.tbl"
    return Abi(name, *_cross("mips", "mips-linux-gnu"), bits, config | BACKWARDS, table=table, defines=sizes)


ARM, ARM_TABLE = _cross("armhf", "arm-linux-gnueabihf"), "arch/arm/tools/syscall.tbl"
RISCV = _cross("riscv64", "riscv64-linux-gnu")
POWERPC, POWERPC_TABLE = _cross("powerpc", "powerpc-linux-gnu"), "arch/powerpc/kernel/syscalls/syscall.tbl"
S390, S390_TABLE = _cross("s390x", "s390x-linux-gnu"), "arch/s390/kernel/syscalls/syscall.tbl"
SPARC, SPARC_TABLE = _cross("sparc64", "sparc64-linux-gnu"), "arch/sparc/kernel/syscalls/syscall.tbl"
BACKWARDS2 = frozenset({"CONFIG_CLONE_BACKWARDS2"})  # s390: the prototype is in supplement.tsv

ROWS = (
    Abi("x86_64", *X86, 64, UTIME, unistd="asm/unistd_64.h", table=X86_64_TABLE),
    Abi("x32", *X86, 64, UTIME, table=X86_64_TABLE, defines={"__x86_64__": "1", "__ILP32__": "1"}),
    Abi("i386", *X86, 32, OLD | SUSPEND3 | BACKWARDS, table=I386_TABLE, defines={"__i386__": "1"}),
    Abi("arm", *ARM, 32, OLD | SUSPEND3 | BACKWARDS, table=ARM_TABLE, defines={"__ARM_EABI__": "1"}),
    # Its numbers are part of the instruction, with a base that the kernel takes away.
    Abi("arm-oabi", *ARM, 32, OLD | SUSPEND3 | BACKWARDS, table=ARM_TABLE, base=0x900000),
    Abi("aarch64", *_cross("arm64", "aarch64-linux-gnu"), 64, BACKWARDS),
    _mips("mips-o32", 32, "1", OLD | SUSPEND),
    _mips("mips-n32", 32, "2", OLD | UTIME),
    _mips("mips-n64", 64, "3", UTIME),
    Abi("powerpc", *POWERPC, 32, OLD | SUSPEND | BACKWARDS, table=POWERPC_TABLE),
    Abi("powerpc64", *POWERPC, 64, UTIME | BACKWARDS, table=POWERPC_TABLE, defines={"__powerpc64__": "1"}),
    Abi("riscv32", *RISCV, 32, BACKWARDS, defines={"__SIZEOF_POINTER__": "4"}),
    Abi("riscv64", *RISCV, 64, BACKWARDS, defines={"__SIZEOF_POINTER__": "8", "__LP64__": "1"}),
    Abi("s390", *S390, 32, OLD | SUSPEND3 | BACKWARDS2, table=S390_TABLE),
    Abi("s390x", *S390, 64, UTIME | SUSPEND3 | BACKWARDS2, table=S390_TABLE, defines={"__s390x__": "1"}),
    Abi("sparc", *SPARC, 32, OLD | SUSPEND | ODD, table=SPARC_TABLE),
    Abi("sparc64", *SPARC, 64, OLD | UTIME | ODD, table=SPARC_TABLE, defines={"__sparc__": "1", "__arch64__": "1"}),
    # Debian 12 has no package for it: the table that riscv64 has, with what arch/loongarch/include/uapi/asm/unistd.h
    # (Linux 6.1.192) defines before it includes this table.
    Abi(
        "loongarch64",
        *RISCV,
        64,
        frozenset(),
        unistd="asm-generic/unistd.h",
        defines={"__SIZEOF_POINTER__": "8", "__ARCH_WANT_NEW_STAT": "1", "__ARCH_WANT_SYS_CLONE3": "1"},
        errno="asm-generic/errno.h",
    ),
)
