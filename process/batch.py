"""What one worker does at a time: a segment, small neighbours of a capture together, or a split of a large one.

A segment costs some milliseconds however small it is; so those of a few events are read, surveyed, decoded and
written as if they were one. Which share a batch, and which are divided, depends on the segments alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from capture.segment import Header
from process.discover import Part, Parts, SegmentKey
from process.splits import Split, split

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
        split: What of the only one it is; None: all.
    """

    parts: Parts
    split: Split | None = None

    @property
    def header(self) -> Header:
        """Of the first; all have the same ABI and clock."""
        return self.parts[0].header

    @property
    def name(self) -> str:
        """Names of the first and last segment's files, for people."""
        first, last = self.parts[0].name, self.parts[-1].name
        if self.split is not None:
            return f"{first} (from event {self.split.first} on)"
        return first if len(self.parts) == 1 else f"{first} to {last}"

    @property
    def label(self) -> str:
        """What tells it from other batches, in names of files: which segments, however much is in them by now."""
        number = "" if self.split is None else f"-{self.split.number}"
        return f"{self.header.capture.hex}-{self.header.segment}-{len(self.parts)}{number}"

    def continues(self, other: Batch | None) -> bool:
        """Whether it is of the same segment as the batch before it."""
        return self.split is not None and other is not None and self.key == other.key

    @property
    def key(self) -> tuple[SegmentKey, ...]:
        """Its segments, however much is in them by now."""
        return tuple(self.parts.numbers())

    def alone(self) -> list[Batch]:
        """Each segment as a batch of its own."""
        return [Batch(self.parts[k : k + 1]) for k in range(len(self.parts))]


def batches(
    parts: Iterable[Part], most: int | None = None, split_most: int | None = None, *, is_query: bool = False
) -> list[Batch]:
    """Put small segments together, and divide large ones.

    Args:
        parts: By capture and number.
        most: Bytes of files that a batch of several has at most; None: as many as is quickest.
        split_most: Of a split, about; likewise.
        is_query: Whether one process handles all of them.
    """
    some, most = Parts.of(parts), MOST if most is None else most
    made: list[Batch] = []
    divide = partial(_divided, most=split_most, is_query=is_query)
    first, held, alike = 0, most, b""
    for k, (size, head) in enumerate(zip(some.sizes, some.heads, strict=True)):
        before, alike = alike, _alike(head)
        if held + size > most or size > SMALL or alike != before:
            if k:
                made += divide(some[first:k], is_last=False)
            first, held = k, 0
        held += size if size <= SMALL else most
    return made + (divide(some[first:], is_last=True) if len(some) else [])


def _divided(parts: Parts, *, most: int | None, is_last: bool, is_query: bool) -> list[Batch]:
    """The batch of some segments; several if it is a single large one, in one sealed file."""
    held = parts.held[0]
    if len(parts) > 1 or not isinstance(held, str):
        return [Batch(parts)]
    splits = split(held, parts.heads[0], parts.sizes[0], is_last=is_last, most=most, is_query=is_query)
    return [Batch(parts, one) for one in splits] or [Batch(parts)]


def _alike(head: bytes) -> bytes:
    """What headers must have in common for a segment to be read on where another ends.

    That is capture, ABI, size and order of words, and when the capture began (`capture.segment`).
    """
    return head[22:56] + head[80:88]
