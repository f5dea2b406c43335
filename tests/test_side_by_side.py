"""Sources side by side: all that they make in order, little of it before it is asked for, errors in their turn."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

import synthetic
from process import scan, side_by_side
from process.decode import Decoder
from process.frames import frames
from process.pool import Workers
from process.predicates import conditions
from process.prepare import prepare

_PATIENCE = 60.0
"""Seconds, of which next to none pass where all is well."""


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "processors", lambda: 2)


class Source:
    """Makes numbers, and says how many it has made."""

    def __init__(self, number: int, count: int, error: Exception | None = None) -> None:
        self.number, self.count, self.error = number, count, error
        self.changed, self.made, self.thread = threading.Condition(), 0, ""

    def __call__(self) -> Iterator[int]:
        self.thread = threading.current_thread().name
        for k in range(self.count):
            with self.changed:
                self.made += 1
                self.changed.notify_all()
            yield self.number + k
        if self.error is not None:
            raise self.error

    def has_made(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.made >= count, _PATIENCE)


def of(sources: list[Source], size: int = 1) -> Generator[int, None, None]:
    each = side_by_side.side_by_side(Source.__call__, sources, lambda _: size)
    return cast(Generator[int, None, None], each)


def test_all_comes_in_order_whoever_is_first() -> None:
    sources = [Source(100 * k, count) for k, count in enumerate([3, 0, 5, 1, 0, 2])]
    each = of(sources)
    assert list(each) == [0, 1, 2, 200, 201, 202, 203, 204, 300, 500, 501]
    assert {source.thread for source in sources} == {"sysreel-query"}


def test_the_next_source_begins_before_its_turn_and_no_more_than_two_do() -> None:
    sources = [Source(100 * k, 4) for k in range(3)]
    each = of(sources)
    assert next(each) == 0
    assert sources[1].has_made(4) and sources[2].made == 0
    assert [next(each) for _ in range(4)] == [1, 2, 3, 100]
    assert sources[2].has_made(4)


def test_little_is_made_that_nobody_has_asked_for() -> None:
    sources = [Source(0, 50), Source(100, 50)]
    each = of(sources, size=1 << 23)  # two are as much as may wait
    assert next(each) == 0
    for taken in range(1, 40):
        assert sources[1].has_made(2) and sources[1].made == 2
        assert next(each) == taken
        assert sources[0].made <= taken + 3
    assert list(each) == [*range(40, 50), *range(100, 150)]


def test_an_error_is_raised_when_its_source_has_its_turn() -> None:
    sources = [Source(0, 2), Source(100, 1, ValueError("bad")), Source(200, 9)]
    each = of(sources)
    assert [next(each) for _ in range(3)] == [0, 1, 100]
    with pytest.raises(ValueError, match="bad"):
        next(each)
    assert sources[2].made in range(10)


def test_sources_stop_when_nobody_asks_any_more() -> None:
    sources = [Source(0, 1000), Source(100, 1000)]
    each = of(sources, size=1 << 23)
    assert next(each) == 0
    assert sources[1].has_made(2)
    each.close()
    for thread in threading.enumerate():
        if thread.name == "sysreel-query":
            thread.join(_PATIENCE)
            assert not thread.is_alive()
    assert max(source.made for source in sources) < 10


@pytest.mark.parametrize("processors", [1, 2])
def test_one_source_or_one_processor_needs_no_thread(monkeypatch: pytest.MonkeyPatch, processors: int) -> None:
    monkeypatch.setattr(side_by_side, "processors", lambda: processors)
    sources = [Source(100 * k, 2) for k in range(1 if processors == 2 else 2)]
    assert list(of(sources)) == [0, 1, 100, 101][: 2 * len(sources)]
    assert {source.thread for source in sources} == {threading.current_thread().name}


def square(number: int) -> tuple[int, str]:
    if number < 0:
        raise OSError(5, "no such luck")
    return number * number, threading.current_thread().name


def test_threads_of_this_process_give_outcomes_in_order_and_failures_among_them() -> None:
    with Workers(1, threads=2) as workers:
        results = [outcome.result for outcome in workers.run(square, [3, -1, 2])]
    numbers = [result[0] if isinstance(result, tuple) else result.reason for result in results]
    assert numbers == [9, "[Errno 5] no such luck", 4]
    names = {result[1] for result in results if isinstance(result, tuple)}
    assert threading.current_thread().name not in names


def test_a_query_gives_the_same_in_two_threads_as_in_one(tmp_path: Path) -> None:
    synthetic.generate(tmp_path, 60_000, seed=2, segment_size=1 << 18)
    asked = pl.col("name") == "sys_openat"
    columns = ["seq", "procname", "arg1_repr"]
    found = scan(tmp_path).filter(asked).select(columns).collect()
    plans = prepare([tmp_path], Workers(1)).plans
    alone = [frame for plan in plans for frame in frames(Decoder(plan, columns, conditions(asked)))]
    assert len(plans) > 1 and found.equals(pl.concat(alone).select(columns)) and len(found) > 1000


def test_what_descriptors_are_is_found_out_once_though_two_threads_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.generate(tmp_path, 60_000, seed=3, segment_size=1 << 18)
    calls: list[object] = []

    def counted(*words: Any, **options: Any) -> object:
        calls.append(options)
        return prepare(*words, **options)

    monkeypatch.setattr("process.scanning.prepare", counted)
    found = scan(tmp_path).filter(pl.col("name") == "sys_read").select("arg0_repr").collect()
    assert len(calls) == 2 and len(found) > 1000


@pytest.mark.parametrize("query", ["frame.filter(asked).head(2)", "frame.head(2)", "frame.filter(asked)"])
def test_a_script_ends_well_whatever_its_query_has_left(tmp_path: Path, query: str) -> None:
    synthetic.generate(tmp_path, 60_000, seed=2, segment_size=1 << 18)
    lines = [
        "import polars, process, process.side_by_side as beside",
        "beside.processors = lambda: 2",
        f"frame, asked = process.scan({str(tmp_path)!r}), polars.col('nr') >= 0",
        f"print({query}.collect().height)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n" if "head" in query else "60000\n"), done.stderr
