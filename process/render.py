"""Texts of many values at once. Only distinct values are formatted; rows point to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from process.read import Words

Codes = npt.NDArray[np.uint32]

_DIGITS = 4
_SHIFTS = (48, 32, 16, 0)


@cache
def _hex_digits() -> pl.Series:
    """Every number of 16 bits as four hexadecimal digits."""
    return pl.Series([f"{value:0{_DIGITS}x}" for value in range(1 << 4 * _DIGITS)])


def hexadecimal(values: Words) -> pl.Series:
    """`0x7ffe10` for each of some uint64 values. Polars 2.1 has no such function of its own."""
    table, mask = _hex_digits(), np.uint64((1 << 4 * _DIGITS) - 1)
    digits = [
        table.gather((values >> np.uint64(shift)) & mask).alias(str(shift))
        for shift in _SHIFTS
        if shift == 0 or (values >> np.uint64(shift)).any()
    ]
    bare = pl.DataFrame(digits).select(pl.concat_str(pl.all()).str.strip_chars_start("0")).to_series()
    return pl.select("0x" + pl.when(bare == "").then(pl.lit("0")).otherwise(bare)).to_series()


@dataclass
class Column:
    """A column of texts in the making: for each row a code, for each code a prefix, a value and a suffix.

    Code 0 is null. A text is the prefix, then the value in hexadecimal (or `[NULL]` for a null pointer, which
    has no suffix), then the suffix.
    """

    codes: Codes
    """uint32, one for each row."""
    _values: list[Words] = field(default_factory=list)
    _prefixes: list[Codes] = field(default_factory=list)
    _suffixes: list[Codes] = field(default_factory=list)
    _nulls: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    _count: int = 1

    def put(
        self,
        rows: npt.NDArray[np.intp],
        inverse: npt.NDArray[np.intp],
        values: Words,
        prefix: int,
        suffixes: Codes,
        pointers: bool,
    ) -> None:
        """Give rows their texts.

        Args:
            rows: Indices of the rows.
            inverse: For each of them an index into ``values``.
            values: uint64, the distinct values.
            prefix: Index of the prefix of all.
            suffixes: uint32, index of the suffix of each value.
            pointers: Whether zero is a null pointer.
        """
        self.codes[rows] = inverse + self._count
        self._values.append(values)
        self._prefixes.append(np.full(len(values), prefix, np.uint32))
        self._suffixes.append(suffixes)
        self._nulls.append((values == 0) & pointers)
        self._count += len(values)

    def texts(self, prefixes: Sequence[str], suffixes: Sequence[str]) -> pl.Series:
        """The text of each row, null where no text was put."""
        if not self._values:
            return pl.Series([None], dtype=pl.String).gather(self.codes)
        values, null = np.concatenate(self._values), np.concatenate(self._nulls)
        parts = pl.DataFrame(
            {
                "null": null,
                "prefix": pl.Series(prefixes).gather(np.concatenate(self._prefixes)),
                "value": hexadecimal(values),
                "suffix": pl.Series(suffixes).gather(np.concatenate(self._suffixes)),
            }
        )
        shown = parts.select(
            pl.when("null")
            .then(pl.concat_str("prefix", pl.lit("[NULL]")))
            .otherwise(pl.concat_str("prefix", "value", "suffix"))
        ).to_series()
        return pl.concat([pl.Series(shown.name, [None], dtype=pl.String), shown]).gather(self.codes)


def labels(codes: npt.NDArray[np.signedinteger], names: Sequence[str]) -> pl.Series:
    """A Categorical of a few names by their index; a negative one is null."""
    known = pl.Series([*names, None], dtype=pl.String).cast(pl.Categorical)
    labelled: pl.Series = known.gather(np.where(codes < 0, len(names), codes).astype(np.uint32))
    return labelled


def signed_hexadecimal(values: npt.NDArray[np.int64]) -> pl.Series:
    """`0x3` or `-0x1ff` for each of some int64 values."""
    negative, bits = values < 0, values.view(np.uint64)
    sign = pl.Series(["", "-"]).gather(negative.astype(np.uint32))
    shown: pl.Series = sign + hexadecimal(np.where(negative, np.uint64(0) - bits, bits))
    return shown


def to_signed(values: Words, word_size: int) -> npt.NDArray[np.int64]:
    """Registers of ``word_size`` bytes as signed numbers."""
    if word_size >= 8:
        return values.view(np.int64)
    return values.astype(np.uint32).view(np.int32).astype(np.int64)


def to_unsigned(values: Words, size: int) -> Words:
    """Words as the bit patterns of their lower ``size`` bytes."""
    return values if size >= 8 else values & np.uint64(0xFFFFFFFF)


def nullable(values: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> pl.Series:
    """Int64 values, null where not valid."""
    series = pl.Series(values, dtype=pl.Int64)
    if valid.all():
        return series
    some: pl.Series = series.zip_with(pl.Series(valid), pl.Series([None], dtype=pl.Int64))
    return some
