"""From the words of events to calls: their arguments and results, whatever the ABI and its registers.

The words of a segment are registers, raw (docs/FORMAT.md). What they mean is decided once for each distinct call of a
slice (`process.targets`), and the values are then taken for all its events at once:

    rules = Rules(header)                       # once for each segment
    events = rules.resolve(words)               # words: uint64 (12, n), as process.events gives them
    for call in events.named({"sys_openat", "sys_dup2"}):
        fds = events.argument(call, 0)          # int64, one for each of call.rows; None if it was not recorded
        results, failed = events.result(call)   # int64 and bool; the result of a call that failed is -errno
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import EventFlag, Header
from process import abis
from process.abis import Abi
from process.events import ABI_MASK, ABI_SHIFT, ARG0, FLAGS_ENTRY, HIGH, LOW, NR_STRINGS, RET, Words
from process.grouping import Number, by_code, distinct, group
from process.kernels_events import ByNumber, by_number
from process.prototypes import Argument
from process.render import to_signed, to_unsigned
from process.schema import ARGS
from process.targets import Place, Target, Way, numbers, reached, target

Rows = npt.NDArray[np.intp]
Values = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_ERRNO = 4095
"""A return value of -4095 to -1 is an errno, whatever the call returns (include/linux/err.h, Linux 6.1), unless the
ABI has a flag for errors."""

_DIRECT = -1
"""Stands for the number of no other call."""
_EFAULT = 14  # on every ABI


class Call(NamedTuple):
    """The events of one call in a slice.

    Attributes:
        target: What it is.
        rows: Indices of its events, ascending.
    """

    target: Target
    rows: Rows

    @property
    def name(self) -> str:
        """Of the real call: that to which a `socketcall` leads."""
        return self.target.name

    @property
    def abi(self) -> str:
        """Name of its ABI."""
        return self.target.abi.name

    @property
    def args(self) -> tuple[Argument, ...]:
        """Its arguments."""
        return self.target.args


class Rules:
    """How the events of one segment are to be read.

    Attributes:
        own: The ABI of events that name none.
    """

    def __init__(self, header: Header) -> None:
        """Take what the header says.

        Raises:
            SegmentError: Its word size cannot be.
        """
        self.own = abis.own_abi(header)
        self._big_endian = header.big_endian

    def resolve(self, words: Words) -> Events:
        """Sort events by the calls that they are.

        Args:
            words: uint64 of shape (12, n).
        """
        found = by_number(words[NR_STRINGS], words[FLAGS_ENTRY]) or _by_abi(words)
        codes = found.codes
        calls: list[Call] = []
        others: list[Call] = []
        for key, rows in zip(found.numbers.tolist(), np.split(found.order, np.cumsum(found.counts)[:-1]), strict=False):
            first, *more = self._calls(key >> 32, key & 0xFFFFFFFF, rows, words)
            calls.append(first)
            others += more
        for index, call in enumerate(others, len(calls)):
            codes[call.rows] = index
        return Events(words, self.own, calls + others, codes)

    def target(self, abi_number: int, number: int) -> Target:
        """What a number stands for, ways to other calls not followed.

        Args:
            abi_number: Of the ABI, as in an event's flags.
            number: As recorded.
        """
        abi = abis.numbered(abi_number, self.own.word) if abi_number else self.own
        return target(abi, number, self._big_endian)

    def may_be(self, abi_number: int, number: int, names: Collection[str]) -> bool:
        """Whether a number stands for a call of some names, or may lead to one.

        Args:
            abi_number: Of the ABI, as in an event's flags.
            number: As recorded.
            names: Of calls.
        """
        found = self.target(abi_number, number)
        if found.way is None or found.name in names:
            return found.name in names
        return any(reached(found, one, self._big_endian).name in names for one in numbers(found))

    def _calls(self, abi_number: int, number: int, rows: Rows, words: Words) -> Iterator[Call]:
        """The calls of the events of one number: several if it is a way to others."""
        found = self.target(abi_number, number)
        if found.way is None:
            yield Call(found, rows)
            return
        real = _real(found, words, rows)
        for one in distinct(real).tolist():
            yield Call(found if one == _DIRECT else reached(found, one, self._big_endian), rows[real == one])


class Events:
    """The events of a slice as calls.

    Attributes:
        words: The events, uint64 of shape (12, n).
        calls: The distinct calls; each event is of one.
        call_of: For each event an index into them: intp of shape (n,).
    """

    def __init__(self, words: Words, own: Abi, calls: list[Call], call_of: Rows) -> None:
        self.words, self.calls, self.call_of = words, calls, call_of
        self._own = own

    def named(self, names: Collection[str]) -> Iterator[Call]:
        """The calls with one of some names; the same name may come once for each ABI and way."""
        return (call for call in self.calls if call.name in names)

    def pattern(self, call: Call, position: int) -> Words | None:
        """An argument of a call's events as bits: uint64, zero beyond its own width. None: it was not recorded."""
        place = call.target.places[position]
        if place.word is None:
            return None
        low = self._word(place.word, call.rows)
        if place.high is not None:
            pair: Words = low & LOW | self._word(place.high, call.rows) << HIGH
            return pair
        return to_unsigned(low, place.size)

    def patterns(self, position: int) -> tuple[Words, Bools]:
        """The argument at a position of all events as bits, and whether each call has one.

        Returns:
            uint64 of shape (n,), which may be the events' own, with anything where there is none; bool, one a call.
        """
        word = self._own.word
        values = to_unsigned(self.words[ARG0 + position], word)
        return self._of_all(position, values, lambda place: place[:3] == (position, None, word), self.pattern)

    def argument(self, call: Call, position: int) -> Values | None:
        """An argument of a call's events as numbers.

        Values of 4 bytes are signed, addresses of 4 bytes are not; of 8 bytes, all are. The string of an argument is
        in the event's set at ``call.target.places[position].string``.

        Returns:
            int64, one for each of ``call.rows``; None if the argument was not recorded.
        """
        bits = self.pattern(call, position)
        if bits is None:
            return None
        return to_signed(bits, 4) if call.target.places[position].signed else bits.view(np.int64)

    def arguments(self, position: int) -> tuple[Values, Bools]:
        """The argument at a position of all events: int64 of shape (n,), and whether an event has one."""
        word = self._own.word
        plain = Place(position, None, word, word == 4, position)
        values = to_signed(self.words[ARG0 + position], word)
        found, has = self._of_all(position, values, lambda place: place[:-1] == plain[:-1], self.argument)
        return found, has[self.call_of]

    def _of_all(
        self, position: int, values: npt.NDArray[Number], is_plain: Callable[[Place], bool],
        take: Callable[[Call, int], npt.NDArray[Number] | None],
    ) -> tuple[npt.NDArray[Number], Bools]:  # fmt: skip
        """An argument of all events, and whether each call has one.

        Args:
            position: Of the argument.
            values: What it is where it has the register of its position; not altered if they are the events' own.
            is_plain: Whether a place is that register.
            take: Gives it for the events of a call where it is not.
        """
        has = np.zeros(len(self.calls), np.bool_)
        is_copy = self._own.word < 8
        for index, call in enumerate(self.calls):
            if position >= len(call.target.places):
                continue
            has[index] = True
            if is_plain(call.target.places[position]):
                continue
            if (found := take(call, position)) is None:
                has[index] = False
                continue
            if not is_copy:
                values, is_copy = values.copy(), True
            values[call.rows] = found
        return values, has

    def result(self, call: Call) -> tuple[Values, Bools]:
        """What the events of a call returned: `results` for its rows."""
        return self._results(call.target.abi, call.target.gives_pointer, call.rows)

    def results(self) -> tuple[Values, Bools]:
        """What all events returned: int64 of shape (n,), and whether it is -errno.

        An event that has not returned has any value.
        """
        kinds: dict[tuple[Abi, bool], list[int]] = {}
        for index, call in enumerate(self.calls):
            abi = call.target.abi
            kinds.setdefault((abi, call.target.gives_pointer and abi.pointer == 4), []).append(index)
        if len(kinds) == 1:
            ((abi, pointer),) = kinds
            return self._results(abi, pointer, slice(None))
        values = np.empty(self.words.shape[1], np.int64)
        failed = np.empty(len(values), np.bool_)
        for (abi, pointer), indices in kinds.items():
            rows = np.concatenate([self.calls[index].rows for index in indices])
            values[rows], failed[rows] = self._results(abi, pointer, rows)
        return values, failed

    def _results(self, abi: Abi, pointer: bool, rows: Rows | slice) -> tuple[Values, Bools]:
        values = to_signed(self.words[RET][rows], abi.word)
        if not abi.is_known:
            return values, np.zeros(len(values), np.bool_)
        if abi.error_flag:
            flagged = self.words[FLAGS_ENTRY][rows] & np.uint64(EventFlag.ERROR) != 0
            failed = flagged & (values > 0) & (values <= MAX_ERRNO)
            values = np.where(failed, -values, values) if failed.any() else values
        else:
            failed = (values < 0) & (values >= -MAX_ERRNO)
        if pointer and abi.pointer == 4:
            values = np.where(failed, values, values & 0xFFFFFFFF)
        return values, failed

    def _word(self, index: int, rows: Rows) -> Words:
        """A word of some events; for a call of 4-byte words its upper half may be another word."""
        word: Words = self.words[ARG0 + index % ARGS].take(rows)
        return word if index < ARGS else word >> HIGH


