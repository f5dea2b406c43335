"""Records out of byte planes: compiled loops give what plain ones in Python do, for any input that callers can have."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from arrays import WORD, numbers, words
from capture.segment import EVENT_ROW
from process import kernels_planes
from process.events import NR_STRINGS, TIME, WORDS
from process.planes import Planes


def planes_of(rows: np.ndarray) -> bytes:
    """Rows of an EVENTS block as encoding 3 of FORMAT.md has them, byte by byte."""
    rows = rows.copy()
    rows[1:, TIME] = rows[1:, TIME] - rows[:-1, TIME]
    keys = rows[:, NR_STRINGS] & np.uint64(0xFFFFFFFF)
    stored = rows[np.argsort(keys, kind="stable")]
    stored[:, NR_STRINGS] = stored[:, NR_STRINGS] & np.uint64(0xFFFFFFFF00000000) | keys
    return bytes(stored.view(np.uint8).reshape(len(rows), EVENT_ROW.size).T.tobytes())


@settings(deadline=None)
@given(st.lists(st.lists(WORD, min_size=WORDS, max_size=WORDS), min_size=1, max_size=40), st.data())
def test_events_come_back_out_of_planes(rows: list[list[int]], data: st.DataObject) -> None:
    events = np.array(rows, np.uint64)
    if data.draw(st.booleans()):
        events[:, NR_STRINGS] &= np.uint64(0xFFFFFFFF0000FFFF)  # numbers of 16 bits, as those of all kernels
    take = data.draw(st.integers(0, len(rows)))
    some = data.draw(st.none() | st.sets(st.integers(0, len(rows) - 1)))
    chosen = numbers(list(range(take)) if some is None else sorted(some))
    wanted = data.draw(st.sets(st.integers(0, WORDS - 1)))
    out = np.full((WORDS, len(chosen) + 3), 7, np.uint64)
    planes = Planes(planes_of(events), WORDS, len(rows), NR_STRINGS)
    planes.fill(out[:, 1:-2], wanted, TIME, None if some is None else chosen)
    for word in range(WORDS):
        expected = events[chosen, word].tolist() if word in wanted else [7] * len(chosen)
        assert out[word].tolist() == [7, *expected, 7, 7]


@settings(deadline=None)
@given(st.lists(st.lists(st.lists(WORD, min_size=WORDS, max_size=WORDS), min_size=1, max_size=9), max_size=6),
       st.booleans(), st.booleans())  # fmt: skip
def test_many_blocks_come_back_out_of_planes(blocks: list[list[list[int]]], is_sorted: bool, is_narrow: bool) -> None:
    arrays = [np.array(rows, np.uint64) for rows in blocks]
    for rows in arrays:
        rows[:, NR_STRINGS] &= np.uint64(0xFFFFFFFF0000FFFF if is_narrow else 0xFFFFFFFFFFFFFFFF)
    counts = numbers([len(rows) for rows in arrays])
    plain = [bytes(rows.view(np.uint8).reshape(len(rows), -1).T.tobytes()) for rows in arrays]
    data = b"".join(map(planes_of, arrays) if is_sorted else plain)
    expected = np.concatenate([np.zeros((0, WORDS), np.uint64), *arrays])
    out = np.full((WORDS, len(expected)), 7, np.uint64)
    done = kernels_planes.unplane_all(data, counts, (NR_STRINGS, TIME) if is_sorted else None, out)
    is_wide = (expected[:, NR_STRINGS] & np.uint64(0xFFFF0000) != 0).any()
    assert done is not bool(is_sorted and is_wide)
    if done:
        np.testing.assert_array_equal(out, expected.T)


@given(st.lists(WORD, max_size=40))
def test_a_word_is_made_of_its_planes(values: list[int]) -> None:
    planes = np.ascontiguousarray(words(values).view(np.uint8).reshape(-1, 8).T)
    found, is_same = kernels_planes.stored_word(planes)
    assert found.tolist() == values and is_same == (len(set(values)) <= 1)
