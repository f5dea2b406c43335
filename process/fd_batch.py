"""A batch of events that change descriptors or who has them, call by call, and the records that come of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

import errno_tables
from capture.segment import UNKNOWN as NO_DURATION
from capture.segment import EventFlag, Header, StringFlag
from errno_tables.tsv import TableError
from process.calls import Call, Events
from process.events import DURATION, FLAGS_ENTRY, HIGH, NR_STRINGS, RET, TASK, TIME, Words
from process.fd_names import as_they_are, path_below
from process.fd_records import (
    CHANGE,
    CWD,
    LIFE,
    NONE,
    ROOT,
    UNKNOWN,
    Cloexec,
    Join,
    Life,
    Records,
    Scan,
    joined,
)
from process.grouping import group
from process.kernels_changes import put_changes
from process.kernels_texts import take_texts
from process.strings import LOST, SetTable, StringTable, Text, escape

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NOTHING_MADE = np.zeros(0, np.int64), np.zeros(0, np.int64)
_PARTIAL = StringFlag.TRUNCATED | StringFlag.UNREADABLE


def low_int(values: Numbers) -> Numbers:
    """Registers as C's int: their low 32 bits, signed."""
    return values.astype(np.uint64).astype(np.uint32).view(np.int32).astype(np.int64)


@dataclass
class Called:
    """The events of one call in a batch.

    Attributes:
        name: Kernel entry point.
        abi: Name of its ABI.
        arg_names: Of its arguments.
        rows: Their indices in the batch.
        tasks: uint64, as events have them.
        ret: Signed return value, -errno for a failure.
        returned: Whether it came back.
        ok: Whether it came back and did not fail.
        pending: Whether nothing is known of its end.
        child: Whether the event is the child's side of a fork, and no call.
        strings: Position of each argument's string in the event's set.
    """

    name: str
    abi: str
    arg_names: tuple[str, ...]
    rows: npt.NDArray[np.intp]
    tasks: Words
    ret: Numbers
    returned: Mask
    ok: Mask
    pending: Mask
    child: Mask
    strings: tuple[int | None, ...]
    _args: Callable[[int], Numbers]
    _word: Callable[[int], Words]
    _sequences: Numbers

    @property
    def raw_ret(self) -> Words:
        """The return value as it is in the event."""
        return self._word(RET)

    @property
    def entry(self) -> Words:
        """The event at which the call was entered; the event itself if that was not recorded."""
        entry: Words = self._sequences[self.rows].view(np.uint64) - (self._word(FLAGS_ENTRY) >> HIGH)
        return entry

    def arg(self, position: int) -> Numbers:
        """An argument: int64 of shape (rows,)."""
        return self._args(position)


