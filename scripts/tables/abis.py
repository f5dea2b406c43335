"""The ABIs that have tables: one row each, and nothing else to do for a new one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Abi:
    """One row.

    Attributes:
        name: Name of the ABI and of its files.
        package: Debian package with its UAPI headers.
        include: Folders of that package to search for headers, in order.
        unistd: Header of the syscall numbers.
        errno: Header of the errnos.
        bits: BITS_PER_LONG.
        config: Kernel symbols that choose between prototypes in
            include/linux/syscalls.h (CONFIG_CLONE_BACKWARDS and the like).
    """

    name: str
    package: str
    include: tuple[str, ...]
    unistd: str
    errno: str
    bits: int
    config: frozenset[str]


ROWS = (
    Abi(
        name="x86_64",
        package="linux-libc-dev",
        include=("usr/include/x86_64-linux-gnu", "usr/include"),
        unistd="asm/unistd_64.h",
        errno="asm/errno.h",
        bits=64,
        config=frozenset({"__ARCH_WANT_SYS_UTIME"}),  # arch/x86/include/asm/unistd.h
    ),
)
