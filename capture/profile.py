"""Make a kernel's profile from its image: the offsets and addresses that name the current task from outside.

Nothing is guessed: offsets are the kernel's own BTF or DWARF, addresses its own kallsyms. Of a kernel without either
of the first two the profile has functions only: `derive.py` does the rest while it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from capture.btf import NoBtfError, find_btf
from capture.current import FUNCTIONS
from capture.dwarf import find_dwarf
from capture.kallsyms import Kallsyms, read_symbols
from capture.kernel_image import KernelImage, unpack
from capture.kernelinfo import ESSENTIAL, Profile, ProfileError

__all__ = ["Profile", "ProfileError", "make_profile"]

_OFFSETS: Final = (  # key prefix, struct, members; f_path.dentry becomes fs.f_path_dentry_offset
    ("task", "task_struct", "tasks pid tgid group_leader thread_group real_parent parent mm stack real_cred"),
    ("task", "task_struct", "cred comm files fs start_time start_boottime"),
    ("cred", "cred", "uid gid euid egid"),
    ("mm", "mm_struct", "mmap pgd arg_start arg_end start_brk brk start_stack"),
    ("vma", "vm_area_struct", "vm_mm vm_start vm_end vm_next vm_flags vm_file"),
    ("fs", "file", "f_path.dentry f_path.mnt f_pos"),
    ("fs", "files_struct", "fdt fdtab"),
    ("fs", "fdtable", "fd max_fds open_fds close_on_exec"),
    ("fs", "fs_struct", "pwd.dentry pwd.mnt"),
    ("qstr", "qstr", "name hash_len"),
    ("path", "dentry", "d_name d_iname d_parent d_op d_inode d_fsdata d_hash.pprev"),
    ("path", "dentry_operations", "d_dname"),
    ("ns", "proc_ns_operations", "name"),
    ("inode", "inode", "i_ino"),
    ("path", "vfsmount", "mnt_root"),
)
_RENAMED: Final = {"d_iname": "d_shortname"}  # Linux 6.14
_SIZES: Final = {
    "task": "task_struct",
    "mm": "mm_struct",
    "vma": "vm_area_struct",
    "qstr": "qstr",
    "files": "files_struct",
}

_FUNCTIONS: Final = {  # what a capture may hook, after what tells it the displacement; no kernel has them all
    "x86_64": "entry_SYSCALL_64 do_syscall_64 syscall_exit_to_user_mode do_int80_emulation "
    "do_int80_syscall_32 do_fast_syscall_32 ret_from_fork ret_from_fork_asm do_exit",
    "aarch64": "vectors el0_svc do_el0_svc invoke_syscall el0_svc_common el0_svc_compat do_el0_svc_compat "
    "syscall_trace_exit ret_from_fork do_exit",
}
_DNAMES: Final = "pipefs_dname sockfs_dname anon_inodefs_dname simple_dname ns_dname"
"""What shows files that have no path (dentry_operations.d_dname)."""
_CLONES: Final = ("", ".isra.0", ".constprop.0", ".part.0")  # gcc's changed copies of static functions

# linux_banner: "Linux version RELEASE (BY@HOST) (COMPILER) VERSION\n". Since 6.1 init/version.c leaves a weak
# copy whose VERSION has no number ("# SMP ..."); init/version-timestamp.c has the real one ("#1 SMP ...").
_BANNER: Final = re.compile(
    rb"Linux version ((\d+)\.(\d+)\.?(\d*)[\w.+~-]{0,64}) \([ -~]{1,400}\) (#\d[ -~]{1,100})\n\0"
)


class Types(Protocol):
    """A kernel's structures, as BTF or DWARF has them."""

    def size(self, name: str) -> int:
        """Bytes of a struct."""

    def has(self, name: str, path: str = "") -> bool:
        """Whether there is such a struct, and such a member in it."""

    def offset(self, name: str, path: str) -> int:
        """Bytes from the beginning of a struct to a member."""


