"""Strings shown all at once are what they are one at a time."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from process.strings import LOST, StringTable, show

BYTES = st.one_of(
    st.text("abc /.-_~", max_size=20).map(str.encode),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=12),
    st.sampled_from([b'"', b"\\", b"'", b"\x7f", b"\x1f", b" ", b"~", b"\x00", b"a\x00b\x00"]),
)
BLOCK = st.lists(st.tuples(BYTES, st.integers(0, 15)), max_size=12)


def payload(strings: list[tuple[bytes, int]]) -> bytes:
    ends = np.cumsum([len(data) for data, _ in strings]).tolist()
    index = b"".join(struct.pack("<II", end, flags) for end, (_, flags) in zip(ends, strings, strict=True))
    return index + b"".join(data for data, _ in strings)


@given(st.lists(BLOCK, min_size=1, max_size=4), st.lists(st.integers(0, 5), min_size=4, max_size=4), st.randoms())
def test_many_strings_are_shown_as_one_is(
    blocks: list[list[tuple[bytes, int]]], gaps: list[int], order: object
) -> None:
    table, first = StringTable(), 1
    for strings, gap in zip(blocks, gaps, strict=False):
        assert table.add(first, len(strings), payload(strings))
        first += len(strings) + gap
    numbers = [*range(1, first + 3), LOST, 0]
    order.shuffle(numbers)  # type: ignore[attr-defined]  # hypothesis's own Random
    one_by_one = [show(table.get(number)) for number in numbers]
    assert table.show(np.array(numbers))[0].to_list() == one_by_one


def test_no_strings_are_no_texts() -> None:
    assert StringTable().show(np.zeros(0, np.int64))[0].to_list() == []
    assert StringTable().show(np.array([5, LOST]))[0].to_list() == ["([lost])", "([lost])"]
