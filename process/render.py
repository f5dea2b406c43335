"""Texts of many values at once. Only distinct values are formatted; rows point to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from process.read import Words
from process.take import take
from process.values import Texts

Codes = npt.NDArray[np.uint32]

_DIGITS = 4
_SHIFTS = (48, 32, 16)
_MASK = np.uint64((1 << 4 * _DIGITS) - 1)
_BARE = 1 << 4 * _DIGITS
"""Where in `_hex_digits` the numbers without leading zeros begin."""
_NOTHING = 2 * _BARE


@cache
def _hex_digits() -> pl.Series:
    """Every number of 16 bits as four hexadecimal digits, then without leading zeros, then an empty text."""
    pairs, numbers = pl.Series([f"{value:02x}" for value in range(256)]), np.arange(_BARE, dtype=np.uint32)
    padded = take(pairs, numbers >> 8) + take(pairs, numbers & 0xFF)
    bare = padded.str.strip_chars_start("0")
    bare[0] = "0"
    digits: pl.Series = pl.concat([padded, bare, pl.Series([""])]).rechunk()
    return digits


def _digits(values: Words) -> list[pl.Series]:
    """Columns of texts that, put together, are uint64 values in hexadecimal. Polars 2.1 has no such function."""
    table, top = _hex_digits(), int(values.max()) if len(values) else 0
    columns = []
    higher = np.zeros(len(values), np.bool_)
    for shift in (shift for shift in _SHIFTS if top >> shift):
        rest = values >> np.uint64(shift)
        index = (rest & _MASK).astype(np.uint32)
        index[~higher] += np.uint32(_BARE)
        higher = rest != 0
        index[~higher] = _NOTHING
        columns.append(take(table, index))
    index = (values & _MASK).astype(np.uint32)
    index[~higher] += np.uint32(_BARE)
    return [*columns, take(table, index)]


def hexadecimal(values: Words) -> pl.Series:
    """`0x7ffe10` for each of some uint64 values."""
    return _joined([pl.lit("0x"), *_digits(values)])


def _joined(parts: Sequence[pl.Series | pl.Expr]) -> pl.Series:
    """Columns of texts put together row by row."""
    columns = [part.alias(str(at)) for at, part in enumerate(parts) if isinstance(part, pl.Series)]
    texts = [pl.col(str(at)) if isinstance(part, pl.Series) else part for at, part in enumerate(parts)]
    return pl.DataFrame(columns).select(pl.concat_str(texts)).to_series()


@dataclass
class Column:
    """A column of texts in the making: for each row a code, for each code a prefix, a value and a suffix.

    Code -1 is null. A text is a head, which is the prefix and the value in hexadecimal (or `[NULL]` for a null pointer,
    which has no suffix), then the suffix. Several texts may have one head: few addresses hold many strings.
    """

    codes: npt.NDArray[np.int32]
    """One for each row."""
    _values: list[Words] = field(default_factory=list)
    _prefixes: list[Codes] = field(default_factory=list)
    _suffixes: list[Codes] = field(default_factory=list)
    _nulls: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    _heads: list[npt.NDArray[np.intp]] = field(default_factory=list)
    _head_count: int = 0
    _count: int = 0

    def put(
        self,
        rows: npt.NDArray[np.intp],
        inverse: npt.NDArray[np.intp],
        values: Words,
        prefix: int,
        heads: npt.NDArray[np.intp] | None,
        suffixes: Codes,
        pointers: bool,
    ) -> None:
        """Give rows their texts.

        Args:
            rows: Indices of the rows.
            inverse: For each of them an index into ``suffixes``, that is, of a text.
            values: uint64, the distinct values.
            prefix: Index of the prefix of all.
            heads: For each text an index into ``values``; None if there is one text for each value.
            suffixes: uint32, index of the suffix of each text.
            pointers: Whether zero is a null pointer.
        """
        self.codes[rows] = inverse + self._count
        self._values.append(values)
        self._prefixes.append(np.full(len(values), prefix, np.uint32))
        self._suffixes.append(suffixes)
        self._nulls.append((values == 0) & pointers)
        self._heads.append((np.arange(len(values)) if heads is None else heads) + self._head_count)
        self._head_count += len(values)
        self._count += len(suffixes)

    def made(self, prefixes: Sequence[str], suffixes: pl.Series) -> Texts:
        """The texts; null where none was put."""
        return Texts(self.codes, self._texts(prefixes, suffixes) if self._values else pl.Series([], dtype=pl.String))

    def _texts(self, prefixes: Sequence[str], suffixes: pl.Series) -> pl.Series:
        """The text of each code."""
        values, null = np.concatenate(self._values), np.concatenate(self._nulls)
        begins = pl.Series([*(f"{prefix}0x" for prefix in prefixes), *(f"{prefix}[NULL]" for prefix in prefixes)])
        begin, end = np.concatenate(self._prefixes), np.concatenate(self._suffixes)
        digits, heads = _digits(values), np.concatenate(self._heads)
        if null.any():
            begin[null] += len(prefixes)
            suffixes = pl.concat([suffixes, pl.Series([""])])
            end[null[heads]] = len(suffixes) - 1
            digits[-1] = digits[-1].zip_with(pl.Series(~null), pl.Series([""]))
        if len(heads) == len(values) and (heads == np.arange(len(values))).all():
            return _joined([take(begins, begin), *digits, take(suffixes, end)])
        head = _joined([take(begins, begin), *digits])
        return _joined([take(head, heads), take(suffixes, end)])


def signed_hexadecimal(values: npt.NDArray[np.int64]) -> pl.Series:
    """`0x3` or `-0x1ff` for each of some int64 values."""
    negative, bits = values < 0, values.view(np.uint64)
    sign = take(pl.Series(["", "-"]), negative)
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
