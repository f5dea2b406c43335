"""Values that collide in a hash table of ours, for who knows its seed."""

from __future__ import annotations


def unmixed(place: int, seed: int) -> int:
    """The value that `mixed` of process/hashing.h puts at a place."""
    mask = 2**64 - 1
    value = place ^ place >> 33
    value = value * pow(0xC4CEB9FE1A85EC53, -1, 2**64) & mask
    value ^= value >> 33
    value = value * pow(0xFF51AFD7ED558CCD, -1, 2**64) & mask
    value ^= value >> 33
    return value ^ seed
