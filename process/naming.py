"""Names of processes where the kernel did not tell them: inferred from the calls, put together in order.

A small fold over identities and steps (programs executed, children, names), of which there are few for each process.
What is recorded wins: a name is only filled in where an identity has no argv, or where there is no identity. What
was known ends with a gap, with the process, and where the same number is another task's.

Where a task is an address space, execve replaces it. Old and new are linked only if exactly one execve has not yet
shown its new space and no fork may have made one; otherwise the new space has no name.
"""

from __future__ import annotations

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
    launched: list[tuple[Step, Program | None]] = field(default_factory=list)
    """Programs executed whose address space has not been seen yet, and what ran before."""
    blurred: int = 0
    """Further ones, of which nobody can tell any more which is which."""
    unborn: int = 0
    """Children with a space of their own that have been made and not been seen yet."""


def _key(task: int, is_asid: bool) -> Key:
    return is_asid, task if is_asid else task >> 32


class Namer:
    """Fills in names, segment after segment of one capture."""

    def __init__(self, steps: list[Step]) -> None:
        """Take the steps of all segments: what comes later decides which of those before are certain."""
        self._failed = {step.other for step in steps if step.kind is Kind.EXEC and step.shares}
        self._forks = [step for step in steps if step.kind is Kind.FORK and step.is_asid and not step.shares]
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
        run, key = self._run, (True, step.task)
        if step.kind is Kind.APPEAR:
            return self._appeared(step)
        if step.kind is Kind.EXEC:
            if step.other not in self._failed and step.other == step.seq:
                run.launched.append((step, run.programs.pop(key, None)))
                run.spaces.discard(step.task)
                return Identity(step.seq + 1, step.task, None, "[none]", None)
        elif step.kind is Kind.FORK:
            if step.shares:  # its memory was its child's for a while; what the child executed was not its own program
                before = [program for one, program in run.launched if one.task == step.task]
                run.spaces.add(step.task)
                if before and before[-1] is not None:
                    run.programs[key] = before[-1]
                    return self._named(step, step.task, before[-1])
            else:
                run.unborn += 1
        elif step.kind is Kind.BIRTH:
            run.unborn -= 1
            run.spaces.add(step.task)
            program = self._inherited(key, (True, step.other))
            return None if program is None else self._named(step, step.task, program)
        elif step.kind is Kind.NAME:
            run.comms[step.task] = step.name
        elif step.kind is Kind.END:
            run.programs.pop(key, None)
            run.comms.pop(step.task, None)
            run.spaces.discard(step.task)
        return None

    def _appeared(self, step: Step) -> Identity | None:
        """An address space has its first event: whose is it?"""
        run = self._run
        if step.task in run.spaces:
            return None
        run.spaces.add(step.task)
        run.programs.pop((True, step.task), None)
        forking = any(fork.time <= step.time and fork.seq > step.seq for fork in self._forks)
        if len(run.launched) + run.blurred != 1 or not run.launched or run.unborn or forking:
            if not run.unborn and not forking:
                run.blurred = max(0, run.blurred + len(run.launched) - 1)
                run.launched.clear()
            return Identity(step.seq, step.task, None, "[none]", None)
        ((launch, _),) = run.launched
        run.launched.clear()
        program = Program(launch.first, launch.argv, CALLS)
        run.programs[True, step.task] = program
        run.comms[step.task] = launch.name
        return self._named(step._replace(seq=step.seq - 1), step.task, program)
