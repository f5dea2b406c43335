"""Many small captures, as a fuzzing campaign leaves them, against the same events in large segments."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import synthetic
from benchmarks.measure import take_turns
from benchmarks.part import Options, Part, Report, Target, say
from benchmarks.rates import process, rates, ratio

EVENTS = 50
"""Of a small segment."""


def _small(options: Options) -> Report:
    count = max(options.events // EVENTS, 1)
    many = options.scratch / "small"
    if not many.exists():
        say(f"generating {count:,} captures of {EVENTS} events")
        for seed in range(count):
            synthetic.generate(many, EVENTS, processes=2, paths=50, seed=seed)
    costs = take_turns(
        options.repeats,
        {
            "small segments": partial(process, many, options.scratch / "small.parquet", 2),
            "large segments": partial(process, _large(options, count), options.scratch / "large.parquet", 2),
        },
    )
    found = rates(costs, dict.fromkeys(costs, count * EVENTS))
    note = options.needs(5_000_000)
    times = ratio(found, "small segments", "large segments")
    return Report(
        {"segments": count, "events": count * EVENTS, "steps": found},
        [Target(f"{count:,} segments of {EVENTS} events: times the rate of large ones", 0.3, times, note=note)],
    )


def _large(options: Options, count: int) -> Path:
    return options.capture(count * EVENTS)


PART = Part("small", "captures of 50 events each, against large segments; Parquet, -j 2", _small, usual=False)
