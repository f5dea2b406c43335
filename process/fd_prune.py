"""What of a segment's changes can matter to another segment: the net effect.

A change is left out if the same task changes the same descriptor again in the segment, and its process does nothing in
between that reads the descriptor (dup, a relative path) or all of them (fork, exec, close_range ...). A change that was
not seen to end may still come about, and is kept. Readers of other
processes, which share the table by clone(CLONE_FILES), are not looked at: a capture with such is not pruned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.fd_keys import TimeKeys
from process.fd_records import NEVER, NONE, By, Life, Records, joined, taken
from process.grouping import group, ranges
from process.kernels_distinct import in_order

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_HIGH = np.uint64(32)
_MANY = 1 << 16
_MOST = 1 << 36
"""Pairs of a task and a descriptor that a key has room for."""


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

    def net(self, lives: Records) -> Records:
        """The changes that can matter to others. Each stands for those before it: see ``since`` and ``head``.

        Args:
            lives: Of dtype `LIFE`.
        """
        if self._things is None or not self._calls:
            return self.changes
        count = self._calls
        calls, keys, of = self.changes[:count], self._keys[:count], self._of[:count]
        ends = np.append(np.flatnonzero(of[1:] != of[:-1]), count - 1)  # the last of each thing
        starts = np.append(0, ends[:-1] + 1)
        things = of[starts]
        reads = _reads(self._things, things, calls, lives)
        if reads is None:
            return self.changes
        which, when = reads
        before = np.searchsorted(keys, self._at.of(things[which], when, before=True), "right") - 1
        keeps = np.zeros(count, np.bool_)
        keeps[ends] = True
        keeps[calls["t1"] == NEVER] = True  # it is under way from then on
        keeps[before[before >= starts[which]]] = True
        kept = np.flatnonzero(keeps)
        first = np.append(0, kept[:-1] + 1)  # each kept one ends a stretch of those that it stands for
        left = taken(calls, kept)
        left["since"] = np.minimum.reduceat(calls["since"], first)
        left["head"] = calls["head"][first]
        return joined([left, self.changes[count:]])


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


def _reads(things: _Things, some: Numbers, calls: Records, lives: Records) -> tuple[Numbers, Numbers] | None:
    """What reads things, which are descriptors of processes.

    Args:
        things: All.
        some: Those that calls change.
        calls: These changes, of dtype `CHANGE`.
        lives: Of dtype `LIFE`.

    Returns:
        An index into ``some``, and a sequence number, for each time that one is read; None if there are too many.
    """
    pids, fds = things.pids(some), things.fds(some)
    tables = lives[~np.isin(lives["op"], (Life.SNAPSHOT, Life.IDENTITY, Life.EXIT))]
    makers = np.where(tables["op"] == Life.CHILD, tables["a"], tables["task"]) >> _HIGH
    source = calls["src"].copy()
    sources = np.flatnonzero((source != NONE) & (source >= fds.min()))  # most are roots, which nobody changes
    sources = sources[np.isin(source[sources], fds)]
    read = _pair(calls["holder"][sources] >> _HIGH, source[sources].astype(np.int64))
    whole = tables["seq"][tables["op"] == Life.PIVOT]
    found = []
    for keys, wanted, when in (
        (_pair(pids, fds), read, calls["seq"][sources]),
        (pids, makers, tables["seq"]),
        (np.zeros_like(pids), np.zeros(len(whole), np.uint64), whole),
    ):
        order = np.argsort(keys, kind="stable")
        low, high = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        if (high - low).sum() > _MANY + len(calls):
            return None
        found.append((order[ranges(low, high)], np.repeat(when, high - low)))
    which, times = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return which, times


def _pair(pids: Words, fds: Numbers) -> Words:
    pair: Words = pids << _HIGH | fds.view(np.uint64) & np.uint64(0xFFFFFFFF)
    return pair
