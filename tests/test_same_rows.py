"""One capture gives the same rows, names included, however it is cut, ordered and shared out."""

from __future__ import annotations

import hashlib
import random
from itertools import product
from pathlib import Path

import polars as pl

import synthetic
from fd_world import World, write
from process.output import Format
from process.pipeline import decode

NEVER = 1 << 40
SIZES = {"whole": ([], NEVER), "halves": ([400, 800], 120_000), "slices": ([*range(60, 2000, 60)], 40_000)}
"""Where segments of the one capture end, and how large those of the other are."""
IGNORED = ["time_ns"]
"""The generated capture begins when it is made."""


def row_hash(dataset: Path) -> str:
    """Of all rows and columns, in the order of their ids."""
    frame = pl.scan_parquet(f"{dataset}/**/*.parquet").drop(IGNORED).sort("id").collect()
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()


def test_rows_do_not_depend_on_workers_segments_or_order(tmp_path: Path) -> None:
    world = World(random.Random(11)).run(4000)
    found: dict[str, set[str]] = {"world": set(), "generated": set()}
    names: set[str] = set()
    for size, (cuts, limit) in SIZES.items():
        write(world, tmp_path / size / "world", [cut for cut in cuts if cut < len(world)])
        synthetic.generate(tmp_path / size / "generated", 24_000, processes=12, segment_size=limit)
    for (size, jobs), kind in product(product(SIZES, (1, 2, 16)), found):
        paths = sorted((tmp_path / size / kind).iterdir())
        assert len(paths) == 1 or size != "whole"
        random.Random(jobs).shuffle(paths)
        out = tmp_path / f"{kind}-{size}-{jobs}.parquet"
        summary = decode(paths, out, Format.PARQUET, jobs=jobs)
        assert not summary.ledger.lossy
        found[kind].add(row_hash(out))
        names |= set(pl.read_parquet(f"{out}/*.parquet")["fd_source"].drop_nulls().unique())
    assert {kind: len(hashes) for kind, hashes in found.items()} == {"world": 1, "generated": 1}
    assert names == {"inferred", "inherited", "unknown"}
