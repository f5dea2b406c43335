"""What calls returned: numbers, texts, errnos, and whether they came back at all."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

import errno_tables
from capture.segment import EventFlag
from errno_tables.tsv import TableError
from process.calls import MAX_ERRNO, Events
from process.grouping import group
from process.read import FLAGS_ENTRY
from process.render import labels, nullable, signed_hexadecimal
from process.schema import STATUSES


def result_columns(events: Events) -> dict[str, pl.Series]:
    """The columns retno, retno_repr, errno and status of a slice."""
    returned = events.words[FLAGS_ENTRY] & np.uint64(EventFlag.RETURNED) != 0
    values, failed = events.results()
    distinct, inverse = group(values)
    errno, names, texts = _errnos(events, distinct, inverse)
    errno[~(returned & failed)] = -1
    reprs = pl.concat(
        [
            pl.Series([None], dtype=pl.String),
            signed_hexadecimal(distinct),
            pl.Series([f"{name}({text})" for name, text in zip(names, texts, strict=True)], dtype=pl.String),
        ]
    )
    code = np.where(errno >= 0, 1 + len(distinct) + errno, 1 + inverse) * returned
    may_end = np.array([call.target.may_end for call in events.calls])[events.call_of]
    return {
        "retno": nullable(values, returned),
        "retno_repr": reprs.gather(code.astype(np.uint32)),
        "errno": labels(errno, names),
        "status": labels(np.where(returned, 0, np.where(may_end, 1, 2)), STATUSES),
    }


def _errnos(
    events: Events, distinct: npt.NDArray[np.int64], inverse: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.int64], list[str], list[str]]:
    """The error that each event's value would be: an index into names and texts, -1 if none; by its own ABI's table.

    Args:
        events: A slice.
        distinct: The distinct values.
        inverse: For each event an index into them.
    """
    abis = sorted({call.abi for call in events.calls if _table(call.abi)})
    numbers = np.where((distinct < 0) & (distinct >= -MAX_ERRNO), -distinct, 0)
    names: list[str] = []
    texts: list[str] = []
    found = [np.full(len(distinct), -1)]
    for abi in abis:
        table = _table(abi)
        index_of = np.full(MAX_ERRNO + 1, -1)
        index_of[list(table)] = np.arange(len(table)) + len(names)
        names += [name for name, _ in table.values()]
        texts += [text for _, text in table.values()]
        found.append(index_of[numbers])
    which = np.array([abis.index(call.abi) + 1 if call.abi in abis else 0 for call in events.calls])
    if len(set(which.tolist())) == 1:
        return found[which[0]][inverse], names, texts
    return np.stack(found)[which[events.call_of], inverse], names, texts


@cache
def _table(abi: str) -> dict[int, tuple[str, str]]:
    """Names and texts of an ABI's errors by number; none if there is no table."""
    try:
        table = errno_tables.load(abi).by_number
    except TableError:
        return {}
    return {number: (error.name, error.text) for number, error in table.items() if 0 < number <= MAX_ERRNO}
