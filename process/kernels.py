"""The loops that are compiled: kernels_*.c, which the build makes into a library beside them (hatch_build.py).

numpy makes a pass over memory for each step of a calculation; where one pass could take many steps, or the next step
depends on the last, such a loop is here. Each function says what of numpy's it stands for. Arguments are checked by
the callers' types; lengths are theirs to get right, and made contiguous here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from process.library import OUT_OF_MEMORY, SEED, at, integer, load
from process.text_array import TextArray

Number = TypeVar("Number", np.int64, np.uint64)
Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

Codes = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

KIND = np.dtype([(name, np.int32) for name in ("prefix", "suffix", "pointer")])
"""What the texts of a call's argument are made of; prefix -1 for none."""


class Numbered(NamedTuple):
    """Rows by what their texts are made of.

    Attributes:
        codes: int32, for each row the index of its text, -1 for none.
        values: uint64, of each text.
        prefixes: uint32, likewise.
        suffixes: uint32, likewise.
        nulls: bool, whether the text is that of a null pointer.
    """

    codes: npt.NDArray[np.int32]
    values: Words
    prefixes: Codes
    suffixes: Codes
    nulls: Mask


INDEXED = np.dtype([
    *((name, np.int64) for name in ("seq", "under_way")),
    *((name, np.int32) for name in ("node", "change", "next_call", "unclear")),
])  # fmt: skip
"""What `index_changes` makes of a change."""
NODE = np.dtype([(name, np.int64) for name in ("group", "since", "unsure", "end", "ender", "tainted")])
"""What `last_changes` must know of a table."""

_STEP = [4, 4, 8, 8, 8, 1, 4, 8, 4, 1, 1, 1, 1, 1, 1]
"""Bytes of what `rows_of_steps` must know of a step."""

_NUMBERS = (
    "group", "group_texts", "number_texts_of", "in_order", "places_of", "unplane", "unplane_all", "stored_word",
    "span_of", "note_times", "fresh_in", "asked_by", "rows_of", "by_number", "results_of", "last_at", "last_changes",
    "size_of_change", "size_texts", "size_of_row", "mark_steps",
)  # fmt: skip
_NOTHING = (
    "count_rows", "put_changes", "index_changes", "write_texts", "enclose", "take_texts", "look_at_paths",
    "rows_of_steps", "words_at",
)  # fmt: skip
"""Functions by what they return."""

_library = load(_NUMBERS, _NOTHING)


def group(values: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], Numbers] | None:
    """The distinct values of an array, by their first places, and for each element an index into them.

    As ``numpy.unique(values, return_inverse=True)``, but for the order, by a hash table.

    Args:
        values: int64 or uint64 of shape (n,).

    Returns:
        None if the table does not suit them: too many collide.
    """
    values = np.ascontiguousarray(values)
    distinct, inverse = np.empty_like(values), np.empty(len(values), np.int64)
    if len(values) >= 1 << 32:
        return None
    count = _library.group(at(values), integer(len(values)), integer(SEED), at(distinct), at(inverse))
    if count == OUT_OF_MEMORY:
        raise MemoryError
    return None if count < 0 else (distinct[:count].copy(), inverse)


def in_order(keys: Numbers) -> tuple[Numbers, Numbers]:
    """The stable order of keys, as ``numpy.argsort(keys, kind="stable")``, by their digits; and the keys in it.

    Args:
        keys: int64, fewer than 2**32.
    """
    keys = np.ascontiguousarray(keys, np.int64)
    assert len(keys) < 1 << 32
    order, ordered = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    if _library.in_order(at(keys), integer(len(keys)), at(order), at(ordered)) == OUT_OF_MEMORY:
        raise MemoryError
    return order, ordered


