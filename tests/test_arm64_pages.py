"""A program's addresses translated by page tables built here."""

from __future__ import annotations

import pytest

from capture.arm64_pages import translated

CONTROL_48, CONTROL_39 = 64 - 48, 64 - 39
TABLE, PAGE, BLOCK, TOUCHED = 3, 3, 1, 1 << 10
ASID = 7 << 48
ADDRESS = 0x7FFE_DCBA_9876
INDICES = [ADDRESS >> shift & 511 for shift in (39, 30, 21, 12)]


def tables(leaf: int, levels: int) -> dict[int, int]:
    """Entries by physical address: tables at 0x1000, 0x2000, and so on, down to a leaf."""
    entries = {}
    for level, index in enumerate(INDICES[4 - levels :]):
        at = 0x1000 * (level + 1) + 8 * index
        entries[at] = leaf if level == levels - 1 else 0x1000 * (level + 2) | TABLE
    return entries


@pytest.mark.parametrize("touched", [0, TOUCHED])
def test_a_page_is_found_whether_it_was_touched_or_not(touched: int) -> None:
    entries = tables(0x4567_8000 | PAGE | touched | 3 << 53, 4)
    assert translated(entries.get, ASID | 0x1000 | 1, CONTROL_48, ADDRESS) == 0x4567_8876


def test_three_levels_make_39_bits() -> None:
    address = ADDRESS & (1 << 39) - 1
    assert translated(tables(0x4567_8000 | PAGE, 3).get, 0x1000, CONTROL_39, address) == 0x4567_8876
    assert translated(tables(0x4567_8000 | PAGE, 3).get, 0x1000, CONTROL_39, ADDRESS) is None


def test_a_block_of_2_mib_is_found() -> None:
    entries = tables(0x4560_0000 | BLOCK, 4)
    entries[0x3000 + 8 * INDICES[2]] = 0x4560_0000 | BLOCK
    assert translated(entries.get, 0x1000, CONTROL_48, ADDRESS) == 0x4560_0000 + (ADDRESS & 0x1FFFFF)


@pytest.mark.parametrize("leaf", [0, 0x4567_8000, 0x4567_8000 | BLOCK, 2])
def test_what_is_not_mapped_is_not_found(leaf: int) -> None:
    assert translated(tables(leaf, 4).get, 0x1000, CONTROL_48, ADDRESS) is None


def test_pages_of_another_size_and_tables_without_memory_give_nothing() -> None:
    entries = tables(0x4567_8000 | PAGE, 4)
    assert translated(entries.get, 0x1000, CONTROL_48 | 1 << 14, ADDRESS) is None
    assert translated(entries.get, 0x9000, CONTROL_48, ADDRESS) is None
