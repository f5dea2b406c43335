"""Texts of many values at once. Only distinct values are formatted; rows point to them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from process import kernels
from process.grouping import group
from process.read import Words
from process.text_array import TextArray
from process.values import Texts

Codes = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Suffixes:
    """What texts end with.

    Attributes:
        texts: They.
        once: For each a number that only equal ones have.
    """

    texts: TextArray
    once: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: TextArray) -> Suffixes:
        """Number them."""
        return cls(texts, kernels.group_texts(texts)[1])


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

    def made(self, prefixes: TextArray, suffixes: Suffixes) -> Texts:
        """The texts, each once; null where none was put."""
        if not self._values:
            return Texts(self.codes, TextArray.of(()), is_unique=True)
        heads, values = np.concatenate(self._heads), np.concatenate(self._values)
        begins, ends = np.concatenate(self._prefixes), np.concatenate(self._suffixes)
        nulls = np.concatenate(self._nulls)
        begin_of, codes = kernels.group_texts(prefixes)[1], self.codes
        _, parts = group(values)
        parts = (parts * len(prefixes) + begin_of[begins]) * 2 + nulls
        keys = parts[heads] * len(suffixes.once) + np.where(nulls[heads], 0, suffixes.once[ends])
        distinct, which = group(keys)  # calls have arguments in common: fd=0x3(/etc/passwd)
        if len(distinct) < len(keys):
            firsts = np.empty(len(distinct), np.int64)
            firsts[which[::-1]] = np.arange(len(which) - 1, -1, -1)
            heads, ends = heads[firsts], ends[firsts]
            codes = np.append(which, -1).astype(np.int32)[codes]
        found = kernels.texts(heads, values, begins, nulls, ends, prefixes, suffixes.texts)
        return Texts(codes, found, is_unique=True)


def signed_hexadecimal(values: npt.NDArray[np.int64]) -> TextArray:
    """`0x3` or `-0x1ff` for each of some int64 values."""
    negative, bits = values < 0, values.view(np.uint64)
    magnitudes, none = np.where(negative, np.uint64(0) - bits, bits), np.zeros(len(values), np.uint32)
    signs, nothing = TextArray.of(("", "-")), TextArray.of(("",))
    return kernels.texts(None, magnitudes, negative.astype(np.uint32), none != 0, none, signs, nothing)


def to_signed(values: Words, word_size: int) -> npt.NDArray[np.int64]:
    """Registers of ``word_size`` bytes as signed numbers."""
    if word_size >= 8:
        return values.view(np.int64)
    return values.astype(np.uint32).view(np.int32).astype(np.int64)


def to_unsigned(values: Words, size: int) -> Words:
    """Words as the bit patterns of their lower ``size`` bytes."""
    return values if size >= 8 else values & np.uint64(0xFFFFFFFF)
