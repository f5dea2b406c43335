"""Step five: the events of a batch as rows of the output, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import SegmentError
from process.calls import Rules
from process.clock import Clock
from process.columns import Rows, Segment
from process.events import (
    ABI_MASK,
    ABI_SHIFT,
    ARG0,
    DURATION,
    FLAGS_ENTRY,
    HIGH,
    LOW,
    NR_STRINGS,
    RET,
    TASK,
    TIME,
    WORDS,
)
from process.fd_pieces import make
from process.fd_state import Start
from process.grouping import group
from process.merge import kept, load_batch
from process.plan import Plan
from process.schema import ARGS, SCHEMA, show_files
from process.slices import Slice, Slices, joined
from process.tally import Tally
from process.values import Made
from process.wanted import NUMBERS, Wanted

if TYPE_CHECKING:
    from process.predicates import Conditions

_CALL = (NR_STRINGS, FLAGS_ENTRY)
_WORDS_OF: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("id", "seq", "mark", "capture"), ()),
    **dict.fromkeys(("nr", "name", "abi"), _CALL),
    **dict.fromkeys(("procname", "proc_id", "pid", "tid"), (TASK, FLAGS_ENTRY)),
    **dict.fromkeys(("retno", "retno_repr", "errno", "status"), (*_CALL, RET)),
    **{f"arg{k}": (*_CALL, ARG0 + k) for k in range(ARGS)},
    **{f"arg{k}_repr": (*_CALL, ARG0 + k) for k in range(ARGS)},
    "time_ns": (TIME,),
    "duration_ns": (DURATION,),
}
"""The words that a column is made of where each argument has a register of its own; all for one that is not here."""
_COUNTED = (*_CALL, RET, TASK, TIME)
"""Words for the tally."""
_DESCRIBED = (TASK, TIME, DURATION)
"""Words that tell what a descriptor is."""


class _Held(NamedTuple):
    """Rows of a slice, to be made with those of others.

    Attributes:
        number: Of the slice.
        rows: Indices in it.
        piece: The events, with all words that will be asked for.
        ids: Of the rows.
    """

    number: int
    rows: npt.NDArray[np.intp]
    piece: Slice
    ids: npt.NDArray[np.int64]


class _Told(NamedTuple):
    """What is known of calls by their numbers.

    Attributes:
        is_plain: Whether all are what their numbers say, and have each argument in a register of its own.
        names_files: Whether an argument that is asked for may be a descriptor in any of them.
    """

    is_plain: bool
    names_files: bool


class Decoder:
    """Decodes one batch.

    Attributes:
        plan: The batch, and all that must be known from others.
        tally: Grows as `columns` is consumed. Of a decoder with conditions only the rows are counted, all of
            them, and so if the plan has no programs.
    """

    def __init__(
        self,
        plan: Plan,
        columns: Collection[str] | None = None,
        conditions: Conditions | None = None,
        start: Callable[[], Start] | None = None,
        events: int | None = None,
    ) -> None:
        """Read the segments.

        Args:
            plan: What to decode, and how.
            columns: Names of those that are wanted, None for all; others are not made.
            conditions: What rows must meet; others are left out, and little is done for them.
            start: Gives what is known of descriptors when the batch starts, if the plan does not.
            events: How many are decoded at a time; `slices.SLICE` if not told.

        Raises:
            SegmentError: One cannot be used at all.
            OSError: A file cannot be read.
        """
        self.plan, self.tally = plan, Tally()
        self._columns = [name for name in SCHEMA if columns is None or name in columns]
        self._conditions = conditions.each if conditions is not None else ()
        self._asked = {*self._columns, *(name for one in self._conditions for name in one.names)}
        self._shows_files = show_files(self._asked)
        contents = kept(plan.kept) if plan.kept is not None else None
        if contents is None:
            loaded = load_batch(plan.batch)
            for _, reason in loaded.failed:
                raise SegmentError(reason)
            contents = loaded.contents
        try:
            rules = Rules(plan.batch.header)
        except SegmentError as error:
            raise SegmentError(f"{plan.batch.name}: {error}") from None
        slices = Slices(contents, plan.blocks, events)
        self._segment = Segment(plan, contents, rules, start or partial(_planned, plan), slices)
        self._clock = Clock(self._segment.slices, plan.dropped)
        may = conditions.of_calls(rules) if conditions is not None else None
        self._wanted = Wanted(may) if may is not None else None
        self._known: dict[tuple[int, ...], _Told] = {}

    def columns(self) -> Iterator[Made]:
        """The rows, in order, a slice at a time: the wanted columns, in the order of ``schema.SCHEMA``.

        Raises:
            SegmentError: The segment is not what it was when it was surveyed.
        """
        yield from self._of_all() if self._wanted is None else self._of_calls(self._wanted)
        if self.tally.rows != self.plan.rows:
            raise SegmentError(f"{self.plan.batch.name}: changed while it was decoded; decode again")
        if self.plan.files is not None:
            start = _planned(self.plan)
            self.tally.files = make(self.plan.files, start, self._segment.descriptors)
            if start.stored is not None:  # rarely read again: its pages are of more use to what is written now
                start.stored.unlink(missing_ok=True)

    def _of_all(self) -> Iterator[Made]:
        """The rows out of all events."""
        if self._shows_files and not self._conditions:
            self._segment.descriptors  # noqa: B018  # made first: what it unpacks is then kept for the rows
        for index in range(self._segment.slices.count):
            made = self._of_slice(index)
            if made:
                yield made
            del made  # while the next one is made

    def _of_slice(self, index: int) -> Made:
        """The rows of a slice."""
        piece = self._segment.slices.slice(index)
        here = np.ones(len(piece.sequences), np.bool_)
        here[np.searchsorted(piece.sequences, self._gone(piece.sequences[0], piece.sequences[-1] + 1))] = False
        if not here.any():
            return {}
        ids = np.cumsum(here) + (self.plan.first_id + self.tally.rows - 1)
        clock = partial(self._clock.of, index, piece) if self._shows_files else None
        made = self._made(Rows(self._segment, piece, ids, clock), here)
        self.tally.rows += int(here.sum())
        return made

    def _of_calls(self, wanted: Wanted) -> Iterator[Made]:
        """The rows out of the events of some calls; those of several slices are made together."""
        held: list[_Held] = []
        count = 0
        for few in self._segment.slices.few(wanted.rows):
            gone = self._gone(few.first, few.first + few.events) - few.first
            ids = self.plan.first_id + self.tally.rows + few.rows
            self.tally.rows += few.events - len(gone)
            rows, piece = few.rows, few.piece
            if len(gone):
                ids -= np.searchsorted(gone, rows)
                kept = np.flatnonzero(np.isin(rows, gone, assume_unique=True, invert=True))
                rows, ids, piece = rows[kept], ids[kept], piece.only(kept)
            if not len(rows):
                continue
            piece.fill(_CALL)
            told = self._told(piece)
            self._fill(piece, self._asked, told)
            if self._shows_files and told.names_files:
                piece.fill(_DESCRIBED)
            piece = piece.alone()
            if held and (held[-1].piece.filled != piece.filled or count >= self._segment.slices.events):
                yield from self._of_held(held)
                held, count = [], 0
            held.append(_Held(few.number, few.start + rows, piece, ids))
            count += len(rows)
            del few  # and with it the block
        yield from self._of_held(held)

    def _of_held(self, held: list[_Held]) -> Iterator[Made]:
        """The rows of some calls of several slices that meet all conditions."""
        if not held:
            return
        piece = joined([one.piece for one in held])
        clock = cache(partial(self._clock_of, held)) if self._shows_files else None
        rows = Rows(self._segment, piece, np.concatenate([one.ids for one in held]), clock)
        made = self._made(rows, np.ones(len(piece.sequences), np.bool_))
        if made:
            yield made

    def _clock_of(self, held: list[_Held]) -> npt.NDArray[np.int64]:
        """For each event the latest return before it."""
        slices = self._segment.slices
        return np.concatenate([self._clock.of(one.number, slices.slice(one.number))[one.rows] for one in held])

    def _gone(self, first: int, end: int) -> npt.NDArray[np.int64]:
        """The entry rows from an event up to another that a return has replaced."""
        low, high = np.searchsorted(self.plan.dropped, (first, end))
        return self.plan.dropped[low:high]

    def _made(self, rows: Rows, here: npt.NDArray[np.bool_]) -> Made:
        """The rows that meet all conditions, nothing if none does; ``here`` says which events are rows at all."""
        for condition in self._conditions:
            if condition.is_costly:
                rows, here = self._only(rows, here)
            self._fill(rows.piece, condition.names)
            here = here & condition.holds(rows.columns(condition.names), len(here))
            if not here.any():
                return {}
        rows, _ = self._only(rows, here)
        self._fill(rows.piece, self._columns)
        if self._conditions or self.plan.programs is None:
            return rows.columns(self._columns)
        rows.piece.fill(_COUNTED)
        made = rows.columns(self._columns)
        rows.count(self.tally)
        return made

    def _only(self, rows: Rows, here: npt.NDArray[np.bool_]) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Go on with some rows alone."""
        if here.all():
            return rows, here
        kept = np.flatnonzero(here)
        return rows.only(kept), np.ones(len(kept), np.bool_)

    def _fill(self, piece: Slice, columns: Collection[str], told: _Told | None = None) -> None:
        """Fill the words of some columns; ``told`` if it is known already."""
        wanted = {word for name in columns for word in _WORDS_OF.get(name, range(WORDS))}
        if NR_STRINGS in wanted:
            piece.fill(_CALL)
            if not (told or self._told(piece)).is_plain:
                wanted = set(range(WORDS))
        piece.fill(wanted)

    def _told(self, piece: Slice) -> _Told:
        """What the numbers of a slice's calls tell, or those of all calls that are wanted."""
        numbers = piece.words[NR_STRINGS] & LOW
        abis = piece.words[FLAGS_ENTRY] >> ABI_SHIFT & ABI_MASK
        if abis.any() or numbers.max(initial=0) >= NUMBERS:
            keys = tuple(group((abis << HIGH | numbers).view(np.int64))[0].tolist())
        elif self._wanted is not None and self._wanted.has_met(numbers):
            keys = self._wanted.met()
        else:
            keys = tuple(np.flatnonzero(np.bincount(numbers)).tolist())
        if keys not in self._known:
            self._known[keys] = self._tell(keys)
        return self._known[keys]

    def _tell(self, keys: tuple[int, ...]) -> _Told:
        """The same of some numbers, each with its ABI in the upper half."""
        rules = self._segment.rules
        found = [rules.target(key >> 32, key & 0xFFFFFFFF) for key in keys]
        has_ways = any(one.way is not None for one in found)
        positions = [k for k in range(ARGS) if not {f"arg{k}_repr", "fd_source"}.isdisjoint(self._asked)]
        return _Told(
            is_plain=rules.own.word == 8 and not has_ways and all(key < NUMBERS for key in keys),
            names_files=has_ways or any(
                one.args[k].kind == "fd" for one in found for k in positions if k < len(one.args)
            ),
        )  # fmt: skip


def _planned(plan: Plan) -> Start:
    """What the survey knows of descriptors: no method of a decoder, whose arrays a cycle would keep for long."""
    if plan.start is None:
        raise SegmentError(f"{plan.batch.name}: surveyed without files, and asked for them")
    return plan.start
