"""Changes of descriptors: compiled loops give what plain ones in Python do, for any input that callers can have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrays import SIGNED, numbers
from process import kernels_changes
from process.fd_records import CHANGE, NEVER, By


@given(st.lists(st.lists(SIGNED, max_size=12), min_size=1, max_size=6), st.data())
def test_the_last_time_before_a_moment_is_found_in_any_order_of_questions(
    times: list[list[int]], data: st.DataObject
) -> None:
    starts = np.cumsum([0, *map(len, times)])
    asked = data.draw(st.lists(st.tuples(st.integers(-1, len(times) - 1), SIGNED), max_size=60))
    flat = numbers([time for some in times for time in sorted(some)])
    for before in (False, True):
        found = kernels_changes.last_at(
            starts,
            flat,
            numbers([thing for thing, _ in asked]),
            numbers([moment for _, moment in asked]),
            before=before,
        )
        for (thing, moment), at in zip(asked, found.tolist(), strict=True):
            some = sorted(times[thing]) if thing >= 0 else []
            count = sum(time < moment or (time == moment and not before) for time in some)
            assert at == (starts[thing] + count - 1 if count else -1)


@given(st.data())
def test_changes_by_calls_are_written_as_numpy_would(data: st.DataObject) -> None:
    def drawn(low: int, high: int, count: int) -> np.ndarray:
        return numbers(data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    events, calls = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    rows, (sequences, t0, t1) = drawn(0, events - 1, calls), (drawn(-9, 99, events) for _ in range(3))
    holders, pending, fds = drawn(0, 9, calls).view(np.uint64), drawn(0, 1, calls) != 0, drawn(-101, 9, calls)
    several = (drawn(-101, 5, calls), drawn(-2, 5, calls), drawn(0, 6, calls), drawn(0, 3, calls).astype(np.uint8))
    values = [one if data.draw(st.booleans()) else int(one[0]) for one in several]
    which = numbers(data.draw(st.lists(st.integers(0, calls - 1), max_size=8)))
    made, expected = np.zeros(len(which), CHANGE), np.zeros(len(which), CHANGE)
    kernels_changes.put_changes(made, which, rows, sequences, t0, t1, holders, pending, fds, *values)
    expected["seq"] = expected["head"] = sequences[rows[which]]
    expected["t0"] = expected["since"] = t0[rows[which]]
    expected["t1"] = np.where(pending[which], NEVER, t1[rows[which]])
    expected["holder"], expected["fd"], expected["by"] = holders[which], fds[which], By.CALL
    for name, value in zip(("src", "text", "join", "cloexec"), values, strict=True):
        expected[name] = value[which] if isinstance(value, np.ndarray) else value
    assert made.tobytes() == expected.tobytes()


MOMENT = st.one_of(st.integers(0, 12), st.just(NEVER))


@st.composite
def histories(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[int], np.ndarray]:
    """Changes of descriptors in their order, their nodes, where each descriptor's begin, and the nodes."""
    nodes = np.zeros(3, kernels_changes.NODE)
    nodes["since"], nodes["unsure"] = draw(st.tuples(MOMENT, MOMENT, MOMENT)), draw(st.tuples(*[st.integers(0, 6)] * 3))
    nodes["end"], nodes["ender"] = draw(st.tuples(MOMENT, MOMENT, MOMENT)), draw(st.tuples(*[st.integers(-1, 9)] * 3))
    nodes["tainted"] = draw(st.tuples(*[st.booleans()] * 3))
    stretches = draw(st.lists(st.lists(st.tuples(*[st.integers(0, 12)] * 3, MOMENT, st.booleans()), max_size=8)))
    rows = [sorted(stretch, key=lambda row: row[3]) for stretch in stretches]
    starts = [0, *np.cumsum([len(stretch) for stretch in rows]).tolist()]
    changes = np.zeros(starts[-1], CHANGE)
    for at, (seq, since, t0, t1, is_call) in enumerate(row for stretch in rows for row in stretch):
        changes[at] = (seq, t0, t1, since, 0, 0, 0, 0, 0, 0, 0, By.CALL if is_call else By.FILE)
    return changes, numbers(draw(st.lists(st.integers(0, 2), min_size=starts[-1], max_size=starts[-1]))), starts, nodes


@settings(deadline=None, max_examples=400)
@given(histories(), st.data())
def test_the_last_change_of_a_descriptor_is_told_only_where_nothing_else_was_under_way(
    history: tuple[np.ndarray, np.ndarray, list[int], np.ndarray], data: st.DataObject
) -> None:
    changes, owners, starts, nodes = history
    order = np.arange(len(changes))
    index, times = kernels_changes.index_changes(changes, owners, order, numbers(starts), nodes["unsure"].copy())
    asked = data.draw(
        st.lists(
            st.tuples(
                st.integers(-1, len(starts) - 2), st.integers(-1, 2), st.integers(0, 12), st.integers(0, 12),
                st.integers(0, 12),
            ),
            max_size=30,
        )
    )  # fmt: skip
    columns = [numbers([row[k] for row in asked]) for k in range(5)]
    sure, found = kernels_changes.last_changes(index, times, numbers(starts), nodes, *columns)
    for (which, node, t0, t1, seq), is_sure, change in zip(asked, sure.tolist(), found.tolist(), strict=True):
        if node < 0:
            assert not is_sure
            continue
        mine = nodes[node]
        expected = not mine["tainted"] and t0 >= mine["unsure"] and (t1 <= mine["end"] or seq == mine["ender"])
        own = list(range(starts[which], starts[which + 1])) if which >= 0 else []
        over = [at for at in own if changes["t1"][at] <= t0 and changes["t1"][at] != NEVER]
        rest = own[len(over) :]
        calls = [at for at in rest if changes["by"][at] == By.CALL]
        if calls:
            first = calls[0] + (changes["seq"][calls[0]] == seq)
            expected &= first >= starts[which + 1] or min(changes["since"][first : starts[which + 1]]) >= t1
        last = over[-1] if over else -1
        is_there = bool(over) and (owners[last] == node or changes["t1"][last] > mine["since"])
        if is_there:
            earlier = [at for at in own if at < last and changes["by"][at] == By.CALL]
            overlaps = bool(earlier) and changes["t1"][earlier[-1]] > changes["t0"][last]
            unclear = overlaps or changes["t0"][last] < nodes["unsure"][owners[last]]
            expected &= owners[last] == node and not (unclear and changes["by"][last] == By.CALL)
        assert (is_sure, change) == (expected, last if is_there else -1)


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_anything_is_no_special_case(count: int) -> None:
    one = numbers([5][:count])
    assert kernels_changes.last_at(numbers([0, count]), one, one * 0, one, before=True).tolist() == [-1][:count]
    index, times = kernels_changes.index_changes(np.zeros(0, CHANGE), one[:0], one[:0], numbers([0]), one)
    sure, found = kernels_changes.last_changes(
        index, times, numbers([0]), np.zeros(1, kernels_changes.NODE), one * 0 - 1, one * 0, one, one, one
    )
    assert sure.tolist() == [False][:count] and found.tolist() == [-1][:count]
