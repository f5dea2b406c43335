"""Distinct values by tables and hashes are those that sorting gives."""

from __future__ import annotations

import numpy as np
import pytest

from printed import printed_by
from process.grouping import are_in, distinct, group, in_order, union, without

SOURCE = np.random.default_rng(5)
TASKS = (np.arange(300) + 1000) << 32 | np.arange(300) + 1000
ANY = SOURCE.integers(-(1 << 63), (1 << 63) - 1, 9000)


@pytest.mark.parametrize(
    "values",
    [
        SOURCE.choice(TASKS, 20_000),
        SOURCE.choice(ANY[:40], 20_000),
        SOURCE.choice(ANY[:3000], 20_000),
        ANY,
        np.concatenate([SOURCE.choice(ANY[:40], 5000), np.arange(9000), TASKS]),
        ANY[:7],
        ANY[:0],
    ],
    ids=["tasks", "few", "with collisions", "unique", "near and far", "short", "none"],
)
def test_distinct_values_are_found_once_and_where_they_are(values: np.ndarray) -> None:
    for given in (values, values.view(np.uint64)):
        distinct, inverse = group(given)
        assert (distinct[inverse] == given).all()
        assert sorted(distinct.tolist()) == sorted(set(given.tolist()))


@pytest.mark.parametrize("values", [ANY, ANY[:200][SOURCE.integers(0, 200, 5000)], np.arange(50) // 3, ANY[:0]])
def test_the_order_is_stable(values: np.ndarray) -> None:
    assert (in_order(values) == np.argsort(values, kind="stable")).all()
    then = values[::-1] % 5
    assert (in_order(values, then) == np.lexsort((then, values))).all()


@pytest.mark.parametrize("values", [ANY[:200][SOURCE.integers(0, 200, 5000)], np.arange(50) // 3, ANY[:0]])
@pytest.mark.parametrize("others", [ANY[100:300], np.arange(10, 1000)[::-1] // 2, ANY[:0]])
def test_sets_are_those_of_numpy(values: np.ndarray, others: np.ndarray) -> None:
    for one, other in ((values, others), (values.view(np.uint64), others.view(np.uint64))):
        np.testing.assert_array_equal(distinct(one), np.unique(one))
        np.testing.assert_array_equal(union(one, other), np.union1d(one, other))
        np.testing.assert_array_equal(without(one, other), np.setdiff1d(one, other))
        np.testing.assert_array_equal(are_in(one, other), np.isin(one, other))


def test_records_are_distinct_if_any_field_is() -> None:
    records = np.array([(2, 1), (1, 2), (2, 1), (1, 1)], np.dtype([("a", np.int64), ("b", np.int8)], align=True))
    assert distinct(records).tolist() == [(1, 1), (1, 2), (2, 1)]


def test_a_decode_does_not_wait_for_a_part_of_numpy_that_it_has_no_use_for() -> None:
    """numpy.unique would import it, and isin where it sorts."""
    assert printed_by(DECODES).split() == ["True", "False"]


DECODES = """
import sys, tempfile
from pathlib import Path
from process.output import Format
from process.pipeline import decode
from synthetic import generate
if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "caps", 20_000, segment_size=1 << 17)
        summary = decode([Path(folder) / "caps"], Path(folder) / "a.parquet", Format.PARQUET, jobs=2)
        print(summary.rows > 0, "numpy.ma" in sys.modules)
"""
