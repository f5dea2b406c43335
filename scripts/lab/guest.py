"""Guests: a kernel out of its Debian package, and one initramfs per workload, made in code.

They are `guest/ARCH/vmlinuz` and `guest/ARCH/WORKLOAD.cpio.gz` in the cache; busybox lies beside them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import compilers, cpio, debian, machines, store, tools, workloads
from lab.machines import Machine
from lab.store import LabError
from lab.workloads import Workload

EXAMPLE = "example: scripts/lab-guest --workload demo --workload calls"
# The initramfs depends on these too: the archive's writer and its layout.
BUILDERS = tuple(
    Path(str(file)) for file in (cpio.__file__, compilers.__file__, tools.__file__, workloads.__file__, __file__)
)
BARE = workloads.SOURCES / "bare_mips.c"


@dataclass(frozen=True)
class Guest:
    """All that it takes to boot one workload.

    Attributes:
        machine: The row of its architecture.
        kernel: The kernel image.
        initrd: The initramfs.
        append: The kernel command line.
    """

    machine: Machine
    kernel: Path
    initrd: Path
    append: str

    def options(self, *serial: Path) -> list[str]:
        """QEMU's options; the guest's serial ports go to the files `serial`, console first."""
        boot = ["-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", self.append]
        ports = [word for path in serial for word in ("-serial", f"file:{path}")]
        # With -no-reboot a panic (panic=-1 reboots at once) ends the run instead of booting for ever.
        return [*self.machine.options, *boot, "-display", "none", "-no-reboot", *ports]


def folder(arch: str) -> Path:
    """Where the guests of `arch` are kept."""
    return store.cache() / "guest" / arch


def guest(arch: str, name: str, append: str = "") -> Guest:
    """The guest that runs the workload `name` on `arch`, made ready if it is not.

    Args:
        arch: PANDA's name of the architecture.
        name: The workload.
        append: More for the kernel command line; what the kernel does not know (`count=500`) becomes a
            variable of /init.

    Raises:
        LabError: it cannot be made ready: no such row, no apt, no network.
    """
    row, job = machines.machine(arch), workloads.workload(name)
    if not is_ready(row, job):
        prepare(row, [job])
    return Guest(
        machine=row,
        kernel=folder(arch) / "vmlinuz",
        initrd=_initrd(row, job),
        # nokaslr: the addresses in System.map hold. panic=-1: see Guest.options. cryptomgr.notests: testing the
        # kernel's ciphers takes half of i386's boot.
        append=f"console={row.console} nokaslr panic=-1 quiet cryptomgr.notests {append}".rstrip(),
    )


def bare(arch: str) -> Path:
    """The program that runs on `arch` in place of a kernel, made ready if it is not.

    Raises:
        LabError: there is none for `arch`, or no compiler.
    """
    if arch not in machines.BARE:
        raise LabError(f"no program runs without a kernel on {arch}; one does on {', '.join(machines.BARE)}")
    target = folder(arch) / "bare"
    with store.locked("guest"):
        sources = (BARE, Path(compilers.__file__))
        if not target.exists() or any(path.stat().st_mtime_ns >= target.stat().st_mtime_ns for path in sources):
            store.put(target, compilers.compiled(BARE, f"{arch}-bare"))
    return target


def is_ready(row: Machine, job: Workload) -> bool:
    """Whether the kernel is there, and the initramfs is newer than all it was made from."""
    kernel, busybox, initrd = folder(row.arch) / "vmlinuz", folder(row.arch) / "busybox", _initrd(row, job)
    if not (kernel.exists() and busybox.exists() and initrd.exists()):
        return False
    if not all((folder(row.arch) / tool.name).exists() for tool in job.tools):
        return False
    made = initrd.stat().st_mtime_ns
    headers = workloads.SOURCES.glob("*.h") if job.programs else ()
    sources = (busybox, job.init, *job.programs, *job.compat, *headers, *BUILDERS)
    return all(source.stat().st_mtime_ns < made for source in sources)


def prepare(row: Machine, jobs: Sequence[Workload]) -> None:
    """Make the kernel and the initramfs of each of `jobs`; what is ready stays as it is."""
    for job in jobs:
        if job.arches and row.arch not in job.arches:
            names = " and ".join(other.name for other in workloads.for_machine(row.arch))
            raise LabError(f"{job.name} is written for {' and '.join(job.arches)}; {row.arch} guests can run {names}")
    with store.locked("guest"):
        _fetch_kernel(row)
        _fetch_busybox(row)
        for tool in {tool for job in jobs for tool in job.tools}:
            tools.fetch(tool, row.debian, folder(row.arch) / tool.name)
        for job in jobs:
            if not is_ready(row, job):
                store.put(_initrd(row, job), cpio.compressed(_members(row, job)))


def _initrd(row: Machine, job: Workload) -> Path:
    return folder(row.arch) / f"{job.name}.cpio.gz"


def _fetch_kernel(row: Machine) -> None:
    target = folder(row.arch) / "vmlinuz"
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=store.cache()) as scratch:
        package = debian.download(row.kernel_package, row.debian, Path(scratch))
        debian.unpack(package, Path(scratch))
        # mipsel's package has vmlinux in place of vmlinuz. System.map is not kept: Debian's is a stub.
        images = sorted(Path(scratch, "boot").glob("vmlinu[xz]-*"))
        if not images:
            raise LabError(f"{package.name} holds no /boot/vmlinuz-* or vmlinux-*")
        store.put(target, images[-1].read_bytes())


def _fetch_busybox(row: Machine) -> None:
    target = folder(row.arch) / "busybox"
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=store.cache()) as scratch:
        debian.unpack(debian.download("busybox-static", row.debian, Path(scratch)), Path(scratch))
        # Debian 12 has it in /bin, Debian 13 in /usr/bin.
        places = (Path(scratch, "bin/busybox"), Path(scratch, "usr/bin/busybox"))
        binary = next(path for path in places if path.exists())
        store.put(target, binary.read_bytes())


def _members(row: Machine, job: Workload) -> list[cpio.Entry]:
    """The initramfs of `job`. /init finds busybox and little else: it mounts and installs what it needs."""
    busybox = (folder(row.arch) / "busybox").read_bytes()
    return [
        *(cpio.folder(name) for name in ("dev", "proc", "sys", "tmp", "bin", "etc")),
        # The kernel opens /dev/console for init before init can mount devtmpfs.
        cpio.character_device("dev/console", 5, 1),
        cpio.character_device("dev/null", 1, 3, 0o666),
        cpio.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        cpio.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
        cpio.file("bin/busybox", busybox, 0o755),
        cpio.symlink("bin/sh", "busybox"),
        cpio.file("init", job.init.read_bytes(), 0o755),
        *(cpio.file(source.stem, compilers.compiled(source, row.arch), 0o755) for source in job.programs),
        *(entry for tool in job.tools for entry in tools.members(folder(row.arch) / tool.name)),
        *(cpio.file(source.stem, _compat(row, source), 0o755) for source in job.compat),
    ]


def _compat(row: Machine, source: Path) -> bytes:
    """`source` as a static 32-bit program for a 64-bit kernel."""
    if row.compat is None:
        raise LabError(f"{source.name} is for 64-bit kernels that run 32-bit programs; {row.arch}'s does not")
    return compilers.compiled(source, row.compat)


def main(words: Sequence[str] | None = None) -> int:
    """The command line of scripts/lab-guest."""
    parser = argparse.ArgumentParser(prog="lab-guest", description=__doc__.splitlines()[0], epilog=EXAMPLE)
    parser.add_argument("--arch", default="x86_64", choices=machines.TABLE, help="the guest's (x86_64)")
    parser.add_argument("--workload", action="append", choices=workloads.TABLE, help="this one; repeatable")
    parser.add_argument("--list", action="store_true", help="list the workloads and end")
    options = parser.parse_args(words)
    if options.list:
        for job in workloads.TABLE.values():
            print(f"{job.name:8}{job.summary}")
        return 0
    row = machines.machine(options.arch)
    jobs = [workloads.workload(name) for name in options.workload or ()] or workloads.for_machine(row.arch)
    start = time.monotonic()
    try:
        ready = all(is_ready(row, job) for job in jobs)
        if not ready:
            prepare(row, jobs)
    except LabError as error:
        print(f"lab-guest: {error}", file=sys.stderr)
        return 1
    state = "ready" if ready else f"made in {time.monotonic() - start:.1f} s, ready"
    print(f"{row.arch} guests {state}: {' '.join(job.name for job in jobs)} in {folder(row.arch)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
