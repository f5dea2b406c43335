"""The rules of each ABI, on registers as its own documents have them.

Sources of the registers: Documentation/userspace-api and arch/*/ of Linux 6.1 (sys_ia32.c, sys_ppc32.c, linux32.c of
mips, entry-common.S of arm), the notes on architectures in syscall(2), and the calling conventions that these quote.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from guests import WORD_SIZES, call, reprs

HOLE = 0xDEADDEAD
"""What the guest left in a register that only pads."""

LOW, HIGH = 0x23456789, 0x1
WIDE = "0x123456789"
LOW2, HIGH2 = 0x80000001, 0xFFFFFFFF
WIDE2 = "0xffffffff80000001"


PREAD = ["fd=0x3([???])", "buf=0x10000(ptr)", "count=0x40", f"pos={WIDE}"]
PWRITE = PREAD
TRUNCATE = ["path=0x10000(ptr)", f"length={WIDE}"]
FTRUNCATE = ["fd=0x3([???])", f"length={WIDE}"]
FADVISE = ["fd=0x3([???])", f"offset={WIDE}", f"len={WIDE2}", "advice=0x4"]
FADVISE_FIRST = ["fd=0x3([???])", "advice=0x4", f"offset={WIDE}", f"len={WIDE2}"]
FALLOCATE = ["fd=0x3([???])", "mode=0x1", f"offset={WIDE}", f"len={WIDE2}"]
SYNC = ["fd=0x3([???])", f"offset={WIDE}", f"nbytes={WIDE2}", "flags=0x7"]
SYNC_2 = ["fd=0x3([???])", "flags=0x7", f"offset={WIDE}", f"nbytes={WIDE2}"]
READAHEAD = ["fd=0x3([???])", f"offset={WIDE}", "count=0x40"]
FANOTIFY = ["fanotify_fd=0x3([???])", "flags=0x9", f"mask={WIDE}", "fd=0xffffff9c([???])", "pathname=0x10000(ptr)"]
DCOOKIE = [f"cookie64={WIDE}", "buf=0x10000(ptr)", "len=0x40"]

FD, BUF, COUNT, CWD = 3, 0x10000, 0x40, 0xFFFFFF9C

EVEN_LITTLE = {  # arm EABI, mips-o32 little-endian: first register of a pair is even, low half first
    "pread64": [FD, BUF, COUNT, HOLE, LOW, HIGH],
    "truncate64": [BUF, HOLE, LOW, HIGH],
    "ftruncate64": [FD, HOLE, LOW, HIGH],
    "fallocate": [FD, 1, LOW, HIGH, LOW2, HIGH2],
    "readahead": [FD, HOLE, LOW, HIGH, COUNT],
    "fanotify_mark": [FD, 9, LOW, HIGH, CWD, BUF],
    "lookup_dcookie": [LOW, HIGH, BUF, COUNT],
    "advice_first": [FD, 4, LOW, HIGH, LOW2, HIGH2],
    "flags_first": [FD, 7, LOW, HIGH, LOW2, HIGH2],
    "advice_last": [FD, HOLE, LOW, HIGH, LOW2, HIGH2, 4],
    "flags_last": [FD, HOLE, LOW, HIGH, LOW2, HIGH2, 7],
}
EVEN_BIG = {  # powerpc, mips-o32 big-endian: likewise, high half first
    "pread64": [FD, BUF, COUNT, HOLE, HIGH, LOW],
    "truncate64": [BUF, HOLE, HIGH, LOW],
    "ftruncate64": [FD, HOLE, HIGH, LOW],
    "fallocate": [FD, 1, HIGH, LOW, HIGH2, LOW2],
    "readahead": [FD, HOLE, HIGH, LOW, COUNT],
    "fanotify_mark": [FD, 9, HIGH, LOW, CWD, BUF],
    "lookup_dcookie": [HIGH, LOW, BUF, COUNT],
    "advice_first": [FD, 4, HIGH, LOW, HIGH2, LOW2],
    "flags_first": [FD, 7, HIGH, LOW, HIGH2, LOW2],
    "advice_last": [FD, HOLE, HIGH, LOW, HIGH2, LOW2, 4],
    "flags_last": [FD, HOLE, HIGH, LOW, HIGH2, LOW2, 7],
}
NEXT_LITTLE = {  # i386, riscv32, arm OABI: the next two registers, low half first
    "pread64": [FD, BUF, COUNT, LOW, HIGH],
    "truncate64": [BUF, LOW, HIGH],
    "ftruncate64": [FD, LOW, HIGH],
    "fallocate": [FD, 1, LOW, HIGH, LOW2, HIGH2],
    "readahead": [FD, LOW, HIGH, COUNT],
    "fanotify_mark": [FD, 9, LOW, HIGH, CWD, BUF],
    "lookup_dcookie": [LOW, HIGH, BUF, COUNT],
    "advice_last": [FD, LOW, HIGH, LOW2, HIGH2, 4],
    "flags_last": [FD, LOW, HIGH, LOW2, HIGH2, 7],
}
WHOLE = {  # 64-bit ABIs
    "pread64": [FD, BUF, COUNT, HIGH << 32 | LOW],
    "truncate64": [BUF, HIGH << 32 | LOW],
    "ftruncate64": [FD, HIGH << 32 | LOW],
    "fallocate": [FD, 1, HIGH << 32 | LOW, HIGH2 << 32 | LOW2],
    "readahead": [FD, HIGH << 32 | LOW, COUNT],
    "fanotify_mark": [FD, 9, HIGH << 32 | LOW, CWD, BUF],
    "lookup_dcookie": [HIGH << 32 | LOW, BUF, COUNT],
    "advice_last": [FD, HIGH << 32 | LOW, HIGH2 << 32 | LOW2, 4],
    "flags_last": [FD, HIGH << 32 | LOW, HIGH2 << 32 | LOW2, 7],
}
SHOWN = {
    "pread64": PREAD,
    "pwrite64": PWRITE,
    "truncate64": TRUNCATE,
    "ftruncate64": FTRUNCATE,
    "fallocate": FALLOCATE,
    "readahead": READAHEAD,
    "fanotify_mark": FANOTIFY,
    "lookup_dcookie": DCOOKIE,
    "advice_first": FADVISE_FIRST,
    "flags_first": SYNC_2,
    "advice_last": FADVISE,
    "flags_last": SYNC,
}
NUMBERS = {  # arch/*/tools/syscall.tbl, include/uapi/asm-generic/unistd.h
    "arm": {
        "pread64": 180, "pwrite64": 181, "truncate64": 193, "ftruncate64": 194, "fallocate": 352, "readahead": 225,
        "fanotify_mark": 368, "lookup_dcookie": 249, "advice_first": 270, "flags_first": 341,
    },
    "mips-o32": {
        "pread64": 4200, "pwrite64": 4201, "truncate64": 4211, "ftruncate64": 4212, "fallocate": 4320,
        "readahead": 4223, "fanotify_mark": 4337, "lookup_dcookie": 4247, "advice_last": 4254, "flags_last": 4305,
    },
    "powerpc": {
        "pread64": 179, "pwrite64": 180, "truncate64": 193, "ftruncate64": 194, "fallocate": 309, "readahead": 191,
        "fanotify_mark": 324, "lookup_dcookie": 235, "advice_first": 254, "flags_first": 308,
    },
    "i386": {
        "pread64": 180, "pwrite64": 181, "truncate64": 193, "ftruncate64": 194, "fallocate": 324, "readahead": 225,
        "fanotify_mark": 339, "lookup_dcookie": 253, "advice_last": 272, "flags_last": 314,
    },
    "riscv32": {
        "pread64": 67, "pwrite64": 68, "truncate64": 45, "ftruncate64": 46, "fallocate": 47, "readahead": 213,
        "fanotify_mark": 263, "lookup_dcookie": 18, "advice_last": 223, "flags_last": 84,
    },
    "aarch64": {
        "pread64": 67, "pwrite64": 68, "truncate64": 45, "ftruncate64": 46, "fallocate": 47, "readahead": 213,
        "fanotify_mark": 263, "lookup_dcookie": 18, "advice_last": 223, "flags_last": 84,
    },
    "x86_64": {
        "pread64": 17, "pwrite64": 18, "truncate64": 76, "ftruncate64": 77, "fallocate": 285, "readahead": 187,
        "fanotify_mark": 301, "lookup_dcookie": 212, "advice_last": 221, "flags_last": 277,
    },
}  # fmt: skip
GUESTS = [
    ("arm", False, EVEN_LITTLE),
    ("arm", True, EVEN_BIG),
    ("mips-o32", False, EVEN_LITTLE),
    ("mips-o32", True, EVEN_BIG),
    ("powerpc", True, EVEN_BIG),
    ("i386", False, NEXT_LITTLE),
    ("riscv32", False, NEXT_LITTLE),
    ("aarch64", False, WHOLE),
    ("x86_64", False, WHOLE),
]
PAIRS = [
    (abi, big_endian, nr, words["pread64" if what == "pwrite64" else what], what)
    for abi, big_endian, words in GUESTS
    for what, nr in NUMBERS[abi].items()
]


@pytest.mark.parametrize(("abi", "big_endian", "nr", "words", "what"), PAIRS)
def test_a_64_bit_argument_is_one_argument(
    tmp_path: Path, abi: str, big_endian: bool, nr: int, words: list[int], what: str
) -> None:
    row = call(tmp_path, abi, nr, words, big_endian=big_endian)
    assert reprs(row) == SHOWN[what]
    values = [row[f"arg{k}"] for k in range(len(SHOWN[what]))]
    wide = 0x123456789
    assert wide in values
    if WIDE2 in "".join(SHOWN[what]):
        assert -0x7FFFFFFF in values
    if what == "fanotify_mark" and abi in WORD_SIZES:
        assert values[3] == -100
    assert "unknown" not in row["name"]
