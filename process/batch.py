"""What one worker does at a time: a segment, or small neighbours of a capture together.

A segment costs some milliseconds however small it is; so those of a few events are read, surveyed, decoded and
written as if they were one. Which share a batch depends on the segments alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from capture.segment import Header
from process.discover import Part

SMALL = 1 << 18
"""Bytes of files up to which a segment shares a batch: some ten thousand events."""
MOST = 1 << 22
"""Bytes of files that a batch of small segments has at most."""
SLICE = 1 << 17
"""Events decoded at a time: enough that distinct values repeat, few enough for the processor's cache."""


@dataclass(frozen=True)
class Batch:
    """Segments of one capture that follow each other; at least one.

    Attributes:
        parts: In their order.
    """

    parts: tuple[Part, ...]

    @property
    def header(self) -> Header:
        """Of the first; all have the same ABI and clock."""
        return self.parts[0].header

    @property
    def name(self) -> str:
        """Names of the first and last segment's files, for people."""
        first, last = self.parts[0].name, self.parts[-1].name
        return first if len(self.parts) == 1 else f"{first} to {last}"

    @property
    def key(self) -> tuple[tuple[UUID, int], ...]:
        """Its segments, however much is in them by now."""
        return tuple((part.header.capture, part.header.segment) for part in self.parts)

    def alone(self) -> list[Batch]:
        """Each segment as a batch of its own."""
        return [Batch((part,)) for part in self.parts]


def batches(parts: Iterable[Part], most: int | None = None) -> list[Batch]:
    """Put small segments together.

    Args:
        parts: By capture and number.
        most: Bytes of files that a batch of several has at most; `MOST` if not told.
    """
    made: list[Batch] = []
    held: list[Part] = []
    size, most = 0, MOST if most is None else most
    for part in parts:
        if held and (size + part.size > most or not _match(held[-1], part)):
            made.append(Batch(tuple(held)))
            held, size = [], 0
        held.append(part)
        size += part.size if part.size <= SMALL else most
    return made + ([Batch(tuple(held))] if held else [])


def _match(part: Part, following: Part) -> bool:
    """Whether a segment can be read on where another ends."""
    one, other = part.header, following.header
    return following.size <= SMALL and (one.capture, one.abi, one.word_size, one.big_endian, one.realtime_ns) == (
        other.capture, other.abi, other.word_size, other.big_endian, other.realtime_ns
    )  # fmt: skip
