"""Distinct values by tables and hashes are those that sorting gives."""

from __future__ import annotations

import numpy as np
import pytest

from process.grouping import group, in_order

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
