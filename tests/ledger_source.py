"""A seeded source of events: drives the real recorder, and keeps a list of its own of all that it was told.

The ledger's rule, which holds whatever happens to the files afterwards: each event of the list is decoded as it was
told, or counted as lost; no other is there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from capture.chunk import Room
from capture.recorder import Recorder
from capture.segment import EventFlag
from decoding import Row

PREAD, OPENAT, GETPID = 17, 257, 39
SMALL = Room(events=16, strings=64, string_bytes=1 << 20, sets=64, tasks=64, marks=32, files=32)
"""Chunks of 16 events, so that a small file has several blocks of each kind."""


@dataclass
class Told:
    """What the recorder was told, by sequence number.

    Attributes:
        events: Of each: registers' first argument, result, process and path (None: the call has none).
        marks: The text that holds for each.
        argv0: The name of each process.
    """

    events: list[tuple[int, int, int, bytes | None]] = field(default_factory=list)
    marks: list[str | None] = field(default_factory=list)
    argv0: dict[int, str] = field(default_factory=dict)

    def is_row(self, row: Row, seq: int) -> bool:
        """Whether a row is the event with this number, as far as nothing that it needs is lost."""
        arg, ret, pid, path = self.events[seq]
        text = f'("{path.decode()}")' if path is not None else None
        return (
            row["arg0" if path is None else "arg2"] == arg
            and row["retno"] == ret
            and row["pid"] == pid
            and row["procname"] in (self.argv0[pid], "[none]", "[lost]")
            and (text is None or row["arg1_repr"].endswith((text, "([lost])")))
            and (row["mark"] == self.marks[seq] or row["mark"] in (None, "[lost]"))
        )


def record(folder: Path, events: int, *, seed: int = 1, segment_size: int = 1, room: Room = SMALL) -> Told:
    """Write a capture of calls that tell their own number.

    Args:
        folder: For the segments.
        events: How many.
        seed: Same seed, same events.
        segment_size: Stored bytes of a segment; 1 gives one to each chunk.
        room: Of a chunk.
    """
    source, told = random.Random(seed), Told()
    pids = [100, 200, 300]

    def introduce() -> None:
        for pid in pids:
            told.argv0[pid] = f"prog-{pid}"
            recorder.identity(
                pid << 32 | pid, pid, pid, pid, 1, 15, 7, b"prog", b"prog-%d\0" % pid, 0, table=pid << 8
            )  # fmt: skip

    recorder = Recorder(folder, "x86_64", segment_size=segment_size, room=room, wait=True, on_chunk=introduce)
    introduce()
    recorder.files(pids[0] << 8, [(0, b"/dev/console", 0), (1, b"pipe:[7]", 0)], snapshot=True)
    mark: str | None = None
    for seq in range(events):
        if seq % 11 == 5:
            mark = f"step {seq}"
            recorder.mark(mark)
        pid = source.choice(pids)
        ret = source.choice((0, 3, -2))
        path = b"/tmp/%d" % source.randrange(20) if source.random() < 0.5 else None
        strings = recorder.strings(((1, path, 0),)) if path is not None else 0
        first, third, number = (seq, 0, GETPID + 1) if path is None else (0, seq, OPENAT)
        recorder.event(
            seq * 100, 10, pid << 32 | pid, first, 0x7000, third, 0, 0, 0, ret % 2**64, number, strings,
            EventFlag.RETURNED,
        )  # fmt: skip
        told.events.append((seq, ret, pid, path))
        told.marks.append(mark)
    recorder.close()
    return told
