"""A kernel's profile as a file: PANDA's `kernelinfo.conf`, readable by its osi_linux plugin as well.

It is a GLib key file with decimal numbers, one group a kernel. osi_linux asks for its keys by name, fails
when one is absent, and never looks at others (osi_linux/utils/kernelinfo/kernelinfo_read.c; seen with PANDA
0.1.1.5), so ours live in the same group: `mm.arg_end_offset`, `fs.max_fds_offset`,
`task.start_boottime_offset`, `symbol.NAME` (address of a kernel function) and `sysreel.absent` (PANDA's keys
that were written as 0 because this kernel has no such thing). Of a kernel without BTF the functions alone are
known: then all of PANDA's keys are absent, and osi_linux cannot use the file.
"""

from __future__ import annotations

import configparser
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from capture.kernel_image import ProfileError

__all__ = ["ESSENTIAL", "Profile", "ProfileError"]

ESSENTIAL: Final = tuple(
    f"task.{member}_offset" for member in ("pid", "tgid", "comm", "mm", "group_leader", "real_parent")
)
"""Keys without which no task can be named."""

_PANDA_KEYS: Final = """
    version.a version.b version.c
    task.init_addr task.current_task_addr task.per_cpu_offsets_addr task.per_cpu_offset_0_addr
    task.switch_task_hook_addr task.size task.comm_size task.tasks_offset task.pid_offset task.tgid_offset
    task.group_leader_offset task.thread_group_offset task.real_parent_offset task.parent_offset
    task.mm_offset task.stack_offset task.real_cred_offset task.cred_offset task.comm_offset task.files_offset
    task.start_time_offset
    cred.uid_offset cred.gid_offset cred.euid_offset cred.egid_offset
    mm.size mm.mmap_offset mm.pgd_offset mm.arg_start_offset mm.start_brk_offset mm.brk_offset
    mm.start_stack_offset
    vma.size vma.vm_mm_offset vma.vm_start_offset vma.vm_end_offset vma.vm_next_offset vma.vm_flags_offset
    vma.vm_file_offset
    fs.f_path_dentry_offset fs.f_path_mnt_offset fs.f_pos_offset fs.fdt_offset fs.fdtab_offset fs.fd_offset
    qstr.size qstr.name_offset
    path.d_name_offset path.d_iname_offset path.d_parent_offset path.d_op_offset path.d_dname_offset
    path.mnt_root_offset path.mnt_parent_offset path.mnt_mountpoint_offset
""".split()  # noqa: SIM905 - sixty quoted names are harder to read
_NUMERIC: Final = re.compile(r"(_offset|_addr|[._]size)$|^version\.|^symbol\.")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}")


