"""Numbers as they are shown, and registers as numbers; many at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process import kernels_texts
from process.events import Words
from process.text_array import TextArray


def signed_hexadecimal(values: npt.NDArray[np.int64]) -> TextArray:
    """`0x3` or `-0x1ff` for each of some int64 values."""
    negative, bits = values < 0, values.view(np.uint64)
    magnitudes, none = np.where(negative, np.uint64(0) - bits, bits), np.zeros(len(values), np.uint32)
    signs, nothing = TextArray.of(("", "-")), TextArray.of(("",))
    return kernels_texts.texts(magnitudes, negative.astype(np.uint32), none != 0, none, signs, nothing)


def to_signed(values: Words, word_size: int) -> npt.NDArray[np.int64]:
    """Registers of ``word_size`` bytes as signed numbers."""
    if word_size >= 8:
        return values.view(np.int64)
    return values.astype(np.uint32).view(np.int32).astype(np.int64)


def to_unsigned(values: Words, size: int) -> Words:
    """Words as the bit patterns of their lower ``size`` bytes."""
    return values if size >= 8 else values & np.uint64(0xFFFFFFFF)
