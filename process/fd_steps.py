"""Steps of descriptors, and the stretches of them in which one stays open: rows of the table `fd`.

A step is a change, or what a table held when it began. In order, by table, descriptor and time, a stretch in which the
descriptor is open and stays the same file is a row; the step behind it, or the end of the table, says how it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from process.fd_index import Pairs, later
from process.fd_keys import TimeKeys
from process.fd_records import CLOSED, NEVER, UNKNOWN, By, Cloexec, Join, Records
from process.fd_resolve import Answers
from process.grouping import in_order

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ENDS = ("close", "replaced", "exec", "exit", "unshare", "lost")
"""How a descriptor's row ends; none of them if it was open at the end."""
_CLOSE, _REPLACED, EXEC, EXIT, UNSHARE, LOST = range(len(ENDS))
HOW = ("open", "dup", "accept", "pipe", "socket", "made", "fork", "unshare", "exec", "seen")
_OPEN, _DUP, _ACCEPT, _PIPE, _SOCKET, _MADE, FORKED, UNSHARED, EXECED, SEEN = range(len(HOW))

_CODES, _KINDS = ("group", "fd", "node", "name"), ("cloexec", "source", "how")
"""Columns of steps whose values fit 32 bits, and 8."""

_IN_PLACE = (Join.SAME, Join.LOCAL, Join.PEER)


@dataclass
class Ends:
    """How tables end; arrays by group.

    Attributes:
        end: When the last task that had it ended or left it; `NEVER`.
        ended: How, an index into the ways to end, -1 if it did not.
        end_seq: By which event, -1 if that is not known.
    """

    end: Numbers
    ended: Numbers
    end_seq: Numbers


