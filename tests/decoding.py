"""Decodes segments within a test's own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from process.decode import Decoder
from process.frames import SCHEMA, frames
from process.ledger import Ledger
from process.pool import Workers
from process.prepare import prepare

Row = dict[str, Any]


def frame_of(*paths: Path) -> tuple[pl.DataFrame, Ledger]:
    """All rows of segments, and the ledger of what is missing."""
    prepared = prepare(list(paths), Workers(1))
    made = [pl.DataFrame(schema=SCHEMA)]
    for plan in prepared.plans:
        made += frames(Decoder(plan))
    return pl.concat(made), prepared.ledger


def rows_of(*paths: Path) -> list[Row]:
    """All rows of segments."""
    return frame_of(*paths)[0].to_dicts()


def losses(ledger: Ledger) -> dict[str, int]:
    """The ledger's losses."""
    return {item: count for severity, _, item, count in ledger.rows() if severity == "loss"}
