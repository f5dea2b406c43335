"""What a descriptor was when a call used it: every question of a stretch of events at once.

A question is a table (node), a descriptor, and the time from entry to return of the call that asks. Its answer is the
last change of that descriptor which was over when the call began, provided that no other change of it was under way
meanwhile; without any, what the table held when it was made, which is a question to the table that it was copied from.
A change in turn may ask what its own source was (dup, a relative path). All these are *vertices*, each with at most one
source; answers spread from those that have none, a generation at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from process.fd_index import ChangeIndex
from process.fd_names import join
from process.fd_records import CLOSED, NONE, ROOT, UNKNOWN, Birth, By, Cloexec, Join, Records, Source
from process.grouping import distinct, group, ranges, without

Numbers = npt.NDArray[np.int64]

_NOBODY, _SHUT, _SLASH, _FIRST = 0, 1, 2, 3
"""The vertices of what is unknown, of what is closed and of the root that a task begins with; the first of a change."""
_COPIED, _EXECED, _MARKED = 10, 11, 12
"""Edges besides those of `Join`: through fork, through exec, through close_range(CLOSE_RANGE_CLOEXEC)."""
_COLUMNS = ("_name", "_cloexec", "_origin", "_done", "_from", "_edge", "_text")
"""What is kept of vertices; arrays with room for more of them."""
_ADDRESSES = (Join.LOCAL, Join.PEER, Join.ACCEPT)


@dataclass
class Questions:
    """What calls ask: int64 arrays of one length. ``seq`` is the event that asks; the others are as above."""

    node: Numbers
    fd: Numbers
    t0: Numbers
    t1: Numbers
    seq: Numbers

    def __getitem__(self, which: npt.NDArray[np.bool_] | Numbers) -> Questions:
        return Questions(self.node[which], self.fd[which], self.t0[which], self.t1[which], self.seq[which])


@dataclass
class Answers:
    """What is known of some vertices.

    Attributes:
        name: Code of a text, `UNKNOWN` or `CLOSED`.
        cloexec: As `Cloexec`.
        source: As `Source`.
    """

    name: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    cloexec: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    source: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __getitem__(self, which: npt.NDArray[np.bool_] | Numbers) -> Answers:
        return Answers(self.name[which], self.cloexec[which], self.source[which])


@dataclass
class Given:
    """Answers that are known beforehand: of the first changes, and of what tables held when they were made.

    Attributes:
        changes: Of the first changes, as many as there are.
        nodes: int64, the tables of the others.
        fds: int64, their descriptors.
        bases: Their answers.
    """

    changes: Answers = field(default_factory=Answers)
    nodes: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    fds: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    bases: Answers = field(default_factory=Answers)


class Resolver:
    """Answers questions from nodes and changes.

    Attributes:
        names: Texts of names by their codes.
    """

    def __init__(
        self, nodes: Records, changes: Records, node: Numbers, source_node: Numbers, root_node: Numbers,
        names: list[str], given: Given,
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            nodes: Of dtype `NODE`.
            changes: Of dtype `CHANGE`; texts are codes into ``names``.
            node: The node that each change changes, -1 if not known: then it is as if it were not there.
            source_node: The node of its source, likewise: then its name is unknown.
            root_node: The node with the root that its path may meet: then it has a name only if that is `/`; else -1.
            names: Texts; new ones are added.
            given: What is known beforehand.
        """
        self.names = names
        self._codes = dict(zip(names, range(len(names)), strict=True))
        self._nodes = nodes
        self._index, self._changes = ChangeIndex(nodes, changes, node), len(changes)
        count, known = len(changes), len(given.changes.name)
        text = changes["text"].astype(np.int64)
        lone = changes["src"] == NONE
        lone[:known] = True
        captured = changes["by"] != By.CALL
        origin = np.where(text < 0, Source.UNKNOWN, np.where(captured, Source.CAPTURED, Source.INFERRED))
        bases = given.bases
        self._name = np.concatenate(([UNKNOWN, CLOSED, self._code("/")], np.where(lone, text, UNKNOWN), bases.name))
        clo = np.concatenate(([Cloexec.UNSURE, Cloexec.NO, Cloexec.NO], changes["cloexec"], bases.cloexec))
        self._cloexec = clo.astype(np.uint8)
        self._origin = np.concatenate(([0, 0, Source.INFERRED], np.where(lone, origin, 0), bases.source)).astype(
            np.uint8
        )
        self._name[_FIRST : _FIRST + known] = given.changes.name
        self._cloexec[_FIRST : _FIRST + known] = given.changes.cloexec
        self._origin[_FIRST : _FIRST + known] = given.changes.source
        self._done = np.concatenate(([True, True, True], lone, np.ones(len(bases.name), np.bool_)))
        self._from = np.full(len(self._name), _NOBODY)
        self._edge = np.zeros(len(self._name), np.uint8)
        self._text = np.full(len(self._name), UNKNOWN)
        self._count = len(self._name)
        self._edge[_FIRST : _FIRST + count], self._text[_FIRST : _FIRST + count] = changes["join"], text
        keys = _key(given.nodes, given.fds)
        order = np.argsort(keys)
        self._birth_keys, self._birth_vertex = keys[order], (_FIRST + count + np.arange(len(keys)))[order]
        asks = np.flatnonzero(~lone)
        self._waiting = [_FIRST + asks]
        self._from[_FIRST + asks] = self._find(
            Questions(
                source_node[asks],
                changes["src"][asks].astype(np.int64),
                changes["t0"][asks],
                changes["t1"][asks],
                changes["seq"][asks],
            )
        )
        held = np.flatnonzero(~lone & (root_node >= 0))
        self._held = _FIRST + held
        t0, t1, seq = (changes[name][held] for name in ("t0", "t1", "seq"))
        self._roots = self._find(Questions(root_node[held], np.full(len(held), ROOT), t0, t1, seq))
        self._spread()

    def ask(self, questions: Questions) -> Answers:
        """The answer to each question, but not whether exec closes what it is about."""
        vertices = self._find(questions)
        self._spread()
        return Answers(self._name.take(vertices), source=self._origin.take(vertices))

    def results(self, changes: Numbers) -> Answers:
        """What descriptors were after changes, by the changes' indices."""
        unclear = self._index.unclear(self._changes)[changes]
        return self._answers(np.where(unclear, _NOBODY, _FIRST + changes))

    def born(self, node: Numbers, fd: Numbers) -> Answers:
        """What tables held when they were made."""
        return self._answers(self._births(node, fd))

    def _answers(self, vertices: Numbers) -> Answers:
        self._spread()
        return Answers(self._name.take(vertices), self._cloexec.take(vertices), self._origin.take(vertices))

    def _find(self, questions: Questions) -> Numbers:
        """The vertex that answers each question."""
        found = self._look(questions)
        need = found < 0
        if need.any():
            found[need] = self._births(questions.node[need], questions.fd[need])
        return found

    def _look(self, questions: Questions) -> Numbers:
        """Likewise, -1 if it is what the table held when it was made."""
        sure, change = self._index.last(questions)
        return np.where(sure, np.where(change >= 0, _FIRST + change, -1), _NOBODY)

    def _births(self, node: Numbers, fd: Numbers) -> Numbers:
        """The vertices of what tables held when they were made; makes those that are not there yet."""
        wanted, which = group(_key(node, fd))
        keys = self._unknown(wanted)
        pending: list[tuple[Numbers, Numbers]] = []
        while len(keys):
            nodes, fds = keys >> 32, (keys & 0xFFFFFFFF).astype(np.uint32).view(np.int32).astype(np.int64)
            kind, tainted, parent = (self._nodes[name][nodes] for name in ("kind", "tainted", "parent"))
            ranged = (fds >= self._nodes["low"][nodes]) & (fds <= self._nodes["high"][nodes])
            shut = (kind == Birth.WHOLE) | ((kind == Birth.RANGE) & ranged)
            copied = np.isin(kind, (Birth.COPY, Birth.EXEC, Birth.RANGE, Birth.RANGE_CLOEXEC)) & ~shut
            copied &= ~tainted & (parent >= 0)
            unmoved = (fds == ROOT) & np.isin(kind, (Birth.FRESH, Birth.BASE)) & ~tainted
            vertex = np.where(shut, _SHUT, np.where(unmoved, _SLASH, _NOBODY))
            vertex[copied] = self._count + np.arange(copied.sum())
            edge = np.select(
                [kind == Birth.COPY, kind == Birth.EXEC, (kind == Birth.RANGE_CLOEXEC) & ranged],
                [_COPIED, _EXECED, _MARKED], int(Join.SAME),
            )  # fmt: skip
            self._remember(keys, vertex)
            t0, t1, seq = (self._nodes[name][nodes[copied]] for name in ("t0", "t1", "seq"))
            asked = Questions(parent[copied].astype(np.int64), fds[copied], t0, t1, seq)
            found = self._look(asked)
            self._grow(found, edge[copied])
            need = found < 0
            above = _key(asked.node[need], asked.fd[need])
            pending.append((vertex[copied][need], above))
            keys = self._unknown(above)
        for vertices, above in pending:
            self._from[vertices] = self._known(above)
        return self._known(wanted)[which]

    def _known(self, keys: Numbers) -> Numbers:
        return self._birth_vertex[np.searchsorted(self._birth_keys, keys)]

    def _unknown(self, keys: Numbers) -> Numbers:
        """Those keys that have no vertex yet, once each."""
        once = distinct(keys)
        if not len(self._birth_keys):
            return once
        at = np.minimum(np.searchsorted(self._birth_keys, once), len(self._birth_keys) - 1)
        fresh: Numbers = once[self._birth_keys[at] != once]
        return fresh

    def _remember(self, keys: Numbers, vertices: Numbers) -> None:
        at = np.searchsorted(self._birth_keys, keys)
        self._birth_keys = np.insert(self._birth_keys, at, keys)
        self._birth_vertex = np.insert(self._birth_vertex, at, vertices)

    def _grow(self, sources: Numbers, edges: Numbers) -> None:
        """Add vertices that wait for their sources."""
        first, self._count = self._count, self._count + len(sources)
        if self._count > len(self._name):
            for name in _COLUMNS:
                wider = np.zeros(self._count + self._count // 8, vars(self)[name].dtype)
                wider[:first] = vars(self)[name][:first]
                vars(self)[name] = wider
        fresh = slice(first, self._count)
        self._waiting.append(np.arange(first, self._count))
        self._name[fresh], self._text[fresh], self._cloexec[fresh] = UNKNOWN, UNKNOWN, Cloexec.KEEP
        self._from[fresh], self._edge[fresh] = sources, edges

    def _spread(self) -> None:
        """Answer what waits: each generation gives the next what it needs."""
        waiting = np.concatenate(self._waiting) if self._waiting else np.zeros(0, np.int64)
        self._waiting = []
        if not len(waiting):
            return
        waiting = waiting[np.argsort(self._from[waiting], kind="stable")]
        sources = self._from[waiting]
        ready = waiting[self._done[sources]]
        if len(self._held):
            ready = without(ready, self._held)
            ready = ready if len(ready) else self._released()
        while len(ready):
            self._derive(ready)
            self._done[ready] = True
            starts, ends = np.searchsorted(sources, ready, "left"), np.searchsorted(sources, ready, "right")
            ready = waiting[ranges(starts, ends)]
            if len(self._held):
                ready = without(ready, self._held)
                ready = ready if len(ready) else self._released()
        lost = waiting[~self._done[waiting]]  # times that cannot be have made a circle: unknown
        self._cloexec[lost], self._done[lost] = Cloexec.UNSURE, True

    def _released(self) -> Numbers:
        """Those that waited for their roots, too, and have them; a root that is not `/` leaves them without a name."""
        free = self._done[self._roots] & self._done[self._from[self._held]]
        released: Numbers = self._held[free]
        roots = self._roots[free]
        self._held, self._roots = self._held[~free], self._roots[~free]
        self._text[released[self._name[roots] != self._code("/")]] = UNKNOWN
        return released

    def _derive(self, ready: Numbers) -> None:
        """Make the answers of vertices whose sources have theirs."""
        source, edge, own = self._from[ready], self._edge[ready], self._cloexec[ready]
        name, cloexec, origin = self._name[source], self._cloexec[source], self._origin[source]
        execed = edge == _EXECED
        name = np.where(execed & (cloexec == Cloexec.YES) & (name != UNKNOWN), CLOSED, name)
        name = np.where(execed & (cloexec == Cloexec.UNSURE) & (name != CLOSED), UNKNOWN, name)
        name = np.where(np.isin(edge, (Join.SAME,)) & (own != Cloexec.KEEP) & (name == CLOSED), UNKNOWN, name)
        through = (edge == _COPIED) | execed
        origin = np.where(through & (origin == Source.INFERRED), Source.INHERITED, origin)
        kept = np.where(execed & (cloexec != Cloexec.UNSURE), Cloexec.NO, cloexec)
        kept = np.where(edge == _MARKED, Cloexec.YES, kept)
        joined = np.isin(edge, (Join.PATH, Join.ROOTED, *_ADDRESSES))
        if joined.any():
            name[joined] = self._joined(name[joined], edge[joined], self._text[ready[joined]])
            origin[joined] = Source.INFERRED
        self._name[ready] = name
        self._cloexec[ready] = np.where(own == Cloexec.KEEP, kept, own)
        self._origin[ready] = np.where(name < 0, Source.UNKNOWN, origin)

    def _joined(self, bases: Numbers, edges: npt.NDArray[np.uint8], texts: Numbers) -> Numbers:
        """Codes of names that are made of others; each is made once."""
        names = len(self.names) + 2  # codes begin at `CLOSED`
        triples, inverse = group((edges.astype(np.int64) * names + bases + 2) * names + texts + 2)
        made = np.zeros(len(triples), np.int64)
        for at in np.argsort(triples).tolist():
            rest, text = divmod(int(triples[at]), names)
            edge, base = divmod(rest, names)
            made[at] = self._join(base - 2, edge, text - 2)
        return made[inverse]

    def _join(self, base: int, edge: int, text: int) -> int:
        how = Join(edge)
        if text < 0 or (base < 0 and how in (Join.PATH, Join.ROOTED)):
            return UNKNOWN
        made = join(self.names[base] if base >= 0 else "socket", how, self.names[text])
        if made is None:
            return UNKNOWN
        return self._code(made)

    def _code(self, name: str) -> int:
        code = self._codes.setdefault(name, len(self.names))
        if code == len(self.names):
            self.names.append(name)
        return code


def _key(node: Numbers, fd: Numbers) -> Numbers:
    key: Numbers = node << 32 | fd & 0xFFFFFFFF
    return key
