"""A task's table of descriptors and its current folder, read from the guest's kernel (include/linux/fdtable.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from capture.paths import Memory, Paths
from capture.profile import Profile
from capture.recorder import OpenFile
from capture.segment import FileFlag

_KEYS: Final = """
    task.files_offset task.fs_offset files.size fs.fdt_offset fs.fdtab_offset fs.max_fds_offset fs.fd_offset
    fs.close_on_exec_offset fs.f_path_dentry_offset fs.f_path_mnt_offset fs.pwd_dentry_offset fs.pwd_mnt_offset
""".split()  # noqa: SIM905 - as in kernelinfo.py
_CLOEXEC: Final = int(FileFlag.CLOEXEC)
_MASK: Final = (1 << 64) - 1
_WORD: Final = struct.Struct("<Q").unpack_from
_HALF: Final = struct.Struct("<I").unpack_from
_PAGE: Final = 4096
_NR_OPEN: Final = 1 << 20
"""Descriptors that a table may have room for (the default of fs.nr_open)."""
_MOST: Final = 4096
"""Descriptors of a table that are read; a table with more is left out."""


class Table(NamedTuple):
    """A table: where its parts are, and the bytes of its files_struct, in which a small table lies whole."""

    address: int
    size: int
    """Descriptors that it has room for."""
    slots: int
    """Address of the array of pointers to struct file."""
    close_on_exec: int
    """Address of the bits."""
    data: bytes


class _Pair:
    """Two pointers of a struct that are read at once."""

    def __init__(self, first: int, second: int) -> None:
        self.low = min(first, second)
        self.size = max(first, second) + 8 - self.low
        self.first, self.second = first - self.low, second - self.low


class Descriptors:
    """Reads the tables of one guest. Nothing raises: what cannot be read is None."""

    def __init__(self, memory: Memory, profile: Profile, displacement: int) -> None:
        """Prepare to read.

        Args:
            memory: The guest's.
            profile: Of its kernel; `fits` must hold.
            displacement: How far the kernel runs above its link address.
        """
        self._memory, self._paths = memory, Paths(memory, profile, displacement)
        self._files, self._fs = profile["task.files_offset"], profile["task.fs_offset"]
        self._files_size = min(profile["files.size"], _PAGE)
        self._fdt, self._fdtab = profile["fs.fdt_offset"], profile["fs.fdtab_offset"]
        self._max_fds = profile["fs.max_fds_offset"]
        self._slots, self._bits = profile["fs.fd_offset"], profile["fs.close_on_exec_offset"]
        self._fdt_size = max(self._max_fds, self._slots, self._bits) + 8
        self._path = _Pair(profile["fs.f_path_mnt_offset"], profile["fs.f_path_dentry_offset"])
        self._pwd = _Pair(profile["fs.pwd_mnt_offset"], profile["fs.pwd_dentry_offset"])

    @staticmethod
    def fits(profile: Profile) -> bool:
        """Whether a profile has what this needs; one that others made has not."""
        return Paths.fits(profile) and all(key in profile.values for key in _KEYS)

    def table_of(self, cpu: Any, task: int) -> int:
        """The address of a task's table by that of its task_struct; 0 if there is none."""
        return self._memory.word(cpu, task + self._files & _MASK) or 0

    def folders_of(self, cpu: Any, task: int) -> int:
        """The address of a task's fs_struct, which has its current folder and may be shared; 0 if there is none."""
        return self._memory.word(cpu, task + self._fs & _MASK) or 0

    def folder(self, cpu: Any, folders: int) -> bytes | None:
        """The path of the current folder in a fs_struct."""
        return self._path_at(cpu, folders, self._pwd)

    def table(self, cpu: Any, address: int) -> Table | None:
        """Open a table for `file` and `files`."""
        data = self._memory.block(cpu, address, self._files_size)
        if data is None:
            return None
        (fdt,) = _WORD(data, self._fdt)
        if fdt == address + self._fdtab:
            fields: bytes | None = data
            at = self._fdtab
        else:
            fields, at = self._memory.block(cpu, fdt, self._fdt_size), 0
        if fields is None:
            return None
        (size,), (slots,), (bits,) = (
            _HALF(fields, at + self._max_fds), _WORD(fields, at + self._slots), _WORD(fields, at + self._bits)
        )  # fmt: skip
        return Table(address, size, slots, bits, data) if size <= _NR_OPEN else None

    def file(self, cpu: Any, table: Table, fd: int) -> OpenFile | None:
        """What a descriptor is; None if it is not open or the table cannot be read."""
        if not 0 <= fd < table.size:
            return None
        file = self._inside(cpu, table, table.slots + 8 * fd)
        bits = self._inside(cpu, table, table.close_on_exec + fd // 64 * 8)
        if not file or bits is None:
            return None
        return fd, self._path_at(cpu, file, self._path), _CLOEXEC if bits >> fd % 64 & 1 else 0

    def files(self, cpu: Any, table: Table) -> list[OpenFile] | None:
        """Every open descriptor of a table; None if it cannot be read whole."""
        found: list[OpenFile] = []
        paths: dict[int, bytes | None] = {}
        for start in range(0, table.size, 512):
            count = min(512, table.size - start)
            files = self._range(cpu, table, table.slots + 8 * start, count)
            bits = self._range(cpu, table, table.close_on_exec + start // 8, (count + 63) // 64)
            if files is None or bits is None:
                return None
            for fd, file in _open(files):
                if len(found) == _MOST:
                    return None
                if file not in paths:
                    paths[file] = self._path_at(cpu, file, self._path)
                found.append((start + fd, paths[file], _CLOEXEC if bits[fd // 64] >> fd % 64 & 1 else 0))
        return found

    def _path_at(self, cpu: Any, address: int, pair: _Pair) -> bytes | None:
        """The path of a struct path, given where its two pointers are."""
        data = self._memory.block(cpu, address + pair.low & _MASK, pair.size)
        if data is None:
            return None
        return self._paths.path(cpu, _WORD(data, pair.first)[0], _WORD(data, pair.second)[0])

    def _inside(self, cpu: Any, table: Table, address: int) -> int | None:
        """A word of a table, from its own bytes if it lies there."""
        at = address - table.address
        if 0 <= at <= len(table.data) - 8:
            word: int = _WORD(table.data, at)[0]
            return word
        return self._memory.word(cpu, address & _MASK)

    def _range(self, cpu: Any, table: Table, address: int, count: int) -> tuple[int, ...] | None:
        """``count`` words of a table, at most a page."""
        at = address - table.address
        if 0 <= at <= len(table.data) - 8 * count:
            data: bytes | None = table.data[at : at + 8 * count]
        else:
            data = self._memory.block(cpu, address & _MASK, 8 * count)
        return None if data is None else struct.unpack(f"<{count}Q", data)


def _open(files: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """The places of a stretch of a table that hold a file."""
    return ((fd, file) for fd, file in enumerate(files) if file)
