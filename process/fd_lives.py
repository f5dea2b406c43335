"""Who has which table of descriptors and which current folder, from when to when: tasks through their lives.

The one part of the scan that goes step by step, over forks, execs, ends and first sights of tasks, which are few.
It makes nodes (a table for as long as its descriptors change one by one) and says which of them a task has.

What cannot be known is a table of its own that nothing is known of. A task whose beginning was not seen may share its
table with the other threads of its process: their tables are then of one group, and what one of them changes is
unknown to the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from process.fd_records import ALWAYS, NEVER, NODE, Birth, Life, Records
from process.fd_timeline import Timeline
from process.grouping import are_in

CLONE_FILES, CLONE_THREAD = 0x400, 0x10000
_CLONE_FS = 0x200
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
"""include/uapi/linux/sched.h."""
_RANGE_UNSHARE, _RANGE_CLOEXEC = 2, 4
"""include/uapi/linux/close_range.h."""


class Gap(NamedTuple):
    """Events are missing, or all that was known is void.

    Attributes:
        before: When the last event before it came back.
        after: When the first one after it came back; of a reset, when that was.
        first: Sequence number of the first one after it.
    """

    before: int
    after: int
    first: int


class Step(NamedTuple):
    """A record of dtype `LIFE`."""

    seq: int
    t0: int
    t1: int
    task: int
    a: int
    b: int
    op: int


@dataclass
class Space:
    """The tables of one kind: of descriptors, or current folders.

    Attributes:
        node: What each living task has now.
        sharers: The tasks that have a node.
        moves: (task, time, node) for each change of it, -1 for none.
    """

    node: dict[int, int] = field(default_factory=dict)
    sharers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    moves: list[tuple[int, int, int]] = field(default_factory=list)

    def move(self, task: int, time: int, node: int) -> None:
        """A task has another node from now on."""
        old = self.node.pop(task, -1)
        if old >= 0:
            self.sharers[old].discard(task)
            if not self.sharers[old]:
                del self.sharers[old]
        if node >= 0:
            self.node[task] = node
            self.sharers[node].add(task)
        self.moves.append((task, time, node))


class Lives:
    """Follows tasks through their lives.

    Attributes:
        files: Tables of descriptors.
        folders: Current folders.
        owners: The kernel's tables: its ids instead of tasks.
        crosses: Whether tasks of two processes ever had one table.
        lacks: Whether somebody may ask for what was left out of net effects because a process ended.
    """

    def __init__(
        self, steps: Records, sights: Iterable[tuple[int, int, int]], gaps: list[Gap], unsure: int,
        exits: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        """Follow everything.

        Args:
            steps: Of dtype `LIFE`.
            sights: Task, and when it entered its first and its last call.
            gaps: In order.
            unsure: When the first event came back if events before it are missing, else `ALWAYS`.
            exits: Those ends of processes, by their sequence numbers, because of which something was left out.
        """
        self.files, self.folders, self.owners = Space(), Space(), Space()
        self.crosses = self.lacks = False
        self._exits = exits
        self._lacking: set[int] = set()
        self._spaces = (self.files, self.folders)
        self._columns: list[list[Any]] = []
        self._groups = 0
        self._members: dict[int, set[int]] = defaultdict(set)
        self._dead: set[int] = set()
        self._unsure = unsure
        self._namespaces = False
        self._last = {task: last for task, _, last in sights}
        failed = steps["a"][steps["op"] == Life.EXEC_FAILED]
        steps = steps[(steps["op"] != Life.EXEC_FAILED) & ~are_in(steps["seq"].astype(np.uint64), failed)]
        every = list(map(Step._make, steps.tolist()))
        self._forks = _births(every, [gap.first for gap in gaps])
        self._told = {fork.seq for fork in self._forks.values()}
        self._named: dict[int, tuple[int, int]] = {}
        times = np.where(_IS_AT_ENTRY[steps["op"]], steps["t0"], steps["t1"]).tolist()
        order: list[tuple[int, int, int, int, Any]] = [
            *zip(times, _RANKS[steps["op"]].tolist(), steps["seq"].tolist(), range(len(every)), every, strict=True),
            *((first, 4, -1, number, task) for number, (task, first, _) in enumerate(sights)),
            *((gap.before, 5, -1, number, gap) for number, gap in enumerate(gaps)),
        ]
        order.sort()  # no two have the same first four
        for time, rank, _, _, item in order:
            if rank < 4:
                _STEPS[item.op](self, item, time)
            elif rank == 4:
                self._appear(item, time)
            else:
                self._gap(item)

    def nodes(self) -> Records:
        """All nodes, of dtype `NODE`."""
        made = np.zeros(len(self._columns), NODE)
        for name, column in zip(NODE.names or (), zip(*self._columns, strict=True), strict=False):
            made[name] = column
        return made

    def timelines(self) -> tuple[Timeline, Timeline, Timeline]:
        """Who has which descriptors, which folder, and which node is which of the kernel's tables."""
        return Timeline.of(self.files.moves), Timeline.of(self.folders.moves), Timeline.of(self.owners.moves)

    def _new(self, kind: Birth, time: int, group: int = -1, step: Step | None = None, parent: int = -1,
             **more: Any) -> int:  # fmt: skip
        """Make a node; without a group, one of its own."""
        if group < 0:
            group, self._groups = self._groups, self._groups + 1
        seq, t0, t1 = (step.seq, step.t0, step.t1) if step is not None else _NO_STEP
        node = [int(kind), False, parent, group, seq, t0, t1, time, self._unsure, NEVER, -1, 0, 0]
        for name, value in more.items():
            node[_PLACE[name]] = value
        self._columns.append(node)
        return len(self._columns) - 1

    def _group(self, node: int) -> int:
        group: int = self._columns[node][_GROUP]
        return group

    def _appear(self, task: int, time: int) -> None:
        """A task that nothing is known of: its table may be that of its process's other threads."""
        if task in self.files.node or task in self._dead:
            return
        pid = task >> 32
        for space in self._spaces:
            groups = {self._group(space.node[other]) for other in self._members[pid] if other in space.node}
            if len(groups) > 1:
                self._distrust(space, pid, time)
                groups = {self._group(space.node[other]) for other in self._members[pid] if other in space.node}
            space.move(task, time, self._new(Birth.FRESH, time, groups.pop() if groups else -1))
        self._members[pid].add(task)

    def _ensure(self, task: int, time: int) -> None:
        self._dead.discard(task)
        self._appear(task, time)

    def _distrust(self, space: Space, pid: int, time: int) -> None:
        """The tables of a process's threads may be one or several, and hold anything; so may those of others then."""
        group = -1
        old = {space.node[task] for task in self._members[pid] if task in space.node}
        for task in sorted(self._members[pid]):
            if task in space.node:
                fresh = self._new(Birth.FRESH, time, group)
                group = self._group(fresh)
                space.move(task, time, fresh)
        for node in sorted(old):
            if space.sharers.get(node):
                self._replace(space, node, time, self._new(Birth.FRESH, time, self._group(node), tainted=True))

    def _drop(self, task: int, time: int) -> None:
        """A task has ended."""
        for space in self._spaces:
            if task in space.node:
                space.move(task, time, -1)
        self._members[task >> 32].discard(task)
        self._dead.add(task)

    def _replace(self, space: Space, node: int, time: int, new: int) -> None:
        """All who have a node have another from now on."""
        for task in sorted(space.sharers.get(node, ())):
            space.move(task, time, new)
        if space is self.files:
            for owner in sorted(self.owners.sharers.get(node, ())):
                self.owners.move(owner, time, new)

    def _end(self, node: int, time: int, seq: int) -> None:
        """Calls that a node's end overlaps may have seen either."""
        self._columns[node][_END], self._columns[node][_ENDER] = time, seq

    def _gap(self, gap: Gap) -> None:
        """Anything may have happened: tasks that are seen later are new."""
        self._unsure = gap.after
        for space in (*self._spaces, self.owners):
            for node in space.sharers:
                self._end(node, gap.before, -1)
            for task in sorted(space.node):
                space.move(task, gap.before, -1)
        later = sorted(task for task in {t for m in self._members.values() for t in m} | self._dead
                       if self._last.get(task, gap.before) > gap.before)  # fmt: skip
        self._members.clear()
        self._dead.clear()
        for task in later:
            self._appear(task, gap.before)

    def _snapshot(self, step: Step, time: int) -> None:
        old = self.owners.node.get(step.task, -1)
        node = self._new(Birth.WHOLE, time, self._group(old) if old >= 0 else -1, step)
        if old >= 0:
            self._replace(self.files, old, time, node)
        self.owners.move(step.task, time, node)

    def _identity(self, step: Step, time: int) -> None:
        self._ensure(step.task, time)
        self._named[step.task] = step.seq, time
        node = self.owners.node.get(step.a, -1)
        if node < 0:
            node = self._new(Birth.FRESH, time)
            self.owners.move(step.a, time, node)
        if self.files.node[step.task] != node:
            self.lacks |= node in self._lacking
            self.crosses |= any(task >> 32 != step.task >> 32 for task in self.files.sharers.get(node, ()))
            self.files.move(step.task, time, node)

    def _fork(self, step: Step, time: int) -> None:
        self._ensure(step.task, time)
        flags = step.b
        if flags >= 0 and flags & _CLONE_NEWPID:
            self._namespaces = True
        if flags < 0:
            self._taint(step, time)
        if step.seq in self._told or not step.a:
            return  # the child's own first return says more
        same_process = flags >= 0 and flags & CLONE_THREAD
        child = (step.task >> 32 if same_process else step.a) << 32 | step.a & 0xFFFFFFFF
        if self._namespaces:  # the number may be another task's outside
            if flags & CLONE_FILES and not same_process:
                self._taint(step, time)
        elif child in self.files.node:  # killed unseen, or a number of a namespace that nobody saw being made
            for space in self._spaces:
                self._distrust(space, child >> 32, time)
            if flags & CLONE_FILES:
                self._taint(step, time)
        else:
            self._born(step, time, child, flags)

    def _child(self, step: Step, time: int) -> None:
        """A child's first return; without its fork it is known what it shares, but not when it was made."""
        fork, (told, when) = self._forks.get(step.seq), self._named.get(step.task, (-1, time))
        named = told == step.seq - 1
        time = when if named else time  # its folder was read together with its table
        if fork is not None:
            self._born(fork, time, step.task, fork.b, named)
            return
        if not step.a:
            if not named:
                self._drop(step.task, time)
                self._ensure(step.task, time)
            return
        self._ensure(step.a, time)
        if step.b < 0:
            self._taint(step._replace(task=step.a), time)
        self._born(step._replace(task=step.a), time, step.task, step.b, named)
        for space, shared in ((self.files, CLONE_FILES), (self.folders, _CLONE_FS)):
            if step.b >= 0 and not step.b & shared and not (named and space is self.files):
                space.move(step.task, time, self._new(Birth.FRESH, time))

    def _born(self, step: Step, time: int, child: int, flags: int, named: bool = False) -> None:
        """A task begins.

        Args:
            step: The fork.
            time: Since when.
            child: The task.
            flags: Say whether it shares or copies.
            named: Whether its table was read from the kernel just before.
        """
        if child >> 32 == child & 0xFFFFFFFF:
            for other in sorted(self._members[child >> 32] - {child}):
                self._drop(other, time)
        self._dead.discard(child)
        for space, shared in ((self.files, CLONE_FILES), (self.folders, _CLONE_FS)):
            above = space.node.get(step.task, -1)
            if named and space is self.files:
                continue
            if above < 0:
                space.move(child, time, self._new(Birth.FRESH, time))
            elif flags < 0 or flags & shared:
                space.move(child, time, above)
                self.crosses |= space is self.files and child >> 32 != step.task >> 32
            else:
                space.move(child, time, self._new(Birth.COPY, time, -1, step, above))
        self._members[child >> 32].add(child)

    def _taint(self, step: Step, time: int) -> None:
        """A table changes in ways that nobody sees."""
        self._ensure(step.task, time)
        for space in self._spaces if step.op != Life.TAINT else (self.files,):
            node = space.node[step.task]
            self._end(node, step.t0, step.seq)
            self._replace(space, node, time, self._new(Birth.FRESH, time, self._group(node), tainted=True))

    def _exec(self, step: Step, time: int) -> None:
        """The other threads die, and a table shared with another process is copied (fs/exec.c begin_new_exec)."""
        self._ensure(step.task, time)
        first = step.task >> 32 << 32 | step.task >> 32
        files, folder = self.files.node[step.task], self.folders.node[step.task]
        for other in sorted(self._members[step.task >> 32]):
            self._drop(other, time)
        self._dead.discard(first)
        self._members[first >> 32].add(first)
        self.folders.move(first, time, folder)
        self.files.move(first, time, self._new(Birth.EXEC, time, -1, step, files))

    def _exec_begun(self, step: Step, time: int) -> None:
        """It did not fail, as far as is known: the first thread goes on as this one, sooner or later."""
        self._ensure(step.task, time)
        first = step.task >> 32 << 32 | step.task >> 32
        for space in self._spaces:
            own, mine = space.node.get(first, -1), space.node[step.task]
            if own != mine:
                space.move(first, time, self._new(Birth.FRESH, time))
            elif space is self.files:
                self._replace(space, mine, time, self._new(Birth.EXEC, time, self._group(mine), step, mine))
        self._members[first >> 32].add(first)

    def _exit(self, step: Step, time: int) -> None:
        self._drop(step.task, time)

    def _exit_group(self, step: Step, time: int) -> None:
        if step.seq in self._exits:
            self.lacks |= self._members[step.task >> 32] != {step.task}
            self._lacking.add(self.files.node.get(step.task, -1))
        for task in sorted(self._members[step.task >> 32]):
            self._drop(task, time)
        self._dead.add(step.task)
        del self._members[step.task >> 32]

    def _unshare(self, step: Step, time: int) -> None:
        self._ensure(step.task, time)
        self._namespaces |= bool(step.b & _CLONE_NEWPID)
        if step.b & CLONE_FILES:
            self._apart(self.files, step, time)
        if step.b & (_CLONE_FS | _CLONE_NEWNS | _CLONE_NEWUSER):
            self._apart(self.folders, step, time)

    def _apart(self, space: Space, step: Step, time: int) -> None:
        """A task has its table for itself."""
        node = space.node[step.task]
        space.move(step.task, time, self._new(Birth.RANGE, time, -1, step, node, low=1, high=0))

    def _range(self, step: Step, time: int) -> None:
        self._ensure(step.task, time)
        if step.b & _RANGE_UNSHARE:
            self._apart(self.files, step, time)
        node = self.files.node[step.task]
        group = self._group(node)
        kind = Birth.RANGE_CLOEXEC if step.b & _RANGE_CLOEXEC else Birth.RANGE
        low, high = step.a & 0xFFFFFFFF, step.a >> 32
        new = self._new(kind, time, group, step, node, low=low, high=high, unsure=max(step.t1, self._unsure))
        others = {self.files.node[task] for task in self._members[step.task >> 32] if task in self.files.node}
        for other in sorted(others - {node}):
            if self._group(other) == group:
                self._end(other, step.t0, step.seq)
                self._replace(self.files, other, time, self._new(Birth.FRESH, time, group))
        self._end(node, step.t0, step.seq)
        self._replace(self.files, node, time, new)

    def _pivot(self, step: Step, time: int) -> None:
        for node in sorted(self.folders.sharers):
            self._end(node, step.t0, step.seq)
            self._replace(self.folders, node, time, self._new(Birth.FRESH, time, self._group(node)))

    def _setns(self, step: Step, time: int) -> None:
        self._namespaces |= not step.b or bool(step.b & _CLONE_NEWPID)

    def _lost(self, step: Step, time: int) -> None:
        self._ensure(step.task, time)
        for space in self._spaces:
            node = space.node[step.task]
            self._end(node, ALWAYS, -1)
            self._replace(space, node, time, self._new(Birth.FRESH, time, self._group(node), unsure=time))


