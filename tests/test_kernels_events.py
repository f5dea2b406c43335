"""What events tell: compiled loops give what plain ones in Python do, for any input that callers can have."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrays import SIGNED, WORD, numbers, words
from capture.segment import EventFlag
from process import kernels_events
from process.grouping import spread


@given(st.lists(st.tuples(WORD, WORD, st.integers(0, 3)), min_size=1, max_size=40))
def test_the_span_of_events_is_that_of_their_entries_and_returns(rows: list[tuple[int, int, int]]) -> None:
    times, durations, flags = (words([row[k] for row in rows]) for k in range(3))
    returned = [
        (time + (lasted if flag & EventFlag.RETURNED and lasted < 1 << 63 else 0) + (1 << 63)) % (1 << 64) - (1 << 63)
        for time, lasted, flag in rows
    ]
    assert kernels_events.span_of(times, durations, flags) == (times.min(), times.max(), max(returned))


@given(st.lists(st.lists(st.tuples(WORD, SIGNED), max_size=40), max_size=3))
def test_times_are_entered_for_those_tasks_that_find_a_place(blocks: list[list[tuple[int, int]]]) -> None:
    bits, tries, nobody = 3, 3, 2**64 - 1
    known = np.full((1 << bits) + tries - 1, nobody, np.uint64)
    first, last = np.full(len(known), 9), np.full(len(known), 5)
    table: dict[int, tuple[int, int, int]] = {}
    for events in blocks:
        tasks, times = words([task for task, _ in events]), numbers([time for _, time in events])
        missed = []
        for row, (task, time) in enumerate(events):
            place = int(spread(words([task]), bits)[0])
            places = [at for at in range(place, place + tries) if table.get(at, (task,))[0] == task]
            if not places or task == nobody:
                missed.append(row)
            else:
                _, low, high = table.get(places[0], (task, 9, 5))
                table[places[0]] = task, min(low, time), max(high, time)
        assert kernels_events.note_times(tasks, times, bits, known, first, last).tolist() == missed
    columns = zip(known.tolist(), first.tolist(), last.tolist(), strict=True)
    assert dict(enumerate(columns)) == {at: table.get(at, (nobody, 9, 5)) for at in range(len(known))}


@given(
    st.lists(st.tuples(WORD, WORD, st.sampled_from([0, 1, 8, 9]), SIGNED, st.integers(-1, 5)), min_size=1), st.data()
)
def test_calls_ask_with_their_times_and_their_tasks(
    events: list[tuple[int, int, int, int, int]], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=30))
    times, durations, flags = (words([event[k] for event in events]) for k in range(3))
    sequences, tasks = (numbers([event[k] for event in events]) for k in (3, 4))
    found = kernels_events.asked_by(numbers(rows), times, durations, flags, sequences, tasks)
    known = [events[row][1] < 1 << 63 for row in rows]
    over = [
        (events[row][0] + (events[row][1] if is_known else 0) + (1 << 63)) % (1 << 64) - (1 << 63)
        for row, is_known in zip(rows, known, strict=True)
    ]
    timed = [
        (is_known or not events[row][2] & EventFlag.RETURNED) and not events[row][2] & EventFlag.TASK_IS_ASID
        for row, is_known in zip(rows, known, strict=True)
    ]
    assert found.t0.tolist() == times[rows].view(np.int64).tolist() and found.t1.tolist() == over
    assert found.seq.tolist() == sequences[rows].tolist()
    assert found.which.tolist() == [events[row][4] if ok else -1 for row, ok in zip(rows, timed, strict=True)]
    assert found.endless.tolist() == [at for at, is_known in enumerate(known) if not is_known]


@given(st.data())
def test_wanted_numbers_are_found_if_all_are_known(data: st.DataObject) -> None:
    known, wanted = (np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6))) for _ in range(2))
    asked = data.draw(st.lists(st.integers(0, 7), max_size=40))
    found = kernels_events.rows_of(np.array(asked, np.uint16), known, wanted)
    if any(number >= 6 or not known[number] for number in asked):
        assert found is None
    else:
        assert found is not None and found.tolist() == [at for at, number in enumerate(asked) if wanted[number]]


@given(st.lists(st.integers(0, 5) | st.integers(8180, 8191), max_size=60), st.sampled_from([0, 1 << 13, 1 << 31]))
def test_events_are_sorted_by_their_numbers(asked: list[int], large: int) -> None:
    told = words([number | at << 32 for at, number in enumerate([*asked, large] if large else asked)])
    found = kernels_events.by_number(told, np.ones(len(told), np.uint64))
    if large:
        assert found is None
        return
    assert found is not None
    distinct = list(dict.fromkeys(asked))
    assert found.numbers.tolist() == distinct and found.counts.tolist() == list(map(asked.count, distinct))
    assert found.numbers[found.codes].tolist() == asked
    assert found.order.tolist() == [at for number in distinct for at, one in enumerate(asked) if one == number]


def test_events_that_name_their_abi_are_not_sorted_by_their_numbers_alone() -> None:
    assert kernels_events.by_number(words([1, 1]), words([1, 3 << 16 | 1])) is None


@given(st.data())
def test_results_are_told_as_codes(data: st.DataObject) -> None:
    values, calls = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    rows = data.draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, values - 1), st.integers(0, calls - 1)),
            max_size=30,
        )
    )
    errnos = np.array(data.draw(st.lists(st.integers(-1, 5), min_size=3 * values, max_size=3 * values))).reshape(3, -1)
    abi_of = numbers(data.draw(st.lists(st.integers(0, 2), min_size=calls, max_size=calls)))
    may_end = np.array(data.draw(st.lists(st.booleans(), min_size=calls, max_size=calls)))
    flags, failed = words([row[0] for row in rows]), np.array([row[1] for row in rows], np.bool_)
    inverse, call_of = (numbers([row[k] for row in rows]) for k in (2, 3))
    found = kernels_events.results_of(flags, failed, inverse, errnos, call_of, abi_of, may_end)
    expected = []
    for flag, is_failed, value, call in rows:
        is_back = flag & EventFlag.RETURNED
        errno = int(errnos[abi_of[call], value]) if is_back and is_failed else -1
        text = -1 if not is_back else values + errno if errno >= 0 else value
        expected.append((errno, text, 0 if is_back else 1 if may_end[call] else 2))
    assert list(zip(found.errnos.tolist(), found.reprs.tolist(), found.statuses.tolist(), strict=True)) == expected
    assert found.errors == sum(errno >= 0 for errno, _, _ in expected)


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=40))
def test_rows_are_counted_by_their_keys(rows: list[tuple[int, bool]]) -> None:
    keys = [key for key, _ in rows]
    found = kernels_events.count_rows(numbers(keys), np.array([failed for _, failed in rows], np.bool_), 8)
    for key, (events, errors, first) in enumerate(zip(*(column.tolist() for column in found), strict=True)):
        assert events == keys.count(key) and errors == rows.count((key, True))
        assert not events or first == keys.index(key)


@given(st.lists(st.sampled_from([0, 1, 5, 2**64 - 1, *(k << 32 for k in range(40))])), st.integers(1, 6))
def test_a_value_is_fresh_until_another_takes_its_place(values: list[int], bits: int) -> None:
    table = np.zeros(1 << bits, np.uint64)
    table[0] = 1
    places, held, fresh = spread(np.array(values, np.uint64), bits).tolist(), table.tolist(), []
    for value, place in zip(values, places, strict=True):
        if held[place] != value:
            fresh.append(value)
        held[place] = value
    assert kernels_events.fresh_in(np.array(values, np.uint64), bits, table).tolist() == fresh
    assert table.tolist() == held
