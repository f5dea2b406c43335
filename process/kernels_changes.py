"""What was last before a moment, and changes of descriptors: kernels_changes.c."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.library import OUT_OF_MEMORY, at, integer, load

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint32]

INDEXED = np.dtype([
    *((name, np.int64) for name in ("seq", "under_way")),
    *((name, np.int32) for name in ("node", "change", "next_call", "unclear")),
])  # fmt: skip
"""What `index_changes` makes of a change."""
NODE = np.dtype([(name, np.int64) for name in ("group", "since", "unsure", "end", "ender", "tainted")])
"""What `last_changes` must know of a table."""

_library = load(("last_at", "size_of_change", "last_changes"), ("put_changes", "index_changes"))


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
