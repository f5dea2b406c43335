"""Captures on a disk that fails at the N-th call, for every N: the guest goes on, and what is lost is counted.

The real recorder and sealer are fed by a seeded source (scripts/source.py), in a process of its own for each fault,
below a library that makes calls on the segments' folder fail (scripts/bad_disk.py).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bad_disk import ERRORS, FOREVER, Disk, asked, run_below
from source import Source, check

EVENTS = 700
GONE = "gone"
"""In place of an error: the folder is removed."""


@dataclass(frozen=True)
class Fault:
    """What is to fail.

    Attributes:
        error: Name of the error, or `GONE`.
        first: Number of the first call that fails, from 1; of `GONE`, the event before which it happens.
        calls: How many fail.
    """

    error: str
    first: int
    calls: int


@dataclass(frozen=True)
class Outcome:
    """What a capture says of itself.

    Attributes:
        fault: What failed.
        seed: Of its source.
        capture: Its UUID; empty if it was refused at its beginning.
        events: That the guest made.
        recorded: That the recorder counts as recorded.
        dropped: That it counts as dropped.
        is_whole: Whether it says that all it recorded is in sealed segments.
        calls: On the disk.
        raised: An exception that reached the guest, as text.
    """

    fault: Fault
    seed: int
    capture: str
    events: int
    recorded: int
    dropped: int
    is_whole: bool
    calls: int
    raised: str = ""


def run(folder: Path, fault: Fault, seed: int) -> Outcome:
    """Capture under a fault, in this process."""
    disk, segments = Disk(), folder / "segments"
    if fault.error != GONE:
        disk.fail(segments, fault.first, fault.calls, fault.error)
    try:
        source = Source(segments, seed, segment_size=3000)
    except OSError:
        return Outcome(fault, seed, "", 0, 0, 0, False, disk.calls())
    recorder, raised = source.recorder, ""

    def breathe(sequence: int) -> None:
        if sequence % 32 == 0:
            time.sleep(0.001)  # as a guest would: the sealer comes along
        if fault.error == GONE and sequence == fault.first:
            while segments.exists():  # the sealer may be making a file in it
                shutil.rmtree(segments, ignore_errors=True)

    try:
        source.run(EVENTS, breathe)
        recorder.close()
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    totals = recorder.totals()
    return Outcome(
        fault, seed, str(recorder.capture), recorder.next_event, totals["events"], totals["dropped"],
        recorder.is_whole, disk.calls(), raised,
    )  # fmt: skip


def faults(calls: int, is_long: bool) -> Iterator[Fault]:
    """Every call of a capture fails, for good and for a while: with one error each, or with all of them."""
    for first in range(1, calls + 3):
        for error in ERRORS if is_long else (ERRORS[first % 4],):
            yield Fault(error, first, FOREVER)
        for error in ERRORS if is_long else (ERRORS[first // 4 % 4],):
            yield Fault(error, first, (1, 3, 9)[first % 3])
    for event in range(1, EVENTS, 9 if is_long else 90):
        yield Fault(GONE, event, 0)


def work(folder: Path, is_long: bool) -> None:
    """Below the library: a process for each fault; outcomes as JSON lines on stdout."""
    (folder / "none").mkdir()
    calls = _forked(folder / "none", Fault("EIO", FOREVER, 0), 0).calls
    for number, fault in enumerate(faults(calls, is_long), 1):
        place = folder / str(number)
        place.mkdir()
        print(json.dumps(asdict(_forked(place, fault, number))), flush=True)


def _forked(place: Path, fault: Fault, seed: int) -> Outcome:
    """The outcome of a capture in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(asdict(run(place, fault, seed))).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return _outcome(text) if text else Outcome(fault, seed, "", 0, 0, 0, False, 0, "the process has ended")


def _outcome(text: str) -> Outcome:
    found = json.loads(text)
    return Outcome(**{**found, "fault": Fault(**found["fault"])})


def verify(place: Path, outcome: Outcome) -> list[str]:
    """Hold what a capture left against what it says; gives what does not fit."""
    told = f"{outcome.fault}:"
    if outcome.raised:
        return [f"{told} the guest was stopped: {outcome.raised}"]
    if not outcome.capture:
        return [] if not list(place.glob("segments/*.seg")) else [f"{told} refused, but it left a segment"]
    problems = []
    if outcome.events != EVENTS or outcome.recorded + outcome.dropped != EVENTS:
        problems.append(f"{told} {outcome.recorded} recorded and {outcome.dropped} dropped are not {EVENTS}")
    if outcome.fault.error == GONE:
        return problems if not outcome.is_whole else [*problems, f"{told} whole, without its folder"]
    (found,) = check(place / "segments", {outcome.capture: outcome.seed}).values()
    problems += found.wrong
    if len(found.sequences) != outcome.recorded:
        problems.append(f"{told} {len(found.sequences)} rows, {outcome.recorded} recorded")
    if found.missing != outcome.dropped or found.counts["dropped"] != outcome.dropped:
        problems.append(f"{told} {found.missing} missing, {found.counts['dropped']} told, {outcome.dropped} dropped")
    if set(found.losses) - _explained(outcome, found.losses):
        problems.append(f"{told} {found.losses}")
    return problems


def _explained(outcome: Outcome, losses: dict[str, int]) -> set[str]:
    """The losses that dropped events explain."""
    return {loss for loss in losses if outcome.dropped and loss.startswith(("events dropped", "events missing"))}


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if every fault cost what was counted and nothing else."""
    options = asked(
        __doc__, "scripts/failing_disk.py --long", "each error at each call, for good and for a while", words
    )
    if options.work:
        work(options.work, options.long)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="sysreel-disk-"))
    try:
        lines = run_below(folder, [__file__, "--work", folder, *(["--long"] if options.long else [])]).splitlines()
        outcomes = [_outcome(line) for line in lines]
        problems = [text for number, one in enumerate(outcomes, 1) for text in verify(folder / str(number), one)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems[:20]:
        print(problem, file=sys.stderr)
    print(f"faults: {len(outcomes)}")
    print(f"captures refused at their beginning: {sum(not one.capture for one in outcomes)}")
    print(f"guests stopped: {sum(bool(one.raised) for one in outcomes)}")
    print(f"events made: {sum(one.events for one in outcomes)}")
    print(f"events dropped and counted: {sum(one.dropped for one in outcomes)}")
    print(f"captures whole in the end: {sum(one.is_whole for one in outcomes)}")
    print(f"differences to the ledger, wrong rows: {len(problems)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
