"""A kernel's profile: the struct offsets and addresses that name the current task from outside the guest.

The file is PANDA's `kernelinfo.conf` (GLib key file, decimal numbers), one group a kernel, so that PANDA's osi_linux
reads it too. osi_linux asks for its keys by name and fails when one is absent, but never looks at others
(utils/kernelinfo/kernelinfo_read.c): ours live in the same group. They are `mm.arg_end_offset`,
`fs.max_fds_offset`, `task.start_boottime_offset`, `symbol.NAME` (address of a kernel function) and
`sysreel.absent` (PANDA keys written as 0 because this kernel has no such thing).
"""

from __future__ import annotations

import configparser
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from capture.btf import Btf, find_btf
from capture.kallsyms import Kallsyms, read_symbols
from capture.kernel_image import KernelImage, ProfileError, unpack

__all__ = ["Profile", "ProfileError", "make_profile"]

_OFFSETS: Final = (  # key prefix, struct, members; "f_path.dentry" is kept under fs.f_path_dentry_offset
    (
        "task",
        "task_struct",
        "tasks pid tgid group_leader thread_group real_parent parent mm stack real_cred cred comm files start_time "
        "start_boottime",
    ),
    ("cred", "cred", "uid gid euid egid"),
    ("mm", "mm_struct", "mmap pgd arg_start arg_end start_brk brk start_stack"),
    ("vma", "vm_area_struct", "vm_mm vm_start vm_end vm_next vm_flags vm_file"),
    ("fs", "file", "f_path.dentry f_path.mnt f_pos"),
    ("fs", "files_struct", "fdt fdtab"),
    ("fs", "fdtable", "fd max_fds"),
    ("qstr", "qstr", "name"),
    ("path", "dentry", "d_name d_iname d_parent d_op"),
    ("path", "dentry_operations", "d_dname"),
    ("path", "vfsmount", "mnt_root"),
)
_RENAMED: Final = {"d_iname": "d_shortname"}  # Linux 6.14
_SIZES: Final = {"task": "task_struct", "mm": "mm_struct", "vma": "vm_area_struct", "qstr": "qstr"}

_ESSENTIAL: Final = tuple(f"task.{member}_offset" for member in "pid tgid comm mm group_leader real_parent".split())
_OURS_ONLY: Final = frozenset({"mm.arg_end_offset", "fs.max_fds_offset", "task.start_boottime_offset"})
_PANDA_ADDRESSES: Final = tuple(
    f"task.{name}_addr" for name in ("init", "current_task", "per_cpu_offsets", "per_cpu_offset_0", "switch_task_hook")
)
_PANDA_KEYS: Final = (
    *_PANDA_ADDRESSES,
    *(
        f"{prefix}.{member.replace('.', '_')}_offset"
        for prefix, _, members in _OFFSETS
        for member in members.split()
        if f"{prefix}.{member}_offset" not in _OURS_ONLY
    ),
)

_FUNCTIONS: Final = {  # those a capture may hook; a kernel need not have them all
    "x86_64": "do_syscall_64 syscall_exit_to_user_mode do_int80_emulation do_int80_syscall_32 "
    "do_fast_syscall_32 ret_from_fork",
    "aarch64": "el0_svc do_el0_svc invoke_syscall el0_svc_common el0_svc_compat do_el0_svc_compat "
    "syscall_trace_exit ret_from_fork",
}
_CLONES: Final = ("", ".isra.0", ".constprop.0", ".part.0")  # gcc's changed copies of a static function

# linux_banner (init/version-timestamp.c): "Linux version RELEASE (BY@HOST) (COMPILER) VERSION\n".
_BANNER: Final = re.compile(rb"Linux version (\d+)\.(\d+)\.?(\d*)([\w.+~-]{0,64}) \([ -~]{1,400}\) (#[ -~]{1,100})\n\0")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}")


