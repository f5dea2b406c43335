"""`capture profile`: what is read out of a kernel image is right; hostile images end in one line of text."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from capture.btf import Btf, find_btf
from capture.decompress import decompress
from capture.kallsyms import read_symbols
from capture.kernel_image import KernelImage, ProfileError, unpack
from capture.profile import Profile, make_profile
from kernel_images import (
    BASE,
    BASE_32,
    PACKERS,
    SYMBOLS_32,
    BtfBuilder,
    bzimage,
    elf,
    elf_32,
    kallsyms,
    kallsyms_32,
    pad,
    some_symbols,
)

KERNEL = os.environ.get("SYSREEL_VMLINUZ")


def image(data: bytes) -> KernelImage:
    return KernelImage("k", data, "x86_64")


@pytest.fixture(scope="module")
def kernel() -> str:
    """Path of a real Debian amd64 kernel; on CI its absence is a failure, elsewhere a skip."""
    if not KERNEL:
        if os.environ.get("CI") == "true":
            pytest.fail("SYSREEL_VMLINUZ is not set; CI must name a real kernel")
        pytest.skip("SYSREEL_VMLINUZ is not set")
    return KERNEL


# ---- unpacking ----


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("wrap", [bzimage, lambda payload: payload], ids=["bzImage", "bare"])
def test_unpacks_every_compression(packer: str, wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    vmlinux = elf(bytes(range(256)) * 20 + b"a" * 1000)
    (tmp_path / "vmlinuz").write_bytes(wrap(PACKERS[packer](vmlinux)))
    assert unpack(tmp_path / "vmlinuz").data == vmlinux


@pytest.mark.parametrize("packer", PACKERS)
def test_ignores_the_size_that_the_build_appends(packer: str, tmp_path: Path) -> None:
    vmlinux = elf(b"kernel")
    (tmp_path / "vmlinuz").write_bytes(bzimage(PACKERS[packer](vmlinux), struct.pack("<I", len(vmlinux))))
    assert unpack(tmp_path / "vmlinuz").arch == "x86_64"


def test_an_arm64_image_is_flat_whether_packed_or_not(tmp_path: Path) -> None:
    flat = bytes(56) + b"ARM\x64" + bytes(100)
    zboot = b"MZ\0\0zimg" + struct.pack("<II", 64, len(gzip.compress(flat)))
    for number, data in enumerate([flat, gzip.compress(flat), zboot.ljust(64, b"\0") + gzip.compress(flat)]):
        (tmp_path / str(number)).write_bytes(data)
        found = unpack(tmp_path / str(number))
        assert (found.data, found.arch, found.segments) == (flat, "aarch64", ())


@pytest.mark.parametrize("packer", PACKERS)
def test_a_decompression_bomb_stops_at_the_limit(packer: str) -> None:
    with pytest.raises(ProfileError, match="more than 1 MiB"):
        decompress(PACKERS[packer](b"a" * (3 << 20)), 1 << 20, "k")


@pytest.mark.parametrize("packer", PACKERS)
def test_a_cut_off_stream_is_an_error_not_a_short_kernel(packer: str) -> None:
    packed = PACKERS[packer](os.urandom(5000))
    for cut in (len(packed) - 1, len(packed) // 2, 7):
        with pytest.raises(ProfileError, match=r"^k: damaged compressed kernel"):
            decompress(packed[:cut], 1 << 20, "k")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x7fELF",
        bytes(0x202) + b"HdrS",
        bytes(0x202) + b"HdrS" + b"\x07\x02" + bytes(600),
        bzimage(gzip.compress(b"x"))[:-9],
        bzimage(b"unknown!"),
        elf(b"x" * 100)[:-1],
        elf(b"x", machine=8),
        gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"x"))))),
    ],
    ids=[
        "empty", "short", "bare ELF", "old header", "header alone", "torn", "unknown packing", "torn ELF", "i8086",
        "packed five times",
    ],
)  # fmt: skip
def test_what_is_no_kernel_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(data)
    with pytest.raises(ProfileError, match=r"^\S+/k.*; [^\n]+$"):
        unpack(tmp_path / "k")


# ---- BTF ----


def sample_btf() -> BtfBuilder:
    """task_struct with every way of reaching a member, behind one record of every other kind."""
    b = BtfBuilder()
    number = b.add("int", 1, 0, 4, bytes(4))
    for kind, trailer in ((2, 0), (3, 12), (6, 8), (7, 0), (11, 0), (12, 0), (13, 8), (14, 4), (15, 12)):
        b.add("", kind, 1 if kind in (6, 13, 15) else 0, number, bytes(trailer))
    for kind, trailer in ((16, 0), (17, 4), (18, 0), (19, 12)):
        b.add("", kind, 1 if kind == 19 else 0, number, bytes(trailer))
    inner = b.struct("path", ("mnt", number, 0), ("dentry", number, 64))
    constant = b.add("", 10, 0, b.add("path_t", 8, 0, b.add("", 9, 0, inner)))
    hidden = b.struct("", ("pid", number, 32), ("flag", number, 3 << 24 | 72), flag=1)
    b.struct("task_struct", ("f_path", constant, 128), ("", hidden, 256), ("on", number, 3), size=9728)
    return b


def test_offsets_go_through_typedefs_qualifiers_and_anonymous_structs() -> None:
    btf = Btf(sample_btf().blob())
    assert btf.size("task_struct") == 9728
    assert btf.offset("task_struct", "f_path.dentry") == 16 + 8
    assert btf.offset("task_struct", "pid") == 32 + 4
    assert btf.has("task_struct", "f_path.mnt") and not btf.has("task_struct", "gone") and not btf.has("gone")


@pytest.mark.parametrize("path", ["flag", "on", "gone", "pid.deeper", "f_path.gone", ""])
def test_a_bitfield_or_missing_member_has_no_offset(path: str) -> None:
    with pytest.raises(ProfileError, match="without a profile"):
        Btf(sample_btf().blob()).offset("task_struct", path)


def test_btf_cut_anywhere_is_an_error() -> None:
    blob = sample_btf().blob()
    for cut in range(len(blob)):
        with pytest.raises(ProfileError):
            Btf(blob[:cut]).offset("task_struct", "gone")


def test_btf_with_any_byte_changed_is_read_or_refused_but_never_crashes() -> None:
    blob = sample_btf().blob()
    for at in range(len(blob)):
        for value in (0, 1, 0x7F, 0xFF):
            broken = blob[:at] + bytes([value]) + blob[at + 1 :]
            try:
                Btf(broken).offset("task_struct", "f_path.dentry")
            except ProfileError as error:
                assert "\n" not in str(error)


def test_cyclic_typedefs_and_self_containing_structs_end() -> None:
    b = BtfBuilder()
    b.add("loop", 8, 0, 2)
    b.add("loop", 8, 0, 1)
    b.struct("a", ("", 1, 0))
    b.struct("s", *[("", 4, 0)] * 1000)
    chain = [b.struct("", ("", number, 0)) for number in range(6, 3000)]
    b.struct("c", ("", chain[0], 0))
    btf = Btf(b.blob())
    for name in "asc":
        with pytest.raises(ProfileError):
            btf.offset(name, "x")


def test_a_flat_image_is_scanned_for_its_longest_sound_btf() -> None:
    small, blob = BtfBuilder(), sample_btf().blob()
    small.struct("task_struct", ("pid", 1, 0))
    lie = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 1 << 30, 1 << 30, 8)
    data = b"\x9f\xeb\x01" + bytes(50) + small.blob() + bytes(3) + blob + lie
    assert find_btf(image(data)).offset("task_struct", "pid") == 36


# ---- kallsyms ----


@pytest.mark.parametrize("percpu", [True, False], ids=["absolute per-CPU", "unsigned"])
@pytest.mark.parametrize("layout", ["6.1", "6.2", "6.4"])
def test_kallsyms_of_every_layout_give_back_their_symbols(layout: str, percpu: bool) -> None:
    symbols = some_symbols(percpu)
    data = b"code" * 1000 + kallsyms(symbols, layout, percpu) + b"data" * 1000
    assert read_symbols(image(data)) == (dict(symbols), BASE)


def test_of_symbols_with_one_name_the_lowest_is_kept() -> None:
    symbols = [*some_symbols(), ("_text", BASE + 100000)]
    assert read_symbols(image(bytes(64) + kallsyms(symbols))).symbols["_text"] == BASE


def test_a_relocatable_arm64_image_has_its_base_in_the_relocations() -> None:
    text = 0xFFFF800008000000
    blank = bytes(4096) + kallsyms(some_symbols(False), "6.1", False).replace(struct.pack("<Q", BASE), bytes(8))
    base_at = 4096 + len(pad(bytes(4 * len(some_symbols(False)))))
    rela = struct.pack("<QQQ", text + 8, 0x403, text + 77) + struct.pack("<QQQ", text + base_at, 0x403, text + 0x10000)
    found = read_symbols(KernelImage("k", blank + rela, "aarch64"))
    assert (found.base, found.symbols["_text"]) == (text + 0x10000, text + 0x10000)


@pytest.mark.parametrize("layout", ["6.1", "6.2", "6.4"])
def test_damaged_kallsyms_are_refused_or_read_but_never_crash(layout: str) -> None:
    data = bytes(64) + kallsyms(some_symbols(), layout)
    for at in range(0, len(data), 397):
        for broken in (data[:at], data[:at] + b"\xff" * 8 + data[at + 8 :]):
            try:
                read_symbols(image(broken))
            except ProfileError as error:
                assert "\n" not in str(error)


# ---- the profile file ----


ESSENTIAL = ("pid", "tgid", "comm", "mm", "group_leader", "real_parent")
PLAIN = "[{}]\nname = 5.4.0|#46|x86_64 Live\n" + "".join(
    f"task.{member}_offset = {number}\n" for number, member in enumerate(ESSENTIAL)
)


def test_a_profile_reads_back_as_it_was_written(tmp_path: Path) -> None:
    profile = Profile(
        "linux:6.1:64",
        "6.1|#1 SMP|aarch64",
        {f"task.{m}_offset": 8 for m in ESSENTIAL}
        | {"task.init_addr": 2**64 - 1, "path.mnt_parent_offset": -16, "mm.arg_end_offset": 320},
        {"el0_svc": 2**64 - 4096},
    )
    profile.save(tmp_path / "k.conf")
    assert Profile.load(tmp_path / "k.conf") == profile
    assert [path.name for path in tmp_path.iterdir()] == ["k.conf"]
    assert "\nmm.mmap_offset = 0\n" in (tmp_path / "k.conf").read_text()  # osi_linux demands it
    with pytest.raises(ProfileError, match=r"no mm\.mmap_offset"):
        profile["mm.mmap_offset"]


def test_a_third_partys_file_needs_the_group_named_when_there_are_several(tmp_path: Path) -> None:
    path = tmp_path / "kernelinfo.conf"
    path.write_text("# comment\n" + PLAIN.format("a:64") + "#task.init_addr = FF\narch = arm\ntask.comm_offset = 2\n")
    only = Profile.load(path)
    assert (only.group, only.arch, only.release, only["task.comm_offset"]) == ("a:64", "x86_64", "5.4.0", 2)
    path.write_text(PLAIN.format("a:64") + "\n" + PLAIN.format("b:64"))
    assert Profile.load(path, "b:64").group == "b:64"
    with pytest.raises(ProfileError, match=r"2 groups; name one of: a:64, b:64"):
        Profile.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no group\n",
        "[a]\n",
        "[a]\nnot a pair\n",
        PLAIN.format("a").replace("= 0", "= zero"),
        PLAIN.format("a").replace("= 0", "= 0x10"),
        PLAIN.format("a").replace("= 0", "= -9999"),
        PLAIN.format("a").replace("= 0", "= 99999999999999999999999"),
        PLAIN.format("a") + "task.init_addr = 18446744073709551616\n",
        PLAIN.format("a") + "mm.size =\n",
        "[a]\n\xff\n",
    ],
)
def test_a_broken_profile_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "k.conf").write_bytes(text.encode("latin-1"))
    with pytest.raises(ProfileError, match=r"^\S+/k\.conf[^\n]+$"):
        Profile.load(tmp_path / "k.conf")


BANNER = b"Linux version 6.1.0 (me@here) (gcc) #1 SMP\n\0"


def test_a_kernel_without_btf_gives_its_functions(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(elf(pad(BANNER) + kallsyms(some_symbols())))
    with pytest.raises(ProfileError, match=r"no BTF, and no function that shows the current task"):
        make_profile(tmp_path / "k")
    with pytest.raises(ProfileError, match="a kernel for x86_64, not aarch64"):
        make_profile(tmp_path / "k", arch="aarch64")
    (tmp_path / "k").write_bytes(elf(pad(BANNER) + kallsyms([*some_symbols(), ("__do_sys_getpid", BASE + 100000)])))
    profile = make_profile(tmp_path / "k")
    assert not profile.is_complete and profile.symbols == {"__do_sys_getpid": BASE + 100000}
    profile.save(tmp_path / "k.conf")
    assert Profile.load(tmp_path / "k.conf") == profile == profile.without_offsets()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("arch", "order"), [("i386", "<"), ("arm", "<"), ("mips", ">")])
def test_symbols_of_32_bit_kernels(arch: str, order: str, plain: bool) -> None:
    data = b"code" * 64 + kallsyms_32(SYMBOLS_32, order, plain) + bytes(64)
    found = read_symbols(KernelImage("k", data, arch))
    assert found.symbols == dict(SYMBOLS_32) and found.base == BASE_32


@pytest.mark.parametrize("packer", PACKERS)
def test_an_arm_zimage_holds_a_kernel_somewhere(packer: str, tmp_path: Path) -> None:
    """Nothing says where: the decompressor's own text has magic numbers, too."""
    kernel = pad(BANNER) + kallsyms_32([*SYMBOLS_32, ("vector_swi", BASE_32 + 20000)])
    decoys = b"".join(PACKERS[name](b"x" * 100)[:6] + bytes(8) for name in PACKERS)
    zimage = bytes(0x24) + struct.pack("<I", 0x016F2818) + decoys + PACKERS["gzip"](b"a device tree") + bytes(32)
    (tmp_path / "k").write_bytes(zimage + PACKERS[packer](kernel) + b"tail")
    profile = make_profile(tmp_path / "k")
    assert profile.arch == "arm" and profile.group == "linux:6.1.0:32" and not profile.is_complete
    assert profile.symbols == {"vector_swi": BASE_32 + 20000}
    (tmp_path / "k").write_bytes(zimage)
    with pytest.raises(ProfileError, match=r"k: no Linux kernel in it"):
        make_profile(tmp_path / "k")


