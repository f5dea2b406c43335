"""The latest return up to each event, whichever slices are asked about, against all events at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import synthetic
from process import slices
from process.clock import Clock
from process.discover import discover
from process.events import DURATION, TIME
from process.fd_records import ALWAYS
from process.read import load


@pytest.mark.parametrize("asked", [[0, 1, 2, 3, 4], [3], [1, 4], [4], [2, 2, 3]])
def test_slices_that_nobody_asked_about_count_as_well(
    asked: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.generate(tmp_path, 40_000)
    contents = load(discover([tmp_path]).parts[0])
    monkeypatch.setattr(slices, "SLICE", 8000)
    whole = np.concatenate([block.words() for block in contents.events], axis=1)
    returns = (whole[TIME] + whole[DURATION]).view(np.int64)
    latest = int(returns.argmax())
    dropped = np.array(sorted([5, latest, 20_000]))
    returns[dropped] = ALWAYS
    expected = np.maximum.accumulate(returns)
    cut = slices.Slices(contents, [(block.first, block.count) for block in contents.events])
    clock, pieces = Clock(cut, dropped), [cut.slice(index) for index in range(cut.count)]
    assert len(pieces) == 5
    for index in asked:
        piece = pieces[index]
        assert (clock.of(index, piece) == expected[piece.sequences]).all()
