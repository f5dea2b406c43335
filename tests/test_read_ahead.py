"""Blocks inflated beside a query: the same ones in the same order, few at a time; what is wrong with one is its own."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import cast

import polars as pl
import pytest

import synthetic
from capture.segment import SegmentError
from process import scan
from process.decode import Decoder
from process.events import EventBlock, Ready
from process.frames import frames
from process.pool import Workers
from process.predicates import conditions
from process.prepare import prepare
from process.read_ahead import unpacking


class Block:
    """Says who inflates it, and when."""

    made: list[tuple[int, str]]

    def __init__(self, number: int, made: list[tuple[int, str]]) -> None:
        self.number, self.made = number, made

    def unpacked(self, count: int) -> Ready:
        self.made.append((self.number, threading.current_thread().name))
        if self.number == 4:
            raise SegmentError(f"block {self.number} of {count}")
        return cast(Ready, self.number)


@pytest.mark.parametrize("is_ahead", [False, True])
def test_blocks_come_in_order_and_the_next_few_are_made_meanwhile(is_ahead: bool) -> None:
    made: list[tuple[int, str]] = []
    blocks = [(cast(EventBlock, Block(number, made)), 7) for number in range(9)]
    each = unpacking(blocks, is_ahead)
    first = next(each)
    assert cast(int, first()) == 0
    until = time.monotonic() + 30
    while is_ahead and len(made) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert [number for number, _ in made] == ([0, 1, 2] if is_ahead else [0])
    found: list[object] = []
    for one in each:
        try:
            found.append(one())
        except SegmentError as error:
            found.append(str(error))
    assert found == [1, 2, 3, "block 4 of 7", 5, 6, 7, 8]
    assert [number for number, _ in made] == list(range(9))
    assert all(name.startswith("sysreel-inflate") == is_ahead for _, name in made)


def test_a_query_gives_the_same_with_a_thread_beside_it_and_without(tmp_path: Path) -> None:
    synthetic.generate(tmp_path, 60_000, seed=2, segment_size=1 << 18)
    asked = pl.col("name") == "sys_openat"
    columns = ["seq", "procname", "arg1_repr"]
    found = scan(tmp_path).filter(asked).select(columns).collect()
    plans = prepare([tmp_path], Workers(1)).plans
    alone = [frame for plan in plans for frame in frames(Decoder(plan, columns, conditions(asked)))]
    assert len(plans) > 1 and found.equals(pl.concat(alone).select(columns)) and len(found) > 1000
