"""What a segment's blocks tell of those that are not there, and how far their loss reaches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from capture.reader import Segment
from capture.segment import FILE_HEADER_SIZE, Block, BlockType

_STATELESS = (BlockType.EVENTS, BlockType.STRINGS, BlockType.SETS)
"""Blocks whose loss shows by itself: as missing numbers, and as strings that are not found."""


def misplaced(sealed: Segment, elsewhere: list[int]) -> Iterator[str]:
    """What the numbers of a file's blocks tell: whole blocks cut out, repeated, or in another order.

    Where anything else is damaged, that has been told, and may be why.

    Args:
        sealed: The file.
        elsewhere: Numbers of the blocks that live files have.
    """
    if sealed.damage:
        return
    if _is_disordered(sealed):
        yield "blocks are repeated or not in their order"
    for first, last in _absent(sealed, elsewhere):
        yield f"block {first} is missing" if first == last else f"blocks {first} to {last} are missing"


def breaks(sealed: Segment, elsewhere: list[int]) -> list[int]:
    """Sequence numbers before which a block of identities, marks or file records may be lost, ascending.

    Such records hold until others say something else, which may be what is lost: so nothing from before is
    known there. Those of the same chunk come in blocks of their own and hold.

    Args:
        sealed: The file.
        elsewhere: Numbers of the blocks that live files have.
    """
    events = [block for block in sealed.blocks if block.type == BlockType.EVENTS]
    if not events:
        return []
    end = max(block.first + block.count for block in events)
    if _is_disordered(sealed):
        return sorted({block.first for block in events})
    found = set()
    for damage in sealed.damage:
        if damage.offset >= FILE_HEADER_SIZE and damage.block_type not in _STATELESS:
            found.add(_next(events, end, offset=damage.offset))
    for _, last in _absent(sealed, elsewhere):
        found.add(_next(events, end, index=last))
    return sorted(found)


def _next(events: list[Block], end: int, *, offset: int = -1, index: int = -1) -> int:
    """The first event after a place in the file, ``end`` if there is none."""
    return next((block.first for block in events if block.offset > offset and block.index > index), end)


def _is_disordered(sealed: Segment) -> bool:
    return any(one >= following for one, following in pairwise(sealed.indexes))


def _absent(sealed: Segment, elsewhere: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each stretch of numbers that no block has; those after the last are not known."""
    for one, following in pairwise(sorted({-1, *sealed.indexes, *elsewhere})):
        if following - one > 1:
            yield one + 1, following - 1
