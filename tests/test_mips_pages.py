"""The kernel's page tables, found in its TLB refill handler."""

from __future__ import annotations

import struct

import pytest

from capture.mips_pages import handler_facts

K0, K1 = 26, 27


def immediate(operation: int, rs: int, rt: int, value: int) -> int:
    return operation << 26 | rs << 21 | rt << 16 | value & 0xFFFF


def shift(rt: int, rd: int, amount: int, rotate: int = 0) -> int:
    return rotate << 21 | rt << 16 | rd << 11 | amount << 6 | 2


def handler(pointer: int, amount: int, rotate: int = 0) -> list[int]:
    """As arch/mips/mm/tlbex.c writes it for one CPU of MIPS32."""
    high = (pointer + 0x8000) >> 16
    return [
        immediate(0o17, 0, K1, high),  # lui k1, %hi(pgd_current)
        0x401A4000,  # mfc0 k0, c0_badvaddr
        immediate(0o43, K1, K1, pointer),  # lw k1, %lo(pgd_current)(k1)
        shift(K0, K0, 22),
        K0 << 16 | K0 << 11 | 2 << 6,  # sll k0, k0, 2
        0x037AD821,  # addu k1, k1, k0
        0x401A2000,  # mfc0 k0, c0_context
        immediate(0o43, K1, K1, 0),
        shift(K0, K0, 1),
        immediate(0o14, K0, K0, 0xFF8),  # andi
        0x037AD821,
        immediate(0o43, K1, K0, 0),
        immediate(0o43, K1, K1, 4),
        shift(K0, K0, amount, rotate),
        0x409A1000,  # mtc0 k0, c0_entrylo0
        shift(K1, K1, amount, rotate),
        0x409B1800,  # mtc0 k1, c0_entrylo1
        0x42000006,  # tlbwr
        0x42000018,  # eret
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("pointer", "amount", "rotate"), [(0x80A41234, 6, 0), (0x80A4FFF0, 7, 1)])
def test_the_handler_says_where_the_table_is_and_how_its_entries_are_shifted(
    order: str, pointer: int, amount: int, rotate: int
) -> None:
    words = handler(pointer, amount, rotate)
    code = struct.pack(f"{order}{len(words)}I", *words)
    assert handler_facts(code, order == ">") == (pointer, amount)


@pytest.mark.parametrize("code", [b"", bytes(128), b"\xff" * 128, bytes(range(128))])
def test_what_is_no_handler_says_nothing(code: bytes) -> None:
    assert handler_facts(code, big_endian=False) is None
