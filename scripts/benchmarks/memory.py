"""Memory of the whole process tree: five times the events must not take more."""

from __future__ import annotations

from benchmarks.part import Options, Part, Report, Target
from benchmarks.rates import process

TIMES = 5
MOST = 1.5e9
"""Bytes."""


def _memory(options: Options) -> Report:
    peaks: dict[str, dict[str, float]] = {}
    targets = []
    for kind in ("parquet", "sqlite"):
        peaks[kind] = {}
        for events in (options.events, TIMES * options.events):
            output = options.scratch / f"memory.{kind}"
            peaks[kind][str(events)] = round(process(options.capture(events), output, 2).peak / 1e6, 1)
        less, more = peaks[kind].values()
        note = options.needs(10_000_000)
        growth = f"memory to {kind}, -j 2: {TIMES * options.events:,} events against {options.events:,}"
        targets += [
            Target(growth, 1.15, round(more / less, 3), True, note),
            Target(f"memory to {kind}, -j 2: GB", MOST / 1e9, round(more / 1e3, 3), True, note),
        ]
    return Report({"peak_mb": peaks}, targets)


PART = Part("memory", "peak memory of all processes at --events and at five times as many", _memory, usual=False)