def _births(steps: list[Step], gaps: list[int]) -> dict[int, Step]:
    """The fork of each child whose first return is recorded, by the sequence number of that.

    Args:
        steps: All.
        gaps: Sequence numbers after a gap, ascending: no fork made what is seen on its other side.
    """
    forks: dict[tuple[int, int], list[Step]] = defaultdict(list)
    for step in steps:
        if step.op == Life.FORK:
            forks[step.task, bisect_right(gaps, step.seq)].append(step)
    for made in forks.values():
        made.sort(key=lambda step: step.t0)
    found: dict[int, Step] = {}
    taken: set[int] = set()
    for step in steps:
        if step.op != Life.CHILD or (step.a, bisect_right(gaps, step.seq)) not in forks:
            continue
        made = forks[step.a, bisect_right(gaps, step.seq)]
        made = made[: bisect_right(made, step.t0, key=lambda fork: fork.t0)]
        named = (fork for fork in reversed(made) if fork.a == step.task & 0xFFFFFFFF and fork.seq not in taken)
        around = (fork for fork in made[-1:] if step.t0 <= fork.t1 or not fork.a)
        fork = next(named, None) or next(around, None)
        if fork is not None and fork.seq not in taken:
            found[step.seq] = fork._replace(t1=min(fork.t1, step.t0) if fork.a else step.t0)
            taken.add(fork.seq)
    return found


