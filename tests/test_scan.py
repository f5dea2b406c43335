"""Queries of `process.scan` whose conditions on calls choose events before anything is made of them."""

from __future__ import annotations

import gc
import random
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import process
import synthetic
from capture.sealer import event_planes
from capture.segment import ABI_NUMBERS, EventFlag
from decoding import frame_of
from process import batch, slices
from process.events import NR_STRINGS, WORDS, Words
from process.planes import Planes
from segments import CLOSE, EXECVE, GETPID, LIST, NOT_RETURNED, OPENAT, READ, RETURNED, Builder, task

I386 = ABI_NUMBERS["i386"] << 16
X32 = 1 << 30
SOCKETCALL, I386_OPENAT, I386_READ = 102, 295, 3
"""Numbers of i386."""


def some_event(one: Builder, source: random.Random, entries: list[int], rare: bool) -> None:
    """One event; ``entries`` are those that have not come back."""
    who, time = source.choice((task(7), task(7, 8), task(9))), one.next * 100 + source.randrange(300)
    kind = source.choice("xceru" if rare else "oooorrrgcxesSiu")
    flags, fd = RETURNED, source.choice((0, 3, 5, 77))
    if kind == "o":
        ret = source.choice((3, 5, -2))
        path = one.set(a1=b"/p%d" % source.randrange(6))
        one.event(OPENAT, fd, 0x10 * source.randrange(3), strings=path, ret=ret, who=who, time=time)
    elif kind == "r":
        flags = source.choice((RETURNED, RETURNED, NOT_RETURNED))
        one.event(READ, fd, 0x20, flags=flags, who=who, time=time, duration=source.randrange(5000))
    elif kind == "c":
        one.event(CLOSE, fd, who=who, time=time)
    elif kind == "e":
        if entries and source.random() < 0.7:
            strings = one.set(a0=b"/bin/e", a1=(b"e\0", LIST))
            one.event(EXECVE, 1, 2, entry=one.next - entries.pop(), strings=strings, who=who, time=time)
        else:
            entries.append(one.event(EXECVE, 1, 2, flags=NOT_RETURNED, who=who, time=time))
    elif kind in "sS":
        flags |= I386
        upper = source.choice((1, 3)) << 32  # the array behind a socketcall
        numbers = (source.choice((1, 2, 3, 5, 99)), 0x10) if kind == "s" else (5, 0x10)
        number = SOCKETCALL if kind == "s" else I386_OPENAT
        one.event(number, *(value | upper for value in numbers), flags=flags, who=who, time=time)
    elif kind == "u":
        one.event(source.choice((9000, 70_000, X32 | 257, X32 | 999)), 1, 2, who=who, time=time)
    elif kind == "i":
        one.event(GETPID, flags=flags | EventFlag.CHILD, ret=task(7), who=who, time=time)
    else:
        one.event(GETPID, who=who, time=time)


def world(folder: Path, encoding: str, seed: int) -> None:
    """Two captures, of x86_64 and of i386, with all that makes an event's call, number or row other than usual.

    Args:
        folder: For their segments.
        encoding: Of the events: `columns`, `planes`, or `mixed`.
        seed: Same seed, same events.
    """
    source, first, entries = random.Random(seed), 0, list[int]()
    for number in range(3):
        one = Builder(segment=number, first=first)
        for block in range(4):
            one.planes = encoding == "planes" or (encoding == "mixed" and block % 2 > 0)
            for who in (task(7), task(9)):
                one.task(who, argv=b"p%d\0" % (who >> 32), table=0x5000)
            one.table(0x5000, {3: b"/dir", 0: b"/dev/tty", 5: b"/f%d" % block})
            for _ in range(source.randrange(15, 40)):
                some_event(one, source, entries, rare=block == 2)
            if (number, block) == (1, 2):
                one.event(0, flags=RETURNED | EventFlag.CHILD | EventFlag.RESET)
                entries.clear()
            if (number, block) == (2, 1):
                one.skip(7)
                entries.clear()
            else:
                one.block()
        first = one.next
        one.write(folder)
    old = Builder(capture=uuid.UUID(int=2), abi="i386", word_size=4, planes=encoding != "columns")
    for _ in range(60):
        number = source.choice((SOCKETCALL, I386_OPENAT, I386_READ))
        upper = source.choice((1, 3)) << 32
        numbers = (source.choice((1, 2, 3, 5, 99)), 0x10) if number == SOCKETCALL else (5, 0x10)
        old.event(number, *(value | upper for value in numbers), strings=old.set(a1=b"/old"))
    old.write(folder)