class Batch:
    """Events whose calls change state, and the records made of them.

    Attributes:
        big_endian: The guest's byte order.
    """

    def __init__(self, header: Header, sets: SetTable, strings: StringTable) -> None:
        """Begin without events."""
        self.big_endian = header.big_endian
        self._codes: dict[str, int] = {}
        self._sets, self._strings = sets, strings
        self._made: dict[str, tuple[Numbers, Numbers]] = {}
        self._changes: list[Records] = [np.zeros(0, CHANGE)]
        self._lives: list[Records] = [np.zeros(0, LIFE)]

    def take(self, sequences: Numbers, events: Events) -> None:
        """Turn to the next events, of some sequence numbers."""
        self._sequences, self._words, self._events = sequences, events.words, events
        words = events.words
        self._t0 = words[TIME].view(np.int64)
        known = words[DURATION] != np.uint64(NO_DURATION)
        self._t1 = self._t0 + np.where(known, words[DURATION], 0).view(np.int64)
        self._known = known

    def called(self, call: Call) -> Called | None:
        """The events of one call; None if its arguments were not recorded: then anything may have changed."""
        rows = call.rows
        flags = self._words[FLAGS_ENTRY][rows].astype(np.uint16)  # they are in the low half of 32 bits
        child = flags & np.uint16(EventFlag.CHILD) != 0
        returned = (flags & np.uint16(EventFlag.RETURNED) != 0) & ~child
        ret, failed = self._events.result(call)
        unseen = returned & ~self._known[rows]
        made = Called(
            name=call.name,
            abi=call.abi,
            arg_names=tuple(argument.name for argument in call.args),
            rows=rows,
            tasks=self._words[TASK][rows],
            ret=ret,
            returned=returned & ~unseen,
            ok=returned & ~failed & ~unseen,
            pending=~returned & ~child,
            child=child,
            strings=tuple(place.string for place in call.target.places),
            _args=lambda position: self._argument(call, position),
            _word=lambda word: self._words[word][rows],
            _sequences=self._sequences,
        )
        if any(place.word is None for place in call.target.places):
            self.life(made, ~child, Life.LOST)
            return None
        if unseen.any():
            self.life(made, unseen, Life.LOST)
        return made

    def _argument(self, call: Call, position: int) -> Numbers:
        found = self._events.argument(call, position) if position < len(call.args) else None
        return np.zeros(len(call.rows), np.int64) if found is None else found

    @property
    def texts(self) -> list[str]:
        """The texts that have codes, by these."""
        return list(self._codes)

    def text(self, text: str) -> int:
        """The code of a text."""
        return self._codes.setdefault(text, len(self._codes))

    def change(
        self, call: Called, which: Mask, fd: Numbers, *, cloexec: object, src: object = NONE, text: object = UNKNOWN,
        join: object = Join.TEXT,
    ) -> None:  # fmt: skip
        """Record that some of a call's events give a descriptor a new meaning; see `CHANGE`."""
        at = np.flatnonzero(which & ((fd >= 0) | (fd == CWD) | (fd == ROOT)))
        if not len(at):
            return
        made = np.zeros(len(at), CHANGE)  # by calls: `By.CALL`
        put_changes(
            made, at, call.rows, self._sequences, self._t0, self._t1, call.tasks, call.pending, fd, src, text, join,
            cloexec,
        )  # fmt: skip
        self._changes.append(made)

    def lose(self, call: Called, which: Mask, fd: Numbers) -> None:
        """Record that some of a call's events change a descriptor, or may do so yet if they have not returned."""
        self.change(call, which, fd, cloexec=Cloexec.UNSURE)

    def life(self, call: Called, which: Mask, op: Life, a: object = 0, b: object = 0) -> None:
        """Record that some of a call's events change who has which table; see `LIFE`."""
        rows = call.rows[which]
        if not len(rows):
            return
        made = np.zeros(len(rows), LIFE)
        made["seq"], made["t0"], made["t1"] = self._sequences[rows], self._t0[rows], self._t1[rows]
        made["task"], made["op"] = call.tasks[which], op
        for name, value in (("a", a), ("b", b)):
            made[name] = value[which] if isinstance(value, np.ndarray) else value
        self._lives.append(made)

    def paths(self, call: Called, position: int) -> tuple[Numbers, Mask]:
        """Codes of the paths that an argument points to, and whether each is absolute; `UNKNOWN` if not whole."""
        return self._each(call, position, "path", self._make_paths)

    def strings(self, call: Called, position: int, make: Callable[[str], str | None]) -> Numbers:
        """Codes of what is made of the strings that an argument points to; `UNKNOWN` where one is not whole."""
        return self._each(call, position, call.name, self._maker(lambda text: make(escape(text.data))))[0]

    def buffers(self, call: Called, position: int, make: Callable[[bytes], str | None]) -> Numbers:
        """Codes of what is made of the bytes that an argument points to; `UNKNOWN` where there are none."""
        return self._each(call, position, "bytes", self._maker(lambda text: make(text.data)))[0]

    def words(self, call: Called, position: int, offset: int, size: int) -> Numbers:
        """Unsigned integers of the guest in the bytes that an argument points to; -1 where they are not there."""
        once, inverse = group(self._strings_of(call, position))
        found = [self._word(number, offset, size) for number in once.tolist()]
        return np.array(found, np.int64)[inverse]

    def finish(self) -> Scan:
        """All records: changes in no order, lives by sequence number. They are not held here any more."""
        changes, lives = joined(self._changes), np.concatenate(self._lives)
        self._changes.clear()
        return Scan(changes, lives[np.argsort(lives["seq"], kind="stable")], self.texts)

    def _strings_of(self, call: Called, position: int) -> Numbers:
        """Ids of the strings of an argument, 0 where it has none."""
        at = call.strings[position] if position < len(call.strings) else None
        if at is None:
            return np.zeros(len(call.rows), np.int64)
        return self._sets.of_argument((self._words[NR_STRINGS][call.rows] >> HIGH).astype(np.int64), at)

    def _word(self, number: int, offset: int, size: int) -> int:
        text = self._strings.get(number) if number > 0 else None
        if text is None or len(text.data) < offset + size:
            return -1
        value = int.from_bytes(text.data[offset : offset + size], "big" if self.big_endian else "little")
        return value if value < 1 << 63 else -1

    def _each(
        self, call: Called, position: int, what: str, make: Callable[[Numbers], Numbers]
    ) -> tuple[Numbers, Mask]:  # fmt: skip
        """The code of something for each string, and a flag; ``make`` gives code << 1 | flag for ids not met before."""
        once, inverse = group(self._strings_of(call, position))
        ids, made = self._made.get(what, _NOTHING_MADE)
        at = np.searchsorted(ids, once)
        fresh = np.sort(once[np.append(ids, -2)[at] != once])  # no string has -2
        if len(fresh):
            places = np.searchsorted(ids, fresh)
            self._made[what] = ids, made = np.insert(ids, places, fresh), np.insert(made, places, make(fresh))
            at = np.searchsorted(ids, once)
        found = made[at][inverse]
        return found >> 1, found & 1 != 0

    def _maker(self, make: Callable[[Text], str | None]) -> Callable[[Numbers], Numbers]:
        return lambda ids: np.array([self._make(number, make) << 1 for number in ids.tolist()], np.int64)

    def _make(self, number: int, make: Callable[[Text], str | None]) -> int:
        text = self._strings.get(number) if number not in (0, LOST) else None
        if text is None or (text.flags & _PARTIAL and not text.flags & StringFlag.BUFFER):
            return UNKNOWN
        shown = make(text)
        return UNKNOWN if shown is None else self.text(shown)

    def _make_paths(self, ids: Numbers) -> Numbers:
        """Paths as they are, or normalised if they are absolute, which the flag tells; most are made all at once."""
        made = np.full(len(ids), UNKNOWN << 1)
        plain, texts = self._strings.plain(ids)
        absolute, same = as_they_are(texts)
        quick = np.flatnonzero(~absolute | same)
        known = self._codes
        codes = np.array([known.setdefault(text, len(known)) for text in take_texts(texts, quick).to_list()], np.int64)
        rows = np.flatnonzero(plain)[quick]
        made[rows] = codes << 1 | absolute[quick]
        rest = np.ones(len(ids), np.bool_)
        rest[rows] = False
        for row in np.flatnonzero(rest).tolist():
            made[row] = self._make_path(int(ids[row]))
        return made

    def _make_path(self, number: int) -> int:
        flags = 0

        def normal(text: Text) -> str | None:
            nonlocal flags
            path = escape(text.data)
            flags = path.startswith("/")
            return path_below("", path) if flags else path

        return self._make(number, normal) << 1 | flags


@cache
def in_progress(abi: str) -> int:
    """The number of EINPROGRESS; 0, which is no error, if there is no table."""
    try:
        table = errno_tables.load(abi).by_number
    except TableError:
        return 0
    return next((number for number, error in table.items() if error.name == "EINPROGRESS"), 0)