_IS_AT_ENTRY = np.zeros(len(Life), np.bool_)
_IS_AT_ENTRY[[Life.FORK, Life.EXEC_BEGUN, Life.EXIT, Life.EXIT_GROUP, Life.TAINT, Life.SETNS]] = True
"""Steps whose effect may begin with the call; that of the others is seen after it."""
_RANKS = np.ones(len(Life), np.int64)
_RANKS[[Life.FORK, Life.SNAPSHOT, Life.IDENTITY]] = 0, 2, 3
"""Which come first of those at one time."""
_STEPS: dict[int, Callable[[Lives, Step, int], None]] = {
    Life.SNAPSHOT: Lives._snapshot, Life.IDENTITY: Lives._identity, Life.FORK: Lives._fork, Life.CHILD: Lives._child,
    Life.EXEC: Lives._exec, Life.EXEC_BEGUN: Lives._exec_begun, Life.EXIT: Lives._exit,
    Life.EXIT_GROUP: Lives._exit_group, Life.UNSHARE: Lives._unshare, Life.RANGE: Lives._range,
    Life.PIVOT: Lives._pivot, Life.TAINT: Lives._taint, Life.SETNS: Lives._setns, Life.LOST: Lives._lost,
}  # fmt: skip
_PLACE = {name: place for place, name in enumerate(NODE.names or ())}
"""Of a column of `NODE`."""
_GROUP, _END, _ENDER = (_PLACE[name] for name in ("group", "end", "ender"))
_NO_STEP = -1, 0, 0
