"""What calls returned: numbers, texts, errnos, and whether they came back at all."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

import errno_tables
from capture.segment import EventFlag
from errno_tables.tsv import TableError
from process.calls import MAX_ERRNO, Events
from process.events import FLAGS_ENTRY
from process.grouping import group
from process.kernels_events import results_of
from process.render import signed_hexadecimal
from process.schema import STATUSES
from process.text_array import TextArray
from process.values import Integers, Texts, labels


class Results:
    """What the events of a slice returned.

    Attributes:
        errors: How many failed.
        failed: Which.
    """

    def __init__(self, events: Events) -> None:
        """Look at all of them."""
        flags = events.words[FLAGS_ENTRY]
        self._returned = flags & np.uint64(EventFlag.RETURNED) != 0
        self._values, failed = events.results()
        self._distinct, inverse = group(self._values)
        errnos, abi_of, self._names, self._texts = _errnos(events, self._distinct)
        may_end = np.array([call.target.may_end for call in events.calls], np.bool_)
        self._codes = results_of(flags, failed, inverse, errnos, events.call_of, abi_of, may_end)
        self.failed = self._codes.errnos >= 0
        self.errors = self._codes.errors

    def retno(self) -> Integers:
        """The column of that name, as are the others."""
        return Integers(self._values, self._returned)

    def retno_repr(self) -> Texts:
        """The errno, or the number."""
        errors = [f"{name}({text})" for name, text in zip(self._names, self._texts, strict=True)]
        return Texts(self._codes.reprs, TextArray.joined([signed_hexadecimal(self._distinct), TextArray.of(errors)]))

    def errno(self) -> Texts:
        """Name of the error, null for none."""
        return labels(self._codes.errnos, self._names)

    def status(self) -> Texts:
        """Whether it came back."""
        return labels(self._codes.statuses, STATUSES)


def _errnos(
    events: Events, distinct: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str], list[str]]:
    """The errors that values would be, by the tables of ABIs.

    Args:
        events: A slice.
        distinct: The distinct values.

    Returns:
        Of shape (m, values), indices into names and texts, -1 for no error; of each call, which of the m is its own;
        names and texts.
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
    which = [abis.index(call.abi) + 1 if call.abi in abis else 0 for call in events.calls]
    return np.stack(found), np.array(which, np.int64), names, texts


@cache
def _table(abi: str) -> dict[int, tuple[str, str]]:
    """Names and texts of an ABI's errors by number; none if there is no table."""
    try:
        table = errno_tables.load(abi).by_number
    except TableError:
        return {}
    return {number: (error.name, error.text) for number, error in table.items() if 0 < number <= MAX_ERRNO}