@dataclass(frozen=True)
class Profile:
    """What is known about one kernel.

    Attributes:
        group: name of the group in the file; osi_linux's `kconf_group` and the tail of its `os_version`.
        name: "RELEASE|VERSION|MACHINE", as PANDA writes it, for instance
            "6.1.0-56-cloud-amd64|#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)|x86_64".
        values: `version.a` to `.c`, offsets and sizes in bytes (`task.pid_offset`, `mm.size`), guest virtual
            addresses before KASLR (`task.init_addr`). On x86_64 `task.current_task_addr` is the offset of the
            current task pointer from the per-CPU base (the kernel's GS base, modulo 2**64); aarch64 has none: the
            current task is the kernel's SP_EL0. Absent keys are things this kernel does not have.
        symbols: addresses of the kernel functions a capture may hook, before KASLR.
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
            raise ProfileError(f"profile {self.group} has no {key}; make one with: capture profile") from None

    @property
    def release(self) -> str:
        """Kernel release as `uname -r` prints it."""
        return self.name.split("|")[0]

    @property
    def arch(self) -> str:
        """`uname -m`: "x86_64" or "aarch64"; "" when a third party's profile does not say."""
        machine = (self.name.split("|") + ["", ""])[2].split(" ")[0]
        return machine if machine in _FUNCTIONS else ""

    def save(self, path: str | Path) -> None:
        """Write a `kernelinfo.conf` with this one group, whole or not at all (an existing file is replaced).

        Raises:
            OSError: the file cannot be written.
        """
        absent = [key for key in _PANDA_KEYS if key not in self.values]
        lines = [f"[{self.group}]", f"name = {self.name}"]
        lines += [f"{key} = {value}" for key, value in self.values.items()]
        lines += [f"{key} = 0" for key in absent] + [f"sysreel.absent = {' '.join(absent)}"]
        lines += [f"symbol.{name} = {address}" for name, address in self.symbols.items()]
        path = Path(path)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            try:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
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
            some = ", ".join(list(groups)[:5]) + (", ..." if len(groups) > 5 else "")
            wrong = f"no group [{group}]" if group else f"{len(groups)} groups"
            raise ProfileError(f"{path}: {wrong}; name one of: {some or '(the file has none)'}")
        texts = groups[group]
        name, absent = texts.pop("name", ""), texts.pop("sysreel.absent", "").split()
        numbers = {key: _number(path, group, key, text) for key, text in texts.items() if key not in absent}
        missing = [key for key in _ESSENTIAL if key not in numbers]
        if missing:
            raise ProfileError(f"{path} [{group}]: no {missing[0]}; make a profile with: capture profile")
        symbols = {key[7:]: value for key, value in numbers.items() if key.startswith("symbol.")}
        values = {key: value for key, value in numbers.items() if not key.startswith("symbol.")}
        return cls(group, name, values, symbols)


class _KeyFile(configparser.RawConfigParser):
    """A GLib key file: keys have case, only "=" separates, only "#" begins a comment."""

    def __init__(self) -> None:
        super().__init__(delimiters=("=",), comment_prefixes=("#",), default_section="", strict=True)

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
        raise ProfileError(f"{path}: not a kernelinfo.conf ({reason}); make one with: capture profile") from error
    return {group: dict(parser.items(group)) for group in parser.sections()}


def _number(path: str | Path, group: str, key: str, text: str) -> int:
    """Parse a decimal and check that it can be what its key says: an address, or an offset or size in bytes."""
    address = key.endswith("_addr") or key.startswith("symbol.")
    low, high = (0, 1 << 64) if address else (-4096, 1 << 20)  # mnt_parent precedes the embedded struct vfsmount
    if not _NUMBER.fullmatch(text) or not low <= int(text) < high:
        raise ProfileError(f"{path} [{group}]: {key} = {text[:40]!r} is not a number from {low} to {high - 1}; fix it")
    return int(text)


