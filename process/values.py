"""A column as the decoder makes it: numbers, or codes that stand for texts. It is given as Polars has it.

To what writes it (`process/parquet_pages.py`, `process/sqlite_leaves.py`) codes and texts stay apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from process.take import take
from process.text_array import TextArray

Codes = npt.NDArray[np.signedinteger[Any]]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Integers:
    """A column of integers.

    Attributes:
        values: int64 of shape (n,).
        valid: Which of them are numbers, bool of shape (n,), the others are null; None if all are.
    """

    values: npt.NDArray[np.int64]
    valid: Bools | None = None

    def only(self, rows: slice) -> Integers:
        """Some rows."""
        return Integers(self.values[rows], None if self.valid is None else self.valid[rows])

    def series(self) -> pl.Series:
        """Int64."""
        series = pl.Series(self.values, dtype=pl.Int64)
        if self.valid is None or self.valid.all():
            return series
        some: pl.Series = series.zip_with(pl.Series(self.valid), pl.Series([None], dtype=pl.Int64))
        return some


@dataclass(frozen=True)
class Texts:
    """A column of texts by their indices.

    Attributes:
        codes: Signed integers of shape (n,), indices into ``texts``; a negative one is null.
        texts: One may be there twice, or stand for no row; of a String column it may be null.
        dtype: That Polars' column is to have: String or Categorical.
        is_unique: Whether each text is there once, and has a row.
    """

    codes: Codes
    texts: pl.Series | TextArray
    dtype: pl.DataType | type[pl.DataType] = pl.String
    is_unique: bool = False

    def only(self, rows: slice) -> Texts:
        """Some rows."""
        return Texts(self.codes[rows], self.texts, self.dtype)

    def known(self) -> pl.Series:
        """The texts as a String column."""
        return self.texts.series() if isinstance(self.texts, TextArray) else self.texts

    def series(self) -> pl.Series:
        """One text a row."""
        known = pl.concat([self.known(), pl.Series([None], dtype=pl.String)]).cast(self.dtype)
        codes, nothing = self.codes, len(self.texts)
        if len(codes) and (codes == codes[0]).all():
            one: pl.Series = known.new_from_index(int(codes[0]) if codes[0] >= 0 else nothing, len(codes))
            return one
        indices = codes.astype(np.uint32)
        indices[codes < 0] = nothing
        return take(known, indices)


Values = Integers | Texts
Made = Mapping[str, Values]
"""Columns of the same rows by their names, in order."""


def labels(codes: Codes, names: Sequence[str | None]) -> Texts:
    """A Categorical of a few names by their index; a negative one is null."""
    return Texts(codes, pl.Series(names, dtype=pl.String), pl.Categorical())


def frame(made: Made) -> pl.DataFrame:
    """Columns as Polars has them."""
    return pl.DataFrame([column.series().alias(name) for name, column in made.items()])


def split(made: Made, rows: int, count: int) -> Iterator[Made]:
    """So many rows in so many stretches, none of which is empty if there are not more of them than rows."""
    for k in range(count):
        stretch = slice(k * rows // count, (k + 1) * rows // count)
        yield {name: column.only(stretch) for name, column in made.items()}


def joined(parts: Sequence[Made]) -> Made:
    """The rows of several, at least one, which have the same columns."""
    return parts[0] if len(parts) == 1 else {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(parts: Sequence[Values]) -> Values:
    numbers = [part for part in parts if isinstance(part, Integers)]
    if numbers:
        known = [np.ones(len(part.values), np.bool_) if part.valid is None else part.valid for part in numbers]
        return Integers(np.concatenate([part.values for part in numbers]), np.concatenate(known))
    coded = [part for part in parts if isinstance(part, Texts)]
    texts = [part.texts if isinstance(part.texts, TextArray) else TextArray.of_series(part.texts) for part in coded]
    before = np.cumsum([0, *map(len, texts)])
    codes = [np.where(part.codes < 0, -1, part.codes + start) for part, start in zip(coded, before, strict=False)]
    return Texts(np.concatenate(codes), TextArray.joined(texts), coded[0].dtype)
