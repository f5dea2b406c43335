"""Initramfs archives in code: cpio "newc", as Documentation/driver-api/early-userspace in Linux has it.

Device nodes are only header fields here, so no root is needed; times, owners and inode numbers are fixed, so
the same entries make the same bytes.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
BLOCK = 512  # cpio(1) pads the whole archive to this; the kernel does not care


@dataclass(frozen=True)
class Entry:
    """One member: `mode` carries the type bits (S_IFREG...), `name` is relative to the archive's root."""

    name: str
    mode: int
    data: bytes = b""
    major: int = 0
    minor: int = 0


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | permissions, data)


def folder(name: str, permissions: int = 0o755) -> Entry:
    """A folder."""
    return Entry(name, stat.S_IFDIR | permissions)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link; its target is the member's data."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """A character device node."""
    return Entry(name, stat.S_IFCHR | permissions, b"", major, minor)


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`, in their order, with the folders that they imply put before them.

    Raises:
        ValueError: a name is absolute, empty, climbs out, or comes twice.
    """
    members: dict[str, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise ValueError(f"cpio: bad member name {entry.name!r}; give one relative to the root")
        for parent in reversed([str(parent) for parent in path.parents][:-1]):
            members.setdefault(parent, folder(parent))
        if members.get(entry.name, entry) != entry:
            raise ValueError(f"cpio: member {entry.name!r} comes twice, with different contents")
        members[entry.name] = entry
    body = b"".join(_member(inode, entry) for inode, entry in enumerate(members.values(), 1))
    return _padded(body + _member(0, Entry(TRAILER, 0)), BLOCK)


def compressed(entries: Iterable[Entry]) -> bytes:
    """`archive(entries)`, gzipped without a time stamp."""
    return gzip.compress(archive(entries), 6, mtime=0)


def _member(inode: int, entry: Entry) -> bytes:
    """Thirteen 8-digit hexadecimal fields, the name, the data; name and data each end on a multiple of 4."""
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    owner = (0, 0)  # uid, gid
    lies_on = (0, 0)  # the device that holds it
    fields = [inode, entry.mode, *owner, links, 0, len(entry.data)]  # 0: the time of change
    fields += [*lies_on, entry.major, entry.minor, len(name), 0]  # 0: newc has no checksum
    header = MAGIC + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name, 4) + _padded(entry.data, 4)


def _padded(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)
