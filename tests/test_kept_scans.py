"""What the survey keeps of a segment for its decoder: the same rows with it, without it, and if it is gone."""

from __future__ import annotations

import pickle
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest

from decoding import rows_of
from fd_world import World, write
from process.decode import Decoder
from process.fd_records import CHANGE, Scan, shelve
from process.frames import frames
from process.pool import Workers
from process.prepare import prepare


def decoded(folder: Path, clear: bool = False) -> list[dict[str, object]]:
    prepared = prepare([folder], Workers(1))
    kept = prepared.folder.path
    if clear and kept is not None:
        assert list(kept.iterdir())
        for path in kept.iterdir():
            path.unlink()
    return [row for plan in prepared.plans for frame in frames(Decoder(plan)) for row in frame.rows(named=True)]


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


def test_shelved_changes_are_as_before(tmp_path: Path) -> None:
    """In a file that nobody else sees; what is written to them is theirs alone. Without room they stay."""
    scans = [scan_of(5), Scan(), scan_of(3)]
    before = [scan.changes.copy() for scan in scans]
    shelve(scans, tmp_path / "none")
    assert all(scan.changes.base is None for scan in scans)
    shelve(scans, tmp_path)
    assert not list(tmp_path.iterdir())
    assert scans[0].changes.base is not None and scans[2].changes.base is not None
    for scan, same in zip(scans, before, strict=True):
        np.testing.assert_array_equal(scan.changes, same)
    scans[0].changes["t1"][2] = 77
    assert scans[0].changes["t1"].tolist() == [0, 1, 77, 3, 4]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scans[2])).changes, before[2])
    shelve([], tmp_path)


def scan_of(count: int) -> Scan:
    changes = np.zeros(count, CHANGE)
    changes["t1"], changes["text"] = np.arange(count), np.arange(count)[::-1]
    return Scan(changes)
