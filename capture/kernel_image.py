"""Open a Linux kernel image file: whatever the packing, give back the bytes the kernel runs from.

A file may wrap another: bzImage > zstd > ELF, Image.gz > flat image, EFI zboot > gzip > flat image,
zImage (arm) > xz > flat image, ELF vmlinuz (mips) > xz > flat image.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from capture.decompress import MAGICS, ProfileError, decompress, is_compressed

__all__ = ["R_AARCH64_RELATIVE", "Extent", "KernelImage", "ProfileError", "Segment", "unpack"]

LIMIT: Final = 512 << 20
"""Most bytes read from a file or unpacked from it. Debian's 6.1 and 6.12 kernels unpack to 40-60 MB."""

_NESTING: Final = 4
_MACHINES: Final = {  # e_machine, bytes of an address, big-endian to PANDA's name (include/uapi/linux/elf-em.h)
    (3, 4, False): "i386",
    (8, 4, False): "mipsel",
    (8, 4, True): "mips",
    (8, 8, True): "mips64",
    (40, 4, False): "arm",
    (62, 8, False): "x86_64",
    (183, 8, False): "aarch64",
}
_BANNER: Final = b"Linux version "
_MOST_STREAMS: Final = 64
_ZIMAGE: Final = (0x016F2818).to_bytes(4, "little")
"""At 0x24 of an arm zImage (arch/arm/boot/compressed/head.S); a big-endian kernel's is written the same since 3.x."""
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
    """An unpacked kernel: an ELF vmlinux, or a flat image (arm64, arm, mips) that carries no link addresses.

    Attributes:
        path: the file it came from, for error texts.
        data: the unpacked bytes.
        arch: PANDA's name of the architecture: "x86_64", "i386", "arm", "aarch64", "mips", "mipsel", "mips64".
        segments: PT_LOAD segments; empty for a flat image.
        sections: ELF sections that have bytes in the file, by name; empty for a flat image.
    """

    path: str
    data: bytes = field(repr=False)
    arch: str
    segments: tuple[Segment, ...] = ()
    sections: Mapping[str, Extent] = field(default_factory=dict, repr=False)

    @property
    def word_size(self) -> int:
        """Bytes of a pointer."""
        return 8 if self.arch.endswith("64") else 4

    @property
    def big_endian(self) -> bool:
        """Byte order of `data`."""
        return self.arch in ("mips", "mips64")

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
    """Read a vmlinuz, bzImage, zImage, Image, Image.gz, EFI zboot image or vmlinux.

    Raises:
        ProfileError: the file cannot be read, is damaged, or is no Linux kernel of an architecture in `_MACHINES`.
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
                image = _elf(str(path), data)
                if image.arch.startswith("mips") and _BANNER not in data:  # arch/mips/boot/compressed
                    return KernelImage(str(path), _embedded(str(path), data), image.arch)
                return image
            if data[0x24:0x28] == _ZIMAGE:
                return KernelImage(str(path), _embedded(str(path), data), "arm")
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
    raise ProfileError(f"{path}: not a Linux kernel; give a vmlinuz, bzImage, zImage, arm64 Image or vmlinux")


def _embedded(path: str, data: bytes) -> bytes:
    """The flat kernel inside a decompressor that does not say where: the first stream that holds a Linux kernel.

    Compressions' magic numbers are short, and the decompressor's own code has them too.
    """
    places = sorted({match.start() for magic in MAGICS for match in re.finditer(re.escape(magic), data)})
    reason = "nothing in it is compressed"
    for at in places[:_MOST_STREAMS]:
        try:
            unpacked = decompress(data[at:], LIMIT, f"{path} at {at:#x}")
        except ProfileError as error:
            reason = str(error).removeprefix(f"{path} ")
            continue
        if _BANNER in unpacked:
            return unpacked
    raise ProfileError(f"{path}: no Linux kernel in it ({reason}); give its vmlinux")


def _elf(path: str, data: bytes) -> KernelImage:
    """Read the tables of an ELF file; ranges outside the file are errors."""
    order, is_64 = ">" if data[5:6] == b"\2" else "<", data[4:5] == b"\2"
    machine = struct.unpack_from(f"{order}H", data, 18)[0]
    arch = _MACHINES.get((machine, 8 if is_64 else 4, order == ">"))
    if arch is None:
        raise ProfileError(f"{path}: ELF machine {machine} is not one that sysreel knows; run without a profile")
    # Elf32_Ehdr, Elf32_Phdr and Elf32_Shdr have the same fields as the 64-bit ones, p_flags aside, in words of 4 bytes.
    phoff, shoff = struct.unpack_from(f"{order}{'QQ' if is_64 else 'II'}", data, 32 if is_64 else 28)
    phsize, phnum, shsize, shnum, names = struct.unpack_from(f"{order}5H", data, 54 if is_64 else 42)
    segments = []
    for at in range(phoff, phoff + phnum * phsize, phsize or 1):
        if is_64:
            kind, _, offset, address, _, size = struct.unpack_from(f"{order}IIQQQQ", data, at)
        else:
            kind, offset, address, _, size = struct.unpack_from(f"{order}5I", data, at)
        if kind == _PT_LOAD:
            segments.append(Segment(address, offset, size))
    section = struct.Struct(f"{order}{'IIQQQQ' if is_64 else '6I'}")
    headers = [section.unpack_from(data, shoff + i * shsize) for i in range(shnum if shoff else 0)]
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
    return KernelImage(path, data, arch, tuple(segments), sections)