NAME, ERRNO = pl.col("name"), pl.col("errno")
OPENED = NAME == "sys_openat"
QUERIES = {
    "one call": OPENED,
    "no such call": NAME == "sys_none",
    "several": NAME.is_in(["sys_openat", "sys_read", "sys_execve"]),
    "not one": NAME != "sys_openat",
    "not several": ~NAME.is_in(["sys_openat", "sys_read"]),
    "text": NAME.cast(pl.String).str.starts_with("sys_s"),
    "behind socketcall": NAME == "sys_bind",
    "socketcall itself": NAME == "sys_socketcall",
    "number": pl.col("nr") == OPENAT,
    "numbers": pl.col("nr") > 200,
    "large numbers": pl.col("nr") >= 8192,
    "unknown": NAME.cast(pl.String).str.contains("unknown"),
    "abi": pl.col("abi") == "i386",
    "abi and number": (pl.col("abi") == "x86_64") & (pl.col("nr") == 3),
    "either": OPENED | (pl.col("nr") == CLOSE),
    "name or result": OPENED | (ERRNO == "ENOENT"),
    "never null": NAME.is_null(),
    "constant": pl.lit(True) & OPENED,
    "nothing": pl.lit(False) & OPENED,
    "executed": NAME == "sys_execve",
    "with errno": OPENED & (ERRNO == "ENOENT"),
    "without errno": OPENED & ERRNO.is_null(),
    "errnos": OPENED & ERRNO.is_in(["ENOENT", "EPERM"]),
    "of a process": OPENED & (pl.col("procname") == "p7"),
    "of no process": OPENED & (pl.col("procname") != "p7"),
    "a string": OPENED & pl.col("arg1_repr").str.contains("/p3"),
    "no string": OPENED & ~pl.col("arg1_repr").str.contains("/p3"),
    "a descriptor": (NAME == "sys_read") & pl.col("arg0_repr").str.contains("/dir"),
    "unfinished": (NAME == "sys_read") & (pl.col("status") == "unfinished"),
    "durations": (NAME == "sys_read") & (pl.col("duration_ns") > 2000),
    "ids": OPENED & pl.col("id").is_between(50, 300),
    "times": OPENED & (pl.col("time_ns") % 2 == 0),
    "all of one capture": (pl.col("capture") == 2) & (NAME == "sys_openat"),
}
COLUMNS = (
    None,
    ("procname", "arg1_repr"),
    ("id", "seq", "arg0_repr", "fd_source"),
    ("time_ns", "duration_ns", "tid", "arg1"),
)


