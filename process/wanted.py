"""Which events may be of some calls: a look at their numbers, before anything else is known of them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from process.calls import Rules
from process.read import FLAGS_ENTRY, LOW, NR_STRINGS, Words

Mask = npt.NDArray[np.bool_]

_NUMBERS = 1 << 13
"""Numbers below this one have a table; all but those of x32 and arm's old ABI are."""


class Wanted:
    """Looks for calls of some names; each number is looked up once."""

    def __init__(self, rules: Rules | None, names: Collection[str]) -> None:
        """Prepare.

        Args:
            rules: How to read the events; without, nothing is known of their calls.
            names: Of calls.
        """
        self._rules, self._names = rules, names
        self._tables: dict[int, tuple[Mask, Mask]] = {}

    def among(self, words: Words) -> Mask:
        """Which events may be of the calls, or of one that may lead to them: bool of shape (n,).

        Args:
            words: uint64 of shape (12, n), of which only the numbers and flags are looked at.
        """
        numbers, flags = words[NR_STRINGS] & LOW, words[FLAGS_ENTRY]
        abis = flags >> np.uint64(16) & np.uint64(0xFF)
        wanted = np.zeros(len(numbers), np.bool_)
        if self._rules is None:
            return wanted
        if not abis.any():
            return self._of_abi(self._rules, 0, numbers)
        for abi in np.unique(abis).tolist():
            mine = abis == abi
            wanted[mine] = self._of_abi(self._rules, abi, numbers[mine])
        return wanted

    def _of_abi(self, rules: Rules, abi: int, numbers: Words) -> Mask:
        if (numbers >= _NUMBERS).any():  # those of x32 and arm's old ABI
            distinct, which = np.unique(numbers, return_inverse=True)
            return np.array([rules.may_be(abi, one, self._names) for one in distinct.tolist()], np.bool_)[which]
        known, table = self._tables.setdefault(abi, (np.zeros(_NUMBERS, np.bool_), np.zeros(_NUMBERS, np.bool_)))
        slots = numbers.astype(np.intp)
        if not known[slots].all():
            for number in np.unique(slots[~known[slots]]).tolist():
                known[number], table[number] = True, rules.may_be(abi, number, self._names)
        found: Mask = table[slots]
        return found
