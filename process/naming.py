"""Names of processes where the kernel did not tell them: inferred from the calls, put together in order.

A small fold over identities and steps (programs executed, children, names), of which there are few for each process.
What is recorded wins: a name is only filled in where an identity has no argv, or where there is no identity. What
was known ends with a gap, with the process, and where the same number is another task's.

Where a task is an address space, each fork and each execve brings a new one, and nothing but the order of events says
whose it is. All that have not been seen yet are in a pool. A space that appears takes a name out of it only if all in
the pool have the same, and only in a capture that nothing is missing from so far: after a gap an old space may seem
new. Once a process may have ended unseen (by a signal), its space may be another's, and no name is certain any more.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

from process.lives import Kind, Step
from process.survey import Identity

CALLS, INHERITED = "calls", "inherited"
"""Sources of a name besides those of a recorded one: an execve or prctl of the process, or its parent's."""

Key = tuple[bool, int]
"""Whether it is an address space, and its number, else the process's."""


class Program(NamedTuple):
    """What a process runs, as far as it is known: an argv or else a name."""

    first: str
    argv: str | None
    source: str


@dataclass
class _Run:
    """What is known at one moment of a stretch without gaps."""

    programs: dict[Key, Program] = field(default_factory=dict)
    comms: dict[int, str] = field(default_factory=dict)
    recorded: dict[int, Identity] = field(default_factory=dict)
    """By task."""
    children: dict[Key, Program | None] = field(default_factory=dict)
    """What children run that have been made and not been seen yet."""
    spaces: set[int] = field(default_factory=set)
    """Address spaces that are in use."""
    pool: list[Program | None] = field(default_factory=list)
    """What may run in spaces that have not been seen yet."""
    ended: int = 0
    """Processes whose end was seen, less those that were waited for."""
    is_certain: bool = True
    """Whether each space is known to be still the same process's."""
    unseen: int = 0
    """How many these are: fewer than are in the pool if nobody can tell which of them were seen."""


def _key(task: int, is_asid: bool) -> Key:
    return is_asid, task if is_asid else task >> 32