def make_profile(path: str | Path, arch: str | None = None) -> Profile:
    """Read a profile out of a kernel image.

    Args:
        path: vmlinuz, bzImage, zImage, arm64 Image, Image.gz or ELF vmlinux.
        arch: PANDA's name of an architecture to insist on; None takes what the image is.

    Returns:
        The profile; `Profile.is_complete` is False if the image has neither BTF nor DWARF.

    Raises:
        ProfileError: the image is damaged, of another architecture, or has no kallsyms.
    """
    image = unpack(path)
    if arch not in (None, image.arch):
        raise ProfileError(f"{path}: a kernel for {image.arch}, not {arch}; give --arch {image.arch}")
    banner = _BANNER.search(image.data)
    if not banner:
        raise ProfileError(f"{path}: no Linux version banner; give a Linux kernel image")
    release, major, minor, patch, version = (text.decode() for text in banner.groups())
    types, kallsyms = _types(image), read_symbols(image)
    wanted = dict.fromkeys(f"{_FUNCTIONS.get(image.arch, '')} {FUNCTIONS[image.arch]} {_DNAMES}".split())
    functions = {name: _function(kallsyms, name) for name in wanted}
    found = {name: address for name, address in functions.items() if address is not None}
    values = {"version.a": int(major), "version.b": int(minor), "version.c": int(patch or 0)}
    if types:
        values |= dict(_addresses(image, types, kallsyms)) | dict(_layout(types))
        for key in ESSENTIAL:
            if key not in values:
                raise ProfileError(f"{path}: BTF does not give {key}; run without a profile, or give --profile")
    elif not any(name in found for name in FUNCTIONS[image.arch].split()):
        raise ProfileError(f"{path}: no BTF, and no function that shows the current task; run without a profile")
    group = f"linux:{release}:{8 * image.word_size}"
    return Profile(group, f"{release}|{version}|{image.arch}", values, found)


def _types(image: KernelImage) -> Types | None:
    """The image's BTF, else its DWARF, else None."""
    try:
        return find_btf(image)
    except NoBtfError:
        return find_dwarf(image)


def _layout(btf: Types) -> Iterator[tuple[str, int]]:
    """Sizes and member offsets under PANDA's keys; what this kernel lacks is left out."""
    for prefix, name in _SIZES.items():
        if btf.has(name):
            yield f"{prefix}.size", btf.size(name)
    yield "task.comm_size", 16  # TASK_COMM_LEN, include/linux/sched.h
    for prefix, name, members in _OFFSETS:
        for member in members.split():
            for spelling in (member, _RENAMED.get(member, member)):
                if btf.has(name, spelling):
                    yield f"{prefix}.{member.replace('.', '_')}_offset", btf.offset(name, spelling)
                    break
    # PANDA counts from the struct vfsmount inside struct mount: these are negative.
    for member in ("mnt_parent", "mnt_mountpoint") if btf.has("mount", "mnt") else ():
        yield f"path.{member}_offset", btf.offset("mount", member) - btf.offset("mount", "mnt")
    if btf.has("mount", "mnt"):
        yield "path.mnt_offset", btf.offset("mount", "mnt")


def _addresses(image: KernelImage, btf: Types, kallsyms: Kallsyms) -> Iterator[tuple[str, int]]:
    """Addresses under PANDA's keys; what this kernel lacks is left out."""
    symbols = kallsyms.symbols
    found = _find_init_task(image, btf, kallsyms.base)
    init_task = symbols.get("init_task", found)
    if init_task is not None:
        if found not in (None, init_task):
            raise ProfileError(f"{image.path}: kallsyms and BTF disagree about init_task; give --profile")
        yield "task.init_addr", init_task
    if "__per_cpu_offset" in symbols:
        yield "task.per_cpu_offsets_addr", symbols["__per_cpu_offset"]
        yield "task.per_cpu_offset_0_addr", 0  # osi_linux replaces it by entry 0 of that array
    switch = _function(kallsyms, "finish_task_switch")
    if switch is not None:
        yield "task.switch_task_hook_addr", switch
    if image.arch == "x86_64":
        if "current_task" in symbols:
            yield "task.current_task_addr", symbols["current_task"]
        elif "pcpu_hot" in symbols:  # Linux 6.2 (commit e57ef2ed97c1) to 6.14
            yield "task.current_task_addr", symbols["pcpu_hot"] + btf.offset("pcpu_hot", "current_task")


def _function(kallsyms: Kallsyms, name: str) -> int | None:
    return next((kallsyms.symbols[name + end] for end in _CLONES if name + end in kallsyms.symbols), None)


def _find_init_task(image: KernelImage, btf: Types, base: int) -> int | None:
    """Address of init_task by its contents: comm "swapper", its own parent and leader (init/init_task.c).

    Where kallsyms has no variables this is the only way to it; where it has, it proves that kallsyms, BTF and
    image belong together.
    """
    comm, *selves = (btf.offset("task_struct", member) for member in ("comm", "real_parent", "group_leader"))
    at = -1
    for _ in range(64):  # every try may search the whole image for a relocation
        at = image.data.find(b"swapper\0", at + 1)
        if at < 0:
            break
        address = image.address(at - comm, base) if at >= comm else None
        if address and all(image.pointer(at - comm + offset, base) == address for offset in selves):
            return address
    return None
