"""Processes and the programs that they run, as a tree: whose child each is, from when to when, how it ended.

A small fold over identities and steps (forks, programs executed, threads, ends), of which there are few for each
process. A process begins with its own first return from fork, or when the kernel shows its number with another start
time; a parent's fork says when that was, and by which call. Numbers that a fork returns are not trusted alone: in a
namespace they are another's. Nothing is taken across a gap, but that a number with the same start time is the same
process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from process.events import MAX_SEQUENCE
from process.fd_state import edges_of
from process.fd_timeline import Timeline
from process.grouping import distinct
from process.identify import State
from process.lives import Kind, Step
from process.runs import Runs
from process.survey import NOBODY, Identity, Survey

Numbers = npt.NDArray[np.int64]

FORK, EXEC, EXIT = "fork", "exec", "exit"
"""How a program began, and how it ended."""


@dataclass(slots=True)
class Program:
    """A program that a process ran, or has run since its fork: a row of the table `process`.

    Attributes:
        pid: Of the process.
        since: Sequence number of the first event that may be its own; the next program of the number ends it.
        process: Index of the process's first program.
        parent: Index of the program that made the process, -1 if not known.
        who: Its name.
        ppid: The parent's number when the process was first seen.
        began: `FORK`, `EXEC` or None if it was not seen.
        start_seq: The call that did it; the child's own return if the parent's was not seen.
        start_time: When that was entered, Unix time in ns.
        ended: `EXIT`, `EXEC` or None if it was not seen.
        end_seq: The call that did it.
        end_time: When that was entered.
        status: What it was called with, its low 8 bits as a parent gets them.
    """

    pid: int
    since: int
    process: int
    parent: int = -1
    who: Identity = NOBODY
    ppid: int | None = None
    began: str | None = None
    start_seq: int | None = None
    start_time: int | None = None
    ended: str | None = None
    end_seq: int | None = None
    end_time: int | None = None
    status: int | None = None
    born: int = 0
    """When the kernel says that the process started, ns since boot; 0 if not known."""
    threads: set[int] | None = None
    """Those that live; None if they are not all known: the process was never seen when it had one."""
    gone: frozenset[int] = frozenset()
    """Threads that have ended before the call that made them came back."""
    leader_status: int | None = None
    is_fresh: bool = False
    """Whether nothing but an identity has shown it."""


@dataclass
class Tree:
    """The programs of a capture; see `grow`."""

    programs: list[Program] = field(default_factory=list)

    def timeline(self) -> Timeline:
        """Which program a process runs: moves of numbers to indices, by sequence number."""
        return Timeline.of([(one.pid, one.since, index) for index, one in enumerate(self.programs)])


def cut(timeline: Timeline, tasks: npt.NDArray[np.uint64], blocks: list[tuple[int, int]]) -> Timeline:
    """What of a timeline a segment needs: of its tasks' processes, up to its last event."""
    pids = distinct(tasks >> np.uint64(32))
    first = min((first for first, _ in blocks), default=0)
    last = max((first + count for first, count in blocks), default=0)
    return timeline.cut(pids, np.full(len(pids), first), np.full(len(pids), last))


def grow(surveys: list[Survey], states: Iterable[State], runs: Runs) -> Tree:
    """The tree of a capture.

    Args:
        surveys: Its segments, in order.
        states: Of each, with names.
        runs: Its stretches without gaps.
    """
    grower = _Grower(_resumed(surveys), sorted(seq + 1 for survey in surveys for seq in survey.resets))
    for run, item, unix in _items(surveys, states, runs):
        grower.take(run, item, unix)
    for program in grower.programs:
        program.threads = None  # a set takes some hundred bytes, and nobody asks any more
    return Tree(grower.programs)


def _resumed(surveys: list[Survey]) -> dict[int, int]:
    """When the first event after each gap came back, Unix time in ns, by its sequence number."""
    edges = edges_of([survey.effect for survey in surveys])
    return {
        first: after + survey.batch.header.realtime_ns
        for survey, found in zip(surveys, edges, strict=True)
        for first, after, _ in found
        if first
    }


def _items(surveys: list[Survey], states: Iterable[State], runs: Runs) -> Iterator[tuple[int, Identity | Step, int]]:
    """Identities and steps in order, with the first sequence number of their run; when a step was, Unix time in ns."""
    items: list[tuple[int, int, int, int, Identity | Step, int]] = []
    spaces = {step.task for survey in surveys for step in survey.steps if step.is_asid}
    identities = {(one.seq, one.task): one for state in states for one in state.identities}
    items += [(one.seq, 1, one.task, 0, one, 0) for one in identities.values() if one.task not in spaces]
    for survey in surveys:
        began = survey.batch.header.realtime_ns
        for step in survey.steps:
            if not step.is_asid:
                rank = 0 if step.kind is Kind.BIRTH else 2
                items.append((step.seq, rank, step.kind, len(items), step, min(step.time + began, MAX_SEQUENCE)))
    items.sort()  # no two have the same first four
    for (_, _, _, _, one, unix), start in zip(items, runs.starts_of([item[0] for item in items]), strict=True):
        if start >= 0:
            yield start, one, unix


