"""The path of an open file as the kernel itself shows it, read from the guest's dentries and mounts.

What /proc/PID/fd shows (d_path and prepend_path in fs/d_path.c, Linux 6.1), with one difference: the walk ends at
the root of the mount namespace and not at the reader's, so a chroot does not shorten a path.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from capture.profile import Profile

_KEYS: Final = """
    path.d_parent_offset path.d_name_offset path.d_iname_offset path.d_inode_offset path.d_op_offset
    path.d_hash_pprev_offset path.d_dname_offset path.d_fsdata_offset path.mnt_root_offset path.mnt_parent_offset
    path.mnt_mountpoint_offset path.mnt_offset qstr.name_offset qstr.hash_len_offset inode.i_ino_offset ns.name_offset
""".split()  # noqa: SIM905 - as in kernelinfo.py
_INLINE: Final = 32
"""Bytes of a name that lie in the dentry itself, at the least (DNAME_INLINE_LEN in include/linux/dcache.h)."""
_NAME_MAX: Final = 255
_PATH_MAX: Final = 4096
"""The kernel shows no longer path: it has one page for it (do_proc_readlink in fs/proc/base.c)."""
_MASK: Final = (1 << 64) - 1

DELETED: Final = b" (deleted)"


class Memory(Protocol):
    """Guest memory; a read that fails is None."""

    def word(self, cpu: Any, address: int, size: int = 0) -> int | None:
        """A pointer."""

    def block(self, cpu: Any, address: int, size: int) -> bytes | None:
        """Some bytes, at most a page."""


_MOST: Final = 4096
"""Paths that are kept."""

_Check = tuple[int, int, bytes, bytes]
"""What was read for a path: address, size, how the bytes begin and how they end. What lies between did not count."""


class _Dentry(NamedTuple):
    address: int
    parent: int
    is_hashed: bool
    hash_len: int
    name: int
    """Address of the name."""
    inode: int
    op: int
    """Address of its dentry_operations."""
    data: bytes


class Paths:
    """Shows paths of one guest."""

    def __init__(self, memory: Memory, profile: Profile, displacement: int) -> None:
        """Prepare to read.

        Args:
            memory: The guest's.
            profile: Of its kernel; `fits` must hold.
            displacement: How far the kernel runs above its link address.
        """
        self._memory = memory
        at = {key.partition(".")[2].removesuffix("_offset"): profile[key] for key in _KEYS}
        name, inline = at["d_name"], at["d_iname"]
        members = (
            at["d_hash_pprev"], at["d_parent"], name + profile["qstr.hash_len_offset"],
            name + profile["qstr.name_offset"], at["d_inode"], at["d_op"],
        )  # fmt: skip
        self._low = min(members)
        words = (max(*members, inline + _INLINE - 8) - self._low) // 8 + 1
        self._head = max(*members[:-1], inline + _INLINE - 8) + 8 - self._low
        """Bytes of a dentry that say where it is; behind them, past its count of users, may lie d_op."""
        self._words, self._size = struct.Struct(f"<{words}Q"), 8 * words  # the last is d_op, or within the head
        self._pprev, self._parent, self._hash_len, self._name, self._inode, self._op = (
            (member - self._low) // 8 for member in members
        )
        self._inline = inline
        self._fsdata, self._ino, self._dname = at["d_fsdata"], at["i_ino"], at["d_dname"]
        self._ns_name = profile["ns.name_offset"]
        self._mnt = at["mnt"]
        mount = (at["mnt_parent"], at["mnt_mountpoint"], at["mnt_root"])
        self._mount_low, self._mount_size = min(mount), max(mount) + 8 - min(mount)
        self._mount_at = tuple(offset - self._mount_low for offset in mount)
        shows: dict[str, Callable[[Any, _Dentry], bytes | None]] = {
            "pipefs_dname": self._pipe, "sockfs_dname": self._socket, "anon_inodefs_dname": self._anonymous,
            "simple_dname": self._simple, "ns_dname": self._namespace,
        }  # fmt: skip
        self._shows = {
            (profile.symbols[name] + displacement) & _MASK: show
            for name, show in shows.items()
            if name in profile.symbols
        }
        self._op_shows: dict[int, Callable[[Any, _Dentry], bytes | None] | None] = {0: None}
        """dentry_operations to what shows its files; None where they have a path."""
        self._kept: dict[tuple[int, int], tuple[tuple[_Check, ...], bytes]] = {}
        """(vfsmount, dentry) to all that was read for the path, and the path: it holds while that is the same."""
        self._read: list[_Check] = []
        """What has been read for the path that is being made."""

    @staticmethod
    def fits(profile: Profile) -> bool:
        """Whether a profile has what this needs; one that others made has not."""
        return all(key in profile.values for key in _KEYS)

    def path(self, cpu: Any, mnt: int, dentry: int) -> bytes | None:
        """The path of a (vfsmount, dentry) pair; None if something on the way cannot be read or makes no sense."""
        kept = self._kept.get((mnt, dentry))
        if kept is not None:
            block = self._memory.block
            for address, size, begins, ends in kept[0]:
                data = block(cpu, address, size)
                if data is None or not data.startswith(begins) or not data.endswith(ends):
                    break
            else:
                return kept[1]
        self._read.clear()
        text, lasts = self._make(cpu, mnt, dentry)
        if text is not None and lasts:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[mnt, dentry] = tuple(self._read), text
        return text

    def _make(self, cpu: Any, mnt: int, dentry: int) -> tuple[bytes | None, bool]:
        """Read a path; and whether it is a path, and depends on nothing but what was noted."""
        found = self._dentry(cpu, dentry)
        if found is None or (found.op not in self._op_shows and not self._learn(cpu, found.op)):
            return None, False
        show = self._op_shows[found.op]
        if show is not None:
            if show != self._namespace:
                return show(cpu, found), False
            mount = self._mount(cpu, mnt)
            if mount is None or mount[2] != dentry:
                return show(cpu, found), False
        text = self._walk(cpu, mnt, found)
        if text is not None and not found.is_hashed and found.parent != dentry:
            text += DELETED
        return text, True

    def _walk(self, cpu: Any, mnt: int, found: _Dentry) -> bytes | None:
        """The names from the root of all mounts down to a dentry."""
        mount = self._mount(cpu, mnt)
        parts: list[bytes] = []
        dentry, known, length = found.address, found, 0
        for _ in range(_PATH_MAX):
            if mount is None:
                return None
            above, mountpoint, root = mount
            if dentry == root:
                if above + self._mnt & _MASK == mnt:
                    return b"/" + b"/".join(reversed(parts))
                mnt, dentry = above + self._mnt & _MASK, mountpoint
                mount = self._mount(cpu, mnt)
                continue
            if dentry != known.address:
                read = self._dentry(cpu, dentry)
                if read is None:
                    return None
                known = read
            name = self._text(cpu, known)
            length += len(name or b"") + 1
            if name is None or known.parent == dentry or length > _PATH_MAX:
                return None  # a root that is no mount's: the folder was moved out of what a bind mount shows
            parts.append(name)
            dentry = known.parent
        return None

    def _mount(self, cpu: Any, mnt: int) -> tuple[int, int, int] | None:
        """Parent (a struct mount), mountpoint and root of a mount."""
        data = self._memory.block(cpu, mnt + self._mount_low & _MASK, self._mount_size)
        if data is None:
            return None
        self._read.append((mnt + self._mount_low & _MASK, self._mount_size, data, b""))
        parent, mountpoint, root = (int.from_bytes(data[at : at + 8], "little") for at in self._mount_at)
        return parent, mountpoint, root

    def _dentry(self, cpu: Any, address: int) -> _Dentry | None:
        data = self._memory.block(cpu, address + self._low & _MASK, self._size)
        if data is None:
            return None
        self._read.append((address + self._low & _MASK, self._size, data[: self._head], data[-8:]))
        words = self._words.unpack(data)
        return _Dentry(
            address, words[self._parent], words[self._pprev] != 0, words[self._hash_len], words[self._name],
            words[self._inode], words[self._op], data,
        )  # fmt: skip

    def _text(self, cpu: Any, dentry: _Dentry) -> bytes | None:
        """A dentry's name."""
        length = dentry.hash_len >> 32
        if not 0 < length <= _NAME_MAX:
            return None
        at = dentry.name - dentry.address - self._low
        if 0 <= at <= self._head - length:
            name: bytes | None = dentry.data[at : at + length]
        else:
            name = self._memory.block(cpu, dentry.name, length)
            if name is not None:
                self._read.append((dentry.name, length, name, b""))
        return None if name is None or b"\0" in name else name

    def _learn(self, cpu: Any, op: int) -> bool:
        """Find out what shows the files of a dentry_operations; False if that is nothing we know."""
        function = self._memory.word(cpu, op + self._dname & _MASK)
        if function is None or (function and function not in self._shows):
            return False
        self._op_shows[op] = self._shows[function] if function else None
        return True

    def _number(self, cpu: Any, text: bytes | None, dentry: _Dentry) -> bytes | None:
        """``text:[inode number]``."""
        number = self._memory.word(cpu, dentry.inode + self._ino & _MASK) if dentry.inode else None
        return None if text is None or number is None else b"%b:[%d]" % (text, number)

    def _pipe(self, cpu: Any, dentry: _Dentry) -> bytes | None:
        return self._number(cpu, b"pipe", dentry)

    def _socket(self, cpu: Any, dentry: _Dentry) -> bytes | None:
        return self._number(cpu, b"socket", dentry)

    def _anonymous(self, cpu: Any, dentry: _Dentry) -> bytes | None:
        name = self._text(cpu, dentry)
        return None if name is None else b"anon_inode:" + name

    def _simple(self, cpu: Any, dentry: _Dentry) -> bytes | None:
        """A file with a name and no folder: memfd_create's, shared memory."""
        name = self._text(cpu, dentry)
        return None if name is None else b"/" + name + DELETED

    def _namespace(self, cpu: Any, dentry: _Dentry) -> bytes | None:
        operations = self._memory.word(cpu, dentry.address + self._fsdata & _MASK)
        name = self._memory.word(cpu, operations + self._ns_name & _MASK) if operations else None
        text = self._memory.block(cpu, name, 16) if name else None  # the longest is pid_for_children
        return self._number(cpu, None if text is None else text.split(b"\0", 1)[0], dentry)
