"""Columns in few bytes: what comes back is what was there, for any values that they can have."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from process import kernels_narrow
from process.fd_records import CHANGE
from process.kernels_narrow import narrow, size_of, widen
from process.shelf import get_records, get_texts, put_records, put_texts
from process.text_array import TextArray

ENDS = (-(2**63), 2**63 - 1)
KINDS = st.sampled_from([np.int64, np.int32, np.int8, np.uint8, np.bool_])


@st.composite
def columns(draw: st.DrawFn) -> list[np.ndarray]:
    """Some columns of one length, each near its first value, or near none."""
    count = draw(st.integers(1, 40))
    made: list[np.ndarray] = []
    for kind in draw(st.lists(KINDS, min_size=1, max_size=4)):
        low, high = (0, 1) if kind == np.bool_ else (np.iinfo(kind).min, np.iinfo(kind).max)
        base = draw(st.integers(low, high))
        near = st.integers(max(base - draw(st.sampled_from([0, 3, 300, 70_000])), low), base)
        some = st.one_of(near, near, st.sampled_from(ENDS) if kind == np.int64 else near, st.integers(low, high))
        values = draw(st.lists(draw(st.sampled_from([near, some])), min_size=count, max_size=count))
        made.append(np.array(values, kind))
    return made


@pytest.mark.parametrize("sampled", [(1 << 12, 16), (1, 16)])
@settings(deadline=None, max_examples=500)
@given(columns(), st.data())
def test_columns_come_back_as_they_were(sampled: tuple[int, int], some: list[np.ndarray], data: st.DataObject) -> None:
    """A sample may tell nothing of the rest: all but the first few hundred rows are then unlike it."""
    references = [
        data.draw(st.sampled_from([-1, *(k for k in range(index) if some[k].dtype == np.int64)]))
        if some[index].dtype == np.int64
        else -1
        for index in range(len(some))
    ]
    if sampled[0] == 1:
        some = [np.concatenate([np.repeat(column[:1], 600), column]) for column in some]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels_narrow, "_SAMPLED", sampled)
        shape, found = narrow(some, references)
    assert len(found) == size_of(shape, len(some[0]))
    room = [np.full(len(column), 1, column.dtype) for column in some]
    widen(room, references, shape, found)
    for column, again in zip(some, room, strict=True):
        np.testing.assert_array_equal(column, again)


def test_columns_take_the_bytes_that_their_differences_need() -> None:
    time = np.arange(10**15, 10**15 + 1000, dtype=np.int64)
    end = time + 7
    end[[3, 500]] = ENDS
    fd = np.arange(1000, dtype=np.int32) % 250
    shape, found = narrow([time, end, time.copy(), fd, fd + np.int32(2**20)], [-1, 0, 0, -1, -1])
    assert shape[0].tolist() == [2, 1, 0, 1, 1] and len(found) == 5000
    assert narrow([time * 5000], [-1])[0][0].tolist() == [4] and narrow([time * 5_000_000], [-1])[0][0].tolist() == [8]


def test_a_shape_that_was_never_given_is_refused() -> None:
    with pytest.raises(ValueError, match="widths"):
        size_of(np.array([[3], [0]]), 5)


def test_records_and_texts_come_back_from_a_file_and_half_of_it_is_refused(tmp_path: Path) -> None:
    records = np.zeros(5000, CHANGE)
    rng = np.random.default_rng(1)
    for name in ("seq", "t0", "fd", "src", "text"):
        records[name] = rng.integers(-100, 10**6, 5000)
    records["holder"] = rng.integers(0, 2**64 - 1, 5000, np.uint64)
    records["t1"], texts = records["t0"] + 3, TextArray.of(["", "ä", "/etc/passwd"])
    file = io.BytesIO()
    put_records(file, records, {"t1": "t0"})
    put_texts(file, texts)
    assert len(file.getvalue()) < records.nbytes * 0.6
    file.seek(0)
    again = get_records(file, CHANGE, {"t1": "t0"})
    for name in CHANGE.names or ():
        np.testing.assert_array_equal(again[name], records[name])
    assert get_texts(file).to_list() == ["", "ä", "/etc/passwd"]
    for size in (0, 10, 200, 100_000):
        with pytest.raises((ValueError, OSError)):
            get_records(io.BytesIO(file.getvalue()[:size]), CHANGE, {"t1": "t0"})