def number_texts_of(
    values: Words, call_of: Numbers, kinds: npt.NDArray[np.void], own: npt.NDArray[np.int32] | None
) -> Numbered:
    """The distinct texts of an argument of many calls: pairs of a prefix, a value and a suffix.

    Args:
        values: Of each row.
        call_of: Of each row, an index into ``kinds``.
        kinds: Of dtype `KIND`.
        own: Of each row, its own suffix, -1 for that of its kind; None if no row has one.
    """
    assert kinds.dtype == KIND and len(values) == len(call_of) < 1 << 31
    values, call_of = np.ascontiguousarray(values), np.ascontiguousarray(call_of, np.int64)
    rows = len(values)
    codes, distinct, nulls = np.empty(rows, np.int32), np.empty(rows, np.uint64), np.empty(rows, np.bool_)
    prefixes, suffixes = np.empty(rows, np.uint32), np.empty(rows, np.uint32)
    count = _library.number_texts_of(
        integer(rows), at(values), at(call_of), at(kinds), None if own is None else at(own), integer(SEED),
        at(distinct), at(prefixes), at(suffixes), at(nulls), at(codes),
    )  # fmt: skip
    if count == OUT_OF_MEMORY:
        raise MemoryError
    if count < 0:
        return _numbered_slowly(values, kinds[call_of], own)
    return Numbered(codes, distinct[:count], prefixes[:count], suffixes[:count], nulls[:count])


def _numbered_slowly(values: Words, kinds: npt.NDArray[np.void], own: npt.NDArray[np.int32] | None) -> Numbered:
    """The same by sorting, for values that collide."""
    nulls = (kinds["pointer"] != 0) & (values == 0)
    suffixes = kinds["suffix"] if own is None else np.where(own >= 0, own, kinds["suffix"])
    parts = np.stack([values, kinds["prefix"].astype(np.uint64), np.where(nulls, 0, suffixes).astype(np.uint64), nulls])
    there = np.flatnonzero(kinds["prefix"] >= 0)
    distinct, which = np.unique(parts[:, there], axis=1, return_inverse=True)
    codes = np.full(len(values), -1, np.int32)
    codes[there] = which.reshape(-1)
    prefix, suffix = distinct[1].astype(np.uint32), distinct[2].astype(np.uint32)
    return Numbered(codes, distinct[0].copy(), prefix, suffix, distinct[3] != 0)


def group_texts(texts: TextArray) -> tuple[Numbers, Numbers]:
    """Where each distinct text is first, ascending, and for each text an index into these."""
    found = group_bytes(texts)
    if found is not None:
        return found
    known: dict[str, int] = {}
    codes = [known.setdefault(text, at) for at, text in enumerate(texts.to_list())]
    distinct, which = np.unique(np.array(codes, np.int64), return_inverse=True)
    return distinct, which


def group_bytes(texts: TextArray) -> tuple[Numbers, Numbers] | None:
    """Likewise, of texts that need not be UTF-8; None if too many collide."""
    firsts, inverse = np.empty(len(texts), np.int64), np.empty(len(texts), np.int64)
    count = _library.group_texts(
        at(texts.offsets), at(texts.data), integer(len(texts)), integer(SEED), at(firsts), at(inverse)
    )
    if count == OUT_OF_MEMORY:
        raise MemoryError
    return (firsts[:count].copy(), inverse) if count >= 0 else None


def places_of(keys: npt.NDArray[np.uint16]) -> Codes:
    """Where each record is if they are sorted by keys, and else stay as they are."""
    keys = np.ascontiguousarray(keys)
    places = np.empty(len(keys), np.uint32)
    if _library.places_of(at(keys), integer(len(keys)), at(places)) == OUT_OF_MEMORY:
        raise MemoryError
    return places


