"""The table `fd`: which process had which file open as which descriptor, from when to when.

All changes of a capture and all beginnings of tables stand in one order, by table and descriptor; a stretch in which
the descriptor is open and stays the same file is a row (`fd_steps`). Of each stretch it is known why it ends: the next
change, or the end of its table. What ends in a way that nobody saw has no end, and is flagged `lost`. Most of it is
done by workers, each for a batch (`fd_pieces`); what they cannot decide is put together here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from process.errors import ProcessError
from process.fd_needs import bases
from process.fd_outline import Outline, Source, Tables
from process.fd_pieces import Alone, Left, Made, Piece, make_alone, pair_of, programs_at
from process.fd_records import ALWAYS, CLOSED, UNKNOWN, Birth, Records, taken
from process.fd_resolve import Answers
from process.fd_rows import Stretch, records
from process.fd_state import Whole, join_all
from process.fd_steps import (
    EXECED,
    FORKED,
    SEEN,
    UNSHARED,
    Ends,
    Steps,
    same_as_before,
)  # fmt: skip
from process.garbage import give_back
from process.grouping import are_in, distinct, ranges, union
from process.kernels_distinct import group_texts
from process.kernels_texts import take_texts
from process.pool import Failure, Outcome
from process.schema import FD_COLUMNS
from process.text_array import TextArray
from process.values import Integers
from process.values import Made as Columns

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Run = Callable[[Callable[[Alone], Made], Sequence[Alone]], Iterator[Outcome[Alone, Made]]]
"""As `Workers.run`."""

_MANY = 1 << 18
"""Steps for which it is worth to start workers again afterwards: putting them together takes a few hundred MB."""
_STRETCH = 1 << 17
"""Steps that are made into rows at a time, at least."""


@dataclass(frozen=True)
class Sheet:
    """Some rows of the table, which follow each other.

    Attributes:
        parts: Rows, or the files that they were saved in; together all of them, in any order.
        capture: The capture's number.
        first_id: Of the first row.
        count: How many there are.
        programs: The id of each program of the capture's tree, -1 for one that has none.
        realtime_ns: Unix time of the capture's clock's zero.
    """

    parts: tuple[Stretch | Path, ...]
    capture: int
    first_id: int
    count: int
    programs: Numbers
    realtime_ns: int

    def forget(self) -> None:
        """Remove the files, of which nothing will be asked again."""
        for part in self.parts:
            if isinstance(part, Path):
                part.unlink(missing_ok=True)

    def columns(self) -> Columns:
        """The rows, with the columns of `schema.FD_COLUMNS`.

        Raises:
            ProcessError: What was kept of them is gone.
        """
        try:
            parts = [Stretch.load(part) if isinstance(part, Path) else part for part in self.parts]
        except (OSError, ValueError):
            folders = {str(part.parent) for part in self.parts if isinstance(part, Path)}
            raise ProcessError(f"{min(folders)}: what was kept there is gone; is someone clearing it?") from None
        made = dict(Stretch.joined(parts).in_order().columns(self.programs, self.realtime_ns))
        made["id"] = Integers(np.arange(self.first_id, self.first_id + self.count))
        made["capture"] = Integers(np.full(self.count, self.capture))
        return {name: made[name] for name in FD_COLUMNS}


class History:
    """The rows of one capture, before and after its batches are decoded.

    Attributes:
        pieces: What the worker that decodes each batch must know to make its rows; None: there will be none.
    """

    def __init__(self, source: Source, whole: Whole) -> None:
        """Find out what batches must know of each other.

        Args:
            source: The capture.
            whole: Its batches put together.
        """
        self._source = source
        self.pieces: list[Piece | None] = [None] * len(source.effects)
        if not len(whole.nodes):
            return
        tables = self._tables = Tables(source, whole)
        self._outline = Outline(source, whole, tables)
        self._early = distinct_early([self._outline.early(whole)])
        self.pieces[:] = (self._outline.piece(number, self._early) for number in range(len(source.effects)))
        # Where tables go on, more is asked later, and it is too much to be held until then.
        self._begun = None if len(tables.later) else _named(_begun(whole, tables), whole)

    def sheets(
        self, made: dict[int, Made], ids: Numbers, run: Run, before: int, release: Callable[[], object]
    ) -> list[Sheet]:
        """The rows.

        Args:
            made: What the pieces gave, by their numbers, as far as they were made; emptied.
            ids: Of the programs of the capture's tree, -1 for one that has no row in the table `process`.
            run: Runs what workers do, for the others.
            before: Rows of the captures before it.
            release: Called before what is left between batches is put together, if that is much: ends idle workers.

        Raises:
            ProcessError: As `Left.load`, or a batch cannot be read again.
        """
        pieces = [piece for piece in self.pieces if piece is not None]
        if not pieces:
            return []
        done = self._done(pieces, made, run)
        if sum(one.passed_on for one in done) > _MANY:
            release()
            give_back()
        parts = [one.take() for one in done]
        parts.insert(0, self._begun or self._all_begun(Steps.joined([one.steps for one in parts])))
        steps = Steps.joined([one.steps for one in parts])
        steps.name, names = _renamed(steps.name, parts)
        del parts  # some hundred bytes for each step
        source, programs = self._source, _Programs(self._source)
        rest = (_records(programs, self._tables.ends, some) for some in _in_stretches(steps))
        return _sheets(source, ids, done, rest, names, before)

    def _all_begun(self, changes: Steps) -> Left:
        """As `_begun`, and what tables that go on held when they did."""
        whole = join_all(self._source.effects, self._source.starts)
        births = _begun(whole, self._tables)
        again = _begun_again(whole, self._tables, births, changes)
        births = Steps.joined([births, again])
        return _named(births.only(np.argsort(births.seq, kind="stable")), whole)

    def _done(self, pieces: Sequence[Piece], made: dict[int, Made], run: Run) -> list[Made]:
        """What comes of all pieces; of those of which one turns out to reach into another, again.

        Raises:
            ProcessError: A segment is gone or has changed since, and so is what was kept of it.
        """
        outline = self._outline
        todo = [outline.alone(piece) for piece in pieces if piece.number not in made]
        done = {piece.number: (piece, made.pop(piece.number)) for piece in pieces if piece.number in made}
        known = self._early  # what the pieces were made with
        while True:
            for outcome in run(make_alone, todo):
                found, piece = outcome.result, outcome.item.piece
                if isinstance(found, Failure) and piece.number in done:  # its segments were there a moment ago
                    name = outcome.item.batch.name
                    raise ProcessError(f"{name}: cannot be read again for the table fd: {found.reason}; decode again")
                if isinstance(found, Failure):  # it could not be decoded, which has been told
                    found = make_alone(outline.alone(piece, is_lost=True))
                done[piece.number] = piece, found
            early = distinct_early([self._early, *(made.early for _, made in done.values())])
            todo = []
            for number, (piece, _) in done.items() if not np.array_equal(early, known) else ():
                again = outline.piece(number, early)
                if not (np.array_equal(again.reached, piece.reached) and np.array_equal(again.since, piece.since)):
                    todo.append(outline.alone(again))
            if not todo:
                return [found for _, (_, found) in sorted(done.items())]
            known = early


def _in_stretches(steps: Steps) -> Iterator[Steps]:
    """The steps in order, some at a time; those of a descriptor stay together."""
    order = steps.order() if len(steps.fd) else np.zeros(0, np.intp)
    pairs = pair_of(steps.group, steps.fd)[order]
    begins = np.append(np.flatnonzero(pairs[1:] != pairs[:-1]) + 1, len(pairs))
    at = 0
    while at < len(pairs):
        end = int(begins[np.searchsorted(begins, min(at + _STRETCH, len(pairs)))])
        yield _without_doubles(steps.only(order[at:end]))
        at = end


def _records(programs: _Programs, ends: Ends, steps: Steps) -> Records:
    """The rows of some steps, which are in order."""
    rows = records(steps, ends)
    rows["program"] = programs.of(rows)
    return rows


def distinct_early(parts: Sequence[Records]) -> Records:
    """Records of dtype `EARLY`, each once."""
    return distinct(np.concatenate(parts))


def _renamed(codes: Codes, parts: Sequence[Left]) -> tuple[Codes, TextArray]:
    """Names of the steps of several as codes into one list, in which each text is once.

    Args:
        codes: Of all of them.
        parts: They, with what the codes of each are into.
    """
    before = np.cumsum([0, *(len(one.names) for one in parts)])[:-1]
    every = TextArray.joined([one.names for one in parts])
    firsts, number = group_texts(every)
    code_of = np.append(number, (CLOSED, UNKNOWN)).astype(np.int32)  # these two count from the end
    at = codes + np.where(codes >= 0, np.repeat(before, [len(one.steps.fd) for one in parts]), 0)
    return code_of[at], take_texts(every, firsts)


def _sheets(
    source: Source, ids: Numbers, made: Iterable[Made], rest: Iterable[Records], names: TextArray, before: int
) -> list[Sheet]:
    """All rows in their order: those of batches that overlap are put together, with the rest that lies between them."""
    bunches: list[_Bunch] = []
    last = -1
    for one in sorted((one for one in made if one.count), key=lambda one: one.first):
        if not bunches or one.first > last:
            bunches.append(_Bunch(one.first))
        bunches[-1].add(one.rows, one.count)
        last = max(last, one.last)
    bunches = bunches or [_Bunch(0)]
    firsts = [bunch.first for bunch in bunches[1:]]
    for some in rest:
        which = np.searchsorted(firsts, some["seq"], "right")
        some = taken(some, np.argsort(which, kind="stable"))
        ends = np.cumsum(np.bincount(which, minlength=len(bunches))).tolist()
        for bunch, at, end in zip(bunches, [0, *ends], ends, strict=False):
            if end > at:
                bunch.add(Stretch.of(some[at:end], names), end - at)
    found: list[Sheet] = []
    for bunch in bunches:
        if bunch.count:
            parts = tuple(bunch.parts)
            found.append(Sheet(parts, source.number, before + 1, bunch.count, ids, source.realtime_ns))
            before += bunch.count
    return found


@dataclass
class _Bunch:
    """Rows from a sequence number on, up to those of the next bunch."""

    first: int
    count: int = 0
    parts: list[Stretch | Path] = field(default_factory=list)

    def add(self, rows: Stretch | Path, count: int) -> None:
        """Take some more."""
        self.parts.append(rows)
        self.count += count


def _named(steps: Steps, whole: Whole) -> Left:
    """Steps without what made them."""
    return Left(steps, steps.only_names(whole.resolver.names))


def _begun(whole: Whole, tables: Tables) -> Steps:
    """What tables held when they began, as far as that is known, by event."""
    copied = whole.copied.copy()
    copied[tables.later] = False
    nodes = np.flatnonzero(copied)
    node, fd, answers = bases(whole, nodes) if whole.held is None else whole.held.of(nodes)
    order = np.argsort(whole.nodes["seq"][node], kind="stable")
    return _births(whole, tables, node[order], fd[order], answers[order])


def _begun_again(whole: Whole, tables: Tables, begun: Steps, changes: Steps) -> Steps:
    """Likewise of tables that go on: of each descriptor that was in them at any time."""
    groups, later = tables.group[tables.later], tables.later
    pairs = union(pair_of(begun.group, begun.fd), pair_of(changes.group, changes.fd))
    low, high = (np.searchsorted(pairs >> 32, groups, side) for side in ("left", "right"))
    node, fd = np.repeat(later, high - low), pairs[ranges(low, high)] & 0xFFFFFFFF
    return _births(whole, tables, node, fd, whole.resolver.born(node, fd))


def _births(whole: Whole, tables: Tables, node: Numbers, fd: Numbers, answers: Answers) -> Steps:
    """What descriptors were in tables when these began: the answers, without folders and roots."""
    node, fd, answers = node[fd >= 0], fd[fd >= 0], answers[fd >= 0]
    kind = whole.nodes["kind"][node]
    goes_on = are_in(node, tables.later)
    ways = np.select([kind == one for one in (Birth.COPY, Birth.EXEC, Birth.WHOLE)], [FORKED, EXECED, SEEN], UNSHARED)
    since = whole.nodes["since"][node]
    ranged = goes_on & np.isin(kind, (Birth.RANGE, Birth.RANGE_CLOEXEC))
    return Steps(
        group=tables.group[node].astype(np.int32), fd=fd.astype(np.int32), time=since,
        began=np.where(ranged, whole.nodes["t0"][node], since), seq=whole.nodes["seq"][node],
        is_birth=np.ones(len(node), np.bool_), node=node.astype(np.int32), pid=tables.owner[node],
        name=answers.name.astype(np.int32), cloexec=answers.cloexec.view(np.int8), source=answers.source.view(np.int8),
        how=ways.astype(np.int8), begins=~goes_on, told=np.zeros(len(node), np.bool_), is_open=answers.name >= 0,
    )  # fmt: skip


def _without_doubles(steps: Steps) -> Steps:
    """Without begins of tables that say less than what capture read at the same time."""
    next_told = np.append(steps.told[1:] & same_as_before(steps)[1:] & (steps.time[1:] == steps.time[:-1]), False)
    return steps.only(~(steps.is_birth & next_told))


class _Programs:
    """Whose descriptors rows are."""

    def __init__(self, source: Source) -> None:
        """Of a capture."""
        self._timeline, self._gaps = source.tree.timeline(), source.starts
        programs = source.tree.programs
        begun = [(one.start_seq, one.pid, at) for at, one in enumerate(programs) if one.start_seq is not None]
        seq, pid, index = np.array(begun, np.int64).reshape(-1, 3).T
        self._seqs = distinct(seq)
        keys = self._key(seq, pid)
        order = np.argsort(keys, kind="stable")
        self._keys, self._index = keys[order], np.append(index[order], -1)

    def of(self, rows: Records) -> Numbers:
        """The program of each row, as an index in the tree; -1 if none is known."""
        pid, seq, how = (np.ascontiguousarray(rows[name]) for name in ("pid", "seq", "how"))
        found = programs_at(self._timeline, self._gaps, pid, seq)
        births = np.flatnonzero((how == FORKED) | (how == EXECED))
        keys = self._key(seq[births], pid[births])
        at = np.searchsorted(self._keys, keys, "right") - 1
        found[births] = self._index[np.where(np.append(self._keys, -1)[at] == keys, at, -1)]
        return found

    def _key(self, seq: Numbers, pid: Numbers) -> Numbers:
        """A number for the event that began a program, and its process; below -1 if no program began with it."""
        rank = np.searchsorted(self._seqs, seq)
        key: Numbers = np.where(np.append(self._seqs, ALWAYS)[rank] == seq, rank << 32 | pid, ALWAYS)
        return key
