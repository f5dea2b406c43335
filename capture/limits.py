"""How large a capture and its parts may become, and what happens when it is full."""

from __future__ import annotations

from dataclasses import astuple
from enum import Enum

from capture.chunk import Room
from capture.segment import live_areas

SPARES = 2
"""Empty chunks that are kept ready."""
MOST_CHUNKS = SPARES + 2
"""Chunks that a capture with a limit has at a time: spares, the one being filled, the one being sealed."""
LEAST_ROOM = Room(events=1024, strings=2048, string_bytes=640 << 10, sets=1024, tasks=256, marks=256, files=1024)
"""Room of the smallest chunk that can hold what a single event may bring along."""
LEAST_SIZE = 8 << 20
"""A smaller limit would leave no room for segments beside the chunks."""

# Shares of a chunk, empty as it is, in what it is a part of. A sealed chunk is about a sixteenth of its room.
_OF_SEGMENT, _OF_CAPTURE, _OF_DISK = 4, 1 / 32, 1 / 16


class Policy(str, Enum):
    """What happens when a capture has reached its greatest size."""

    STOP = "stop"
    """The guest is stopped."""
    DROP_OLDEST = "drop-oldest"
    """The oldest segments are deleted, whole ones, so that the newest events are kept."""
    DROP_NEWEST = "drop-newest"
    """The guest goes on; further events are counted and dropped."""


def length_of(room: Room) -> int:
    """Bytes of a chunk on disk."""
    return live_areas(astuple(room))[1]


def fitting_room(segment_size: int, max_size: int, free: int) -> Room:
    """Room of a chunk that suits the segments, the limit and the disk; the usual one if all are large.

    Args:
        segment_size: Stored bytes of a segment.
        max_size: Greatest size of the capture, 0 for none.
        free: Bytes that are free on the disk.
    """
    usual = Room()
    wanted = min(_OF_SEGMENT * segment_size, _OF_DISK * free, _OF_CAPTURE * max_size if max_size else length_of(usual))
    share = min(1.0, wanted / length_of(usual))
    scaled = (max(int(full * share), least) for full, least in zip(astuple(usual), astuple(LEAST_ROOM), strict=True))
    return Room(*scaled)


def budget(max_size: int, room: Room) -> int:
    """Stored bytes at which a capture is full, so that segments and live files together stay below its limit."""
    return max(1, max_size - (MOST_CHUNKS + 1) * length_of(room)) if max_size else 0
