"""What of a segment's changes can matter to another segment: the net effect.

A change is left out if the same task changes the same descriptor again in the segment, and its process does nothing in
between that reads the descriptor (dup, a relative path) or all of them (fork, exec, close_range ...). So is the last
one if its process ends in the segment and does nothing of this before: one that seems to have begun there, too, with a
single thread. A change that was not seen to end may still come about, and is kept; so is one that began before the
segment. Readers of other processes, which share the table by clone(CLONE_FILES), are not looked at: a capture with such
is not pruned. Nor is one in which a process that ended so turns out to have had other threads (`Lives.lacks`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from process.fd_keys import TimeKeys
from process.fd_lives import CLONE_FILES, CLONE_THREAD
from process.fd_records import NEVER, NONE, By, Life, Records, joined, taken
from process.grouping import are_in, distinct, group, ranges
from process.kernels_distinct import in_order

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

_HIGH, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_MANY = 1 << 16
_ROUNDS = 16
"""How often sources of sources are looked for; then those of all changes are kept, which is more than needed."""
_MOST = 1 << 36
"""Pairs of a task and a descriptor that a key has room for."""


class Net(NamedTuple):
    """A net effect.

    Attributes:
        changes: Of dtype `CHANGE`.
        exits: Sequence numbers of the ends of processes of which something may be left out because they ended.
        since: When the first change began that was left out so; `NEVER` without any.
    """

    changes: Records
    exits: tuple[int, ...] = ()
    since: int = NEVER


class Together:
    """Changes with those of one holder and descriptor together, in sequence: by calls, then what was read.

    Attributes:
        changes: Of dtype `CHANGE`.
    """

    def __init__(self, changes: Records) -> None:
        """Sort them."""
        self.changes = changes
        self._things = _Things(changes) if len(changes) else None
        if self._things is None or self._things.count > _MOST:
            self._things = None  # no guest needs such numbers; one that makes them up pays for it
            return
        seq = changes["seq"].copy()
        self._at = TimeKeys(self._things.count, seq)
        keys = self._at.of(self._things.of, seq)
        order, keys = in_order(keys)
        is_call = changes["by"] == By.CALL
        self._calls = int(is_call.sum())
        if self._calls < len(changes):
            is_call = is_call[order]
            order, keys = (np.concatenate([one[is_call], one[~is_call]]) for one in (order, keys))
        self.changes, self._keys, self._of = taken(changes, order), keys, self._at.things(keys)

    def net(self, lives: Records, began: int) -> Net:
        """The changes that can matter to others. Each stands for those before it: see ``since`` and ``head``.

        Args:
            lives: Of dtype `LIFE`.
            began: When the segment's first event came back.
        """
        if self._things is None or not self._calls:
            return Net(self.changes)
        count = self._calls
        calls, of = self.changes[:count], self._of[:count]
        ends = np.append(np.flatnonzero(of[1:] != of[:-1]), count - 1)  # the last of each thing
        starts = np.append(0, ends[:-1] + 1)
        things = of[starts]
        exits = _exits(lives)
        since = np.minimum.reduceat(calls["since"], starts)
        is_gone = self._things.end_after(things, calls["seq"][ends], lives[exits]) & (since > began)
        keeps = np.zeros(count, np.bool_)
        keeps[ends] = ~is_gone
        keeps[calls["t1"] == NEVER] = True  # it is under way from then on
        if not self._keep_sources(self._things, things, starts, np.delete(lives, exits), keeps):
            return Net(self.changes)
        kept = np.flatnonzero(keeps)
        first = np.append(0, kept[:-1] + 1)[: len(kept)]  # each ends a stretch of those that it stands for
        first = np.maximum(first, starts[np.searchsorted(starts, kept, "right") - 1])
        spans = np.stack([first, kept + 1], axis=1).ravel()
        left = taken(calls, kept)
        left["since"] = np.minimum.reduceat(np.append(calls["since"], NEVER), spans)[::2]
        left["head"] = calls["head"][first]
        ended = tuple(lives["seq"][exits].tolist())
        return Net(joined([left, self.changes[count:]]), ended, int(since[is_gone].min(initial=NEVER)))

    def _keep_sources(self, all_things: _Things, things: Numbers, starts: Indices, lives: Records, keeps: Mask) -> bool:
        """Keep what others will ask for when they ask for what is kept.

        Args:
            all_things: All.
            things: Those that calls change.
            starts: Where the changes of each begin.
            lives: What else counts.
            keeps: Which changes by calls are kept; altered.

        Returns:
            Whether that can be told; it takes too much where many ask for many.
        """
        calls, keys = self.changes[: self._calls], self._keys[: self._calls]
        readers = _Readers(all_things.pids(things), all_things.fds(things), _MANY + len(calls))
        reads, rounds = readers.of_tables(lives), 0
        while reads is not None and (len(reads.which) or not rounds):
            before = np.searchsorted(keys, self._at.of(things[reads.which], reads.when, before=True), "right") - 1
            keeps[before[before >= starts[reads.which]]] = True
            rounds += 1
            which = np.flatnonzero(keeps) if rounds < _ROUNDS else np.arange(len(calls))
            reads = readers.of_sources(calls, which)
        return reads is not None


class _Things:
    """Pairs of a holder and a descriptor, as numbers.

    Attributes:
        of: The number of each change's.
        count: Greater than all that there can be.
    """

    def __init__(self, changes: Records) -> None:
        """Number them; at least one change is needed."""
        found, which = group(changes["holder"].copy())
        order = np.argsort(found)
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        fd = changes["fd"].astype(np.int64)
        self._holders, self._low = found[order], int(fd.min())
        self._width = int(fd.max()) - self._low + 1
        self.count = len(self._holders) * self._width
        fd -= self._low
        fd += (rank * self._width)[which]
        self.of: Numbers = fd

    def pids(self, things: Numbers) -> Words:
        """The processes of some things."""
        pids: Words = self._holders[things // self._width] >> _HIGH
        return pids

    def fds(self, things: Numbers) -> Numbers:
        """Their descriptors."""
        return things % self._width + self._low

    def end_after(self, some: Numbers, seqs: Numbers, exits: Records) -> Mask:
        """Which of some things are descriptors of tasks that end after an event of each.

        Args:
            some: They.
            seqs: The events.
            exits: Of dtype `LIFE`, by task, then by event.
        """
        if not len(exits):
            return np.zeros(len(some), np.bool_)
        holders = self._holders[some // self._width]
        at = np.searchsorted(exits["task"], holders, "right") - 1
        ends: Mask = (exits["task"][at] == holders) & (exits["seq"][at] > seqs) & (self.fds(some) >= 0)
        return ends


def _exits(lives: Records) -> Indices:
    """The ends of processes that seem to have begun in the segment, too, and to have had one thread.

    Args:
        lives: Of dtype `LIFE`.

    Returns:
        Indices, by task, then by event.
    """
    op, task, other, flags = (lives[name] for name in ("op", "task", "a", "b"))
    pid = task >> _HIGH
    is_fork, is_child = op == Life.FORK, op == Life.CHILD
    shares = (is_fork | is_child) & ((flags < 0) | (flags & (CLONE_THREAD | CLONE_FILES) != 0))
    born = np.concatenate([other[is_fork & ~shares], pid[is_child & ~shares]])
    sharing = np.concatenate([pid[shares], other[is_child & shares] >> _HIGH])
    ends = np.flatnonzero((op == Life.EXIT_GROUP) & (task & _LOW == pid))
    ends = ends[are_in(pid[ends], born) & ~are_in(pid[ends], sharing)]
    return ends[np.lexsort((lives["seq"][ends], task[ends]))]


class _Reads(NamedTuple):
    """Looks at things.

    Attributes:
        which: Indices of the things.
        when: The events that look.
    """

    which: Indices
    when: Numbers


class _Readers:
    """What reads things, which are descriptors of processes."""

    def __init__(self, pids: Words, fds: Numbers, most: int) -> None:
        """Sort them; ``most``: looks that are not too many."""
        self._most = most
        self._fds = distinct(fds)
        self._pairs, self._pids = _Places(_pair(pids, fds)), _Places(pids)
        self._every = np.arange(len(fds))
        self._read = np.zeros(0, np.intp)

    def of_tables(self, lives: Records) -> _Reads | None:
        """What reads all descriptors of a process, or of all; None if it is too much."""
        tables = lives[~np.isin(lives["op"], (Life.SNAPSHOT, Life.IDENTITY, Life.EXIT))]
        makers = np.where(tables["op"] == Life.CHILD, tables["a"], tables["task"]) >> _HIGH
        of_all = tables["seq"][tables["op"] == Life.PIVOT]
        if self._pids.count(makers) + len(of_all) * len(self._every) > self._most:
            return None
        found = self._pids.reads(makers, tables["seq"])
        which = np.concatenate([found.which, np.tile(self._every, len(of_all))])
        return _Reads(which, np.concatenate([found.when, np.repeat(of_all, len(self._every))]))

    def of_sources(self, calls: Records, some: Indices) -> _Reads | None:
        """What calls that matter read by themselves, but for those of which that is known; None if it is too much.

        Args:
            calls: All, of dtype `CHANGE`.
            some: Indices of those that matter, ascending.
        """
        fresh = some[~are_in(some, self._read)]
        self._read = some
        source = calls["src"][fresh]
        of_one = np.flatnonzero((source != NONE) & (source >= self._fds[0]))  # most are roots, which nobody changes
        of_one = of_one[are_in(source[of_one].astype(np.int64), self._fds)]
        read = fresh[of_one]
        wanted = _pair(calls["holder"][read] >> _HIGH, source[of_one].astype(np.int64))
        if self._pairs.count(wanted) > self._most:
            return None
        return self._pairs.reads(wanted, calls["seq"][read])


class _Places:
    """Where keys are among some, which may have each several times."""

    def __init__(self, keys: Words) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def _ends(self, wanted: Words) -> tuple[Numbers, Numbers]:
        return np.searchsorted(self._keys, wanted, "left"), np.searchsorted(self._keys, wanted, "right")

    def count(self, wanted: Words) -> int:
        """How often all wanted keys are there."""
        low, high = self._ends(wanted)
        return int((high - low).sum())

    def reads(self, wanted: Words, when: Numbers) -> _Reads:
        """Where each wanted key is, with the event that wants it."""
        low, high = self._ends(wanted)
        return _Reads(self._order[ranges(low, high)], np.repeat(when, high - low))


def _pair(pids: Words, fds: Numbers) -> Words:
    pair: Words = pids << _HIGH | fds.view(np.uint64) & _LOW
    return pair
