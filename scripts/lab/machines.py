"""What the lab knows about each guest architecture, as rows of one table.

The workloads demo and calls were seen to run to their end on each of them under PANDA 0.1.1.5 with syscalls2 and
Debian 12's 6.1 kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.store import LabError


@dataclass(frozen=True)
class Machine:
    """One guest architecture.

    Attributes:
        arch: PANDA's name of it, as in `libpanda-ARCH.so` and `Panda(arch=...)`.
        debian: Debian's name of it.
        kernel_package: Regular expression over Debian's package names; the newest that matches is taken.
        os_version: What `Panda(os_version=...)` takes, so that syscalls2 picks the system call table.
        console: The first serial port, as the guest names it; a guest's second one brings files out.
        second_serial: The second one, or None where the machine has a single port.
        options: QEMU's options for the machine and its CPU.
        memory: Guest memory, as QEMU writes it.
        compat: What `compilers` calls the 32-bit programs that its kernel runs too, if it does.
    """

    arch: str
    debian: str
    kernel_package: str
    os_version: str
    console: str
    second_serial: str | None
    options: tuple[str, ...] = ()
    memory: str = "256M"
    compat: str | None = None


TABLE = {
    row.arch: row
    for row in (
        Machine(
            arch="x86_64",
            debian="amd64",
            kernel_package=r"linux-image-6\.1\.0-[0-9]+-cloud-amd64-unsigned",
            os_version="linux-64-generic",
            console="ttyS0",
            second_serial="ttyS1",
            compat="i386",
        ),
        Machine(
            arch="i386",
            debian="i386",
            kernel_package=r"linux-image-6\.1\.0-[0-9]+-686-unsigned",
            os_version="linux-32-generic",
            console="ttyS0",
            second_serial="ttyS1",
        ),
        Machine(
            arch="arm",
            debian="armhf",
            kernel_package=r"linux-image-6\.1\.0-[0-9]+-armmp",
            os_version="linux-32-generic",
            console="ttyAMA0",
            second_serial=None,
            options=("-M", "virt"),
        ),
        Machine(
            arch="aarch64",
            debian="arm64",
            kernel_package=r"linux-image-6\.1\.0-[0-9]+-cloud-arm64-unsigned",
            os_version="linux-64-generic",
            console="ttyAMA0",
            second_serial=None,
            options=("-M", "virt", "-cpu", "cortex-a57"),
            compat="arm",
        ),
        Machine(
            arch="mipsel",
            debian="mipsel",
            kernel_package=r"linux-image-6\.1\.0-[0-9]+-4kc-malta",
            os_version="linux-32-generic",
            console="ttyS0",
            second_serial="ttyS1",
            options=("-M", "malta"),
        ),
    )
}
BARE = {
    row.arch: row
    for row in (
        # Debian 12 has no kernel for it.
        Machine(
            arch="mips",
            debian="mips",
            kernel_package="",
            os_version="linux-32-generic",
            console="ttyS0",
            second_serial=None,
            options=("-M", "malta"),
        ),
    )
}
"""Those that run a program of ours in place of a kernel."""


def machine(arch: str) -> Machine:
    """The row of `arch`.

    Raises:
        LabError: the lab has no such row.
    """
    known = {**TABLE, **BARE}
    if arch not in known:
        raise LabError(f"unknown architecture {arch!r}: the lab knows {', '.join(known)}")
    return known[arch]
