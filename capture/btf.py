"""Ask a kernel's BTF (its own description of its types) for struct sizes and member offsets.

Layout: Documentation/bpf/btf.rst and include/uapi/linux/btf.h (Linux 6.12). A header, then type records of 12
bytes (u32 name_off, u32 info, u32 size_or_type) each followed by what its kind needs, then NUL-terminated
strings. Only little-endian blobs are read.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from capture.kernel_image import KernelImage, ProfileError

__all__ = ["Btf", "find_btf"]

_MAGIC: Final = b"\x9f\xeb\x01"  # u16 0xeB9F little-endian, version 1
_HEADER: Final = struct.Struct("<HBBIIIII")
_RECORD: Final = struct.Struct("<III")

_STRUCT, _UNION, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG = 4, 5, 8, 9, 10, 11, 18
_TRANSPARENT: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})

# Bytes behind a record: (fixed, per vlen), by kind 1 (INT) to 19 (ENUM64, Linux 6.0).
_INT, _ARRAY, _ENUM, _PROTO, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = 1, 3, 6, 13, 14, 15, 17, 19
_TRAILER: Final = {kind: (0, 0) for kind in range(1, 20)} | {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
}


class NoBtfError(ProfileError):
    """A kernel image has no BTF."""


class _Type(NamedTuple):
    kind: int
    size_or_type: int
    members_at: int
    vlen: int
    kind_flag: bool


class Btf:
    """Parsed BTF: every type's place by its number, every struct's and union's number by its name."""

    def __init__(self, blob: bytes, where: str = "BTF") -> None:
        """Index the types.

        Args:
            blob: the bytes, from the header on; what follows the strings is ignored.
            where: file and offset, for error texts.

        Raises:
            ProfileError: the header or a type record lies about its size.
        """
        self._where = where
        if len(blob) < _HEADER.size or not blob.startswith(_MAGIC):
            raise self._error("no BTF header")
        _, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(blob)
        types, strings = header + type_off, header + str_off
        if header < _HEADER.size or max(types + type_len, strings + str_len) > len(blob):
            raise self._error("the BTF header names bytes outside the blob")
        self._types = blob[types : types + type_len]
        self._strings = blob[strings : strings + str_len]
        self._at = [0]  # offset of each type's record in _types, by type id; id 0 is void
        self._structs: dict[bytes, int] = {}
        self._index()

    def size(self, name: str) -> int:
        """Size in bytes of the struct or union `name`."""
        return self._type(self._struct(name)).size_or_type

    def has(self, name: str, path: str = "") -> bool:
        """Tell whether there is a struct `name` and, if given, a member `path` in it."""
        if name.encode() not in self._structs:
            return False
        return not path or self._locate(self._struct(name), path) is not None

    def offset(self, name: str, path: str) -> int:
        """Offset in bytes of a member of the struct or union `name`.

        Args:
            name: tag, without "struct".
            path: member, or members joined by dots through nested structs ("f_path.dentry"). Members of
                anonymous structs and unions are found as C finds them. Pointers are not followed.

        Raises:
            ProfileError: there is no such struct or member, or it is a bitfield.
        """
        bits = self._locate(self._struct(name), path)
        if bits is None:
            raise self._error(f"struct {name} has no member {path}")
        if bits % 8:  # before kind_flag a bitfield's place was known from its INT (Linux 4.x)
            raise self._error(f"struct {name} member {path} is a bitfield")
        return bits // 8

    def _error(self, text: str) -> ProfileError:
        advice = "names will be inferred without a profile, or give --profile"
        return ProfileError(f"{self._where}: {text}; {advice}")

    def _index(self) -> None:
        at, end = 0, len(self._types)
        while at < end:
            if at + _RECORD.size > end:
                raise self._error(f"type {len(self._at)} at {at:#x} is cut off")
            name_off, info, _ = _RECORD.unpack_from(self._types, at)
            kind = info >> 24 & 0x1F
            if kind not in _TRAILER:
                raise self._error(f"type {len(self._at)} at {at:#x} is of unknown kind {kind}")
            if name_off and kind in (_STRUCT, _UNION):
                self._structs.setdefault(self._name(name_off), len(self._at))
            self._at.append(at)
            fixed, each = _TRAILER[kind]
            at += _RECORD.size + fixed + each * (info & 0xFFFF)
        if at != end:
            raise self._error(f"type {len(self._at) - 1} is cut off")

    def _name(self, offset: int) -> bytes:
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise self._error(f"name at {offset:#x} is outside the strings")
        return self._strings[offset:end]

    def _struct(self, name: str) -> int:
        try:
            return self._structs[name.encode()]
        except KeyError:
            raise self._error(f"no struct {name}") from None

    def _type(self, number: int) -> _Type:
        if not 0 < number < len(self._at):
            raise self._error(f"no type {number}")
        at = self._at[number]
        _, info, size_or_type = _RECORD.unpack_from(self._types, at)
        return _Type(info >> 24 & 0x1F, size_or_type, at + _RECORD.size, info & 0xFFFF, bool(info >> 31))

    def _resolved(self, number: int) -> int:
        """Follow typedefs and qualifiers to a type that is none; void (0) stays."""
        for _ in range(len(self._at)):
            if not number or (found := self._type(number)).kind not in _TRANSPARENT:
                return number
            number = found.size_or_type
        raise self._error(f"type {number} is a typedef of itself")

    def _locate(self, number: int, path: str) -> int | None:
        """Offset in bits of `path` in struct type `number`; None when it is not there."""
        bits = 0
        for name in path.split("."):
            member = self._member(number, name.encode())
            if member is None:
                return None
            number, within = member
            bits += within
        return bits

    def _member(self, number: int, name: bytes) -> tuple[int, int] | None:
        """(type id, offset in bits) of a member of struct `number` or of the anonymous structs in it."""
        todo, seen = [(number, 0)], set()  # a hostile blob can nest anonymous types in themselves
        while todo:
            number, base = todo.pop()
            outer = self._type(number)
            if outer.kind not in (_STRUCT, _UNION) or number in seen:
                continue
            seen.add(number)
            members = self._types[outer.members_at : outer.members_at + 12 * outer.vlen]
            for name_off, member, offset in _RECORD.iter_unpack(members):
                # kind_flag: the top 8 bits are the bitfield's width, 0 for an ordinary member (2.2.4).
                width = offset >> 24 if outer.kind_flag else 0
                bits = base + (offset & 0xFFFFFF if outer.kind_flag else offset)
                if not name_off:
                    todo.append((self._resolved(member), bits))
                elif self._name(name_off) == name:
                    if width:
                        raise self._error(f"member {name.decode()} is a bitfield")
                    return self._resolved(member), bits
        return None