def _by_abi(words: Words) -> ByNumber:
    """Events by the number of the ABI in the upper half of a number, and that of the call."""
    abi_numbers = words[FLAGS_ENTRY] >> ABI_SHIFT & ABI_MASK
    distinct, codes = group((abi_numbers << HIGH | words[NR_STRINGS] & LOW).view(np.int64))
    counts = np.bincount(codes, minlength=len(distinct))
    return ByNumber(distinct, counts, codes, by_code(codes, len(distinct)))


def _real(through: Target, words: Words, rows: Rows) -> Values:
    """The number of the call that each event of a way leads to, `_DIRECT` where that cannot be told."""
    first = (words[ARG0][rows] & LOW).view(np.int64)
    known = np.array(sorted(numbers(through)), np.int64)
    if through.way is Way.IPC:
        version, call = first >> 16, first & 0xFFFF
        newer = call | 1 << 16  # any version but 0 is like 1
        first = np.where((version > 0) & np.isin(newer, known), newer, call)
    elif through.way is Way.WORDS:
        first = np.zeros_like(first)
    real = np.where(np.isin(first, known), first, _DIRECT)
    if through.way in (Way.SOCKETCALL, Way.WORDS):
        real[_is_unread(through.abi, words, rows)] = _DIRECT
    return real


def _is_unread(abi: Abi, words: Words, rows: Rows) -> Bools:
    """Which events have no array of arguments, because the kernel could not read it either."""
    ret = words[RET][rows] & LOW
    fault = ret == np.uint64(_EFAULT if abi.error_flag else (1 << 32) - _EFAULT)
    nothing = np.bitwise_or.reduce(words[ARG0 : ARG0 + ARGS, rows] >> HIGH, axis=0) == 0
    is_unread: Bools = fault & nothing
    return is_unread
