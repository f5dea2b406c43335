"""Many small segments, as a fuzzing campaign leaves them, against the same events in large ones."""

from __future__ import annotations

from functools import partial

import synthetic
from benchmarks.measure import take_turns
from benchmarks.part import Options, Part, Report, Target, say
from benchmarks.rates import process, rates, ratio
from capture.chunk import Room

EVENTS = 50
"""Of a small segment."""
CAPTURES = 500
"""Small segments that are each a capture of their own, at the most: for another figure."""
_ROOM = Room(events=EVENTS, strings=1024, string_bytes=1 << 20, sets=1024, tasks=64, marks=64, files=64)


def _small(options: Options) -> Report:
    count = max(options.events // EVENTS, 1)
    events, captures = count * EVENTS, min(count, CAPTURES)
    many, few, alone = (options.scratch / name for name in ("small", "large", "alone"))
    if not alone.exists():
        say(f"generating {count:,} segments of {EVENTS} events")
        synthetic.generate(many, events, processes=2, paths=50, segment_size=1, room=_ROOM)
        synthetic.generate(few, events, processes=2, paths=50)
        for seed in range(captures):
            synthetic.generate(alone, EVENTS, processes=2, paths=50, seed=seed)
    sources = {
        "small segments": (many, events),
        "large segments": (few, events),
        "captures": (alone, captures * EVENTS),
    }
    steps = {
        name: partial(process, folder, options.scratch / "small.parquet", 2) for name, (folder, _) in sources.items()
    }
    costs = take_turns(options.repeats, steps)
    found = rates(costs, {name: made for name, (_, made) in sources.items()})
    note = options.needs(5_000_000)
    small, single = (ratio(found, name, "large segments") for name in ("small segments", "captures"))
    return Report(
        {
            "segments": len(list(many.glob("*.seg"))), "events": events, "captures": captures, "steps": found,
            "cpu_ms_per_capture": round(costs["captures"].cpu / captures * 1e3, 2),
        },
        [
            Target(f"{count:,} segments of {EVENTS} events: times the rate of large ones", 0.3, small, note=note),
            Target(f"{captures:,} captures of {EVENTS} events: times the rate of large ones", 0.3, single, note=note),
        ],
    )  # fmt: skip


PART = Part(
    "small", "segments of 50 events, and captures of 50, against large segments; Parquet, -j 2", _small, usual=False
)
