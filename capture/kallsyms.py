"""Read the kernel's own symbol table (kallsyms) out of a kernel image, without System.map or an ELF symtab.

`scripts/kallsyms.c` writes these tables in the kernel's byte order, each aligned to 8 (4 on some 64-bit builds and on
every 32-bit one):

    names        per symbol: length (one byte; since Linux 6.1 two when >= 128, 7 low bits first), then tokens
    markers      u32 offset in names of every 256th symbol
    token_table  256 NUL-terminated strings; token_index: u16 offset of each in it
    offsets      i32 per symbol; relative_base: a word     (CONFIG_KALLSYMS_BASE_RELATIVE)
    addresses    a word per symbol                         (without that, and before Linux 4.6)
    num_syms     u32, just before names

Their order changed: offsets and relative_base precede num_syms up to Linux 6.3, and follow token_index since
6.4; 6.2 and 6.3 have seqs_of_names between markers and token_table. So nothing is taken from its place alone:
token_index must describe token_table, markers must agree with a walk over names, addresses must ascend.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from operator import le
from typing import Final, NamedTuple

from capture.kernel_image import R_AARCH64_RELATIVE, KernelImage, ProfileError

__all__ = ["Kallsyms", "read_symbols"]

_DIGITS: Final = b"".join(b"%d\0" % digit for digit in range(10))
_MOST_MARKER_BYTES: Final = 4 << 20  # markers and seqs_of_names of a million symbols
_LONGEST_NAME: Final = 2 + 512  # bytes in names: KSYM_NAME_LEN is 512 since Linux 6.1
_TOP: Final = {8: 0xFFFF << 48, 4: 1 << 30}
"""By word size: the lowest address that a kernel is linked at. On 32 bits the user may have 1 GiB (VMSPLIT_1G)."""


class _Tokens(NamedTuple):
    table: int
    end: int
    """Offset just behind token_index."""
    texts: list[str]


class _Names(NamedTuple):
    count_at: int
    names: list[str]
    """Each begins with its type letter, as in /proc/kallsyms ("Tinit_task")."""


class Kallsyms(NamedTuple):
    """The kernel's symbols.

    Attributes:
        symbols: name to link address (before KASLR), for x86_64 per-CPU variables to the offset from the
            per-CPU base (before Linux 6.15). Of symbols with the same name the one at the lowest address.
            Without CONFIG_KALLSYMS_ALL (Debian's 686, armmp, malta and arm64 cloud kernels) functions only, no
            variables.
        base: kallsyms_relative_base, the lowest address.
    """

    symbols: dict[str, int]
    base: int


def read_symbols(image: KernelImage) -> Kallsyms:
    """Decode every symbol of the image.

    Raises:
        ProfileError: no table is found, or the tables contradict each other.
    """
    found = None
    order = ">" if image.big_endian else "<"
    for tokens in _find_tokens(image.data, order):
        for markers_at, markers in _find_markers(image.data, tokens.table, order):
            found = _find_names(image.data, markers_at, markers, tokens.texts, order)
            if found:
                break
        if found:
            break
    if not found:
        raise ProfileError(f"{image.path}: no kallsyms (CONFIG_KALLSYMS is off); give --profile")
    addresses, base = _find_addresses(image, found, tokens.end)
    symbols: dict[str, int] = {}
    for name, address in zip(found.names, addresses, strict=True):
        symbols.setdefault(name[1:], address)
    return Kallsyms(symbols, base)


def _aligned(offset: int, to: int = 8) -> int:
    return -(-offset // to) * to


def _find_tokens(data: bytes, order: str) -> Iterator[_Tokens]:
    """Find token_table by its digits (a used character is its own token) and check it against token_index."""
    digits = data.find(_DIGITS)
    while digits >= 0:
        end = digits
        for _ in range(ord("0"), 256):
            end = data.find(b"\0", end, digits + (1 << 16)) + 1 or len(data)
        for index_at in {_aligned(end, 4), _aligned(end)}:
            if index_at + 512 > len(data):
                continue
            index = struct.unpack_from(f"{order}256H", data, index_at)
            table = digits - index[ord("0")]
            texts = data[max(table, 0) : end].split(b"\0")[:-1]
            if len(texts) == 256 and all(
                after - before == len(text) + 1
                for before, after, text in zip(index, (*index[1:], end - table), texts, strict=True)
            ):
                yield _Tokens(table, index_at + 512, [text.decode("latin-1") for text in texts])
        digits = data.find(_DIGITS, digits + 1)


def _find_markers(data: bytes, table: int, order: str) -> Iterator[tuple[int, list[int]]]:
    """Look backwards from token_table for u32 0 followed by two or more plausible steps."""
    start = max(table % 4, table - _MOST_MARKER_BYTES)
    words = struct.unpack_from(f"{order}{(table - start) // 4}I", data, start)
    for first in range(len(words) - 3, -1, -1):
        if words[first]:
            continue
        last = first
        while last + 1 < len(words) and 512 <= words[last + 1] - words[last] <= 256 * _LONGEST_NAME:
            last += 1
        if last - first >= 2:
            yield start + 4 * first, list(words[first : last + 1])


def _find_names(data: bytes, markers_at: int, markers: list[int], tokens: list[str], order: str) -> _Names | None:
    """Look backwards from markers for a num_syms whose names agree with every marker."""
    latest = markers_at - markers[-1] - 2
    latest -= (latest - markers_at) % 4
    for start in range(latest, max(latest - 256 * _LONGEST_NAME, 8), -4):
        for count_at in (start - 8, start - 4):
            (count,) = struct.unpack_from(f"{order}I", data, count_at)
            if -(-count // 256) == len(markers) and (names := _names(data, start, count, markers, tokens)):
                return _Names(count_at, names)
    return None


def _names(data: bytes, at: int, count: int, markers: list[int], tokens: list[str]) -> list[str] | None:
    """Expand `count` names from offset `at`; None as soon as one of them disagrees with its marker."""
    start, names, text = at, [], tokens.__getitem__
    for number in range(count):
        if not number & 255 and at - start != markers[number >> 8]:
            return None
        if at + 1 >= len(data):
            return None
        length = data[at]
        at += 1
        if length & 0x80:
            length = length & 0x7F | data[at] << 7
            at += 1
        end = at + length
        names.append("".join(map(text, data[at:end])))
        at = end
    return names


def _find_addresses(image: KernelImage, found: _Names, index_end: int) -> tuple[list[int], int]:
    """Try offsets and relative_base on both sides (Linux 6.3 and before, 6.4 and after), then plain addresses."""
    count, word, order = len(found.names), image.word_size, ">" if image.big_endian else "<"
    before = found.count_at - word
    after = _aligned(index_end, word) + _aligned(4 * count, word)
    for base_at in (before, after):
        offsets_at = base_at - _aligned(4 * count, word)
        if offsets_at < 0 or base_at + word > len(image.data):
            continue
        offsets = struct.unpack_from(f"{order}{count}i", image.data, offsets_at)
        base = _word(image, base_at) or _relocated(image, base_at)
        # CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86_64 before 6.15): non-negative is absolute, negative counts down
        # from base - 1. Without it every offset is unsigned, and no image is so long that one looks negative.
        if min(offsets) < 0:
            addresses = [offset if offset >= 0 else base - 1 - offset for offset in offsets]
        else:
            addresses = [base + offset for offset in offsets]
        if _are_addresses(addresses, base, word):
            return addresses, base
    at = found.count_at - _aligned(word * count)
    for start in (at, found.count_at - word * count):
        if start >= 0:
            listed = list(struct.unpack_from(f"{order}{count}{'Q' if word == 8 else 'I'}", image.data, start))
            base = next((address for address in listed if address >= _TOP[word]), 0)
            if _are_addresses(listed, base, word):
                return listed, base
    raise ProfileError(f"{image.path} at {before:#x} and {after:#x}: no kallsyms offsets or addresses; give --profile")


def _are_addresses(addresses: list[int], base: int, word: int) -> bool:
    """Whether these ascend from the kernel's half of the addresses on; absolute symbols may stand before."""
    return base >= _TOP[word] and addresses[-1] < 1 << 8 * word and all(map(le, addresses, addresses[1:]))


def _word(image: KernelImage, at: int) -> int:
    return int.from_bytes(image.data[at : at + image.word_size], "big" if image.big_endian else "little")


def _relocated(image: KernelImage, base_at: int) -> int:
    """Base that .rela.dyn of a relocatable arm64 kernel gives the u64 at `base_at`; 0 when it gives none.

    Not `image.pointer`: the address of `base_at` follows from the base, so the entry must agree with itself.
    """
    info = struct.pack("<Q", R_AARCH64_RELATIVE)
    at = image.data.find(info, 8)
    while 0 <= at <= len(image.data) - 16:
        place, _, base = struct.unpack_from("<QQQ", image.data, at - 8)
        if base >= _TOP[8] and not base & 0xFFF and place == image.address(base_at, base):
            return int(base)
        at = image.data.find(info, at + 1)
    return 0
