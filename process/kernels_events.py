"""What is told by many events: kernels_events.c."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from process.library import at, integer, load

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_NUMBERED = 1 << 13
"""Numbers below this one have a place in a table."""

_library = load(
    ("span_of", "fresh_in", "note_times", "asked_by", "rows_of", "by_number", "results_of"), ("count_rows",)
)


class Span(NamedTuple):
    """Between which times events lie, as their words say: of the first and the last entry, and of the last return."""

    earliest: int
    latest: int
    returned: int


def span_of(times: Words, durations: Words, flags: Words) -> Span:
    """The span of at least one event; one of which it is not known when it came back did so as it was entered."""
    times, durations, flags = (np.ascontiguousarray(one) for one in (times, durations, flags))
    assert len(times) == len(durations) == len(flags) > 0
    entries = np.empty(2, np.uint64)
    returned = _library.span_of(at(times), at(durations), at(flags), integer(len(times)), at(entries))
    return Span(int(entries[0]), int(entries[1]), returned)


def fresh_in(values: Words, bits: int, table: Words) -> Words:
    """Values that stand in their places of a table no more, or not yet, in their order; they do afterwards.

    Args:
        values: uint64.
        bits: Of a place, as `grouping.spread` gives it.
        table: uint64 of shape (1 << bits,).
    """
    values = np.ascontiguousarray(values)
    assert len(table) == 1 << bits and values.dtype == table.dtype == np.uint64
    fresh = np.empty(len(values) + 1, np.uint64)
    return fresh[: _library.fresh_in(at(values), integer(len(values)), integer(bits), at(table), at(fresh))]


def note_times(tasks: Words, times: Numbers, bits: int, known: Words, first: Numbers, last: Numbers) -> Numbers:
    """Enter the times of events by their tasks.

    Args:
        tasks: Of each event.
        times: Likewise.
        bits: Of a place (`process.grouping.spread`).
        known: The tasks, each at its place or soon behind it; 2**64 - 1 where there is none. As far behind the last
            place as a task may be behind its own. Altered, as are the next two.
        first: The first time of each.
        last: The last one.

    Returns:
        The indices of events whose tasks are not there and find no place: they are left out.
    """
    tasks, times = np.ascontiguousarray(tasks), np.ascontiguousarray(times)
    missed, tries = np.empty(len(tasks), np.int64), len(known) - (1 << bits) + 1
    assert len(tasks) == len(times) and tries > 0 and len(known) == len(first) == len(last)
    count = _library.note_times(
        at(tasks), at(times), integer(len(tasks)), integer(bits), integer(tries), at(known), at(first), at(last),
        at(missed),
    )  # fmt: skip
    return missed[:count]


class AskedBy(NamedTuple):
    """What calls ask with; int64 of shape (n,).

    Attributes:
        t0: When each began.
        t1: When it was over; as ``t0`` where that is not known.
        seq: Its event.
        which: Its task; -1 if that is an address space, or nobody knows when it came back.
        endless: The indices of those of which it is not known when they were over.
    """

    t0: Numbers
    t1: Numbers
    seq: Numbers
    which: Numbers
    endless: Numbers


def asked_by(
    rows: Numbers, times: Words, durations: Words, flags: Words, sequences: Numbers, which: Numbers
) -> AskedBy:
    """What some events ask with.

    Args:
        rows: Their indices.
        times: Of all events, as are the others: when they began.
        durations: How long they took.
        flags: Their flags.
        sequences: Their sequence numbers.
        which: Their tasks, as indices.
    """
    rows, sequences, which = (np.ascontiguousarray(one, np.int64) for one in (rows, sequences, which))
    times, durations, flags = (np.ascontiguousarray(one) for one in (times, durations, flags))
    assert len(times) == len(durations) == len(flags) == len(sequences) == len(which)
    t0, t1, seq, who = np.empty((4, len(rows)), np.int64)
    found = AskedBy(t0, t1, seq, who, np.empty(len(rows) + 1, np.int64))
    count = _library.asked_by(
        at(rows), integer(len(rows)), at(times), at(durations), at(flags), at(sequences), at(which), *map(at, found)
    )
    return found._replace(endless=found.endless[:count])


def rows_of(numbers: npt.NDArray[np.uint16], known: Mask, wanted: Mask) -> Numbers | None:
    """The indices of those calls that are wanted, ascending.

    Args:
        numbers: Of the calls.
        known: Of the first numbers, whether it is known if they are wanted.
        wanted: Of these, whether they are.

    Returns:
        None if any number is not known.
    """
    numbers, rows = np.ascontiguousarray(numbers), np.empty(len(numbers) + 1, np.int64)
    count = _library.rows_of(at(numbers), integer(len(numbers)), integer(len(known)), at(known), at(wanted), at(rows))
    return None if count < 0 else rows[:count].copy()


class ByNumber(NamedTuple):
    """Events by the numbers of their calls.

    Attributes:
        numbers: The distinct ones, by their first places.
        counts: Of each, how many events have it.
        codes: Of each event, an index into these.
        order: The events by these, those of one number in their order.
    """

    numbers: Numbers
    counts: Numbers
    codes: Numbers
    order: Numbers


def by_number(numbers: Words, flags: Words) -> ByNumber | None:
    """Sort events by their numbers.

    Args:
        numbers: Their words with numbers.
        flags: Their words with flags.

    Returns:
        None if some number is large, or some event names its ABI.
    """
    numbers, flags = np.ascontiguousarray(numbers), np.ascontiguousarray(flags)
    distinct, counts = np.empty(_NUMBERED, np.int64), np.empty(_NUMBERED, np.int64)
    codes, order = np.empty(len(numbers), np.int64), np.empty(len(numbers), np.int64)
    assert len(numbers) == len(flags)
    count = _library.by_number(
        at(numbers), at(flags), integer(len(numbers)), at(distinct), at(counts), at(codes), at(order)
    )
    return None if count < 0 else ByNumber(distinct[:count].copy(), counts[:count].copy(), codes, order)


class ResultCodes(NamedTuple):
    """What calls returned, as codes.

    Attributes:
        errors: How many failed with an error that has a name.
        errnos: Which error, -1 for none.
        reprs: Which text: of a distinct value, behind these of an error, -1 for a call that has not come back.
        statuses: 0 if it has, 1 if it may not come back, 2 if it should.
    """

    errors: int
    errnos: npt.NDArray[np.int32]
    reprs: npt.NDArray[np.int32]
    statuses: npt.NDArray[np.int8]


def results_of(
    flags: Words, failed: Mask, inverse: Numbers, errnos: Numbers, call_of: Numbers, abi_of: Numbers, may_end: Mask
) -> ResultCodes:
    """The results of calls.

    Args:
        flags: Their words with flags.
        failed: Whether each failed, if it came back.
        inverse: Of each, an index into distinct values.
        errnos: Of shape (m, distinct values), the errors that these are by each of some tables.
        call_of: Of each, an index into the next two.
        abi_of: Which table.
        may_end: Whether it is no surprise that it does not come back.
    """
    rows, (tables, distinct) = len(flags), errnos.shape
    flags, failed = np.ascontiguousarray(flags), np.ascontiguousarray(failed, np.bool_)
    inverse, call_of, errnos, abi_of = (
        np.ascontiguousarray(one, np.int64) for one in (inverse, call_of, errnos, abi_of)
    )
    assert rows == len(failed) == len(inverse) == len(call_of) and len(abi_of) == len(may_end)
    assert abi_of.max(initial=0) < tables and distinct + int(errnos.max(initial=0)) < 1 << 31
    codes, reprs, statuses = np.empty(rows, np.int32), np.empty(rows, np.int32), np.empty(rows, np.int8)
    errors = _library.results_of(
        integer(rows), at(flags), at(failed), at(inverse), integer(distinct), at(call_of), at(errnos), at(abi_of),
        at(may_end), at(codes), at(reprs), at(statuses),
    )  # fmt: skip
    return ResultCodes(errors, codes, reprs, statuses)


def count_rows(keys: Numbers, failed: Mask, size: int) -> tuple[Numbers, Numbers, Numbers]:
    """For each key below ``size`` how many rows have it, how many of these failed, and which is the first of them."""
    keys, failed = np.ascontiguousarray(keys, np.int64), np.ascontiguousarray(failed, np.bool_)
    assert len(keys) == len(failed)
    events, errors, firsts = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64)
    _library.count_rows(integer(len(keys)), at(keys), at(failed), at(events), at(errors), at(firsts))
    return events, errors, firsts
