"""Rows of the table `fd`: compiled loops give what plain ones in Python do, for any input that callers can have."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from arrays import numbers
from process.fd_records import CLOSED, NEVER, UNKNOWN, Cloexec
from process.fd_rows import records
from process.fd_steps import CLOSE, HOW, LOST, REPLACED, SEEN, Ends, Steps


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