@dataclass
class Steps:
    """What happens to descriptors: changes, and what tables hold when they begin; arrays of one length.

    Attributes:
        group: Of the table, which is the same as long as this is.
        fd: The descriptor.
        time: When it was over; `NEVER` if nobody saw that.
        began: When it began.
        seq: By which event.
        is_birth: Whether it is what a table held when it began.
        node: The table.
        pid: Whose call it was, else who has the table.
        name: Code of a name, `UNKNOWN` or `CLOSED`.
        cloexec: As `Cloexec`.
        source: As `Source`.
        how: Index into the ways to be made.
        begins: Whether what is open now was not before.
        told: Whether capture read it.
        is_open: Whether it is open for sure.
    """

    group: Numbers
    fd: Numbers
    time: Numbers
    began: Numbers
    seq: Numbers
    is_birth: Mask
    node: Numbers
    pid: Numbers
    name: Numbers
    cloexec: Numbers
    source: Numbers
    how: Numbers
    begins: Mask
    told: Mask
    is_open: Mask

    @classmethod
    def joined(cls, parts: Sequence[Steps]) -> Steps:
        """Some after the other; at least one."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    def order(self) -> npt.NDArray[np.intp]:
        """Their order, as `order_of`."""
        return order_of(self.group.astype(np.int64), self.fd.astype(np.int64), self.time)

    def narrow(self) -> Steps:
        """The same in half the memory, to be kept; nothing may be reckoned with it before it is `wide`."""
        return self._as(np.int32, np.int8)

    def wide(self) -> Steps:
        """The same as it was before it was `narrow`."""
        return self._as(np.int64, np.int64)

    def _as(self, codes: type[np.signedinteger], kinds: type[np.signedinteger]) -> Steps:
        """With other types for columns whose values are few."""
        types = {**dict.fromkeys(_CODES, codes), **dict.fromkeys(_KINDS, kinds)}
        return Steps(**{
            name: column.astype(types[name], copy=False) if name in types else column
            for name, column in vars(self).items()
        })  # fmt: skip

    def only(self, which: Mask | Numbers) -> Steps:
        """Some of them."""
        at = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return Steps(**{name: column.take(at) for name, column in vars(self).items()})


def order_of(group: Numbers, fd: Numbers, time: Numbers) -> npt.NDArray[np.intp]:
    """The order of steps by table, descriptor and time, then as they are."""
    pairs, never = Pairs(group, fd), time == NEVER
    return in_order(TimeKeys(len(pairs), time[~never]).of(pairs.own, time) + never)


def _ways(join: npt.NDArray[np.uint8], names: Sequence[str], codes: Numbers) -> Numbers:
    """How descriptors were made, by how their names were."""
    text = pl.Series(names, dtype=pl.String)
    by_name = np.full(len(names) + 1, _MADE)
    for prefix, way in (("/", _OPEN), ("/memfd:", _MADE), ("/secretmem", _MADE), ("pipe(", _PIPE), ("socket", _SOCKET)):
        by_name[:-1][text.str.starts_with(prefix).to_numpy()] = way
    found = by_name[np.maximum(codes, -1)]
    found[np.isin(join, (Join.PATH, Join.ROOTED))] = _OPEN
    found[join == Join.SAME] = _DUP
    found[join == Join.ACCEPT] = _ACCEPT
    return found


def same_as_before(steps: Steps) -> Mask:
    """Whether each is of the same descriptor as the one before."""
    found = np.zeros(len(steps.fd), np.bool_)
    found[1:] = (steps.group[1:] == steps.group[:-1]) & (steps.fd[1:] == steps.fd[:-1])
    return found


def of_changes(
    rows: Records, node: Numbers, group: Numbers, owner: Numbers, answers: Answers, names: Sequence[str]
) -> Steps:
    """The steps that some changes are.

    Args:
        rows: Of dtype `CHANGE`.
        node: The table that each changes.
        group: Of each node.
        owner: Of each node, the process that had it first, -1 for none.
        answers: What the descriptors were after the changes.
        names: What the answers' names are codes into.
    """
    by_call, join = rows["by"] == By.CALL, rows["join"]
    begins = by_call & ~((rows["src"] == rows["fd"]) & np.isin(join, _IN_PLACE))
    unnamed = begins & (answers.name == UNKNOWN) & (rows["t1"] != NEVER) & (answers.cloexec != Cloexec.UNSURE)
    return Steps(
        group=group[node], fd=rows["fd"].astype(np.int64), time=rows["t1"].copy(),
        began=rows["t0"].copy(), seq=rows["seq"].copy(), is_birth=np.zeros(len(rows), np.bool_), node=node,
        pid=np.where(by_call, (rows["holder"] >> np.uint64(32)).astype(np.int64), owner[node]),
        name=answers.name, cloexec=answers.cloexec.astype(np.int64), source=answers.source.astype(np.int64),
        how=np.where(by_call, _ways(join, names, answers.name), SEEN), begins=begins,
        told=~by_call, is_open=(answers.name >= 0) | unnamed,
    )  # fmt: skip


@dataclass
class Rows:
    """Rows of the table: arrays of one length, in the order of the steps.

    Attributes:
        heads: The step that each begins with.
        last: Its last one.
        ended: How it ends, an index into the ways to end, -1 if it does not.
        end_seq: By which event, -1 if that is not known.
        end_time: When; `NEVER` if that is not known.
    """

    heads: Numbers
    last: Numbers
    ended: Numbers
    end_seq: Numbers
    end_time: Numbers

    @classmethod
    def of(cls, steps: Steps, ends: Ends) -> Rows:
        """Stretches of steps, which are in order, in which a descriptor stays open."""
        same, is_birth = same_as_before(steps), steps.is_birth
        before = np.maximum(np.arange(len(same)) - 1, 0)
        named = (steps.name == steps.name[before]) | steps.told | ~(steps.begins | is_birth)
        follows = same & steps.is_open[before] & ~steps.begins & named & ((steps.node == steps.node[before]) | is_birth)
        unnamed = ~steps.is_open & (steps.name == UNKNOWN) & (steps.name[before] == UNKNOWN)  # stays what it was
        is_open = steps.is_open | (follows & unnamed & ~is_birth & (steps.cloexec != Cloexec.UNSURE))
        heads = np.flatnonzero(is_open & ~(follows & is_open[before]))
        is_break = ~(follows & is_open)
        after = np.append(np.flatnonzero(is_break), len(same))[np.cumsum(is_break)[heads]]
        last = after - 1
        return cls(heads, last, *_endings(steps, is_open, ends, same, last, after))

    def only(self, which: Mask) -> Rows:
        """Some of them."""
        at = np.flatnonzero(which)
        return Rows(**{name: column.take(at) for name, column in vars(self).items()})


def _endings(
    steps: Steps, is_open: Mask, ends: Ends, same: Mask, last: Numbers, after: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """How stretches end, by which event (-1), and when (`NEVER`, if that is not known).

    Args:
        steps: In order.
        is_open: Whether the descriptor is open after each.
        ends: Of their tables.
        same: Whether each step is of the same descriptor as the one before.
        last: The last step of each stretch.
        after: The one behind it.
    """
    inside = after < len(same)
    at = np.minimum(after, len(same) - 1)
    within = inside & same[at] & (steps.time[at] <= ends.end[steps.group[last]])
    group = steps.group[last]
    sure = within & ((steps.node[at] == steps.node[last]) | (steps.is_birth[at]))
    closed = sure & (steps.name[at] == CLOSED) & ~steps.told[at] & (steps.how[at] != SEEN)
    replaced = sure & is_open[at] & steps.begins[at] & (steps.how[at] == _DUP)
    seq = np.where(within, steps.seq[at], ends.end_seq[group])
    time = np.where(within, steps.time[at], ends.end[group])
    earliest = np.append(later(steps.began, np.cumsum(~same)), NEVER)
    following = np.minimum(after + within, len(same))  # calls that began before the end may have been the end
    disturbed = np.append(same, False)[following] & (earliest[following] < time)
    ended = np.select([disturbed, closed, replaced, within], [LOST, _CLOSE, _REPLACED, LOST], ends.ended[group])
    return ended, np.where(ended == LOST, -1, seq), np.where(ended == LOST, NEVER, time)
