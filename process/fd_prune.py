"""What of a segment's changes can matter to another segment: the net effect.

A change is left out if the same task changes the same descriptor again in the segment, and its process does nothing in
between that reads the descriptor (dup, a relative path) or all of them (fork, exec, close_range ...). Readers of other
processes, which share the table by clone(CLONE_FILES), are not looked at: a capture with such is not pruned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.fd_keys import TimeKeys
from process.fd_records import By, Life, Records

Numbers = npt.NDArray[np.int64]

_HIGH = np.uint64(32)
_SMALL = 1 << 22
_MOST = 1 << 36
"""Pairs of a task and a descriptor that a key has room for."""


def prune(changes: Records, lives: Records) -> Records:
    """The changes that are left. Each stands for those before it: see ``since`` and ``head`` in `CHANGE`.

    Args:
        changes: Of dtype `CHANGE`.
        lives: Of dtype `LIFE`.
    """
    is_call = changes["by"] == By.CALL
    calls = changes if is_call.all() else changes[is_call]
    if not len(calls):
        return changes
    holders, of_holder = np.unique(calls["holder"], return_inverse=True)
    _, pid = np.unique(holders >> _HIGH, return_inverse=True)
    low = int(calls["fd"].min())
    width = int(max(calls["fd"].max(), calls["src"].max())) - low + 2
    if len(holders) * width > _MOST:
        return changes  # no guest needs such numbers; one that makes them up pays for it
    at = TimeKeys(len(holders) * width, calls["seq"])
    thing = of_holder * width + calls["fd"] - low
    order = np.argsort(at.of(thing, calls["seq"]))
    thing, seq, pids = thing[order], calls["seq"][order], pid[of_holder[order]]
    again = np.zeros(len(order), np.bool_)
    again[:-1] = thing[1:] == thing[:-1]
    until = np.append(seq[1:], 0)
    tables = lives[~np.isin(lives["op"], (Life.SNAPSHOT, Life.IDENTITY, Life.EXIT, Life.PIVOT))]
    makers = np.where(tables["op"] == Life.CHILD, tables["a"], tables["task"])
    again &= ~_between(pids, seq, until, _numbers(holders, pid, makers), tables["seq"])
    reads = np.flatnonzero(calls["src"] >= low)
    read = pid[of_holder[reads]] * width + calls["src"][reads] - low
    again &= ~_between(pids * width + thing % width, seq, until, read, calls["seq"][reads])
    whole = lives["seq"][lives["op"] == Life.PIVOT]
    again &= ~_between(np.zeros(len(order), np.int64), seq, until, np.zeros(len(whole), np.int64), whole)
    kept = np.flatnonzero(~again)
    first = np.concatenate(([0], kept[:-1] + 1))  # each kept one ends a stretch of those that it stands for
    left = calls[order[kept]]
    left["since"] = np.minimum.reduceat(calls["since"][order], first)
    left["head"] = calls["head"][order[first]]
    return np.concatenate([left, changes[~is_call]])


def _numbers(holders: npt.NDArray[np.uint64], pid: Numbers, tasks: npt.NDArray[np.uint64]) -> Numbers:
    """The numbers of the processes of some tasks, -1 for one without any holder."""
    pids = holders >> _HIGH
    at = np.minimum(np.searchsorted(pids, tasks >> _HIGH), len(pids) - 1)
    return np.where(pids[at] == tasks >> _HIGH, pid[at], -1)


def _between(keys: Numbers, after: Numbers, until: Numbers, others: Numbers, times: Numbers) -> npt.NDArray[np.bool_]:
    """Whether something with the same key happens after one event and not after another.

    Args:
        keys: Not negative.
        after: The one event.
        until: The other.
        others: Keys of what happens; negative ones do not count.
        times: When it does.
    """
    found = np.zeros(len(keys), np.bool_)
    others, times = others[others >= 0], times[others >= 0]
    if not len(others):
        return found
    most = int(max(keys.max(), others.max())) + 1
    if most <= _SMALL:
        which = np.zeros(most, np.bool_)
        which[others] = True
        rows = np.flatnonzero(which[keys])
    else:
        rows = np.flatnonzero(np.isin(keys, others))
    at = TimeKeys(most, times)
    sorted_ = np.sort(at.of(others, times))
    low = np.searchsorted(sorted_, at.of(keys[rows], after[rows]), "right")
    found[rows] = np.searchsorted(sorted_, at.of(keys[rows], until[rows]), "right") > low
    return found