class _Grower:
    """Puts programs together."""

    def __init__(self, resumed: dict[int, int], resets: list[int]) -> None:
        self.programs: list[Program] = []
        self._resumed, self._resets = resumed, resets
        self._run = -1
        self._of: dict[int, int] = {}
        """The latest program of each number in this run."""
        self._forks: dict[int, tuple[int, Step, int]] = {}
        """Forks whose child has not been seen, by its number: the parent's program, and when it was."""
        self._births: dict[tuple[int, int], list[int]] = {}
        """Programs of children whose parent's fork has not returned, by the numbers of both."""
        self._processes: dict[tuple[int, int], int] = {}
        """First programs of processes by number and start."""

    def take(self, run: int, item: Identity | Step, unix: int) -> None:
        if run != self._run:
            before, self._run = self._run, run
            self._of.clear()
            self._forks.clear()
            self._births.clear()
            if bisect_right(self._resets, run) > bisect_right(self._resets, before):
                self._processes.clear()
        if isinstance(item, Identity):
            self._identity(item)
        elif item.kind in _STEPS:
            _STEPS[item.kind](self, item, unix)

    def _new(self, pid: int, since: int, **facts: Any) -> Program:
        index = len(self.programs)
        made = Program(pid, since, index, **facts)
        self.programs.append(made)
        self._of[pid] = index
        return made

    def _current(self, pid: int) -> Program:
        """The program of a process, which was there since this run's begin if nothing else is known."""
        index = self._of.get(pid)
        return self._new(pid, self._run) if index is None else self.programs[index]

    def _identity(self, one: Identity) -> None:
        pid, is_first = one.task >> 32, one.task >> 32 == one.task & 0xFFFFFFFF
        program = self.programs[self._of[pid]] if pid in self._of else None
        if program is None:
            program = self._new(pid, self._run, is_fresh=is_first)
        elif is_first and one.start != program.born and ((program.born and one.start) or program.ended):
            program = self._new(pid, one.seq, is_fresh=True)
        if is_first and one.start and not program.born:
            program.born = one.start
            before = self._processes.setdefault((pid, one.start), program.process)
            if before != program.process:
                program.process, program.parent = before, self.programs[before].parent
        program.ppid = one.ppid if program.ppid is None else program.ppid
        if _rank(one) >= _rank(program.who):
            program.who = one
        if program.is_fresh and pid in self._forks and self._forks[pid][1].task >> 32 == program.ppid:
            self._claim(program, *self._forks.pop(pid))

    def _claim(self, program: Program, parent: int, fork: Step, unix: int) -> None:
        """A fork was the begin of a process that an identity has shown."""
        program.is_fresh, program.began = False, FORK
        program.parent, program.start_seq, program.start_time = parent, fork.seq, unix

    def _fork(self, step: Step, unix: int) -> None:
        parent = self._current(step.task >> 32)
        above = self._of[parent.pid]
        births = self._births.get((step.other, parent.pid), [])
        index = self._of.get(step.other)
        child = None if index is None else self.programs[self.programs[index].process]
        began = next((one for one in births if (self.programs[one].start_time or 0) >= unix), None)
        if began is not None:
            births.remove(began)
            self.programs[began].start_seq, self.programs[began].start_time = step.seq, unix
        elif child is not None and child.is_fresh and child.ppid == parent.pid:
            self._claim(child, above, step, unix)
        elif unix >= self._resumed.get(self._run, 0):  # else the child may have come and gone in a gap
            self._forks[step.other] = above, step, unix

    def _birth(self, step: Step, unix: int) -> None:
        pid = step.task >> 32
        if pid != step.task & 0xFFFFFFFF or step.other >> 32 == pid:
            self._current(pid)
            return
        parent = self._of[self._current(step.other >> 32).pid] if step.other else -1
        born = self._new(pid, step.seq, parent=parent, began=FORK, start_seq=step.seq, start_time=unix, threads={pid})
        if parent < 0:
            return
        born.ppid = self.programs[parent].pid
        if pid in self._forks and self.programs[self._forks[pid][0]].pid == born.ppid:
            born.parent, fork, born.start_time = self._forks.pop(pid)
            born.start_seq = fork.seq
        else:
            self._births.setdefault((pid, born.ppid), []).append(self._of[pid])

    def _exec(self, step: Step, unix: int) -> None:
        old = self._current(step.task >> 32)
        made = self._new(old.pid, step.seq + 1, began=EXEC, start_seq=step.seq, start_time=unix, threads={old.pid})
        if old.ended is None:
            old.ended, old.end_seq, old.end_time = EXEC, step.seq, unix
            made.process, made.parent, made.ppid, made.born = old.process, old.parent, old.ppid, old.born

    def _end(self, step: Step, unix: int) -> None:
        program = self._current(step.task >> 32)
        if program.ended is None:
            program.ended, program.end_seq, program.end_time, program.status = EXIT, step.seq, unix, _status(step)

    def _thread(self, step: Step, unix: int) -> None:
        program = self._current(step.task >> 32)
        if step.other in program.gone:
            program.gone -= {step.other}
        elif program.threads is not None:
            program.threads.add(step.other)

    def _exit(self, step: Step, unix: int) -> None:
        """A thread has ended, and its process if it was the last one; the status is the first thread's (do_exit)."""
        program = self._current(step.task >> 32)
        if step.task >> 32 == step.task & 0xFFFFFFFF:
            program.leader_status = _status(step)
        if program.threads is None:
            return
        thread = step.task & 0xFFFFFFFF
        if thread not in program.threads:
            program.gone |= {thread}
        program.threads.discard(thread)
        if not program.threads and program.ended is None:
            program.ended, program.end_seq, program.end_time = EXIT, step.seq, unix
            program.status = program.leader_status


_STEPS = {
    Kind.FORK: _Grower._fork, Kind.BIRTH: _Grower._birth, Kind.EXEC: _Grower._exec, Kind.END: _Grower._end,
    Kind.THREAD: _Grower._thread, Kind.EXIT: _Grower._exit,
}  # fmt: skip


def _status(step: Step) -> int | None:
    return step.other if step.other >= 0 else None


def _rank(one: Identity) -> tuple[bool, bool, bool]:
    """How much an identity says of its process."""
    return one.argv is not None, one.task >> 32 == one.task & 0xFFFFFFFF, one.source != "unknown"
