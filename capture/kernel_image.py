"""Open a Linux kernel image file: whatever the packing, give back the bytes the kernel runs from.

A file may wrap another: bzImage > zstd > ELF, Image.gz > flat image, EFI zboot > gzip > flat image.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from capture.decompress import ProfileError, decompress, is_compressed

__all__ = ["R_AARCH64_RELATIVE", "Extent", "KernelImage", "ProfileError", "Segment", "unpack"]

LIMIT: Final = 512 << 20
"""Most bytes read from a file or unpacked from it. Debian's 6.1 and 6.12 kernels unpack to 40-60 MB."""

_NESTING: Final = 4
_MACHINES: Final = {62: "x86_64", 183: "aarch64"}  # EM_X86_64, EM_AARCH64 (include/uapi/linux/elf-em.h)
_PT_LOAD: Final = 1
_SHT_NOBITS: Final = 8
_FLAT_ALIGN: Final = 2 << 20

R_AARCH64_RELATIVE: Final = 0x403
"""r_info of the Elf64_Rela entries (r_offset, r_info, r_addend: u64 each) in an arm64 kernel's .rela.dyn."""


class Extent(NamedTuple):
    """A range of bytes in `KernelImage.data`."""

    offset: int
    size: int


class Segment(NamedTuple):
    """A loadable segment: `size` bytes at `offset` in the data, linked at `address`."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True)
class KernelImage:
    """An unpacked kernel: an ELF vmlinux, or a flat image (arm64 `Image`) that carries no link addresses.

    Attributes:
        path: the file it came from, for error texts.
        data: the unpacked bytes, little-endian.
        arch: "x86_64" or "aarch64".
        segments: PT_LOAD segments; empty for a flat image.
        sections: ELF sections that have bytes in the file, by name; empty for a flat image.
    """

    path: str
    data: bytes = field(repr=False)
    arch: str
    segments: tuple[Segment, ...] = ()
    sections: Mapping[str, Extent] = field(default_factory=dict, repr=False)

    def address(self, offset: int, base: int) -> int | None:
        """Link address of the byte at `offset`; None when no segment has it.

        Args:
            offset: into `data`.
            base: kallsyms' relative base (`_text` or, on arm64, `_stext` just above it). A flat image begins
                at the 2 MiB boundary below: MIN_KIMG_ALIGN in arch/arm64/include/asm/boot.h, and text_offset
                is 0 since Linux 5.8. Not used for ELF.
        """
        if not self.segments:
            return (base & -_FLAT_ALIGN) + offset
        for segment in self.segments:
            if 0 <= offset - segment.offset < segment.size:
                return segment.address + offset - segment.offset
        return None

    def pointer(self, offset: int, base: int) -> int:
        """Value of the u64 at `offset` once the kernel has relocated itself (without KASLR); 0 past the end.

        arch/arm64/Makefile links with --no-apply-dynamic-relocs: the image holds 0, .rela.dyn has the value.
        """
        value = int.from_bytes(self.data[offset : offset + 8], "little")
        place = self.address(offset, base)
        if value or place is None:
            return value
        rela = self.data.find(struct.pack("<QQ", place, R_AARCH64_RELATIVE))
        return 0 if rela < 0 else int.from_bytes(self.data[rela + 16 : rela + 24], "little")


def unpack(path: str | Path) -> KernelImage:
    """Read a vmlinuz, bzImage, Image, Image.gz, EFI zboot image or vmlinux.

    Raises:
        ProfileError: the file cannot be read, is damaged, or is not an x86_64 or arm64 Linux kernel.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise ProfileError(f"{path}: cannot read the kernel ({error.strerror}); check the path") from error
    if len(data) > LIMIT:
        raise ProfileError(f"{path}: larger than {LIMIT >> 20} MiB; give a kernel image (vmlinuz)")
    try:
        for _ in range(_NESTING):
            if data.startswith(b"\x7fELF"):
                return _elf(str(path), data)
            # struct arm64_image_header (arch/arm64/include/asm/image.h): magic at 56.
            if data[56:60] == b"ARM\x64":
                return KernelImage(str(path), data, "aarch64")
            payload = _payload(str(path), data)
            packed = data[payload.offset : payload.offset + payload.size]
            if len(packed) < payload.size:
                raise ProfileError(f"{path}: payload at {payload.offset:#x} is cut off; fetch the file again")
            # An uncompressed payload (CONFIG_KERNEL_UNCOMPRESSED) is the ELF file itself.
            where = f"{path} at {payload.offset:#x}"
            data = packed if packed.startswith(b"\x7fELF") else decompress(packed, LIMIT, where)
    except struct.error as error:
        raise ProfileError(f"{path}: the kernel image's header is cut off; fetch the file again") from error
    raise ProfileError(f"{path}: compressed more than {_NESTING} times over; this is not a kernel image")


def _payload(path: str, data: bytes) -> Extent:
    """Where the compressed kernel lies in a bzImage, an EFI zboot image or a bare compressed file."""
    if data[0x202:0x206] == b"HdrS":
        # Documentation/arch/x86/boot.rst: payload_offset counts from the end of the real-mode setup sectors.
        if struct.unpack_from("<H", data, 0x206)[0] < 0x208:
            raise ProfileError(f"{path} at 0x206: boot protocol before 2.08 (Linux 2.6.26); give its vmlinux")
        offset, size = struct.unpack_from("<II", data, 0x248)
        return Extent(((data[0x1F1] or 4) + 1) * 512 + offset, size)
    if data[4:8] == b"zimg":  # drivers/firmware/efi/libstub/zboot-header.S, Linux 6.1
        return Extent(*struct.unpack_from("<II", data, 8))
    if is_compressed(data):
        return Extent(0, len(data))
    raise ProfileError(f"{path}: not a Linux kernel; give a vmlinuz, bzImage, arm64 Image or vmlinux")


def _elf(path: str, data: bytes) -> KernelImage:
    """Read the tables of a 64-bit little-endian ELF file; ranges outside the file are errors."""
    machine = struct.unpack_from("<H", data, 18)[0]
    if data[4:6] != b"\x02\x01" or machine not in _MACHINES:
        raise ProfileError(f"{path}: ELF machine {machine} is not x86_64 or arm64; run without a profile")
    phoff, shoff = struct.unpack_from("<QQ", data, 32)
    phsize, phnum, shsize, shnum, names = struct.unpack_from("<5H", data, 54)
    segments = []
    for at in range(phoff, phoff + phnum * phsize, phsize or 1):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, at)
        if kind == _PT_LOAD:
            segments.append(Segment(address, offset, size))
    headers = [struct.unpack_from("<IIQQQQ", data, shoff + i * shsize) for i in range(shnum if shoff else 0)]
    extents = [Extent(offset, 0 if kind == _SHT_NOBITS else size) for _, kind, _, _, offset, size in headers]
    for extent in [Extent(offset, size) for _, offset, size in segments] + [e for e in extents if e.size]:
        if extent.offset + extent.size > len(data):
            raise ProfileError(f"{path} at {extent.offset:#x}: ELF data is cut off; fetch the file again")
    sections: dict[str, Extent] = {}
    if names < len(extents):
        table = data[extents[names].offset : sum(extents[names])]
        for header, extent in zip(headers, extents, strict=True):
            name = table[header[0] : header[0] + 64].partition(b"\0")[0].decode("ascii", "replace")
            if extent.size:
                sections.setdefault(name, extent)
    return KernelImage(path, data, _MACHINES[machine], tuple(segments), sections)
