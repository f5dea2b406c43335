"""What is particular to each ABI: widths, how a 64-bit argument lies in two registers, how errors are told.

The byte order is not here: it is the guest's, and stands in a segment's header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from capture.segment import ABI_NUMBERS, Header, SegmentError
from process.strings import escape


class Pairs(Enum):
    """How a 64-bit argument lies in the words of a call.

    The half that comes first is the low one on a little-endian guest, the high one on a big-endian guest.
    """

    NONE = 0
    """It fits one register."""
    NEXT = 1
    """In the next two words."""
    EVEN = 2
    """In two words of which the first has an even index; a word may be left out for that."""


@dataclass(frozen=True)
class Abi:
    """The rules of one ABI.

    Attributes:
        name: As in headers.
        word: Bytes of a register, and of a return value: 4 or 8.
        pointer: Bytes of an address in user space: 4 or 8.
        pairs: How 64-bit arguments lie.
        error_flag: Whether errors have a flag of their own, and then no return value says that there was one.
        words: Words of a call that a segment keeps: registers, and on mips-o32 two more of the stack.
        is_known: Whether anything is known of it; else its calls are kept raw.
    """

    name: str
    word: int
    pointer: int
    pairs: Pairs = Pairs.NONE
    error_flag: bool = False
    words: int = 6
    is_known: bool = True


ABIS: Mapping[str, Abi] = {
    abi.name: abi
    for abi in (
        Abi("x86_64", 8, 8),
        Abi("x32", 8, 4),
        Abi("i386", 4, 4, Pairs.NEXT),
        Abi("arm", 4, 4, Pairs.EVEN),
        Abi("arm-oabi", 4, 4, Pairs.NEXT),
        Abi("aarch64", 8, 8),
        Abi("mips-o32", 4, 4, Pairs.EVEN, error_flag=True, words=8),
        Abi("mips-n32", 8, 4, error_flag=True),
        Abi("mips-n64", 8, 8, error_flag=True),
        Abi("powerpc", 4, 4, Pairs.EVEN, error_flag=True),
        Abi("powerpc64", 8, 8, error_flag=True),
        Abi("riscv32", 4, 4, Pairs.NEXT),
        Abi("riscv64", 8, 8),
        Abi("s390", 4, 4, Pairs.NEXT),
        Abi("s390x", 8, 8),
        Abi("sparc", 4, 4, Pairs.NEXT, error_flag=True),
        Abi("sparc64", 8, 8, error_flag=True),
        Abi("loongarch64", 8, 8),
    )
}
"""By name. Pairs: the wrappers in arch/*/kernel/{sys_ia32,sys_ppc32,sys_sparc32,compat_linux}.c,
arch/arm/kernel/entry-common.S (the ``sys_oabi_*``), and the C calling conventions where a call has none (arm EABI,
mips-o32; riscv32, where named arguments are not aligned). Flags: arch/*/include/asm/syscall.h (Linux 6.1)."""

_BY_NUMBER = {number: ABIS[name] for name, number in ABI_NUMBERS.items()}
WORD_SIZES = frozenset({4, 8})


def own_abi(header: Header) -> Abi:
    """The ABI that a segment's events have unless they say otherwise; by its name, unknown ones included.

    Raises:
        SegmentError: The header's word size is not 4 or 8, or not that of its ABI: nothing in it can be trusted.
    """
    if header.word_size not in WORD_SIZES:
        raise SegmentError(f"its header claims registers of {header.word_size} bytes; only 4 and 8 can be decoded")
    abi = ABIS.get(header.abi)
    if abi is None:
        return unknown(escape(header.abi.encode()), header.word_size)
    if abi.word != header.word_size:
        raise SegmentError(
            f"its header claims registers of {header.word_size} bytes, and ABI {abi.name} has {abi.word}"
        )
    return abi


def numbered(number: int, word: int) -> Abi:
    """The ABI with a number in an event's flags; ``word`` is the bytes of a register if nothing is known of it."""
    return _BY_NUMBER.get(number) or unknown(f"abi_{number}", word)


def unknown(name: str, word: int) -> Abi:
    """An ABI of which only the size of its registers is known."""
    return Abi(name, word, word, is_known=False)
