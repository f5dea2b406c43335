"""A seeded source of events for the real recorder, and what its rows must be: how the fault tests know the truth.

Every field of an event follows from the seed and the event's sequence number, so that a row can be checked alone,
whatever was lost around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from capture.chunk import Room
from capture.recorder import Recorder
from capture.segment import StringFlag

SMALL = Room(events=128, strings=256, string_bytes=540_000, sets=256, tasks=64, marks=64, files=64)
"""A chunk for tests: it is full every few milliseconds."""
OPENAT, READ, CLOSE, MMAP = 257, 0, 3, 9
NUMBERS = (OPENAT, READ, CLOSE, MMAP)
TASKS = 5
MARK_EVERY = 300
_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15


def bits(seed: int, sequence: int) -> int:
    """64 bits that look random."""
    mixed = (sequence + 1 + seed * 1_000_003) * _ODD & _MASK
    return (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 & _MASK


def path_of(seed: int, sequence: int) -> str:
    """What an openat opens; a few names come again."""
    return f"/seed-{seed}/{sequence if sequence % 3 else sequence % 7}"


def mark_of(seed: int, sequence: int) -> str | None:
    """The test case to which an event belongs; the first events are before the first one."""
    return f"case {seed}.{sequence // MARK_EVERY}" if sequence >= MARK_EVERY else None


@dataclass(frozen=True)
class Event:
    """What is recorded under a sequence number, and what its row says."""

    number: int
    pid: int
    args: tuple[int, int, int]
    ret: int


def event_of(seed: int, sequence: int) -> Event:
    """The event that has a sequence number."""
    value = bits(seed, sequence)
    pid = 100 * (1 + seed % 50) + value % TASKS
    number = NUMBERS[value >> 8 & 3]
    return Event(number, pid, (value >> 10 & 0xFF, value >> 18 & 0xFFFFFFFF, value >> 50), value >> 40 & 0x3FF)


class Source:
    """Feeds a recorder as a back end does: identities when a task is seen first in a chunk, marks, strings, events.

    Attributes:
        recorder: The recorder, made here.
    """

    def __init__(self, directory: Path, seed: int, ballast: int = 0, **options: Any) -> None:
        """Begin a capture.

        Args:
            directory: Where its segments go.
            seed: Same seed, same events.
            ballast: Random bytes that each read brings, so that segments grow.
            options: The recorder's; chunks are small unless they say otherwise.
        """
        self._seed = seed
        self._ballast, self._random = ballast, Random(seed)
        self._known: set[int] = set()
        self.recorder = Recorder(directory, "x86_64", on_chunk=self._known.clear, **{"room": SMALL, **options})

    def step(self) -> int:
        """Record the next event; gives its sequence number."""
        recorder, seed = self.recorder, self._seed
        sequence = recorder.next_event
        event = event_of(seed, sequence)
        task = event.pid << 32 | event.pid
        mark = mark_of(seed, sequence) if sequence % MARK_EVERY == 0 else None
        if mark is not None:
            recorder.mark(mark)
        if task not in self._known:
            self._known.add(task)
            name = b"/bin/worker-%d-%d\0" % (seed, event.pid)
            recorder.identity(task, event.pid << 12, event.pid, event.pid, 1, 15, 0, b"worker", name, 0)
        strings = 0
        if event.number == OPENAT:
            strings = recorder.strings(((1, path_of(seed, sequence).encode(), 0),))
        elif event.number == READ and self._ballast:
            strings = recorder.strings(((1, self._random.randbytes(self._ballast), int(StringFlag.BUFFER)),))
        return recorder.event(sequence * 1000, 500, task, *event.args, 0, 0, 0, event.ret, event.number, strings)

    def run(self, events: int, each: Callable[[int], object] = lambda _: None) -> None:
        """Record events up to a sequence number; ``each`` gets the number of each that was recorded."""
        while self.recorder.next_event < events:
            each(self.step())


@dataclass(frozen=True)
class Checked:
    """A decoded capture against its source.

    Attributes:
        sequences: Of its rows, ascending.
        wrong: Rows that are not what was recorded, as text.
        losses: The ledger's losses.
        counts: The ledger's plain counts of stage capture.
    """

    sequences: list[int]
    wrong: list[str]
    losses: dict[str, int]
    counts: dict[str, int]

    @property
    def missing(self) -> int:
        """Events that the ledger calls lost, however it came."""
        return sum(
            count for item, count in self.losses.items()
            if item.startswith("events missing") or "dropped on purpose" in item
        )  # fmt: skip


def check(folder: Path, seeds: dict[str, int]) -> dict[str, Checked]:
    """Decode a folder and hold each row against what the source of its capture recorded.

    Args:
        folder: Of the segments.
        seeds: Seed by the capture's UUID.

    Returns:
        By the capture's UUID. The ledger is the whole folder's.
    """
    from process.decode import Decoder  # Polars must not be there when the scripts fork
    from process.frames import frames
    from process.pool import Workers
    from process.prepare import prepare

    prepared = prepare([folder], Workers(1))
    rows = list(prepared.ledger.rows())
    losses = {item: count for severity, _, item, count in rows if severity == "loss"}
    counts = {item: count for severity, stage, item, count in rows if (severity, stage) == ("info", "capture")}
    found: dict[str, Checked] = {name: Checked([], [], losses, counts) for name in seeds}
    for plan in prepared.plans:
        name = str(plan.batch.header.capture)
        seed, checked = seeds[name], found[name]
        for frame in frames(Decoder(plan)):
            for row in frame.to_dicts():
                checked.sequences.append(row["seq"])
                told = _difference(row, seed)
                if told:
                    checked.wrong.append(f"{name} {row['seq']}: {told}")
    return found


def _difference(row: dict[str, Any], seed: int) -> str:
    """What is wrong with a row; empty if nothing is."""
    sequence = row["seq"]
    event = event_of(seed, sequence)
    args = [row[f"arg{position}"] for position in range(3) if row[f"arg{position}"] is not None]
    wanted: dict[str, Any] = {
        "nr": event.number, "pid": event.pid, "tid": event.pid, "retno": event.ret, "status": "returned",
        "mark": mark_of(seed, sequence), "procname": f"/bin/worker-{seed}-{event.pid}",
        "duration_ns": 500,
    }  # fmt: skip
    wrong = [f"{name} {row[name]!r}, not {value!r}" for name, value in wanted.items() if row[name] != value]
    if args != list(event.args)[: len(args)]:
        wrong.append(f"arguments {args}, not {event.args}")
    shown = f'filename=0x{event.args[1]:x}("{path_of(seed, sequence)}")'
    if event.number == OPENAT and event.args[1] and row["arg1_repr"] != shown:
        wrong.append(f"{row['arg1_repr']}, not {shown}")
    return "; ".join(wrong)