def test_32_bit_kernels_in_elf_files(tmp_path: Path) -> None:
    inner = pad(BANNER) + kallsyms_32([*SYMBOLS_32, ("sys_getpid", BASE_32 + 20000)])
    (tmp_path / "k").write_bytes(bzimage(PACKERS["xz"](elf_32(inner, 3))))
    assert make_profile(tmp_path / "k", "i386").symbols == {"sys_getpid": BASE_32 + 20000}
    assert unpack(tmp_path / "k").segments == ((BASE_32, 4096, len(inner)),)
    for order, arch in (("<", "mipsel"), (">", "mips")):
        inner = pad(BANNER) + kallsyms_32([*SYMBOLS_32, ("handle_sys", BASE_32 + 20000)], order)
        for data in (elf_32(inner, 8, order), elf_32(b"unpacks" + PACKERS["lzma"](inner), 8, order)):
            (tmp_path / "k").write_bytes(data)
            profile = make_profile(tmp_path / "k")
            assert profile.arch == arch and profile.symbols == {"handle_sys": BASE_32 + 20000}


STRUCTS = """
struct list_head { struct list_head *next, *prev; };
struct mm_struct { struct { int count; struct { unsigned long pgd, arg_start, arg_end; }; }; };
typedef union { struct { int hidden; } named; long word; } odd;
struct task_struct {
    long state; odd first; unsigned bits : 3;
    struct mm_struct *mm; int pid, tgid; struct task_struct *real_parent, *parent;
    struct list_head tasks; struct task_struct *group_leader; char comm[16]; unsigned long long start_boottime;
};
struct path { void *mnt, *dentry; };
struct file { long f_count; const struct path f_path; };
struct task_struct init_task; struct mm_struct init_mm; struct file a_file;
"""