def find_btf(image: KernelImage) -> Btf:
    """Open an image's BTF: section .BTF, or in a flat image the longest blob with a sound header.

    Raises:
        NoBtfError: there is none (CONFIG_DEBUG_INFO_BTF is off).
        ProfileError: it is damaged.
    """
    section = image.sections.get(".BTF")
    if section:
        return Btf(image.data[section.offset : sum(section)], f"{image.path}, .BTF at {section.offset:#x}")
    best_at, best_size = 0, 0
    at = image.data.find(_MAGIC)
    while 0 <= at <= len(image.data) - _HEADER.size:
        _, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(image.data, at)
        size = header + str_off + str_len
        # As pahole writes it: no gaps. Anything else is a chance match.
        sound = header == _HEADER.size and type_off == 0 and str_off == type_len
        if sound and best_size < size <= len(image.data) - at:
            best_at, best_size = at, size
        at = image.data.find(_MAGIC, at + 1)
    if not best_size:
        raise NoBtfError(
            f"{image.path}: no BTF, so struct offsets are unknown (CONFIG_DEBUG_INFO_BTF is off); "
            "they will be derived from the running kernel, or give --profile"
        )
    return Btf(image.data[best_at : best_at + best_size], f"{image.path}, BTF at {best_at:#x}")
