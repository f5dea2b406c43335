"""Texts one after the other in memory, as Arrow's large strings are: what the compiled loops read and make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TextArray:
    """Texts, none of them null.

    Attributes:
        offsets: int64, where each begins, and where the last one ends.
        data: uint8, UTF-8.
    """

    offsets: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, texts: Sequence[str]) -> TextArray:
        """From Python's texts."""
        text = "".join(texts)
        sizes = map(len, texts if text.isascii() else [one.encode() for one in texts])
        offsets = np.array([0, *accumulate(sizes)], np.int64)
        return cls(offsets, np.frombuffer(text.encode(), np.uint8))

    @classmethod
    def joined(cls, parts: Sequence[TextArray]) -> TextArray:
        """The texts of several, one after the other."""
        sizes = [0, *accumulate(int(part.offsets[-1]) for part in parts)]
        ends = [part.offsets[1:] + before for part, before in zip(parts, sizes, strict=False)]
        return cls(np.concatenate([np.zeros(1, np.int64), *ends]), np.concatenate([part.data for part in parts]))

    def __len__(self) -> int:
        """How many."""
        return len(self.offsets) - 1

    def to_list(self) -> list[str]:
        """As Python's texts."""
        data, offsets = self.data.tobytes(), self.offsets.tolist()
        if data.isascii():
            text = data.decode()
            return [text[start:end] for start, end in pairwise(offsets)]
        return [data[start:end].decode() for start, end in pairwise(offsets)]
