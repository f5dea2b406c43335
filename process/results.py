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
from process.render import signed_hexadecimal
from process.schema import STATUSES
from process.values import Integers, Texts, labels


class Results:
    """What the events of a slice returned.

    Attributes:
        errors: How many failed.
        failed: Which.
    """

    def __init__(self, events: Events) -> None:
        """Look at all of them."""
        self._events = events
        self._returned = events.words[FLAGS_ENTRY] & np.uint64(EventFlag.RETURNED) != 0
        self._values, failed = events.results()
        self._distinct, self._inverse = group(self._values)
        self._errno, self._names, self._texts = _errnos(events, self._distinct, self._inverse)
        self._errno[~(self._returned & failed)] = -1
        self.failed = self._errno >= 0
        self.errors = int(self.failed.sum())

    def retno(self) -> Integers:
        """The column of that name, as are the others."""
        return Integers(self._values, self._returned)

    def retno_repr(self) -> Texts:
        """The errno, or the number."""
        errors = [f"{name}({text})" for name, text in zip(self._names, self._texts, strict=True)]
        reprs = pl.concat([signed_hexadecimal(self._distinct).alias(""), pl.Series(errors, dtype=pl.String)])
        codes = np.where(self._errno >= 0, len(self._distinct) + self._errno, self._inverse)
        return Texts(np.where(self._returned, codes, -1), reprs)

    def errno(self) -> Texts:
        """Name of the error, null for none."""
        return labels(self._errno, self._names)

    def status(self) -> Texts:
        """Whether it came back."""
        may_end = np.array([call.target.may_end for call in self._events.calls])[self._events.call_of]
        return labels(np.where(self._returned, 0, np.where(may_end, 1, 2)), STATUSES)


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
