"""The compiled loops give what a plain loop in Python gives, for any input that callers can have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.segment import EVENT_ROW, EventFlag
from colliding import unmixed
from process import kernels
from process.fd_records import CHANGE, CLOSED, NEVER, UNKNOWN, By, Cloexec
from process.fd_rows import records
from process.fd_steps import CLOSE, HOW, LOST, REPLACED, SEEN, Ends, Steps
from process.grouping import spread
from process.library import SEED
from process.planes import Planes
from process.read import NR_STRINGS, TIME, WORDS
from process.text_array import TextArray

WORD = st.one_of(st.integers(0, 8), st.integers(0, 2**64 - 1))
SIGNED = st.one_of(st.integers(-4, 8), st.integers(-(2**63), 2**63 - 1))


def words(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@given(st.lists(WORD, max_size=300))
def test_values_are_grouped_by_their_first_places(values: list[int]) -> None:
    found = kernels.group(words(values))
    assert found is not None
    assert found[0].tolist() == list(dict.fromkeys(values))
    assert found[0][found[1]].tolist() == values


def test_many_distinct_values_are_grouped() -> None:
    values = np.random.default_rng(1).integers(0, 2**64 - 1, 300_000, np.uint64)
    found = kernels.group(np.concatenate([values, values[::-1]]))
    assert found is not None
    assert (found[0] == values).all()
    assert (found[1][:300_000] == np.arange(300_000)).all() and (found[1][300_000:] == found[1][:300_000][::-1]).all()


def test_a_guest_that_knew_the_seed_could_not_make_it_slow() -> None:
    values = words([unmixed(i << 40, SEED) for i in range(20_000)])  # all at one place of any table
    assert kernels.group(values) is None


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
    done = kernels.unplane_all(data, counts, (NR_STRINGS, TIME) if is_sorted else None, out)
    is_wide = (expected[:, NR_STRINGS] & np.uint64(0xFFFF0000) != 0).any()
    assert done is not bool(is_sorted and is_wide)
    if done:
        np.testing.assert_array_equal(out, expected.T)


@given(st.lists(st.tuples(WORD, WORD, st.integers(0, 3)), min_size=1, max_size=40))
def test_the_span_of_events_is_that_of_their_entries_and_returns(rows: list[tuple[int, int, int]]) -> None:
    times, durations, flags = (words([row[k] for row in rows]) for k in range(3))
    returned = [
        (time + (lasted if flag & EventFlag.RETURNED and lasted < 1 << 63 else 0) + (1 << 63)) % (1 << 64) - (1 << 63)
        for time, lasted, flag in rows
    ]
    assert kernels.span_of(times, durations, flags) == (times.min(), times.max(), max(returned))


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
        assert kernels.note_times(tasks, times, bits, known, first, last).tolist() == missed
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
    found = kernels.asked_by(numbers(rows), times, durations, flags, sequences, tasks)
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
    found = kernels.rows_of(np.array(asked, np.uint16), known, wanted)
    if any(number >= 6 or not known[number] for number in asked):
        assert found is None
    else:
        assert found is not None and found.tolist() == [at for at, number in enumerate(asked) if wanted[number]]


@given(st.lists(WORD, max_size=40))
def test_a_word_is_made_of_its_planes(values: list[int]) -> None:
    planes = np.ascontiguousarray(words(values).view(np.uint8).reshape(-1, 8).T)
    found, is_same = kernels.stored_word(planes)
    assert found.tolist() == values and is_same == (len(set(values)) <= 1)


@given(st.lists(st.integers(0, 5) | st.integers(8180, 8191), max_size=60), st.sampled_from([0, 1 << 13, 1 << 31]))
def test_events_are_sorted_by_their_numbers(asked: list[int], large: int) -> None:
    told = words([number | at << 32 for at, number in enumerate([*asked, large] if large else asked)])
    found = kernels.by_number(told, np.ones(len(told), np.uint64))
    if large:
        assert found is None
        return
    assert found is not None
    distinct = list(dict.fromkeys(asked))
    assert found.numbers.tolist() == distinct and found.counts.tolist() == list(map(asked.count, distinct))
    assert found.numbers[found.codes].tolist() == asked
    assert found.order.tolist() == [at for number in distinct for at, one in enumerate(asked) if one == number]


def test_events_that_name_their_abi_are_not_sorted_by_their_numbers_alone() -> None:
    assert kernels.by_number(words([1, 1]), words([1, 3 << 16 | 1])) is None


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
    found = kernels.results_of(flags, failed, inverse, errnos, call_of, abi_of, may_end)
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
    found = kernels.count_rows(numbers(keys), np.array([failed for _, failed in rows], np.bool_), 8)
    for key, (events, errors, first) in enumerate(zip(*(column.tolist() for column in found), strict=True)):
        assert events == keys.count(key) and errors == rows.count((key, True))
        assert not events or first == keys.index(key)


@given(st.lists(st.lists(SIGNED, max_size=12), min_size=1, max_size=6), st.data())
def test_the_last_time_before_a_moment_is_found_in_any_order_of_questions(
    times: list[list[int]], data: st.DataObject
) -> None:
    starts = np.cumsum([0, *map(len, times)])
    asked = data.draw(st.lists(st.tuples(st.integers(-1, len(times) - 1), SIGNED), max_size=60))
    flat = numbers([time for some in times for time in sorted(some)])
    for before in (False, True):
        found = kernels.last_at(
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
    kernels.put_changes(made, which, rows, sequences, t0, t1, holders, pending, fds, *values)
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
    nodes = np.zeros(3, kernels.NODE)
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
    index, times = kernels.index_changes(changes, owners, order, numbers(starts), nodes["unsure"].copy())
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
    sure, found = kernels.last_changes(index, times, numbers(starts), nodes, *columns)
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


@given(st.data())
def test_texts_are_a_prefix_a_number_and_a_suffix(data: st.DataObject) -> None:
    of = [data.draw(st.lists(st.text(max_size=5), min_size=1, max_size=4)) for _ in range(2)]
    kinds = st.integers(0, len(of[0]) - 1), st.booleans(), st.integers(0, len(of[1]) - 1)
    rows = data.draw(st.lists(st.tuples(WORD, *kinds), max_size=30))
    prefixes, nulls, suffixes = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
    made = kernels.texts(
        words([row[0] for row in rows]), prefixes, nulls, suffixes, TextArray.of(of[0]), TextArray.of(of[1])
    )
    assert made.to_list() == [
        of[0][prefix] + ("[NULL]" if null else f"{value:#x}{of[1][suffix]}") for value, prefix, null, suffix in rows
    ]


@pytest.mark.parametrize("way", ["by hashes", "slowly"])
@given(data=st.data())
def test_arguments_are_numbered_by_what_their_texts_are_made_of(way: str, data: st.DataObject) -> None:
    kinds = np.array(
        data.draw(
            st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=4)
        ),
        kernels.KIND,
    )
    row = st.tuples(WORD, st.integers(0, len(kinds) - 1), st.integers(-1, 3))
    rows = data.draw(st.lists(row, max_size=60))
    values, call_of = words([one[0] for one in rows]), numbers([one[1] for one in rows])
    own = np.array([one[2] for one in rows], np.int32) if data.draw(st.booleans()) else None
    made = kernels.number_texts_of(values, call_of, kinds, own)
    if way == "slowly":
        made = kernels._numbered_slowly(values, kinds[call_of], own)
    found = list(
        zip(made.prefixes.tolist(), made.nulls.tolist(), made.values.tolist(), made.suffixes.tolist(), strict=True)
    )
    assert len(set(found)) == len(found)
    for (value, call, mine), code in zip(rows, made.codes.tolist(), strict=True):
        prefix, suffix, pointer = kinds[call].tolist()
        if prefix < 0:
            assert code == -1
            continue
        null = bool(pointer) and value == 0
        assert found[code] == (prefix, null, value, 0 if null else mine if own is not None and mine >= 0 else suffix)


@given(st.lists(SIGNED, max_size=200), st.sampled_from([0, 11, 40]))
def test_the_order_of_keys_is_stable(keys: list[int], shift: int) -> None:
    given = numbers(keys) >> shift
    order, ordered = kernels.in_order(given)
    assert (order == np.argsort(given, kind="stable")).all() and (ordered == given[order]).all()


@given(st.lists(st.text("ab\0\u00e9", max_size=20), max_size=60))
def test_texts_are_grouped_by_their_first_places(texts: list[str]) -> None:
    firsts, inverse = kernels.group_texts(TextArray.of(texts))
    assert [texts[first] for first in firsts.tolist()] == list(dict.fromkeys(texts))
    assert [texts[firsts[at]] for at in inverse.tolist()] == texts


@st.composite
def steps_in_order(draw: st.DrawFn) -> Steps:
    """Steps of two descriptors of each of three tables; of one table, the first nodes."""
    few = st.integers(0, 2)
    step = st.tuples(
        few, st.integers(0, 1), st.one_of(st.integers(0, 9), st.just(NEVER)), st.integers(0, 9), few, st.booleans(),
        few, few, st.integers(-2, 2), few, few, st.sampled_from([0, 1, 6, 9]), st.booleans(), st.booleans(),
        st.booleans(),
    )  # fmt: skip
    rows = sorted(draw(st.lists(step, max_size=40)), key=lambda row: row[:3])
    types = [np.int32, np.int32, np.int64, np.int64, np.int64, np.bool_, np.int32, np.int64, np.int32]
    types += [np.int8] * 3 + [np.bool_] * 3
    return Steps(*(np.array([row[at] for row in rows], kind) for at, kind in enumerate(types)))


@settings(deadline=None, max_examples=400)
@given(steps_in_order(), st.data())
def test_rows_of_a_descriptor_are_the_stretches_in_which_it_stays_open(steps: Steps, data: st.DataObject) -> None:
    table = st.tuples(st.one_of(st.integers(0, 9), st.just(NEVER)), st.integers(-1, 5), st.integers(-1, 9))
    ends = Ends(*(numbers(list(column)) for column in zip(*(data.draw(table) for _ in range(3)), strict=True)))
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(steps.fd), max_size=len(steps.fd))), np.bool_)
    expected = plain_rows(steps, ends)
    assert records(steps, ends).tolist() == [row for _, row in expected]
    assert records(steps, ends, wanted).tolist() == [row for head, row in expected if wanted[head]]


def plain_rows(steps: Steps, ends: Ends) -> list[tuple[int, tuple[int, ...]]]:
    """Each row, with the step that it begins with."""
    each = [
        SimpleNamespace(**{name: value.item() for name, value in zip(vars(steps), values, strict=True)})
        for values in zip(*vars(steps).values(), strict=True)
    ]
    nothing = SimpleNamespace(group=-1, is_open=False)
    for before, one in zip([nothing, *each], each, strict=False):
        same = one.group == before.group and one.fd == before.fd
        named = same and (one.name == before.name or one.told or not one.is_birth)
        one.follows = named and before.is_open and not one.begins and (one.node == before.node or one.is_birth)
        stays = one.follows and one.name == before.name == UNKNOWN and not one.is_birth
        one.stays_open = one.is_open or (stays and one.cloexec != Cloexec.UNSURE)
    found: list[tuple[int, tuple[int, ...]]] = []
    for place, head in enumerate(each):
        if not head.stays_open or head.follows:
            continue
        last, rest = head, [one for one in each[place + 1 :] if (one.group, one.fd) == (head.group, head.fd)]
        while rest and rest[0].follows and rest[0].stays_open:
            last = rest.pop(0)
        time, how, seq = (int(column[head.group]) for column in vars(ends).values())
        if rest and rest[0].time <= time:
            after = rest.pop(0)
            time, how, seq = after.time, LOST, after.seq
            if after.node == last.node or after.is_birth:
                if after.name == CLOSED and not after.told and after.how != SEEN:
                    how = CLOSE
                elif after.stays_open and after.begins and after.how == HOW.index("dup"):
                    how = REPLACED
        how = LOST if any(other.began < time for other in rest) else how
        seq, time = (-1, NEVER) if how == LOST else (seq, time)
        told = -1, max(last.name, -1), last.source, last.cloexec, head.how, how
        found.append((place, (head.seq, head.time, head.pid, seq, time, head.fd, head.group, *told)))
    return found


def test_a_library_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; path = pathlib.Path.with_name\n"
        "pathlib.Path.with_name = lambda self, name: pathlib.Path(sys.argv[1]) / name if name.endswith('.so') "
        "else path(self, name)\n"
        "try:\n    import process.kernels\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "libkernels.so: cannot be loaded" in done.stdout and "pip install" in done.stdout


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_anything_is_no_special_case(count: int) -> None:
    one = numbers([5][:count])
    assert kernels.last_at(numbers([0, count]), one, one * 0, one, before=True).tolist() == [-1][:count]
    index, times = kernels.index_changes(np.zeros(0, CHANGE), one[:0], one[:0], numbers([0]), one)
    sure, found = kernels.last_changes(
        index, times, numbers([0]), np.zeros(1, kernels.NODE), one * 0 - 1, one * 0, one, one, one
    )
    assert sure.tolist() == [False][:count] and found.tolist() == [-1][:count]


PATHS = st.text(st.sampled_from("/.ab"), max_size=12)


@given(st.lists(PATHS | PATHS.map("/proc/".__add__) | PATHS.map("/dev/".__add__)))
def test_paths_are_looked_at_as_by_a_pattern(paths: list[str]) -> None:
    absolute, tidy, of_kernel = kernels.look_at_paths(TextArray.of(paths))
    assert absolute.tolist() == [path.startswith("/") for path in paths]
    assert tidy.tolist() == [not re.search(r"/(?:/|\.{1,2}(?:/|\Z)|\Z)", path) for path in paths]
    assert of_kernel.tolist() == [path.startswith(("/proc/", "/dev/")) for path in paths]


@given(st.lists(st.sampled_from([0, 1, 5, 2**64 - 1, *(k << 32 for k in range(40))])), st.integers(1, 6))
def test_a_value_is_fresh_until_another_takes_its_place(values: list[int], bits: int) -> None:
    table = np.zeros(1 << bits, np.uint64)
    table[0] = 1
    places, held, fresh = spread(np.array(values, np.uint64), bits).tolist(), table.tolist(), []
    for value, place in zip(values, places, strict=True):
        if held[place] != value:
            fresh.append(value)
        held[place] = value
    assert kernels.fresh_in(np.array(values, np.uint64), bits, table).tolist() == fresh
    assert table.tolist() == held