def unplane(
    planes: Bytes, places: Codes, rows: Numbers | None, key: int, summed: int, wanted: Iterable[int], out: Words
) -> None:
    """Records out of byte planes, sorted by the low half of one of their words (docs/FORMAT.md, encoding 3).

    Args:
        planes: uint8 of shape (words, 8, records), contiguous.
        places: Where each record is stored.
        rows: Which records, ascending; None for the first ones.
        key: Index of the word by which they are sorted; its own low half is in the order of recording.
        summed: Index of the word that is stored as differences.
        wanted: The words to make.
        out: uint64 of shape (words, n), n at most as many as there are records: the wanted words go to their rows,
            which must be contiguous.
    """
    count, take = planes.shape[2], out.shape[1]
    assert planes.flags.c_contiguous and len(places) == count and take <= count and out.strides[1] == 8
    assert len(planes) == len(out) and (rows is None or len(rows) == take)
    rows = None if rows is None else np.ascontiguousarray(rows, np.int64)
    done = _library.unplane(
        at(planes), integer(count), at(places), None if rows is None else at(rows), integer(take), integer(key),
        integer(summed), integer(sum(1 << word for word in wanted)), at(out[0]), integer(out.strides[0] // 8),
    )  # fmt: skip
    if done == OUT_OF_MEMORY:
        raise MemoryError


def words_at(
    planes: Bytes, rows: Numbers, places: Numbers | slice, key: int | None, wanted: Iterable[int], out: Words
) -> None:
    """Some words of some records, by their indices and by where they are stored; otherwise as `unplane`.

    Args:
        planes: uint8 of shape (words, 8, records), contiguous.
        rows: Which records.
        places: Where they are stored; a slice if one behind the other.
        key: Index of the word by which records are sorted; None if they are as they were recorded.
        wanted: The words to make, none of which is stored as differences.
        out: uint64 of shape (words, n); the wanted words go to their rows, which must be contiguous.
    """
    count, take = planes.shape[2], len(rows)
    start = places.start if isinstance(places, slice) else 0
    assert planes.flags.c_contiguous and out.shape == (len(planes), take)
    assert start + take <= count if isinstance(places, slice) else len(places) == take
    assert take < 2 or out.strides[1] == 8
    rows = np.ascontiguousarray(rows, np.int64)
    where = None if isinstance(places, slice) else np.ascontiguousarray(places, np.int64)
    if take:
        _library.words_at(
            at(planes), integer(count), at(rows), None if where is None else at(where), integer(start), integer(take),
            integer(-1 if key is None else key), integer(sum(1 << word for word in wanted)), at(out[0]),
            integer(out.strides[0] // 8),
        )  # fmt: skip


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


def unplane_all(data: bytes, counts: Numbers, sorts: tuple[int, int] | None, out: Words) -> bool:
    """The records of many blocks, one block after the other, out of byte planes; otherwise as `unplane`.

    Args:
        data: The planes of all blocks.
        counts: Records of each: int64.
        sorts: ``key`` and ``summed``; None if records are as they were recorded.
        out: uint64 of shape (words of a record, records of all).
    """
    key, summed = sorts or (-1, -1)
    counts, planes = np.ascontiguousarray(counts, np.int64), np.frombuffer(data, np.uint8)
    assert (counts >= 0).all() and counts.sum() == out.shape[1] and len(planes) == 8 * out.size
    assert out.flags.c_contiguous
    done = _library.unplane_all(
        at(planes), at(counts), integer(len(counts)), integer(len(out)), integer(key), integer(summed), at(out),
        integer(out.shape[1]),
    )  # fmt: skip
    if done == OUT_OF_MEMORY:
        raise MemoryError
    return bool(done == 0)


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


def stored_word(planes: Bytes) -> tuple[Words, bool]:
    """A word out of its byte planes, of all records as they are stored, and whether all have the same.

    Args:
        planes: uint8 of shape (8, n), contiguous.
    """
    assert planes.flags.c_contiguous and len(planes) == 8
    found = np.empty(planes.shape[1], np.uint64)
    is_same = _library.stored_word(at(planes), integer(planes.shape[1]), at(found))
    return found, bool(is_same)


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


_NUMBERED = 1 << 13
"""Numbers below this one have a place in a table."""


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


def last_at(starts: Numbers, times: Numbers, which: Numbers, moments: Numbers, *, before: bool = False) -> Numbers:
    """Of each question, the last of a thing's times that is not after a moment: its index, -1 if there is none.

    As ``numpy.searchsorted`` in one stretch of ``times`` for each question, near the answer of the question before.

    Args:
        starts: Where each thing's times begin, and where the last one's end; ascending.
        times: Of all things, ascending for each.
        which: The thing of each question, -1 for none.
        moments: Of each question.
        before: Look for times before the moment.
    """
    which, moments, times = (np.ascontiguousarray(one, np.int64) for one in (which, moments, times))
    found = np.empty(len(which), np.int64)
    done = _library.last_at(
        at(starts), integer(len(starts) - 1), at(times), at(which), at(moments), integer(len(which)), integer(before),
        at(found),
    )  # fmt: skip
    if done == OUT_OF_MEMORY:
        raise MemoryError
    return found


def put_changes(
    made: npt.NDArray[np.void], which: Numbers, rows: Numbers, sequences: Numbers, t0: Numbers, t1: Numbers,
    holders: Words, pending: Mask, fds: Numbers, sources: object, texts: object, joins: object, cloexecs: object,
) -> None:  # fmt: skip
    """Write changes that calls make, field by field as `process.fd_records.CHANGE` says.

    Args:
        made: Of dtype ``CHANGE``, zero.
        which: Of each, the call: an index into all but the next four.
        rows: Of each call, its event: an index into the next three.
        sequences: Of each event.
        t0: When it was entered.
        t1: When it came back.
        holders: Of each call.
        pending: Whether it is not known to have come back.
        fds: Of each call.
        sources: Of each call, or of all, as are the next three.
        texts: Codes of texts.
        joins: As `process.fd_records.Join`.
        cloexecs: As `process.fd_records.Cloexec`.
    """
    which, rows, sequences, t0, t1, fds = (
        np.ascontiguousarray(one, np.int64) for one in (which, rows, sequences, t0, t1, fds)
    )
    holders, pending = np.ascontiguousarray(holders), np.ascontiguousarray(pending, np.bool_)
    assert made.dtype.itemsize == _library.size_of_change() and len(made) == len(which)
    assert len(sequences) == len(t0) == len(t1) and len(rows) == len(holders) == len(pending) == len(fds)
    values = [np.ascontiguousarray(one, np.int64) for one in (sources, texts, joins, cloexecs)]
    arrays = [isinstance(one, np.ndarray) for one in (sources, texts, joins, cloexecs)]
    assert all(len(value) == (len(rows) if is_array else 1) for value, is_array in zip(values, arrays, strict=True))
    _library.put_changes(
        integer(len(which)), at(which), at(rows), at(sequences), at(t0), at(t1), at(holders), at(pending), at(fds),
        *map(at, values), integer(sum(is_array << bit for bit, is_array in enumerate(arrays))), at(made),
    )  # fmt: skip


def index_changes(
    changes: npt.NDArray[np.void], nodes: Numbers, order: Numbers, starts: Numbers, unsure: Numbers
) -> tuple[npt.NDArray[np.void], Numbers]:
    """What must be known of changes to tell which was the last one; see `process.fd_index`.

    Args:
        changes: Of dtype ``process.fd_records.CHANGE``.
        nodes: The node of each.
        order: Some of them, by descriptor, then by the time at which they were over.
        starts: Where each descriptor's begin in ``order``, and where the last one's end.
        unsure: Of each node, until when it is not sure.

    Returns:
        Of dtype `INDEXED`, in that order, and their times.
    """
    assert changes.dtype.itemsize == _library.size_of_change() and len(changes) < 1 << 31
    changes, unsure = np.ascontiguousarray(changes), np.ascontiguousarray(unsure, np.int64)
    index, times = np.empty(len(order), INDEXED), np.empty(len(order), np.int64)
    _library.index_changes(
        at(changes), at(nodes), at(order), at(starts), integer(len(starts) - 1), at(unsure), at(index), at(times)
    )
    return index, times


def last_changes(
    index: npt.NDArray[np.void], times: Numbers, starts: Numbers, nodes: npt.NDArray[np.void], which: Numbers,
    node: Numbers, t0: Numbers, t1: Numbers, seq: Numbers,
) -> tuple[Mask, Numbers]:  # fmt: skip
    """The last change before each of some calls; see `process.fd_index`.

    Args:
        index: As `index_changes` gives it.
        times: Likewise.
        starts: As it was given there.
        nodes: Of dtype `NODE`.
        which: The descriptor that each call asks for, -1 if nothing changes it.
        node: Its table, -1 if that is not known.
        t0: When the call began.
        t1: When it was over.
        seq: Its event.
    """
    which, node, t0, t1, seq = (np.ascontiguousarray(one, np.int64) for one in (which, node, t0, t1, seq))
    sure, found = np.empty(len(node), np.bool_), np.empty(len(node), np.int64)
    done = _library.last_changes(
        at(index), at(times), at(starts), integer(len(starts) - 1), at(nodes), at(which), at(node), at(t0), at(t1),
        at(seq), integer(len(node)), at(sure), at(found),
    )  # fmt: skip
    if done == OUT_OF_MEMORY:
        raise MemoryError
    return sure, found


def rows_of_steps(
    steps: Collection[npt.NDArray[Any]], ends: Sequence[Numbers], wanted: Mask | None, row: np.dtype[np.void]
) -> npt.NDArray[np.void]:
    """Rows of the table `fd`; see `process.fd_rows.records`.

    Args:
        steps: The columns of ``process.fd_steps.Steps``.
        ends: Those of ``process.fd_steps.Ends``, for all of the steps' groups.
        wanted: Whether the row that begins with a step is wanted; None: all are.
        row: ``process.fd_rows.ROW``.

    Returns:
        Of that dtype, in the order of the steps, with -1 for programs.
    """
    assert row.itemsize == _library.size_of_row()
    columns = [np.ascontiguousarray(column) for column in steps]
    assert [column.itemsize for column in columns] == _STEP
    pointers, count = np.array([column.ctypes.data for column in columns], np.uintp), len(columns[0])
    marks = np.empty(count, np.uint8)
    size = _library.mark_steps(at(pointers), integer(count), None if wanted is None else at(wanted), at(marks))
    end, ended, end_seq = (np.ascontiguousarray(one, np.int64) for one in ends)
    found = np.zeros(size, row)
    _library.rows_of_steps(
        at(pointers), integer(count), at(marks), at(end), at(ended), at(end_seq), integer(size), at(found)
    )
    return found


def texts(
    values: Words, prefixes: Codes, nulls: Mask, suffixes: Codes, of_prefixes: TextArray, of_suffixes: TextArray
) -> TextArray:
    """Texts: a prefix, then `[NULL]`, or a value in hexadecimal (`0x7ffe10`) and a suffix.

    Args:
        values: uint64.
        prefixes: Of each value, the index of its prefix.
        nulls: Of each, whether it is shown as null.
        suffixes: Of each, the index of its suffix.
        of_prefixes: The prefixes.
        of_suffixes: The suffixes.
    """
    values, nulls = np.ascontiguousarray(values), np.ascontiguousarray(nulls, np.bool_)
    prefixes, suffixes = np.ascontiguousarray(prefixes, np.uint32), np.ascontiguousarray(suffixes, np.uint32)
    count, offsets = integer(len(values)), np.empty(len(values) + 1, np.int64)
    given = count, at(values), at(prefixes), at(nulls), at(suffixes), at(of_prefixes.offsets)
    made = np.empty(_library.size_texts(*given, at(of_suffixes.offsets), at(offsets)), np.uint8)
    _library.write_texts(*given, at(of_prefixes.data), at(of_suffixes.offsets), at(of_suffixes.data), at(made))
    return TextArray(offsets, made)


def enclose(data: Bytes, starts: Numbers, ends: Numbers, before: str, after: Codes, of_after: TextArray) -> TextArray:
    """Stretches of bytes, each with a text before it, the same for all, and one behind it.

    Args:
        data: uint8, UTF-8 where stretches are.
        starts: Where each begins.
        ends: Where it ends.
        before: The text before.
        after: Of each, the index of the text behind it.
        of_after: These texts.
    """
    first, after = TextArray.of((before,)).data, np.ascontiguousarray(after, np.uint32)
    starts, ends = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(ends, np.int64)
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(ends - starts + len(first) + np.diff(of_after.offsets)[after], out=offsets[1:])
    made = np.empty(offsets[-1], np.uint8)
    _library.enclose(
        integer(len(starts)), at(starts), at(ends), at(data), at(first), integer(len(first)), at(after),
        at(of_after.offsets), at(of_after.data), at(made),
    )  # fmt: skip
    return TextArray(offsets, made)


def take_texts(texts: TextArray, which: Numbers) -> TextArray:
    """Some texts by their indices."""
    which = np.ascontiguousarray(which, np.int64)
    offsets = np.zeros(len(which) + 1, np.int64)
    np.cumsum(np.diff(texts.offsets)[which], out=offsets[1:])
    made = np.empty(offsets[-1], np.uint8)
    _library.take_texts(integer(len(which)), at(which), at(texts.offsets), at(texts.data), at(made))
    return TextArray(offsets, made)


def look_at_paths(paths: TextArray) -> tuple[Mask, Mask, Mask]:
    """Which paths are absolute; which have no empty name, `.` or `..`, nor end in a slash; which are of /proc, /dev."""
    found = np.empty(len(paths), np.uint8)
    _library.look_at_paths(integer(len(paths)), at(paths.offsets), at(paths.data), at(found))
    return found & 1 != 0, found & 2 != 0, found & 4 != 0
