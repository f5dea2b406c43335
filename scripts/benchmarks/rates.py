"""Decoding by the ``process`` command, start-up included: against the inline logger, and against mere writing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from benchmarks.measure import Cost, run, take_turns, task, tool
from benchmarks.part import Options, Part, Report, Target, say
from inline_logger import Way

TWICE = "parquet -j 1, two at once"
"""What two processors give at the most."""
INLINE_EVENTS = {Way.CORE: 100_000, Way.ORM: 20_000}
"""Events of the inline logger's runs: its rate does not depend on how many there are."""
WRITTEN_EVENTS = 1_000_000
"""Rows that are written for the limits, at the most: their frame is in memory."""
LIMITS = {
    "strings": ("write_parquet", "strings"),
    "dictionaries": ("write_parquet", "dictionaries"),
    "pyarrow": ("write_arrow",),
}
"""Ways to write Parquet: the task of each, and what it is told."""


def process(segments: Path, output: Path, jobs: int) -> Cost:
    """Run the command; one thread a process, so that ``-j 1`` is a figure per core. No old output is replaced."""
    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
    command = [tool("process"), f"{segments}/", "-j", str(jobs), "-o", str(output), "--quiet"]
    return run(command, {"POLARS_MAX_THREADS": "1"})


def at_once(*steps: Callable[[], Cost]) -> Cost:
    """Steps side by side, which have nothing to do with each other: what so many processors give at the most."""
    began = perf_counter()
    with ThreadPoolExecutor(len(steps)) as threads:
        costs = [one.result() for one in [threads.submit(step) for step in steps]]
    return Cost(perf_counter() - began, sum(cost.cpu for cost in costs), sum(cost.peak for cost in costs))


def rates(costs: dict[str, Cost], events: dict[str, int]) -> dict[str, Any]:
    """Figures of steps that each handled so many events."""
    return {
        name: {
            "events_per_second": round(events[name] / cost.seconds),
            "cpu_us_per_event": round(cost.cpu / events[name] * 1e6, 3),
            "processors_busy": round(cost.cpu / cost.seconds, 2),
            "peak_mb": round(cost.peak / 1e6, 1),
        }
        for name, cost in costs.items()
    }


def size(output: Path) -> int:
    """Bytes of an output."""
    return sum(path.stat().st_size for path in ([output] if output.is_file() else output.iterdir()))


def ratio(figures: dict[str, Any], one: str, other: str) -> float:
    """How many times as fast one step is as another."""
    return round(float(figures[one]["events_per_second"]) / float(figures[other]["events_per_second"]), 3)


def _mix(options: Options) -> Report:
    """The documented mix, to both outputs."""
    segments, scratch = options.capture(options.events), options.scratch
    outputs = {f"{kind} -j {jobs}": scratch / f"{jobs}.{kind}" for kind in ("parquet", "sqlite") for jobs in (1, 2)}
    events = dict.fromkeys(outputs, options.events)
    steps = {name: partial(process, segments, output, int(name[-1])) for name, output in outputs.items()}
    twice = [partial(process, segments, scratch / f"twice{copy}.parquet", 1) for copy in (1, 2)]
    steps[TWICE], events[TWICE] = partial(at_once, *twice), 2 * options.events
    for way, most in INLINE_EVENTS.items():
        name = f"inline, {way.value}"
        events[name] = min(options.events, most)
        steps[name] = partial(task, "inline", options.capture(events[name]), scratch / "inline.sqlite", way.value)
    written = min(options.events, WRITTEN_EVENTS)
    kept = scratch / "kept.arrow"
    say(f"decoding {written:,} events for the limits")
    task("keep", options.capture(written), kept)
    for threads in (1, 2):
        for limit, (name, *words) in LIMITS.items():
            step = partial(task, name, kept, scratch / "limit.parquet", *words, threads=threads)
            steps[f"write parquet, {limit}, {threads} threads"] = step
        step = partial(task, "write_sqlite", kept, scratch / "limit.sqlite", threads=threads)
        steps[f"write sqlite, {threads} threads"] = step
    events |= {name: written for name in steps if name.startswith("write ")}

    found = rates(take_turns(options.repeats, steps), events)
    _compare(found, "inline, core")
    best = max((f"write parquet, {way}, 2 threads" for way in LIMITS), key=lambda n: found[n]["events_per_second"])
    plain = max((f"write sqlite, {n} threads" for n in (1, 2)), key=lambda n: found[n]["events_per_second"])
    figures: dict[str, Any] = {
        "events": options.events,
        "segment_bytes_per_event": round(size(segments) / options.events, 2),
        "output_bytes_per_row": {
            name: round(size(output) / _rows(outputs["parquet -j 1"]), 2) for name, output in outputs.items()
        },
        "steps": found,
        "of_writing_alone": {
            "parquet -j 2": ratio(found, "parquet -j 2", best),
            "sqlite -j 2": ratio(found, "sqlite -j 2", plain),
        },
    }
    writing = found[plain]["times_inline"]
    ceiling = f"two -j 1 at once: {ratio(found, TWICE, 'parquet -j 1'):.3g}"
    return Report(
        figures,
        [
            Target("Parquet, -j 2: times the inline way", 28, ratio(found, "parquet -j 2", "inline, core")),
            Target("Parquet, -j 2: of writing alone with 2 threads", 0.6, figures["of_writing_alone"]["parquet -j 2"]),
            Target(
                "SQLite, -j 2: times the inline way",
                11,
                ratio(found, "sqlite -j 2", "inline, core"),
                note=f"writing alone: {writing:.3g}",
            ),
            Target("SQLite, -j 2: of writing alone", 0.85, figures["of_writing_alone"]["sqlite -j 2"]),
            Target(
                "Parquet: -j 2 times -j 1",
                1.8,
                ratio(found, "parquet -j 2", "parquet -j 1"),
                note=", ".join(filter(None, (options.needs(10_000_000), ceiling))),
            ),
        ],
    )


def _adversarial(options: Options) -> Report:
    """Most pointers unique, most strings new."""
    few = min(options.events, INLINE_EVENTS[Way.CORE])
    segments, scratch = options.capture(options.events, True), options.scratch
    costs = take_turns(
        options.repeats,
        {
            "parquet -j 2": partial(process, segments, scratch / "adversarial.parquet", 2),
            "sqlite -j 2": partial(process, segments, scratch / "adversarial.sqlite", 2),
            "inline, core": partial(
                task, "inline", options.capture(few, True), scratch / "inline.sqlite", Way.CORE.value
            ),
        },
    )
    found = rates(costs, {name: few if name.startswith("inline") else options.events for name in costs})
    _compare(found, "inline, core")
    figures = {
        "events": options.events,
        "segment_bytes_per_event": round(size(segments) / options.events, 2),
        "steps": found,
    }
    times = ratio(found, "parquet -j 2", "inline, core")
    return Report(figures, [Target("Parquet, -j 2, adversarial: times the inline way", 14, times)])


def _compare(found: dict[str, Any], base: str) -> None:
    """Add to each step how many times as fast as the base it is."""
    for name, figures in found.items():
        figures["times_inline"] = round(ratio(found, name, base), 2)


def _rows(output: Path) -> int:
    return int(pl.scan_parquet(f"{output}/**/*.parquet").select(pl.len()).collect().item())


MIX = Part("mix", "the documented mix to Parquet and SQLite, against the inline way and against mere writing", _mix)
ADVERSARIAL = Part("adversarial", "the same where most pointers are unique and most strings new", _adversarial)