@pytest.fixture(scope="module", params=["columns", "planes", "together", "damaged"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """A scan, and all rows: of segments in several forms, and of others with blocks that do not unpack."""
    folder = tmp_path_factory.mktemp("scan")
    world(folder, request.param if request.param in ("columns", "planes") else "mixed", 5)
    if request.param == "damaged":
        for path in sorted(folder.iterdir())[1:3]:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    patched = pytest.MonkeyPatch()
    request.addfinalizer(patched.undo)
    patched.setattr(batch, "SMALL", 1 << 18 if request.param == "together" else 0)
    patched.setattr(slices, "SLICE", 70)
    with pytest.warns(UserWarning) as told:
        scanned = process.scan(folder)
    assert any("damaged" in str(one.message) for one in told) == (request.param == "damaged")
    return scanned, frame_of(folder)[0]


@pytest.mark.parametrize("query", QUERIES)
def test_rows_of_some_calls_are_those_that_a_filter_leaves_of_all(
    both: tuple[pl.LazyFrame, pl.DataFrame], query: str
) -> None:
    scanned, whole = both
    condition = QUERIES[query]
    for columns in COLUMNS:
        names = whole.columns if columns is None else list(columns)
        found = scanned.filter(condition).select(names).collect()
        assert_frame_equal(found, whole.filter(condition).select(names), categorical_as_str=True)
    expected = whole.filter(condition).select("id", "arg1_repr")
    few = scanned.filter(condition).select("id", "arg1_repr").slice(3, 9).collect()
    assert_frame_equal(few, expected.slice(3, 9), categorical_as_str=True)


@pytest.mark.parametrize("query", ["one call", "several", "not one", "behind socketcall", "a string"])
def test_parts_of_the_rows_of_some_calls_are_those_parts(both: tuple[pl.LazyFrame, pl.DataFrame], query: str) -> None:
    scanned, whole = both
    condition = QUERIES[query]
    found = scanned.filter(condition).select("id", "arg1_repr")
    expected = whole.filter(condition).select("id", "arg1_repr")
    assert_frame_equal(found.tail(4).collect(), expected.tail(4), categorical_as_str=True)
    first = scanned.head(120).filter(condition).select("id", "name").collect()
    assert_frame_equal(first, whole.head(120).filter(condition).select("id", "name"), categorical_as_str=True)
    assert found.select(pl.len()).collect().item() == len(expected)


def test_the_captures_have_what_the_queries_are_about(both: tuple[pl.LazyFrame, pl.DataFrame]) -> None:
    _, whole = both
    rows = {query: len(whole.filter(condition)) for query, condition in QUERIES.items()}
    none = {"no such call", "never null", "nothing"}
    assert {query for query, count in rows.items() if not count} == none
    assert whole["fd_source"].drop_nulls().n_unique() > 1 and len(whole) > 300


def test_of_events_that_are_not_of_the_call_no_word_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    synthetic.generate(tmp_path, 3000)
    scanned = process.scan(tmp_path)

    def refused(self: Planes, word: int) -> Words:
        if self._key is not None:  # of events
            raise AssertionError(f"all of word {word}")
        return whole_word(self, word)

    def refused_at_once(self: Planes, out: Words, wanted: Iterable[int], summed: int) -> None:
        raise AssertionError(f"all of words {wanted}")

    whole_word = Planes.word
    expected = scanned.select("nr", "pid", "arg1_repr").collect().filter(pl.col("nr") == OPENAT)
    monkeypatch.setattr(Planes, "word", refused)
    monkeypatch.setattr(Planes, "fill", refused_at_once)
    found = scanned.filter(OPENED).select("nr", "pid", "arg1_repr").collect()
    assert_frame_equal(found, expected, categorical_as_str=True)
    assert len(found) > 300
    with pytest.raises(AssertionError, match="all of word"):
        scanned.filter(pl.col("pid") > 0).select("nr").collect()


# --- planes ----------------------------------------------------------------------------------------------------


@given(data=st.data(), limit=st.sampled_from([3, 1 << 16, (1 << 32) - 1]), count=st.integers(1, 60))
def test_some_records_of_planes_are_those_of_all(data: st.DataObject, limit: int, count: int) -> None:
    bits = data.draw(st.lists(st.integers(0, (1 << 64) - 1), min_size=WORDS, max_size=WORDS))
    rows = np.array([[(word * (k + 1)) % (1 << 64) for word in bits] for k in range(count)], np.uint64)
    numbers = data.draw(st.lists(st.integers(0, limit), min_size=count, max_size=count))
    rows[:, NR_STRINGS] = rows[:, NR_STRINGS] >> np.uint64(32) << np.uint64(32) | np.array(numbers, np.uint64)
    planes = Planes(event_planes(rows.astype("<u8").tobytes()), WORDS, count, NR_STRINGS)
    whole = np.stack([planes.word(word) for word in range(WORDS)])
    np.cumsum(whole[0], out=whole[0])
    assert (whole == rows.T).all()
    wanted = np.isin(numbers, data.draw(st.lists(st.sampled_from(numbers), max_size=3)))
    some = np.flatnonzero(wanted if data.draw(st.booleans()) else wanted & (np.arange(count) % 3 > 0))
    places = planes.places(some)
    out = np.full((WORDS, len(some)), 7, np.uint64)
    asked = data.draw(st.sets(st.integers(1, WORDS - 1)))
    planes.some(out, asked, some, places)
    for word in range(WORDS):
        assert (out[word] == (rows[some, word] if word in asked else 7)).all()


def test_a_query_leaves_pythons_thresholds_as_they_were(tmp_path: Path) -> None:
    before = gc.get_threshold()
    synthetic.generate(tmp_path, 2000)
    queries = [process.scan(tmp_path).select("name") for _ in range(3)]
    assert len(set(map(len, pl.collect_all(queries)))) == 1
    assert gc.get_threshold() == before
