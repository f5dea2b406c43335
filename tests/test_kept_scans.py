"""What the survey keeps of a segment for its decoder: the same rows with it, without it, and if it is gone."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from decoding import rows_of
from fd_world import World, write
from process.decode import Decoder
from process.pool import Workers
from process.prepare import prepare


def decoded(folder: Path, clear: bool = False) -> list[dict[str, object]]:
    prepared = prepare([folder], Workers(1))
    kept = prepared.folder.path
    if clear and kept is not None:
        assert list(kept.iterdir())
        for path in kept.iterdir():
            path.unlink()
    return [row for plan in prepared.plans for frame in Decoder(plan).frames() for row in frame.rows(named=True)]


@pytest.mark.parametrize("shares", [False, True])
def test_rows_do_not_depend_on_what_is_kept(shares: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(random.Random(3))
    world.shares = shares
    write(world.run(2500), tmp_path / "capture", [150, 300, 450])
    expected = rows_of(tmp_path / "capture")
    assert any(row["fd_source"] == "inferred" for row in expected)
    assert decoded(tmp_path / "capture", clear=True) == expected
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    prepared = prepare([tmp_path / "capture"], Workers(1))
    assert prepared.folder.path is None
    assert decoded(tmp_path / "capture") == expected
