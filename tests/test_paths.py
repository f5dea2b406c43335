"""Paths of open files out of memory images: what a live guest shows seldom, or never."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from capture.descriptors import Descriptors
from capture.files import FileRecords
from capture.paths import Paths
from capture.profile import Profile

# Offsets of Linux 6.1 on x86_64; a dentry's count of users (d_lockref) lies between its name and d_op.
VALUES = {
    "path.d_hash_pprev_offset": 16, "path.d_parent_offset": 24, "path.d_name_offset": 32, "path.d_inode_offset": 48,
    "path.d_iname_offset": 56, "path.d_op_offset": 96, "path.d_fsdata_offset": 120, "path.d_dname_offset": 72,
    "path.mnt_root_offset": 0, "path.mnt_parent_offset": -16, "path.mnt_mountpoint_offset": -8, "path.mnt_offset": 32,
    "qstr.hash_len_offset": 0, "qstr.name_offset": 8, "inode.i_ino_offset": 64, "ns.name_offset": 0,
    "task.files_offset": 8, "task.fs_offset": 0, "files.size": 704, "fs.fdt_offset": 32, "fs.fdtab_offset": 40,
    "fs.max_fds_offset": 0, "fs.fd_offset": 8, "fs.close_on_exec_offset": 16, "fs.open_fds_offset": 24,
    "fs.f_path_mnt_offset": 16, "fs.f_path_dentry_offset": 24, "fs.pwd_mnt_offset": 40, "fs.pwd_dentry_offset": 48,
}  # fmt: skip
FUNCTIONS = {"pipefs_dname": 0x1000, "anon_inodefs_dname": 0x1010, "ns_dname": 0x1020, "simple_dname": 0x1030}
PROFILE = Profile("linux:6.1:64", "6.1|#1|x86_64", VALUES, FUNCTIONS)
MOVED = 0x80000
BASE = 0xFFFF888000000000


class Kernel:
    """Memory, one mapped stretch, in which structs are built one after the other."""

    def __init__(self) -> None:
        self.data = bytearray(4096)
        self.used, self.reads = 4096, 0

    def block(self, cpu: Any, address: int, size: int) -> bytes | None:
        self.reads += 1
        at = address - BASE
        return bytes(self.data[at : at + size]) if at >= 4096 and at + size <= len(self.data) else None

    def word(self, cpu: Any, address: int, size: int = 0) -> int | None:
        data = self.block(cpu, address, size or 8)
        return None if data is None else int.from_bytes(data, "little")

    def room(self, size: int) -> int:
        self.data += bytes(size)
        self.used += size
        return BASE + self.used - size

    def put(self, address: int, value: int | bytes) -> None:
        data = value if isinstance(value, bytes) else struct.pack("<Q", value & (1 << 64) - 1)
        self.data[address - BASE : address - BASE + len(data)] = data

    def dentry(self, name: bytes, parent: int = 0, op: int = 0, number: int = 0) -> int:
        """A hashed dentry; its own parent if none is given."""
        address = self.room(192)
        inode = self.room(128)
        self.put(inode + 64, number)
        self.put(address + 16, 1)
        self.put(address + 24, parent or address)
        self.put(address + 48, inode)
        self.put(address + 96, op)
        self.rename(address, name)
        return address

    def rename(self, dentry: int, name: bytes) -> None:
        at = dentry + 56
        if len(name) > 31:
            at = self.room(-(-len(name) // 8) * 8)
        self.put(at, name)
        self.put(dentry + 32, len(name) << 32 | 0xABCDEF)
        self.put(dentry + 40, at)

    def mount(self, root: int, parent: int = 0, mountpoint: int = 0) -> int:
        """A mount, as its struct vfsmount; its own parent if none is given."""
        address = self.room(320)
        self.put(address + 16, parent - 32 if parent else address)
        self.put(address + 24, mountpoint)
        self.put(address + 32, root)
        return address + 32

    def operations(self, function: int) -> int:
        address = self.room(128)
        self.put(address + 72, function)
        return address

    def file(self, mnt: int, dentry: int) -> int:
        address = self.room(256)
        self.put(address + 16, struct.pack("<2Q", mnt, dentry))
        return address


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def paths(kernel: Kernel) -> Paths:
    return Paths(kernel, PROFILE, MOVED)


def test_a_path_goes_through_mounts_up_to_the_root_of_all(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    top = kernel.mount(root)
    media = kernel.dentry(b"media", root)
    disk_root = kernel.dentry(b"/")
    disk = kernel.mount(disk_root, top, media)
    over_root = kernel.dentry(b"/")
    over = kernel.mount(over_root, disk, disk_root)  # one mount upon another
    long = kernel.dentry(b"n" * 255, over_root)
    assert paths.path(None, top, root) == b"/"
    assert paths.path(None, disk, disk_root) == b"/media"
    assert paths.path(None, over, kernel.dentry(b"file", long)) == b"/media/" + b"n" * 255 + b"/file"


def test_what_was_removed_is_deleted_and_a_root_is_not(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    top = kernel.mount(root)
    gone = kernel.dentry(b"gone", root)
    kernel.put(gone + 16, 0)
    kernel.put(root + 16, 0)
    assert paths.path(None, top, gone) == b"/gone (deleted)"
    assert paths.path(None, top, root) == b"/"


def test_a_folder_that_was_moved_out_of_what_a_mount_shows_has_no_path(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    shown = kernel.dentry(b"shown", root)
    bound = kernel.mount(shown, kernel.mount(root), kernel.dentry(b"bound", root))
    assert paths.path(None, bound, kernel.dentry(b"elsewhere", root)) is None
    assert paths.path(None, bound, kernel.dentry(b"inside", shown)) == b"/bound/inside"


def test_files_without_a_path_are_shown_by_their_kind(kernel: Kernel, paths: Paths) -> None:
    mnt = kernel.mount(kernel.dentry(b"pipe:"))
    operations = {name: kernel.operations(address + MOVED) for name, address in FUNCTIONS.items()}
    pipe = kernel.dentry(b"", op=operations["pipefs_dname"], number=4711)
    assert paths.path(None, mnt, pipe) == b"pipe:[4711]"
    event = kernel.dentry(b"[eventfd]", op=operations["anon_inodefs_dname"])
    assert paths.path(None, mnt, event) == b"anon_inode:[eventfd]"
    assert paths.path(None, mnt, kernel.dentry(b"memfd:x", op=operations["simple_dname"])) == b"/memfd:x (deleted)"
    net = kernel.dentry(b"/", op=operations["ns_dname"], number=4026531840)
    text = kernel.room(16)
    kernel.put(text, b"net\0")
    kinds = kernel.room(8)
    kernel.put(kinds, text)
    kernel.put(net + 120, kinds)
    assert paths.path(None, mnt, net) == b"net:[4026531840]"


def test_what_is_shown_by_a_function_that_is_not_known_has_no_name(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    other = kernel.dentry(b"name", root, op=kernel.operations(0x7777))
    assert paths.path(None, kernel.mount(root), other) is None


def test_operations_without_a_function_leave_the_path(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    assert paths.path(None, kernel.mount(root), kernel.dentry(b"1", root, op=kernel.operations(0))) == b"/1"


@pytest.mark.parametrize("length", [0, 256, 0xFFFFFFFF])
def test_a_name_of_impossible_length_is_no_name(kernel: Kernel, paths: Paths, length: int) -> None:
    root = kernel.dentry(b"/")
    file = kernel.dentry(b"file", root)
    kernel.put(file + 32, length << 32)
    assert paths.path(None, kernel.mount(root), file) is None


def test_whatever_cannot_be_read_gives_no_name(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    top = kernel.mount(root)
    file = kernel.dentry(b"file", kernel.dentry(b"folder", root))
    assert paths.path(None, top, file) == b"/folder/file"
    for place, offset in ((file, 24), (file, 40), (file, 96), (top, -16 + 16)):
        at = place + offset - BASE
        kept = bytes(kernel.data[at : at + 8])
        for bad in (0, 8, BASE + 1, (1 << 64) - 8, (1 << 64) - 1):
            kernel.put(place + offset, bad)
            found = paths.path(None, top, file)
            assert found is None or (place + offset, bad) == (file + 96, 0)
        kernel.put(place + offset, kept)
    assert paths.path(None, 0, file) is None and paths.path(None, top, 0) is None


def test_cycles_of_folders_and_of_mounts_end(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    top = kernel.mount(root)
    one = kernel.dentry(b"one", root)
    two = kernel.dentry(b"two", one)
    kernel.put(one + 24, two)
    assert paths.path(None, top, two) is None
    first = kernel.mount(one)
    second = kernel.mount(two, first, one)
    kernel.put(first - 16, second - 32)
    kernel.put(first - 8, two)
    assert paths.path(None, first, one) is None


def test_a_kept_path_is_taken_only_while_everything_on_the_way_is_the_same(kernel: Kernel, paths: Paths) -> None:
    root = kernel.dentry(b"/")
    top = kernel.mount(root)
    folder = kernel.dentry(b"folder", root)
    other = kernel.dentry(b"o" * 40, root)
    mounted_root = kernel.dentry(b"/")
    mounted = kernel.mount(mounted_root, top, folder)
    file = kernel.dentry(b"file", mounted_root)
    assert paths.path(None, mounted, file) == b"/folder/file"
    first = kernel.reads
    assert paths.path(None, mounted, file) == b"/folder/file"
    kept = kernel.reads - first
    kernel.put(folder + 88, 12345)  # another user: not a change
    first = kernel.reads
    assert paths.path(None, mounted, file) == b"/folder/file" and kernel.reads - first == kept
    kernel.rename(folder, b"renamed")
    assert paths.path(None, mounted, file) == b"/renamed/file"
    kernel.put(mounted - 8, other)
    assert paths.path(None, mounted, file) == b"/" + b"o" * 40 + b"/file"
    (at,) = struct.unpack_from("<Q", kernel.data, other + 40 - BASE)
    kernel.put(at, b"p")
    assert paths.path(None, mounted, file) == b"/p" + b"o" * 39 + b"/file"
    kernel.put(file + 16, 0)
    assert paths.path(None, mounted, file) == b"/p" + b"o" * 39 + b"/file (deleted)"
    kernel.put(file + 96, kernel.operations(FUNCTIONS["simple_dname"] + MOVED))
    assert paths.path(None, mounted, file) == b"/file (deleted)"


# ---- tables ----


class Recorded:
    """What a recorder would have written."""

    def __init__(self) -> None:
        self.counts = {"unnamed": 0}
        self.rows: list[tuple[object, ...]] = []

    def files(self, table: int, found: list[tuple[int, bytes | None, int]], snapshot: bool = False) -> None:
        self.rows.append((table, found, snapshot))

    def file(self, owner: int, fd: int, path: bytes | None, flags: int) -> None:
        self.rows.append((owner, fd, path, flags))

    def folder(self, task: int, path: bytes | None) -> None:
        self.rows.append((task, path))


class Task:
    """A task with a small table, which lies in its files_struct, or a grown one, which does not."""

    def __init__(self, kernel: Kernel, slots: int) -> None:
        self.kernel, root = kernel, kernel.dentry(b"/")
        self.top, self.root = kernel.mount(root), root
        self.task, self.files, self.folders = kernel.room(64), kernel.room(704), kernel.room(64)
        kernel.put(self.task, struct.pack("<2Q", self.folders, self.files))
        kernel.put(self.folders + 40, struct.pack("<2Q", self.top, root))
        is_small = slots <= 64
        table = self.files + 40 if is_small else kernel.room(64)
        self.slots = self.files + 192 if is_small else kernel.room(8 * slots)
        self.bits = self.files + 168 if is_small else kernel.room(-(-slots // 64) * 8)
        kernel.put(self.files + 32, table)
        kernel.put(table, struct.pack("<I4x3Q", slots, self.slots, self.bits, 0))

    def open(self, fd: int, name: bytes, cloexec: bool = False) -> None:
        file = self.kernel.file(self.top, self.kernel.dentry(name, self.root))
        self.kernel.put(self.slots + 8 * fd, file)
        if cloexec:
            at = self.bits + fd // 64 * 8
            known = self.kernel.word(None, at) or 0
            self.kernel.put(at, known | 1 << fd % 64)


def records(kernel: Kernel) -> tuple[FileRecords, Recorded]:
    recorded = Recorded()
    return FileRecords(Descriptors(kernel, PROFILE, MOVED), recorded), recorded  # type: ignore[arg-type]


ME, THREAD = 7 << 32 | 7, 7 << 32 | 8


@pytest.mark.parametrize("slots", [64, 1024])
def test_a_small_table_and_a_grown_one_are_read_whole(kernel: Kernel, slots: int) -> None:
    task = Task(kernel, slots)
    wanted = [(0, b"/a", 0), (3, b"/b", 1), (63, b"/c", 1)] + ([(700, b"/d", 1), (1023, b"/e", 0)] * (slots > 64))
    for fd, name, flags in wanted:
        task.open(fd, name[1:], flags == 1)
    files, recorded = records(kernel)
    files.identified(None, task.task, ME, False)
    assert recorded.rows == [(task.files, wanted, True), (ME, b"/")]


def test_a_table_is_recorded_once_for_all_threads_and_again_when_told(kernel: Kernel) -> None:
    task = Task(kernel, 64)
    files, recorded = records(kernel)
    files.identified(None, task.task, ME, False)
    files.identified(None, task.task, THREAD, False)
    assert recorded.rows == [(task.files, [], True), (ME, b"/"), (THREAD, b"/")]
    files.identified(None, task.task, ME, True)
    files.gone(7)
    files.identified(None, task.task, ME, False)
    files.forget()
    files.identified(None, task.task, ME, False)
    assert [row for row in recorded.rows if row[-1] is True] == [(task.files, [], True)] * 4


def test_a_table_of_another_process_at_the_same_address_is_recorded(kernel: Kernel) -> None:
    task = Task(kernel, 64)
    files, recorded = records(kernel)
    files.identified(None, task.task, ME, False)
    files.identified(None, task.task, 9 << 32 | 9, False)
    assert [row for row in recorded.rows if row[-1] is True] == [(task.files, [], True)] * 2


def test_a_folder_is_recorded_for_all_who_share_it(kernel: Kernel) -> None:
    task, other = Task(kernel, 64), Task(kernel, 64)
    files, recorded = records(kernel)
    files.identified(None, task.task, ME, False)
    files.identified(None, task.task, THREAD, False)
    files.identified(None, other.task, 9 << 32 | 9, False)
    kernel.put(task.folders + 48, kernel.dentry(b"new", task.root))
    files.moved(None, task.task, THREAD)
    assert recorded.rows[-2:] == [(ME, b"/new"), (THREAD, b"/new")]


def test_a_descriptor_whose_name_cannot_be_read_is_open_and_counted(kernel: Kernel) -> None:
    task = Task(kernel, 64)
    kernel.put(task.slots + 8 * 5, 0xDEAD0000)
    files, recorded = records(kernel)
    files.identified(None, task.task, ME, False)
    files.made(None, task.task, [5, 6, -1, 64, 1 << 40])
    assert recorded.rows == [(task.files, [(5, None, 0)], True), (ME, b"/"), (task.files, 5, None, 0)]
    assert recorded.counts["unnamed"] == 2


@pytest.mark.parametrize("damage", [(8, 0xDEAD0000), (8, 0)])
def test_a_table_that_cannot_be_read_is_not_recorded_as_empty(kernel: Kernel, damage: tuple[int, int]) -> None:
    task = Task(kernel, 64)
    kernel.put(task.task + damage[0], damage[1])
    files, recorded = records(kernel)
    files.identified(None, task.task, ME, False)
    files.made(None, task.task, [0])
    assert recorded.rows == [(ME, b"/")] and recorded.counts["unnamed"] >= 1


def test_a_table_that_claims_the_impossible_is_left_out(kernel: Kernel) -> None:
    task = Task(kernel, 64)
    kernel.put(task.files + 40, struct.pack("<I", 0xFFFFFFFF))
    files, recorded = records(kernel)
    files.identified(None, task.task, ME, False)
    assert recorded.rows == [(ME, b"/")]
    wide = Task(kernel, 8192)
    for fd in range(5000):
        kernel.put(wide.slots + 8 * fd, 0xDEAD0000)
    files.identified(None, wide.task, 9 << 32 | 9, False)
    assert recorded.rows[-1] == (9 << 32 | 9, b"/") and len(recorded.rows) == 2


def test_a_third_partys_profile_gives_no_file_records() -> None:
    for key in VALUES:
        if key != "fs.open_fds_offset":
            lacking = {name: value for name, value in VALUES.items() if name != key}
            assert not Descriptors.fits(Profile("g", "", lacking))
    assert Descriptors.fits(PROFILE)