@pytest.mark.parametrize("version", [2, 4, 5])
def test_offsets_come_from_dwarf_where_there_is_no_btf(version: int, tmp_path: Path) -> None:
    """A debug vmlinux in small: the compiler's own offsets are the truth."""
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("no gcc here")
    (tmp_path / "k.c").write_text(STRUCTS)
    command = [compiler, "-c", f"-gdwarf-{version}", "-o", str(tmp_path / "k.o"), str(tmp_path / "k.c")]
    subprocess.run(command, check=True)
    (tmp_path / "tables").write_bytes(pad(BANNER) + kallsyms(some_symbols()))
    script = "SECTIONS { .data : { *(.data) *(.bss) } .tables : { *(.tables) } /DISCARD/ : { *(.note*) *(.comment) } }"
    (tmp_path / "k.ld").write_text(script)
    section = f'.section .tables,"a"\n.incbin "{tmp_path / "tables"}"\n'
    (tmp_path / "tables.s").write_text(section)
    link = [compiler, "-nostdlib", "-static", "-Wl,--build-id=none", "-T", str(tmp_path / "k.ld")]
    subprocess.run([*link, "-o", str(tmp_path / "k"), str(tmp_path / "k.o"), str(tmp_path / "tables.s")], check=True)
    profile = make_profile(tmp_path / "k")
    assert profile.is_complete
    found = {key: profile.values[key] for key in profile.values if key.startswith(("task.", "mm.", "fs."))}
    assert found.pop("task.current_task_addr") == 0x1FB80
    assert found == {
        "task.size": 104, "mm.size": 32, "task.comm_size": 16, "task.mm_offset": 24, "task.pid_offset": 32,
        "task.tgid_offset": 36, "task.real_parent_offset": 40, "task.parent_offset": 48, "task.tasks_offset": 56,
        "task.group_leader_offset": 72, "task.comm_offset": 80, "task.start_boottime_offset": 96,
        "mm.pgd_offset": 8, "mm.arg_start_offset": 16, "mm.arg_end_offset": 24,
        "fs.f_path_dentry_offset": 16, "fs.f_path_mnt_offset": 8,
    }  # fmt: skip


