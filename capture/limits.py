"""How large a capture and its parts may become, and what happens when it is full."""

from __future__ import annotations

import time
from dataclasses import astuple
from enum import Enum

from capture.chunk import Room
from capture.live import live_areas

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


class Quota:
    """What a capture and its segments may take.

    Attributes:
        segment_size: Stored bytes after which a segment is closed.
        keep: Bytes of closed segments beyond which the oldest are deleted; 0 to keep all.
        chunks: Chunks that there may be at a time; 0 for any number.
        stops: Whether a full capture ends.
        began: CLOCK_MONOTONIC at which the newest segment was begun, ns.
    """

    def __init__(self, segment_size: int, segment_time: float, max_size: int, policy: Policy, room: Room) -> None:
        """See `Recorder`."""
        self.segment_size, self._time, self.stops = segment_size, int(1e9 * segment_time), policy is Policy.STOP
        self._budget, self.keep, self.chunks = budget(max_size, room), 0, MOST_CHUNKS if max_size else 0
        self.began = time.monotonic_ns()
        if max_size and policy is Policy.DROP_OLDEST:
            self.segment_size = min(segment_size, max(1, self._budget // 8))
            self.keep, self._budget = max(1, self._budget - self.segment_size - length_of(room)), 0

    def is_full(self, stored: int) -> bool:
        """Whether the capture has stored all that it may."""
        return bool(self._budget) and stored >= self._budget

    def is_late(self) -> bool:
        """Whether the newest segment is old enough to be closed."""
        return bool(self._time) and time.monotonic_ns() - self.began >= self._time


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
