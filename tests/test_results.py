"""What a call returned and whether it failed, on each kind of ABI."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture.segment import EventFlag
from guests import call
from segments import NOT_RETURNED, RETURNED

ERROR = RETURNED | int(EventFlag.ERROR)


@pytest.mark.parametrize(
    ("abi", "nr", "ret", "retno", "text", "errno"),
    [
        ("arm", 192, 0xB6F00000, 0xB6F00000, "0xb6f00000", None),  # mmap2 above 2 GiB
        ("arm", 192, 0xFFFFE000, 0xFFFFE000, "0xffffe000", None),  # the last page but one
        ("arm", 192, 0xFFFFFFF4, -12, "ENOMEM(Out of memory)", "ENOMEM"),
        ("arm", 45, 0xBEEF0000, 0xBEEF0000, "0xbeef0000", None),  # brk
        ("arm", 20, 0x80000000, -0x80000000, "-0x80000000", None),  # getpid, a long
        ("arm", 20, 0xFFFFF001, -4095, "-0xfff", None),
        ("arm", 20, 0xFFFFF000, -4096, "-0x1000", None),
        ("i386", 5, 0xFFFFFFFE, -2, "ENOENT(No such file or directory)", "ENOENT"),
        ("i386", 5, 0xDEADBEEF_FFFFFFFE, -2, "ENOENT(No such file or directory)", "ENOENT"),
        ("i386", 240, 0xFFFFFF92, -110, "ETIMEDOUT(Connection timed out)", "ETIMEDOUT"),
        ("aarch64", 222, (1 << 64) - 12, -12, "ENOMEM(Out of memory)", "ENOMEM"),
        ("aarch64", 222, 0xFFFFFFF4, 0xFFFFFFF4, "0xfffffff4", None),
        ("s390", 90, 0x80001000, 0x80001000, "0x80001000", None),
        ("x32", 1 << 30 | 9, 0xF7000000, 0xF7000000, "0xf7000000", None),
        ("x32", 1 << 30 | 9, (1 << 64) - 12, -12, "ENOMEM(Out of memory)", "ENOMEM"),
    ],
)
def test_without_an_error_flag_a_small_negative_value_is_an_error(
    tmp_path: Path, abi: str, nr: int, ret: int, retno: int, text: str, errno: str | None
) -> None:
    row = call(tmp_path, abi, nr, [], ret)
    assert (row["retno"], row["retno_repr"], row["errno"]) == (retno, text, errno)


@pytest.mark.parametrize(
    ("abi", "nr", "ret", "flags", "retno", "text", "errno"),
    [
        ("mips-o32", 4005, 2, ERROR, -2, "ENOENT(No such file or directory)", "ENOENT"),
        ("mips-o32", 4005, 2, RETURNED, 2, "0x2", None),
        ("mips-o32", 4019, 0xFFFFFFFF, RETURNED, -1, "-0x1", None),  # lseek in /proc/PID/mem
        ("mips-o32", 4210, 0xFFFFF000, RETURNED, 0xFFFFF000, "0xfffff000", None),
        ("mips-o32", 4210, 12, ERROR, -12, "ENOMEM(Out of memory)", "ENOMEM"),
        ("mips-o32", 4238, 145, ERROR, -145, "ETIMEDOUT(Connection timed out)", "ETIMEDOUT"),
        ("mips-o32", 4005, 1133, ERROR, -1133, "EDQUOT(Quota exceeded)", "EDQUOT"),
        ("mips-n32", 6002, 89, ERROR, -89, "ENOSYS(Function not implemented)", "ENOSYS"),
        ("mips-n64", 5002, 89, ERROR, -89, "ENOSYS(Function not implemented)", "ENOSYS"),
        ("mips-n64", 5002, (1 << 64) - 89, RETURNED, -89, "-0x59", None),
        ("mips-n64", 5009, 0xFFFFFFF000, RETURNED, 0xFFFFFFF000, "0xfffffff000", None),
        ("powerpc", 5, 58, ERROR, -58, "EDEADLOCK(File locking deadlock error)", "EDEADLOCK"),
        ("powerpc64", 5, 2, ERROR, -2, "ENOENT(No such file or directory)", "ENOENT"),
        ("powerpc64", 5, (1 << 64) - 2, RETURNED, -2, "-0x2", None),
        ("sparc64", 5, 90, ERROR, -90, "ENOSYS(Function not implemented)", "ENOSYS"),
        ("sparc", 5, 60, ERROR, -60, "ETIMEDOUT(Connection timed out)", "ETIMEDOUT"),
        ("mips-o32", 4005, 0, ERROR, 0, "0x0", None),  # no errno at all: a flag alone names none
        ("mips-o32", 4005, 5000, ERROR, 5000, "0x1388", None),
        ("x86_64", 2, 2, ERROR, 2, "0x2", None),  # an ABI that has no such flag
        ("freebsd", 2, 2, ERROR, 2, "0x2", None),
    ],
)
def test_with_an_error_flag_nothing_else_is_an_error(
    tmp_path: Path, abi: str, nr: int, ret: int, flags: int, retno: int, text: str, errno: str | None
) -> None:
    row = call(tmp_path, abi, nr, [], ret, flags=flags)
    assert (row["retno"], row["retno_repr"], row["errno"]) == (retno, text, errno)


@pytest.mark.parametrize("abi", ["arm", "mips-o32", "aarch64"])
def test_what_has_not_come_back_has_no_error(tmp_path: Path, abi: str) -> None:
    row = call(tmp_path, abi, 4005, [], 2, flags=NOT_RETURNED | int(EventFlag.ERROR))
    assert [row[name] for name in ("retno", "retno_repr", "errno")] == [None] * 3
