"""Columns of the decoder as Polars has them."""

from __future__ import annotations

import gc

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from process.frames import texts
from process.text_array import TextArray


@given(st.lists(st.text(max_size=20)))
def test_texts_are_the_same_as_polars_has_them(some: list[str]) -> None:
    array = TextArray.of(some)
    assert array.to_list() == some
    column = texts(array)
    assert column.dtype == pl.String and column.to_list() == some


def test_a_column_owns_its_texts() -> None:
    array = TextArray.of([f"text {number}" for number in range(100_000)])
    column = texts(array)[50_000:50_002]
    array.offsets[:] = 0
    del array
    gc.collect()
    assert column.to_list() == ["text 50000", "text 50001"]
