"""A column as the decoder makes it: numbers, or codes that stand for texts.

To what writes it (`process/parquet_pages.py`, `process/sqlite_leaves.py`) codes and texts stay apart; as Polars has it,
it is made by `process/frames.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from process.schema import Kind
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


@dataclass(frozen=True)
class Texts:
    """A column of texts by their indices.

    Attributes:
        codes: Signed integers of shape (n,), indices into ``texts``; a negative one is null.
        texts: One may be there twice, or stand for no row.
        kind: Text or label.
        is_unique: Whether each text is there once, and has a row.
    """

    codes: Codes
    texts: TextArray
    kind: Kind = Kind.TEXT
    is_unique: bool = False

    def only(self, rows: slice) -> Texts:
        """Some rows."""
        return Texts(self.codes[rows], self.texts, self.kind)


Values = Integers | Texts
Made = Mapping[str, Values]
"""Columns of the same rows by their names, in order."""


def labels(codes: Codes, names: Sequence[str | None]) -> Texts:
    """A few names by their index; a negative one is null, as is a name that is None."""
    if None in names:
        own = np.array([-1 if name is None else code for code, name in enumerate((*names, None))])
        codes = own[np.maximum(codes, -1)]
    return Texts(codes, TextArray.of([name or "" for name in names]), Kind.LABEL)


def to_list(column: Values) -> list[Any]:
    """A column as Python has it, null as None."""
    if isinstance(column, Integers):
        numbers: list[int] = column.values.tolist()
        if column.valid is None:
            return numbers
        return [number if valid else None for number, valid in zip(numbers, column.valid.tolist(), strict=True)]
    texts = column.texts.to_list()
    return [texts[code] if code >= 0 else None for code in column.codes.tolist()]


def rows_of(made: Made) -> Iterator[tuple[Any, ...]]:
    """Rows one by one, for those few that cannot be handled as columns."""
    return zip(*map(to_list, made.values()), strict=True)


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
    texts = [part.texts for part in coded]
    before = np.cumsum([0, *map(len, texts)])
    codes = [np.where(part.codes < 0, -1, part.codes + start) for part, start in zip(coded, before, strict=False)]
    return Texts(np.concatenate(codes), TextArray.joined(texts), coded[0].kind)
