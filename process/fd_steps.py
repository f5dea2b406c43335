"""Steps of descriptors, and the stretches of them in which one stays open: rows of the table `fd`.

A step is a change, or what a table held when it began. In order, by table, descriptor and time, a stretch in which the
descriptor is open and stays the same file is a row; the step behind it, or the end of the table, says how it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from process.fd_index import Pairs
from process.fd_keys import TimeKeys
from process.fd_records import NEVER, UNKNOWN, By, Cloexec, Join, Records
from process.fd_resolve import Answers
from process.grouping import distinct, group, in_order
from process.kernels_texts import take_texts
from process.text_array import TextArray

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Kinds = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

ENDS = ("close", "replaced", "exec", "exit", "unshare", "lost")
"""How a descriptor's row ends; none of them if it was open at the end."""
CLOSE, REPLACED, EXEC, EXIT, UNSHARE, LOST = range(len(ENDS))
HOW = ("open", "dup", "accept", "pipe", "socket", "made", "fork", "unshare", "exec", "seen")
_OPEN, _DUP, _ACCEPT, _PIPE, _SOCKET, _MADE, FORKED, UNSHARED, EXECED, SEEN = range(len(HOW))

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

    There are many: what fits 32 bits or 8 has no more, so that nothing may be added to it.

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

    group: Codes
    fd: Codes
    time: Numbers
    began: Numbers
    seq: Numbers
    is_birth: Mask
    node: Codes
    pid: Numbers
    name: Codes
    cloexec: Kinds
    source: Kinds
    how: Kinds
    begins: Mask
    told: Mask
    is_open: Mask

    @classmethod
    def joined(cls, parts: Sequence[Steps]) -> Steps:
        """Some after the other; at least one."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    @classmethod
    def room(cls, count: int) -> Steps:
        """Room for so many, which have no values yet."""
        return cls(**{name: np.empty(count, dtype) for name, dtype in _DTYPES.items()})

    def order(self) -> npt.NDArray[np.intp]:
        """Their order, as `order_of`."""
        return order_of(self.group.astype(np.int64), self.fd.astype(np.int64), self.time)

    def only_names(self, names: Sequence[str]) -> TextArray:
        """Make their names codes into those alone that they have, out of many, and give these."""
        used = distinct(self.name[self.name >= 0].astype(np.int64))
        self.name = np.where(self.name >= 0, np.searchsorted(used, self.name), self.name).astype(np.int32)
        return some_texts(names, used)

    def only(self, which: Mask | Numbers) -> Steps:
        """Some of them."""
        at = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return Steps(**{name: column.take(at) for name, column in vars(self).items()})


_DTYPES: dict[str, type[np.generic]] = {
    **dict.fromkeys(("group", "fd"), np.int32), **dict.fromkeys(("time", "began", "seq"), np.int64),
    "is_birth": np.bool_, "node": np.int32, "pid": np.int64, "name": np.int32,
    **dict.fromkeys(("cloexec", "source", "how"), np.int8), **dict.fromkeys(("begins", "told", "is_open"), np.bool_),
}  # fmt: skip
"""Of the columns of `Steps`, in their order."""


def order_of(group: Numbers, fd: Numbers, time: Numbers) -> npt.NDArray[np.intp]:
    """The order of steps by table, descriptor and time, then as they are."""
    pairs, never = Pairs(group, fd), time == NEVER
    return in_order(TimeKeys(len(pairs), time[~never]).of(pairs.own, time) + never)


def _ways(join: npt.NDArray[np.uint8], names: Sequence[str], codes: Numbers) -> Numbers:
    """How descriptors were made, by how their names were."""
    found = np.full(len(join), _MADE)
    for how, way in ((Join.PATH, _OPEN), (Join.ROOTED, _OPEN), (Join.SAME, _DUP), (Join.ACCEPT, _ACCEPT)):
        found[join == how] = way
    rest = np.flatnonzero(~np.isin(join, (Join.PATH, Join.ROOTED, Join.SAME, Join.ACCEPT)) & (codes >= 0))
    used, which = group(codes[rest])
    found[rest] = np.array([_way(names[code]) for code in used.tolist()], np.int64)[which]
    return found


def _way(name: str) -> int:
    """How a descriptor with a name was made, if nothing else tells."""
    if name.startswith("/"):
        return _MADE if name.startswith(("/memfd:", "/secretmem")) else _OPEN
    return _PIPE if name.startswith("pipe(") else _SOCKET if name.startswith("socket") else _MADE


def same_as_before(steps: Steps) -> Mask:
    """Whether each is of the same descriptor as the one before."""
    found = np.zeros(len(steps.fd), np.bool_)
    found[1:] = (steps.group[1:] == steps.group[:-1]) & (steps.fd[1:] == steps.fd[:-1])
    return found


def of_changes(
    rows: Records, node: Numbers, group: Codes, owner: Numbers, answers: Answers, names: Sequence[str]
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
        group=group[node], fd=rows["fd"].copy(), time=rows["t1"].copy(),
        began=rows["t0"].copy(), seq=rows["seq"].copy(), is_birth=np.zeros(len(rows), np.bool_),
        node=node.astype(np.int32),
        pid=np.where(by_call, (rows["holder"] >> np.uint64(32)).astype(np.int64), owner[node]),
        name=answers.name.astype(np.int32), cloexec=answers.cloexec.view(np.int8), source=answers.source.view(np.int8),
        how=np.where(by_call, _ways(join, names, answers.name), SEEN).astype(np.int8), begins=begins,
        told=~by_call, is_open=(answers.name >= 0) | unnamed,
    )  # fmt: skip


def some_texts(texts: Sequence[str] | TextArray, which: Numbers) -> TextArray:
    """Some texts by their indices."""
    if isinstance(texts, TextArray):
        return take_texts(texts, which)
    return TextArray.of([texts[at] for at in which.tolist()])