class Namer:
    """Fills in names, segment after segment of one capture."""

    def __init__(self, steps: list[Step], is_whole: bool) -> None:
        """Take the steps of all segments: what comes later decides which of those before are certain.

        Args:
            steps: By sequence number.
            is_whole: Whether the first run begins with the capture.
        """
        self._is_whole = is_whole
        self._failed = {step.other for step in steps if step.kind is Kind.EXEC and step.shares}
        forks = [step for step in steps if step.kind is Kind.FORK and step.is_asid]
        self._forks = sorted((step.time, step.seq, step.task) for step in forks if not step.shares)
        """When each began; those before ``self._begun`` have been looked at."""
        self._begun = 0
        self._born: set[int] = set()
        """Forks that are in the pool, or were, by the sequence number of their return."""
        self._shared: dict[int, list[tuple[int, int]]] = {}
        """Forks whose child runs in its parent's memory, by parent: sequence number of the return, when it began."""
        for step in forks:
            if step.shares:
                self._shared.setdefault(step.task, []).append((step.seq, step.time))
        self._run, self._number = _Run(), -1

    def name(self, identities: list[Identity], steps: list[Step], run_of: dict[int, int]) -> list[Identity]:
        """The identities of a segment with all names that are known, and further ones.

        Args:
            identities: As recorded, by sequence number; all in some run.
            steps: Likewise.
            run_of: The run of each sequence number that occurs in them.
        """
        found: dict[tuple[int, int], Identity] = {}
        items: list[Identity | Step] = [*identities, *steps]
        for item in sorted(items, key=lambda one: (one.seq, isinstance(one, Step))):
            if run_of[item.seq] != self._number:
                self._run, self._number = _Run(), run_of[item.seq]
            known: Identity | None
            if isinstance(item, Identity):
                known = self._recorded(item)
            elif item.kind in (Kind.REAP, Kind.KILL):
                for doubtful in self._doubted(item):
                    found[doubtful.seq, doubtful.task] = doubtful
                known = None
            else:
                known = self._space(item) if item.is_asid else self._step(item)
            if known is not None and ((known.seq, known.task) not in found or isinstance(item, Identity)):
                found[known.seq, known.task] = known
        return [found[place] for place in sorted(found)]

    def _recorded(self, one: Identity) -> Identity:
        """A recorded identity; its argv is filled in if it has none."""
        run, key = self._run, _key(one.task, one.ppid is None)
        before = run.recorded.get(one.task)
        if before is not None and before.start != one.start and one.task >> 32 == one.task & 0xFFFFFFFF:
            run.programs.pop(key, None)
        run.recorded[one.task] = one
        if one.comm:
            run.comms[one.task] = one.comm
        if one.argv is not None:
            run.programs[key] = Program(one.procname, one.argv, one.source)
            return one
        if one.is_kernel:
            return one
        program = run.programs.get(key)
        if program is None and one.ppid is not None and before is None:
            program = self._inherited(key, (False, one.ppid))
        return one if program is None else self._filled(one, program)

    def _inherited(self, child: Key, parent: Key) -> Program | None:
        """What a child runs that is seen for the first time."""
        run = self._run
        program = run.children.pop(child) if child in run.children else run.programs.get(parent)
        if program is None:
            return None
        run.programs[child] = program = program._replace(source=INHERITED)
        return program

    def _filled(self, one: Identity, program: Program) -> Identity:
        """An identity with a program."""
        name = program.first or self._run.comms.get(one.task) or ""
        source = program.source if program.first or not one.comm else one.source
        return one._replace(procname=name or "[none]", argv=program.argv, source=source)

    def _named(self, step: Step, task: int, program: Program) -> Identity:
        """An identity that nothing recorded, from the event after a step on."""
        ppid = self._run.recorded[task].ppid if task in self._run.recorded else None
        one = Identity(step.seq + 1, task, ppid, "[none]", None)
        return self._filled(one, program)

    def _step(self, step: Step) -> Identity | None:
        """A step of a task that has numbers."""
        run, key = self._run, _key(step.task, False)
        if step.kind is Kind.EXEC:
            leader = key[1] << 32 | key[1]
            run.programs[key] = Program(step.first, step.argv, CALLS)
            run.comms[leader] = step.name
            return self._named(step, leader, run.programs[key])
        if step.kind is Kind.FORK:
            child = (False, step.other)
            if child not in run.programs:
                run.children[child] = run.programs.get(key)
        elif step.kind is Kind.BIRTH:
            if step.other and step.other >> 32 != key[1] and step.task not in run.recorded:
                program = self._inherited(key, _key(step.other, False))
                return None if program is None else self._named(step, step.task, program)
        elif step.kind is Kind.NAME:
            run.comms[step.task] = step.name
            if step.task not in run.recorded and key not in run.programs:
                return self._named(step, step.task, Program("", None, CALLS))
        elif step.kind is Kind.END:
            run.programs.pop(key, None)
            run.recorded.pop(key[1] << 32 | key[1], None)
        return None

    def _space(self, step: Step) -> Identity | None:
        """A step where tasks are address spaces."""
        run = self._run
        if not run.is_certain:
            return None
        if step.kind is Kind.APPEAR:
            return None if step.task in run.spaces else self._appeared(step)
        if step.kind is Kind.EXEC:
            if step.other != step.seq or step.other in self._failed:
                return None
            run.pool.append(Program(step.first, step.argv, CALLS) if step.argv or not step.name else None)
            run.unseen += 1
            if not self._is_childs(step):
                return self._gone(step)
        elif step.kind is Kind.FORK and not step.shares:
            self._await(step.seq, step.task)
        elif step.kind is Kind.NAME:
            run.comms[step.task] = step.name
        elif step.kind is Kind.END:
            run.ended += 1
            if not self._is_childs(step):
                return self._gone(step)
        return None

    def _doubted(self, step: Step) -> list[Identity]:
        """What is not certain any more: everything, if a process may have ended unseen."""
        run = self._run
        run.ended -= 1
        if not run.is_certain or (step.kind is Kind.REAP and run.ended >= 0):
            return []
        run.is_certain = False
        doubtful = [task for _, task in run.programs]
        run.programs.clear()
        run.comms.clear()
        return [Identity(step.seq + 1, task, None, "[none]", None) for task in doubtful]

    def _is_childs(self, step: Step) -> bool:
        """Whether it may be a child's in its parent's memory: the space stays as it is."""
        forks = self._shared.get(step.task, [])
        after = bisect_left(forks, (step.seq, 0))
        return after < len(forks) and forks[after][1] <= step.time

    def _await(self, fork: int, parent: int) -> None:
        """A fork has made a child, which has not been seen unless it is known to have been."""
        if fork not in self._born:
            self._born.add(fork)
            self._run.pool.append(self._run.programs.get((True, parent)))
            self._run.unseen += 1

    def _gone(self, step: Step) -> Identity:
        """An address space is no more; the same number may come back as another's."""
        self._run.programs.pop((True, step.task), None)
        self._run.comms.pop(step.task, None)
        self._run.spaces.discard(step.task)
        return Identity(step.seq + 1, step.task, None, "[none]", None)

    def _appeared(self, step: Step) -> Identity | None:
        """An address space has its first event: whose is it?"""
        run = self._run
        run.spaces.add(step.task)
        while self._begun < len(self._forks) and self._forks[self._begun][0] <= step.time:
            _, fork, parent = self._forks[self._begun]  # perhaps still under way: a child may be faster than its parent
            self._begun += 1
            self._await(fork, parent)
        program = run.pool[0] if self._number == 0 and self._is_whole and len(set(run.pool)) == 1 else None
        if run.unseen:
            run.unseen -= 1
        if program is not None or not run.unseen:
            del run.pool[run.unseen :]
        if program is None:
            return Identity(step.seq, step.task, None, "[none]", None)
        run.programs[True, step.task] = program
        return self._named(step._replace(seq=step.seq - 1), step.task, program)
