"""What there is to do, before any of it is begun: which segments, in which batches, and by how many workers.

Imports nothing heavy: what there is to do says whether workers are needed, and these begin with what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from process.batch import Batch, batches
from process.discover import Found, discover
from process.memory import Room, room
from process.pool import Workers


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Attributes:
        found: The segments, and what is none.
        batches: They, as they are handled.
        room: How much is to be done at a time.
    """

    found: Found
    batches: list[Batch]
    room: Room


def divide(paths: Sequence[Path], workers: Workers, memory: int | None = None, *, is_query: bool = False) -> Work:
    """Find segments and say how they are handled.

    Args:
        paths: Files and folders.
        workers: Who will do it; has fewer jobs afterwards if its memory is limited.
        memory: Bytes that all processes may take together; None: what they need.
        is_query: Whether it is all done in this process.
    """
    found = discover(paths)
    made = batches(found.parts, is_query=is_query)
    whole = [size for batch in made if batch.split is None for size in batch.parts.sizes]
    space = room(memory, workers.jobs, whole, [batch.split.size for batch in made if batch.split is not None])
    workers.jobs, workers.apart, workers.backstop = space.jobs, memory is not None, space.backstop
    return Work(found, made if memory is None else batches(found.parts, space.batch, space.split), space)
