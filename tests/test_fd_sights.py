"""Tasks and their first and last times, as `Sights` gathers them, against a plain count."""

from __future__ import annotations

import numpy as np

from process.fd_sights import Sights

SOURCE = np.random.default_rng(3)


def test_the_first_and_the_last_time_of_each_task_are_found_however_many_there_are() -> None:
    """Far more tasks than places in the table, new ones in each block, times that go back."""
    numbers = SOURCE.integers(0, 1 << 63, 30_000, dtype=np.uint64)
    seen = Sights()
    expected: dict[int, tuple[int, int]] = {}
    for block in range(20):
        tasks = np.concatenate([SOURCE.choice(numbers[: 1500 * (block + 1)], 3000), numbers[:7].repeat(20)])
        times = SOURCE.integers(-500, 500, len(tasks)) + 900 * block
        seen.add(tasks, times)
        for task, time in zip(tasks.tolist(), times.tolist(), strict=True):
            first, last = expected.get(task, (time, time))
            expected[task] = min(first, time), max(last, time)
    assert len(expected) > 16_384
    assert seen.records().tolist() == [(task, *times) for task, times in sorted(expected.items())]


def test_without_events_there_are_no_tasks() -> None:
    assert not len(Sights().records())