def make_profile(path: str | Path, arch: str | None = None) -> Profile:
    """Read a profile out of a kernel image.

    Args:
        path: vmlinuz, bzImage, arm64 Image, Image.gz or ELF vmlinux.
        arch: "x86_64" or "aarch64" to insist on; None takes what the image is.

    Raises:
        ProfileError: the image is damaged, of another architecture, or has no BTF or kallsyms.
    """
    image = unpack(path)
    if arch not in (None, image.arch):
        raise ProfileError(f"{path}: a kernel for {image.arch}, not {arch}; give --arch {image.arch}")
    banner = _BANNER.search(image.data)
    if not banner:
        raise ProfileError(f"{path}: no Linux version banner; give a Linux kernel image")
    major, minor, patch, local, version = (text.decode() for text in banner.groups())
    release = banner[0].decode().split(" ")[2]
    btf, kallsyms = find_btf(image), read_symbols(image)
    values = {"version.a": int(major), "version.b": int(minor), "version.c": int(patch or 0)}
    values |= dict(_addresses(image, btf, kallsyms)) | dict(_layout(btf))
    for key in _ESSENTIAL:
        if key not in values:
            raise ProfileError(f"{path}: BTF has no {key}; names will be inferred without a profile, or give --profile")
    functions = {name: _function(kallsyms, name) for name in _FUNCTIONS[image.arch].split()}
    return Profile(
        f"linux:{release}:64",
        f"{release}|{version}|{image.arch}",
        values,
        {name: address for name, address in functions.items() if address is not None},
    )


def _layout(btf: Btf) -> Iterator[tuple[str, int]]:
    """Sizes and member offsets under PANDA's keys; what this kernel lacks is left out."""
    for prefix, name in _SIZES.items():
        yield f"{prefix}.size", btf.size(name)
    yield "task.comm_size", 16  # TASK_COMM_LEN, include/linux/sched.h
    for prefix, name, members in _OFFSETS:
        for member in members.split():
            for spelling in (member, _RENAMED.get(member, member)):
                if btf.has(name, spelling):
                    yield f"{prefix}.{member.replace('.', '_')}_offset", btf.offset(name, spelling)
                    break
    # PANDA counts from the struct vfsmount inside struct mount, hence below zero.
    for member in ("mnt_parent", "mnt_mountpoint"):
        yield f"path.{member}_offset", btf.offset("mount", member) - btf.offset("mount", "mnt")


def _addresses(image: KernelImage, btf: Btf, kallsyms: Kallsyms) -> Iterator[tuple[str, int]]:
    """Addresses under PANDA's keys; what this kernel lacks is left out."""
    symbols = kallsyms.symbols
    found = _find_init_task(image, btf, kallsyms.base)
    init_task = symbols.get("init_task", found)
    if init_task is not None:
        if found not in (None, init_task):
            raise ProfileError(
                f"{image.path}: kallsyms has init_task at {init_task:#x}, BTF finds it at {found:#x}; give --profile"
            )
        yield "task.init_addr", init_task
    if "__per_cpu_offset" in symbols:
        # osi_linux reads entry 0 of the array itself and puts it into per_cpu_offset_0_addr.
        yield "task.per_cpu_offsets_addr", symbols["__per_cpu_offset"]
        yield "task.per_cpu_offset_0_addr", 0
    switch = _function(kallsyms, "finish_task_switch")
    if switch is not None:
        yield "task.switch_task_hook_addr", switch
    if image.arch == "x86_64":
        if "current_task" in symbols:
            yield "task.current_task_addr", symbols["current_task"]
        elif "pcpu_hot" in symbols:  # Linux 6.2 (commit e57ef2ed97c1) to 6.14
            yield "task.current_task_addr", symbols["pcpu_hot"] + btf.offset("pcpu_hot", "current_task")
        else:
            raise ProfileError(f"{image.path}: kallsyms has no current_task; it needs CONFIG_KALLSYMS_ALL")


def _function(kallsyms: Kallsyms, name: str) -> int | None:
    return next((kallsyms.symbols[name + end] for end in _CLONES if name + end in kallsyms.symbols), None)


def _find_init_task(image: KernelImage, btf: Btf, base: int) -> int | None:
    """Address of init_task from its contents: comm "swapper", and its own parent and group leader (init/init_task.c).

    Without CONFIG_KALLSYMS_ALL there is no symbol; with it this proves kallsyms, BTF and image agree.
    """
    comm, *selves = (btf.offset("task_struct", member) for member in ("comm", "real_parent", "group_leader"))
    at = -1
    for _ in range(64):  # each try may search the whole image for a relocation
        at = image.data.find(b"swapper\0", at + 1)
        address = image.address(at - comm, base)
        if at < comm or address is None:
            continue
        if all(image.pointer(at - comm + offset, base) == address for offset in selves):
            return address
    return None
