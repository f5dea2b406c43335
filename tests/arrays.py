"""Numbers that tests of the compiled loops are made of."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

WORD = st.one_of(st.integers(0, 8), st.integers(0, 2**64 - 1))
SIGNED = st.one_of(st.integers(-4, 8), st.integers(-(2**63), 2**63 - 1))


def words(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)