@dataclass(frozen=True)
class Profile:
    """What is known about one kernel.

    Attributes:
        group: name of the group in the file; osi_linux's `kconf_group` and the tail of its `os_version`.
        name: "RELEASE|VERSION|MACHINE", as PANDA writes it, for instance
            "6.1.0-56-cloud-amd64|#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)|x86_64".
        values: `version.a` to `.c`, offsets and sizes in bytes (`task.pid_offset`, `mm.size`), guest virtual
            addresses before KASLR (`task.init_addr`). On x86_64 `task.current_task_addr` is the offset of
            the current task pointer from the per-CPU base (the kernel's GS base; the sum is modulo 2**64).
            aarch64 has none: there the current task is SP_EL0 while in the kernel. Keys of what this kernel
            does not have are absent.
        symbols: guest virtual addresses, before KASLR, of the kernel functions a capture may hook. A running
            kernel's displacement is IA32_LSTAR - symbols["entry_SYSCALL_64"] on x86_64, and
            VBAR_EL1 - symbols["vectors"] on aarch64 (0x80000 under PANDA 0.1.1.5 with -M virt and nokaslr,
            which loads the image 512 KiB above a 2 MiB boundary).
    """

    group: str
    name: str
    values: Mapping[str, int] = field(repr=False)
    symbols: Mapping[str, int] = field(default_factory=dict, repr=False)

    def __getitem__(self, key: str) -> int:
        """Value of `key`; ProfileError when this kernel or this file does not have it."""
        try:
            return self.values[key]
        except KeyError:
            raise ProfileError(f"profile [{self.group}]: no {key}; make one with: capture profile") from None

    @property
    def is_complete(self) -> bool:
        """Whether the offsets that name a task are known; if not, they must be derived from the running kernel."""
        return all(key in self.values for key in ESSENTIAL)

    def without_offsets(self) -> Profile:
        """The kernel's functions alone, as of a kernel without BTF."""
        values = {key: value for key, value in self.values.items() if key.startswith("version.")}
        return replace(self, values=values)

    @property
    def release(self) -> str:
        """Kernel release as `uname -r` prints it; "" when a third party's profile does not say."""
        return self.name.split("|")[0]

    @property
    def arch(self) -> str:
        """Machine as `uname -m` prints it ("x86_64", "aarch64"); "" when a profile does not say."""
        return "".join(self.name.split("|")[2:3]).split(" ")[0]

    def save(self, path: str | Path) -> None:
        """Write a `kernelinfo.conf` with this one group, whole or not at all; an existing file is replaced.

        Raises:
            OSError: the file cannot be written.
        """
        absent = [key for key in _PANDA_KEYS if key not in self.values]
        lines = [f"[{self.group}]", f"name = {self.name}"]
        lines += [f"{key} = {value}" for key, value in self.values.items()]
        lines += [f"{key} = 0" for key in absent] + [f"sysreel.absent = {' '.join(absent)}"]
        lines += [f"symbol.{name} = {address}" for name, address in self.symbols.items()]
        path = Path(path)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(descriptor)
            os.chmod(temporary, 0o644)  # mkstemp gives 0600
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @classmethod
    def load(cls, path: str | Path, group: str | None = None) -> Profile:
        """Read one group of a `kernelinfo.conf`, sysreel's or anyone's.

        Args:
            path: the file.
            group: which group; may be left out when there is only one.

        Raises:
            ProfileError: the file cannot be read, is not such a file, or lacks what naming a task needs.
        """
        groups = _read_groups(path)
        if group is None and len(groups) == 1:
            group = next(iter(groups))
        if group is None or group not in groups:
            wrong = f"no group [{group}]" if group else f"{len(groups)} groups"
            raise ProfileError(f"{path}: {wrong}; name one of: {', '.join(groups) or '(the file has none)'}")
        texts = groups[group]
        name, absent = texts.pop("name", ""), texts.pop("sysreel.absent", "").split()
        values, symbols = {}, {}
        for key, text in texts.items():
            if not _NUMERIC.search(key):
                continue  # PANDA's own file has one "arch = arm"
            number = _number(f"{path} [{group}]", key, text)
            if key.startswith("symbol."):
                symbols[key.removeprefix("symbol.")] = number
            elif key not in absent:
                values[key] = number
        profile = cls(group, name, values, symbols)
        if not profile.is_complete and not symbols:
            missing = next(key for key in ESSENTIAL if key not in values)
            raise ProfileError(f"{path} [{group}]: no {missing}; make a profile with: capture profile")
        return profile


class _KeyFile(configparser.RawConfigParser):
    """GLib's rules: keys have case, only "=" separates, only "#" begins a comment, no group is special.

    Of two equal keys the last counts: the file that comes with PANDA 0.1.1.5 has a pair.
    """

    def __init__(self) -> None:
        super().__init__(delimiters=("=",), comment_prefixes=("#",), default_section="", strict=False)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _read_groups(path: str | Path) -> dict[str, dict[str, str]]:
    parser = _KeyFile()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ProfileError(f"{path}: cannot read the profile ({error.strerror}); check the path") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ProfileError(f"{path}: not a kernelinfo.conf ({reason}); see: capture profile") from error
    return {group: dict(parser.items(group)) for group in parser.sections()}


def _number(where: str, key: str, text: str) -> int:
    """Parse a decimal and check that it can be what its key says: an address, an offset or a size."""
    low, high = (0, 1 << 64) if key.endswith("_addr") or key.startswith("symbol.") else (-4096, 1 << 20)
    if not _NUMBER.fullmatch(text) or not low <= int(text) < high:
        raise ProfileError(f"{where}: {key} = {text[:40]!r} is not a number from {low} to {high - 1}; fix it")
    return int(text)
