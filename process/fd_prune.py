"""What of a segment's changes can matter to another segment: the net effect.

A change is left out if the same task changes the same descriptor again in the segment, and its process does nothing in
between that reads the descriptor (dup, a relative path) or all of them (fork, exec, close_range ...). Readers of other
processes, which share the table by clone(CLONE_FILES), are not looked at: a capture with such is not pruned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.fd_records import NONE, By, Life, Records

Numbers = npt.NDArray[np.int64]

_HIGH = np.uint64(32)


def prune(changes: Records, lives: Records) -> Records:
    """The changes that are left. Each stands for those before it: see ``since`` and ``head`` in `CHANGE`.

    Args:
        changes: Of dtype `CHANGE`, by sequence number.
        lives: Of dtype `LIFE`, likewise.
    """
    if not len(changes):
        return changes
    calls = changes["by"] == By.CALL
    order = np.lexsort((changes["seq"], changes["fd"], changes["holder"], ~calls))
    rows = changes[order]
    again = np.zeros(len(rows), np.bool_)
    again[:-1] = (
        (rows["holder"][1:] == rows["holder"][:-1])
        & (rows["fd"][1:] == rows["fd"][:-1])
        & (rows["by"][1:] == By.CALL)
        & (rows["by"][:-1] == By.CALL)
    )
    until = np.append(rows["seq"][1:], 0)
    pids = rows["holder"] >> _HIGH
    readers = changes[(changes["src"] != NONE) & calls]
    tables = lives[~np.isin(lives["op"], (Life.SNAPSHOT, Life.IDENTITY, Life.EXIT))]
    makers = np.where(tables["op"] == Life.CHILD, tables["a"], tables["task"]) >> _HIGH
    every = tables[np.isin(tables["op"], (Life.PIVOT,))]["seq"]
    again &= ~_between(pids, rows["seq"], until, makers, tables["seq"])
    again &= ~_between(_read(pids, rows["fd"]), rows["seq"], until, _read(readers["holder"] >> _HIGH, readers["src"]),
                       readers["seq"])  # fmt: skip
    if len(every):
        again &= ~_between(np.zeros(len(rows), np.uint64), rows["seq"], until, np.zeros(len(every), np.uint64), every)
    kept = np.flatnonzero(~again)
    first = np.concatenate(([0], kept[:-1] + 1))  # each kept one ends a stretch of those that it stands for
    left = rows[kept]
    left["since"] = np.minimum.reduceat(rows["since"], first)
    left["head"] = rows["head"][first]
    return left[np.argsort(left["seq"], kind="stable")]


def _read(pids: npt.NDArray[np.uint64], fds: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """A key for a descriptor of a process."""
    key: npt.NDArray[np.uint64] = pids << _HIGH | fds.astype(np.int64).view(np.uint64) & np.uint64(0xFFFFFFFF)
    return key


def _between(
    keys: npt.NDArray[np.uint64], after: Numbers, until: Numbers, others: npt.NDArray[np.uint64], at: Numbers
) -> npt.NDArray[np.bool_]:
    """Whether something with the same key happens after one event and not after another."""
    if not len(others):
        return np.zeros(len(keys), np.bool_)
    distinct, which = np.unique(others, return_inverse=True)
    moments, rank = np.unique(at, return_inverse=True)
    width = len(moments) + 1
    sorted_ = np.sort(which * width + rank)
    mine = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    low = np.searchsorted(sorted_, mine * width + np.searchsorted(moments, after, "right"), "left")
    high = np.searchsorted(sorted_, mine * width + np.searchsorted(moments, until, "right"), "left")
    found: npt.NDArray[np.bool_] = (distinct[mine] == keys) & (high > low)
    return found
