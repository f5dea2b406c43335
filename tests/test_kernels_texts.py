"""Texts: compiled loops give what plain ones in Python do, for any input that callers can have."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrays import WORD, words
from process import kernels_texts
from process.text_array import TextArray


@given(st.data())
def test_texts_are_a_prefix_a_number_and_a_suffix(data: st.DataObject) -> None:
    of = [data.draw(st.lists(st.text(max_size=5), min_size=1, max_size=4)) for _ in range(2)]
    kinds = st.integers(0, len(of[0]) - 1), st.booleans(), st.integers(0, len(of[1]) - 1)
    rows = data.draw(st.lists(st.tuples(WORD, *kinds), max_size=30))
    prefixes, nulls, suffixes = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
    made = kernels_texts.texts(
        words([row[0] for row in rows]), prefixes, nulls, suffixes, TextArray.of(of[0]), TextArray.of(of[1])
    )
    assert made.to_list() == [
        of[0][prefix] + ("[NULL]" if null else f"{value:#x}{of[1][suffix]}") for value, prefix, null, suffix in rows
    ]


PATHS = st.text(st.sampled_from("/.ab"), max_size=12)


@given(st.lists(PATHS | PATHS.map("/proc/".__add__) | PATHS.map("/dev/".__add__)))
def test_paths_are_looked_at_as_by_a_pattern(paths: list[str]) -> None:
    absolute, tidy, of_kernel = kernels_texts.look_at_paths(TextArray.of(paths))
    assert absolute.tolist() == [path.startswith("/") for path in paths]
    assert tidy.tolist() == [not re.search(r"/(?:/|\.{1,2}(?:/|\Z)|\Z)", path) for path in paths]
    assert of_kernel.tolist() == [path.startswith(("/proc/", "/dev/")) for path in paths]
