"""Step five: the events of a batch as rows of the output, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from capture.segment import SegmentError
from process.calls import Rules
from process.clock import Clock
from process.columns import Rows, Segment, show_files
from process.fd_state import Start
from process.merge import kept, load_batch
from process.plan import Plan
from process.predicates import holds, parts
from process.read import ARG0, DURATION, FLAGS_ENTRY, LOW, NR_STRINGS, RET, TASK, TIME, WORDS
from process.schema import ARGS, REPRS, SCHEMA
from process.slices import Slice
from process.tally import Tally

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


class Decoder:
    """Decodes one batch.

    Attributes:
        plan: The batch, and all that must be known from others.
        tally: Grows as `frames` is consumed. Of a decoder with a predicate only the rows are counted, all of them.
    """

    def __init__(
        self,
        plan: Plan,
        columns: Collection[str] | None = None,
        predicate: pl.Expr | None = None,
        start: Callable[[], Start] | None = None,
        events: int | None = None,
    ) -> None:
        """Read the segments.

        Args:
            plan: What to decode, and how.
            columns: Names of those that are wanted, None for all; others are not made.
            predicate: What rows must meet; others are left out, and little is done for them.
            start: Gives what is known of descriptors when the batch starts, if the plan does not.
            events: How many are decoded at a time; `slices.SLICE` if not told.

        Raises:
            SegmentError: One cannot be used at all.
            OSError: A file cannot be read.
        """
        self.plan, self.tally = plan, Tally()
        self._columns = [name for name in SCHEMA if columns is None or name in columns]
        self._conditions = [(one, one.meta.root_names()) for one in parts(predicate)]
        self._asked = {*self._columns, *(name for _, names in self._conditions for name in names)}
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
        self._segment = Segment(plan, contents, rules, start or self._planned, events)
        self._clock = Clock(self._segment.slices, plan.dropped)

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows, in order, as frames with the wanted columns, in the order of ``schema.SCHEMA``.

        Raises:
            SegmentError: The segment is not what it was when it was surveyed.
        """
        if self._shows_files and not self._conditions:
            self._segment.descriptors  # noqa: B018  # made first: what it unpacks is then kept for the rows
        for index, piece in enumerate(self._segment.slices.slices()):
            here = np.ones(len(piece.sequences), np.bool_)
            here[np.searchsorted(piece.sequences, self._gone(piece))] = False
            if here.any():
                frame = self._frame(index, piece, here)
                self.tally.rows += int(here.sum())
                if len(frame):
                    yield frame
        if self.tally.rows != self.plan.rows:
            raise SegmentError(f"{self.plan.batch.name}: changed while it was decoded; decode again")

    def _planned(self) -> Start:
        if self.plan.start is None:
            raise SegmentError(f"{self.plan.batch.name}: surveyed without files, and asked for them")
        return self.plan.start

    def _gone(self, piece: Slice) -> npt.NDArray[np.int64]:
        """The entry rows of a slice that a return has replaced."""
        dropped = self.plan.dropped
        first, last = np.searchsorted(dropped, (piece.sequences[0], piece.sequences[-1] + 1))
        return dropped[first:last]

    def _frame(self, index: int, piece: Slice, here: npt.NDArray[np.bool_]) -> pl.DataFrame:
        """The rows of a slice that meet all conditions; ``here`` says which of its events are rows at all."""
        ids = np.cumsum(here) + (self.plan.first_id + self.tally.rows - 1)
        clock = partial(self._clock.of, index, piece) if self._shows_files else None
        rows = Rows(self._segment, piece, ids, clock)
        for condition, names in self._conditions:
            if not REPRS.isdisjoint(names) or not names:
                rows, here = self._only(rows, here)
            self._fill(rows.piece, names)
            here = here & holds(condition, rows.frame(names), len(here))
            if not here.any():
                return pl.DataFrame()
        rows, _ = self._only(rows, here)
        self._fill(rows.piece, self._columns)
        if self._conditions:
            return rows.frame(self._columns)
        rows.piece.fill(_COUNTED)
        made = rows.frame(self._columns)
        rows.count(self.tally)
        return made

    def _only(self, rows: Rows, here: npt.NDArray[np.bool_]) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Go on with some rows alone."""
        if here.all():
            return rows, here
        kept = np.flatnonzero(here)
        return rows.only(kept), np.ones(len(kept), np.bool_)

    def _fill(self, piece: Slice, columns: Collection[str]) -> None:
        """Fill the words of some columns."""
        wanted = {word for name in columns for word in _WORDS_OF.get(name, range(WORDS))}
        if NR_STRINGS in wanted:
            piece.fill(_CALL)
            if not self._is_plain(piece):
                wanted = set(range(WORDS))
        piece.fill(wanted)

    def _is_plain(self, piece: Slice) -> bool:
        """Whether calls of a slice are what their numbers say, and have each argument in a register of its own."""
        rules, numbers, flags = self._segment.rules, piece.words[NR_STRINGS] & LOW, piece.words[FLAGS_ENTRY]
        if rules.own.word != 8 or (flags >> np.uint64(16) & np.uint64(0xFF)).any():
            return False
        return not rules.have_ways(np.flatnonzero(np.bincount(numbers)) if (numbers < 1 << 16).all() else numbers)