# ---- a real kernel ----


def test_symbols_of_a_real_kernel_point_at_what_they_name(kernel: str) -> None:
    found = unpack(kernel)
    symbols, base = read_symbols(found)
    assert len(symbols) > 30000 and symbols["_text"] == base == found.segments[0].address

    def at(name: str, size: int) -> bytes:
        offset = next(
            s.offset + symbols[name] - s.address for s in found.segments if 0 <= symbols[name] - s.address < s.size
        )
        return found.data[offset : offset + size]

    assert at("linux_banner", 14) == b"Linux version "
    assert symbols["__stop_BTF"] - symbols["__start_BTF"] == found.sections[".BTF"].size
    assert at("__start_BTF", 3) == b"\x9f\xeb\x01"
    functions = struct.unpack("<3Q", at("sys_call_table", 24))
    assert functions == tuple(symbols[f"__x64_sys_{name}"] for name in ("read", "write", "open"))


def test_offsets_of_a_real_kernel_are_those_of_bpftool(kernel: str, tmp_path: Path) -> None:
    bpftool = shutil.which("bpftool", path=os.environ["PATH"] + ":/usr/sbin")
    if not bpftool:
        if os.environ.get("CI") == "true":
            pytest.fail("bpftool is not installed; CI must have it")
        pytest.skip("bpftool is not installed")
    (tmp_path / "vmlinux").write_bytes(unpack(kernel).data)
    command = [bpftool, "btf", "dump", "file", str(tmp_path / "vmlinux"), "-j"]
    types = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["types"]
    btf, checked = find_btf(unpack(kernel)), 0
    for name in ("task_struct", "mm_struct", "cred", "files_struct", "fdtable", "file", "dentry", "mount"):
        expected = next(t for t in types if t["kind"] == "STRUCT" and t["name"] == name)
        assert btf.size(name) == expected["size"]
        for member in expected["members"]:
            if member["name"] != "(anon)" and not member.get("bitfield_size"):
                assert btf.offset(name, member["name"]) * 8 == member["bits_offset"]
                checked += 1
    assert checked > 200


def test_a_real_kernels_profile_names_the_current_task(kernel: str, tmp_path: Path) -> None:
    profile = make_profile(kernel)
    profile.save(tmp_path / "k.conf")
    assert Profile.load(tmp_path / "k.conf") == profile
    assert profile.arch == "x86_64" and profile.group == f"linux:{profile.release}:64"
    assert profile["task.tgid_offset"] == profile["task.pid_offset"] + 4  # one read gets both
    assert profile["mm.arg_end_offset"] == profile["mm.arg_start_offset"] + 8
    assert 0 < profile["task.current_task_addr"] < 1 << 20
    assert {"do_syscall_64", "syscall_exit_to_user_mode"} <= set(profile.symbols)
