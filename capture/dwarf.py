"""Offsets of structures from the DWARF of a debug vmlinux, for kernels that come without BTF.

Needs pyelftools (``pip install sysreel[dwarf]``): DWARF is a language of its own, in four versions. Only
``capture profile`` of an image that has ``.debug_info`` imports it.
"""

from __future__ import annotations

import io
from typing import Any, Final

from capture.kernel_image import KernelImage, ProfileError

__all__ = ["Dwarf", "find_dwarf"]

_WANTED: Final = frozenset({
    "task_struct", "mm_struct", "vm_area_struct", "qstr", "cred", "file", "files_struct", "fdtable", "dentry",
    "dentry_operations", "vfsmount", "mount", "pcpu_hot", "fs_struct", "path", "inode", "proc_ns_operations",
})  # fmt: skip
_STRUCTS: Final = ("DW_TAG_structure_type", "DW_TAG_union_type")


def find_dwarf(image: KernelImage) -> Dwarf | None:
    """Open an image's DWARF; None if it has none.

    Raises:
        ProfileError: pyelftools is not installed, or the DWARF is damaged.
    """
    if ".debug_info" not in image.sections:
        return None
    try:
        from elftools.common.exceptions import DWARFError, ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise ProfileError(f"{image.path}: reading its DWARF needs pyelftools: pip install sysreel[dwarf]") from None
    try:
        return Dwarf(ELFFile(io.BytesIO(image.data)).get_dwarf_info(), image.path)
    except (DWARFError, ELFError, ValueError, KeyError, OSError, AssertionError) as error:
        raise ProfileError(f"{image.path}: damaged DWARF ({error}); give another debug vmlinux") from error


class Dwarf:
    """The structs that a profile needs, wherever one is declared in full first."""

    def __init__(self, info: Any, where: str) -> None:
        """Look through the compilation units until all are found.

        Args:
            info: pyelftools' ``DWARFInfo``.
            where: File, for error texts.
        """
        self._where = where
        self._structs: dict[str, Any] = {}
        for unit in info.iter_CUs():
            for entry in unit.get_top_DIE().iter_children():
                name = _name(entry)
                if name in _WANTED and name not in self._structs and _is_whole(entry):
                    self._structs[name] = entry
            if len(self._structs) == len(_WANTED):
                break

    def size(self, name: str) -> int:
        """Bytes of a struct; ProfileError if there is none."""
        return int(self._struct(name).attributes["DW_AT_byte_size"].value)

    def has(self, name: str, path: str = "") -> bool:
        """Whether there is such a struct, and such a member in it."""
        return name in self._structs and (not path or self._find(self._struct(name), path.split(".")) is not None)

    def offset(self, name: str, path: str) -> int:
        """Bytes from the beginning of a struct to a member: "f_path.dentry" is a member of a member.

        Raises:
            ProfileError: There is no such struct or member.
        """
        found = self._find(self._struct(name), path.split("."))
        if found is None:
            raise ProfileError(f"{self._where}, DWARF: struct {name} has no member {path}")
        return found

    def _struct(self, name: str) -> Any:
        if name not in self._structs:
            raise ProfileError(f"{self._where}, DWARF: no struct {name}")
        return self._structs[name]

    def _find(self, struct: Any, path: list[str]) -> int | None:
        """Offset of a member, also where it is in a struct or union without a name."""
        for member in struct.iter_children():
            if member.tag != "DW_TAG_member" or "DW_AT_bit_size" in member.attributes:
                continue
            name, at = _name(member), _place(member)
            if name == path[0]:
                inner = 0 if len(path) == 1 else self._find(_type(member), path[1:])
                return None if inner is None else at + inner
            if name is None and _type(member).tag in _STRUCTS:
                inner = self._find(_type(member), path)
                if inner is not None:
                    return at + inner
        return None


def _is_whole(entry: Any) -> bool:
    return entry.tag in _STRUCTS and "DW_AT_byte_size" in entry.attributes and entry.has_children


def _name(entry: Any) -> str | None:
    attribute = entry.attributes.get("DW_AT_name")
    return None if attribute is None else attribute.value.decode("utf-8", "replace")


def _place(member: Any) -> int:
    """Bytes before a member; that of a union has no such attribute. DWARF 2 wraps it: DW_OP_plus_uconst, LEB128."""
    attribute = member.attributes.get("DW_AT_data_member_location")
    if attribute is None:
        return 0
    if isinstance(attribute.value, int):
        return attribute.value
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(attribute.value[1:]))


def _type(member: Any) -> Any:
    """What a member is, behind typedef, const and volatile."""
    entry = member.get_DIE_from_attribute("DW_AT_type")
    for _ in range(16):
        if entry.tag not in ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type"):
            break
        entry = entry.get_DIE_from_attribute("DW_AT_type")
    return entry
