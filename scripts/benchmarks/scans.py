"""Two columns of one call by ``process.scan``, against decoding all there is."""

from __future__ import annotations

from functools import partial

from benchmarks.measure import take_turns, task
from benchmarks.part import Options, Part, Report, Target
from benchmarks.rates import rates, ratio


def _scan(options: Options) -> Report:
    segments = options.capture(options.events)
    costs = take_turns(
        options.repeats,
        {"all": partial(task, "read_all", segments), "openat, two columns": partial(task, "read_some", segments)},
    )
    found = rates(costs, dict.fromkeys(costs, options.events))
    times = ratio(found, "openat, two columns", "all")
    return Report(
        {"events": options.events, "steps": found},
        [Target("process.scan of one call, two columns: times a full decode", 5, times)],
    )


PART = Part("scan", "two columns of one call by process.scan, against a full decode; one thread of Polars", _scan)
