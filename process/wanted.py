"""Which events may be of some calls: a look at their numbers, before anything else is known of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from process.calls import Rules
from process.events import Indices, Ready, Unpacked, Words
from process.grouping import distinct, group
from process.kernels_events import rows_of

Mask = npt.NDArray[np.bool_]

NUMBERS = 1 << 13
"""Numbers below this one have a table; all but those of x32 and arm's old ABI are."""

May = Callable[[int, list[int]], Collection[bool]]
"""Whether events of an ABI's number, as in their flags, and of some numbers may be wanted; each is asked once."""


def named(rules: Rules | None, names: Collection[str]) -> May:
    """Calls of some names, or those that may lead to one; none without rules, since then nothing is known of them."""
    if rules is None:
        return lambda abi, numbers: [False] * len(numbers)
    return lambda abi, numbers: [rules.may_be(abi, one, names) for one in numbers]


class Wanted:
    """Looks for calls; each number is asked about once, but for a few of x32 and arm's old ABI."""

    def __init__(self, may: May) -> None:
        """Prepare; ``may`` says which numbers are wanted."""
        self._may = may
        self._tables: dict[int, tuple[Mask, Mask]] = {}
        self._met: tuple[int, ...] | None = None

    def rows(self, block: Unpacked | Ready) -> Indices:
        """Which events of a block may be of the calls, or of one that may lead to them: their indices, ascending."""
        numbers, abis = block.numbers, block.abis
        if abis is not None or numbers.dtype != np.uint16:
            return np.flatnonzero(self._among(numbers.astype(np.uint64), abis))
        narrow = numbers.view(np.uint16)
        found = rows_of(narrow, *self._table(0))
        if found is None:  # some number is met for the first time, or is one that no table has
            found = np.flatnonzero(self._of_abi(0, narrow.astype(np.uint64)))
        return found

    def met(self) -> tuple[int, ...]:
        """The numbers of the header's ABI that are wanted, of those that were met so far."""
        if self._met is None:
            self._met = tuple(np.flatnonzero(self._table(0)[1]).tolist())
        return self._met

    def has_met(self, numbers: Words) -> bool:
        """Whether some numbers are all among `met`; each is below `NUMBERS`."""
        return bool(self._table(0)[1][numbers.astype(np.intp)].all())

    def _among(self, numbers: Words, abis: Words | None) -> Mask:
        if abis is None:
            return self._of_abi(0, numbers)
        wanted = np.zeros(len(numbers), np.bool_)
        for abi in distinct(abis).tolist():
            mine = abis == abi
            wanted[mine] = self._of_abi(abi, numbers[mine])
        return wanted

    def _of_abi(self, abi: int, numbers: Words) -> Mask:
        if (numbers >= NUMBERS).any():  # those of x32 and arm's old ABI
            values, which = group(numbers)
            return np.array(self._may(abi, values.tolist()), np.bool_)[which]
        known, table = self._table(abi)
        slots = numbers.astype(np.intp)
        if not known[slots].all():
            fresh = distinct(slots[~known[slots]])
            table[fresh] = self._may(abi, fresh.tolist())
            known[fresh], self._met = True, None
        found: Mask = table[slots]
        return found

    def _table(self, abi: int) -> tuple[Mask, Mask]:
        """Which numbers of an ABI have been asked about, and which of these are wanted."""
        return self._tables.setdefault(abi, (np.zeros(NUMBERS, np.bool_), np.zeros(NUMBERS, np.bool_)))
