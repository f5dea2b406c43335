"""Watching captures: a line on the terminal of the one that runs here, and a table of all in a folder."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from capture.live import CONTROL, CONTROL_OFFSET
from capture.recorder import Recorder
from capture.running import RUNNING_SUFFIX, Running, read_running
from capture.segment import LIVE_SUFFIX, SegmentError

_PAUSE = 0.5
"""Seconds between two lines."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Status:
    """What is known of a capture that runs, or was not sealed.

    Attributes:
        capture: Its UUID.
        state: `running`; `killed`; or `incomplete`: it ended, and could not write all that it had.
        host: The host that records, or did.
        pid: Process id of the emulator there.
        abi: Of the guest.
        began: Unix time, s.
        events: So far, dropped ones included.
        dropped: Events that were counted and dropped.
        segment: Number of the newest segment.
        size: Bytes of its segment files.
        kept_from: Sequence number before which segments were deleted on purpose.
    """

    capture: str
    state: str
    host: str
    pid: int
    abi: str
    began: float
    events: int
    dropped: int
    segment: int
    size: int
    kept_from: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def captures_of(folder: Path) -> list[Status]:
    """The captures of a folder that run or were not sealed, the oldest first."""
    found = []
    for path in folder.glob(f"*{RUNNING_SUFFIX}"):
        with suppress(SegmentError, OSError):  # gone by now, or no running file
            found.append(_status(read_running(path)))
    return sorted(found, key=lambda one: (one.began, one.capture))


def _status(running: Running) -> Status:
    words, header = running.words, running.header
    state = "running" if running.is_running else "incomplete" if words["ended"] else "killed"
    return Status(
        capture=str(header.capture),
        state=state,
        host=running.host,
        pid=header.pid,
        abi=header.abi,
        began=header.realtime_ns / 1e9,
        events=max(words["next_event"], _live_events(running.path)),
        dropped=words["dropped"],
        segment=words["segment"],
        size=words["stored"],
        kept_from=words["kept_from"],
    )


def _live_events(running: Path) -> int:
    """One past the newest event in a capture's live files."""
    newest = 0
    for path in running.parent.glob(f"{running.stem}-*{LIVE_SUFFIX}"):
        with suppress(OSError, struct.error):
            with path.open("rb") as file:
                file.seek(CONTROL_OFFSET)
                words = struct.unpack(f"<{len(CONTROL)}Q", file.read(8 * len(CONTROL)))
            newest = max(newest, words[CONTROL.index("first_event")] + words[CONTROL.index("events")])
    return newest


def table(captures: list[Status]) -> Iterator[str]:
    """Lines for people: one a capture, then the totals."""
    yield (
        f"{'state':<10} {'host':<16} {'pid':>8} {'abi':<9} {'events':>14} {'calls/s':>9} {'dropped':>10} "
        f"{'size':>10} segment"
    )
    for one in captures:
        rate = f"{_rate(one):,.0f}" if one.state == "running" else "-"
        yield (
            f"{one.state:<10} {_plain(one.host):<16} {one.pid:>8} {_plain(one.abi):<9} {one.events:>14,} {rate:>9} "
            f"{one.dropped:>10,} {size_text(one.size):>10} {one.segment}"
        )
    running = [one for one in captures if one.state == "running"]
    yield (
        f"{len(running)} running, {len(captures) - len(running)} not sealed: "
        f"{sum(one.events for one in captures):,} events, {sum(one.dropped for one in captures):,} dropped, "
        f"{size_text(sum(one.size for one in captures))}"
    )


def _rate(one: Status) -> float:
    """Calls per second since the capture began."""
    return one.events / max(time.time() - one.began, 1e-3)


def _plain(text: str) -> str:
    """Text of a file, fit for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def size_text(size: int) -> str:
    """Bytes for people: ``1.5 MiB``."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if not unit else f"{value:.1f} {_UNITS[unit]}"


@contextmanager
def live_line(recorder: Recorder, write: Callable[[str], object] | None = None) -> Iterator[Callable[[], object]]:
    """While it is open, show how a recorder is doing: a line on stderr, if that is a terminal.

    Gives what takes the line away before that.
    """
    if write is None:
        if not sys.stderr.isatty():
            yield lambda: None
            return
        write = _to_stderr
    ended, show = threading.Event(), write

    def watch() -> None:
        before, then = 0, time.monotonic()
        while not ended.wait(_PAUSE):
            events, now = recorder.next_event, time.monotonic()
            show(f"\r\x1b[K{line(recorder, (events - before) / (now - then))}")
            before, then = events, now

    def hide() -> None:
        ended.set()
        thread.join()
        show("\r\x1b[K")

    thread = threading.Thread(target=watch, name="sysreel-line", daemon=True)
    thread.start()
    try:
        yield hide
    finally:
        hide()


def line(recorder: Recorder, rate: float) -> str:
    """How a recorder is doing."""
    totals = recorder.totals()
    return (
        f"{totals['events']:,} events, {rate:,.0f}/s, {size_text(recorder.stored)}, "
        f"{totals['dropped']:,} dropped, segment {recorder.segments - 1}"
    )


def _to_stderr(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.encode())
