"""Segments of guests of any ABI, and single calls of them decoded."""

from __future__ import annotations

from pathlib import Path

from decoding import Row, rows_of
from segments import RETURNED, Builder

WORD_SIZES = {"i386": 4, "arm": 4, "arm-oabi": 4, "mips-o32": 4, "powerpc": 4, "riscv32": 4, "s390": 4, "sparc": 4}
"""Bytes of a register where it is not 8."""


def guest(abi: str, big_endian: bool = False) -> Builder:
    """A segment of a guest of an ABI."""
    return Builder(abi=abi, word_size=WORD_SIZES.get(abi, 8), big_endian=big_endian)


def packed(words: list[int]) -> list[int]:
    """Up to twelve words of 4 bytes as six registers: the seventh and later in the upper halves."""
    words = words + [0] * (12 - len(words))
    return [words[k] | words[6 + k] << 32 for k in range(6)]


def call(
    folder: Path, abi: str, nr: int, words: list[int], ret: int = 0, *, flags: int = RETURNED, big_endian: bool = False
) -> Row:
    """The row of one call."""
    one = guest(abi, big_endian)
    one.event(nr, *packed(words), ret=ret, flags=flags)
    (row,) = rows_of(one.write(folder))
    return row


def reprs(row: Row) -> list[str]:
    """The reprs of a row's arguments, as far as it has them."""
    return [row[f"arg{k}_repr"] for k in range(6) if row[f"arg{k}_repr"] is not None]
