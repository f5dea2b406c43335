"""How Polars calls the types of the outputs' columns, and what it has in the footers of Parquet files that tells them.

Imports Polars and little else: what is written needs no more of it.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import polars as pl

from process.schema import Kind, Kinds

DTYPES: Final = {Kind.INTEGER: pl.Int64(), Kind.TEXT: pl.String(), Kind.LABEL: pl.Categorical()}


def dtypes(kinds: Kinds) -> pl.Schema:
    """Of some columns."""
    return pl.Schema({name: DTYPES[kind] for name, kind in kinds.items()})


def parquet_metadata(kinds: Kinds) -> dict[str, str]:
    """What Polars has in the footer of a Parquet file with some columns, whatever its rows.

    Without it readers would take all texts for one type.
    """
    file = BytesIO()
    pl.DataFrame(schema=dtypes(kinds)).write_parquet(file)
    file.seek(0)
    return pl.read_parquet_metadata(file)
