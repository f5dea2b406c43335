"""Names of descriptors against a small kernel run at random (`fd_world`): never wrong, the same for any segments."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from decoding import rows_of
from fd_world import CHILD, NR, Event, World, write

pytestmark = pytest.mark.usefixtures("no_batching")

CUTS = [50, 100, 130, 400, 700]
"""Sequence numbers at which segments end: small ones, so that much is under way at their ends."""

_ARGS = {NR[name]: [0] for name in ("read", "close", "dup", "fcntl", "fchdir", "openat", "close_range")}
_ARGS |= {NR["dup2"]: [0, 1], NR["dup3"]: [0, 1]}
_NAME = re.compile(r"\((.*)\)$")
Names = dict[int, list[str | None]]


def run(seed: int, **kinds: bool) -> list[Event]:
    world = World(random.Random(seed))
    for name, value in kinds.items():
        setattr(world, name, value)
    return world.run(2500)


def names(folder: Path) -> Names:
    """The names shown, by event."""
    found: Names = {}
    for row in rows_of(folder):
        shown = [_NAME.search(row[f"arg{k}_repr"]) for k in _ARGS.get(row["nr"], [])]
        found[row["seq"]] = [None if name is None or name[1] == "[???]" else name[1] for name in shown]
    return found


def decoded(events: list[Event], folder: Path, cuts: list[int] = [], lost: frozenset[int] = frozenset()) -> Names:  # noqa: B006
    write(events, folder, [cut for cut in cuts if cut < len(events)], lost)
    return names(folder)


def compared(events: list[Event], shown: Names) -> Counter[str]:
    """How many names are right, unknown or wrong; ``early`` are unknown because they are from before the capture."""
    counts: Counter[str] = Counter()
    for seq, event in enumerate(events):
        if event.flags & CHILD or seq not in shown:
            continue
        for name, truth in zip(shown[seq], event.truth, strict=False):
            if name is not None:
                counts["right" if name == truth else "wrong"] += 1
            else:
                early = truth is None or truth.startswith(("/initial", "/first"))
                counts["early" if early else "unknown"] += 1
    return counts


KINDS: list[dict[str, bool]] = [
    {},
    {"shares": False},
    {"children": False, "silent": False},
    {"overlap": False},
    {"overlap": False, "children": False, "silent": False},
    {"threads": False, "shares": False, "overlap": False},
]


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(f"no_{name}" for name in kinds) or "all")
@pytest.mark.parametrize("seed", range(4))
def test_no_name_is_wrong_and_segments_make_no_difference(seed: int, kinds: dict[str, bool], tmp_path: Path) -> None:
    events = run(seed, **kinds)
    whole = decoded(events, tmp_path / "whole")
    counts = compared(events, whole)
    assert counts["wrong"] == 0, counts
    assert counts["right"] > 80, counts
    assert decoded(events, tmp_path / "cut", CUTS) == whole


@pytest.mark.parametrize("seed", range(4))
def test_one_call_after_the_other_leaves_nothing_unknown(seed: int, tmp_path: Path) -> None:
    events = run(seed, overlap=False, silent=False, threads=False, shares=False)
    counts = compared(events, decoded(events, tmp_path))
    assert counts["wrong"] == 0
    assert counts["unknown"] <= 0.002 * counts["right"], counts


@pytest.mark.parametrize("seed", range(6))
def test_without_a_middle_segment_no_name_is_wrong(seed: int, tmp_path: Path) -> None:
    events = run(seed, overlap=bool(seed % 2))
    whole = decoded(events, tmp_path / "whole")
    cuts = [cut for cut in (150, 300, 450, 600, 750) if cut < len(events)]
    paths: list[Any] = write(events, tmp_path / "cut", cuts)
    for missing in range(1, len(paths) - 1):
        hidden = paths[missing].rename(tmp_path / "hidden")
        rest = names(tmp_path / "cut")
        hidden.rename(paths[missing])
        assert len(rest) < len(whole)
        for seq, shown in rest.items():
            truth = whole[seq] if seq in whole else events[seq].truth
            for name, other, real in zip(shown, truth, events[seq].truth, strict=False):
                assert name in (None, other) or name == real, (missing, seq, events[seq], shown)
        counts = compared(events, rest)
        assert counts["wrong"] == 0
        assert counts["right"] > 20


@pytest.mark.parametrize("seed", range(6))
def test_after_dropped_events_no_name_is_wrong(seed: int, tmp_path: Path) -> None:
    events = run(seed)
    at = 100 + 60 * seed
    lost = frozenset({*range(at, at + 1 + 7 * seed), 500, 640})
    shown = decoded(events, tmp_path / "a", lost=lost)
    assert compared(events, shown)["wrong"] == 0
    assert decoded(events, tmp_path / "b", [at, at + 40, 520], lost) == shown
