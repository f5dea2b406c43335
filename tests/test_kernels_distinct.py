"""Distinct values and orders: compiled loops give what plain ones in Python do, for any input that callers can have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrays import SIGNED, WORD, numbers, words
from colliding import unmixed
from process import kernels_distinct
from process.library import SEED
from process.text_array import TextArray


@given(st.lists(WORD, max_size=300))
def test_values_are_grouped_by_their_first_places(values: list[int]) -> None:
    found = kernels_distinct.group(words(values))
    assert found is not None
    assert found[0].tolist() == list(dict.fromkeys(values))
    assert found[0][found[1]].tolist() == values


def test_many_distinct_values_are_grouped() -> None:
    values = np.random.default_rng(1).integers(0, 2**64 - 1, 300_000, np.uint64)
    found = kernels_distinct.group(np.concatenate([values, values[::-1]]))
    assert found is not None
    assert (found[0] == values).all()
    assert (found[1][:300_000] == np.arange(300_000)).all() and (found[1][300_000:] == found[1][:300_000][::-1]).all()


def test_a_guest_that_knew_the_seed_could_not_make_it_slow() -> None:
    values = words([unmixed(i << 40, SEED) for i in range(20_000)])  # all at one place of any table
    assert kernels_distinct.group(values) is None


@pytest.mark.parametrize("way", ["by hashes", "slowly"])
@given(data=st.data())
def test_arguments_are_numbered_by_what_their_texts_are_made_of(way: str, data: st.DataObject) -> None:
    kinds = np.array(
        data.draw(
            st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=4)
        ),
        kernels_distinct.KIND,
    )
    row = st.tuples(WORD, st.integers(0, len(kinds) - 1), st.integers(-1, 3))
    rows = data.draw(st.lists(row, max_size=60))
    values, call_of = words([one[0] for one in rows]), numbers([one[1] for one in rows])
    own = np.array([one[2] for one in rows], np.int32) if data.draw(st.booleans()) else None
    made = kernels_distinct.number_texts_of(values, call_of, kinds, own)
    if way == "slowly":
        made = kernels_distinct._numbered_slowly(values, kinds[call_of], own)
    found = list(
        zip(made.prefixes.tolist(), made.nulls.tolist(), made.values.tolist(), made.suffixes.tolist(), strict=True)
    )
    assert len(set(found)) == len(found)
    for (value, call, mine), code in zip(rows, made.codes.tolist(), strict=True):
        prefix, suffix, pointer = kinds[call].tolist()
        if prefix < 0:
            assert code == -1
            continue
        null = bool(pointer) and value == 0
        assert found[code] == (prefix, null, value, 0 if null else mine if own is not None and mine >= 0 else suffix)


@given(st.lists(SIGNED, max_size=200), st.sampled_from([0, 11, 40]))
def test_the_order_of_keys_is_stable(keys: list[int], shift: int) -> None:
    given = numbers(keys) >> shift
    order, ordered = kernels_distinct.in_order(given)
    assert (order == np.argsort(given, kind="stable")).all() and (ordered == given[order]).all()


@given(st.lists(st.text("ab\0\u00e9", max_size=20), max_size=60))
def test_texts_are_grouped_by_their_first_places(texts: list[str]) -> None:
    firsts, inverse = kernels_distinct.group_texts(TextArray.of(texts))
    assert [texts[first] for first in firsts.tolist()] == list(dict.fromkeys(texts))
    assert [texts[firsts[at]] for at in inverse.tolist()] == texts


def test_a_library_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; path = pathlib.Path.with_name\n"
        "pathlib.Path.with_name = lambda self, name: pathlib.Path(sys.argv[1]) / name if name.endswith('.so') "
        "else path(self, name)\n"
        "try:\n    import process.kernels_distinct\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "libkernels.so: cannot be loaded" in done.stdout and "pip install" in done.stdout
