"""What idle workers do of a plan comes out as the command would make it itself."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fd_world import World, write
from process import pool, steps
from process.discover import Part, Parts
from process.fd_lives import follow
from process.output import Format
from process.packing import pack
from process.pipeline import decode
from process.plan import _find_out
from process.pool import Workers
from process.prepare import Prepared, prepare

pytestmark = pytest.mark.usefixtures("no_batching")  # so that there are several batches


def packed(prepared: Prepared) -> bytes:
    """All that plans say, and the trees; paths by their names, since their folder is a new one each time."""
    shown: list[Any] = [prepared.with_pieces().plans, [pickle.loads(pickle.dumps(tree)) for tree in prepared.trees]]
    assert shown[1] == prepared.trees and all(tree.programs for tree in prepared.trees)
    return pack(shown, name_of)


def name_of(value: Path | Part | Parts) -> str:
    return ",".join(value.names()) if isinstance(value, Parts) else value.name


@pytest.mark.parametrize("shares", [False, True])
def test_plans_are_the_same_whoever_looks_through_what_they_depend_on(
    shares: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = World(random.Random(1), shares=shares)
    truth.run(2500)
    write(truth.events, tmp_path / "caps", [50, 100, 700])
    with Workers(1) as workers:
        alone = packed(prepare([tmp_path / "caps"], workers, history=True))
    asked: list[Callable[..., Any]] = []
    real = Workers.ahead

    def ahead(self: Workers, function: Callable[[Any], Any], item: Any) -> Callable[[], Any]:
        asked.append(function)
        return real(self, function, item)

    monkeypatch.setattr(Workers, "ahead", ahead)
    monkeypatch.setattr(pool, "_MANY", 1)
    with Workers(2) as workers:
        assert packed(prepare([tmp_path / "caps"], workers, history=True)) == alone
    assert {_find_out, follow} <= set(asked)


def test_workers_rest_while_plans_of_much_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = World(random.Random(2), shares=False)
    truth.run(2500)
    write(truth.events, tmp_path / "caps", [50, 100, 700])
    rested: list[int] = []
    monkeypatch.setattr(Workers, "rest", lambda self: rested.append(self.jobs))
    for number, most in enumerate((steps._MUCH, 1)):
        monkeypatch.setattr(steps, "_MUCH", most)
        decode([tmp_path / "caps"], tmp_path / f"{number}.parquet", Format.PARQUET, jobs=2)
    assert rested == [2]
