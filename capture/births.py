"""Whose child a new task is: what its parent's fork was, whether that has come back before it or not."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple, Protocol

Args = tuple[int, int, int, int, int, int]
_LOW = 0xFFFFFFFF
_MOST = 4096
"""Children kept that have not been seen yet; the oldest is forgotten."""


class Call(Protocol):
    """A call that has been entered."""

    @property
    def pc(self) -> int:
        """Where it comes back."""

    @property
    def number(self) -> int:
        """Of the syscall."""

    @property
    def args(self) -> Args:
        """Its arguments."""


class Birth(NamedTuple):
    """A fork: the task that made it, the call."""

    parent: int
    number: int
    args: Args


class Births:
    """Links new tasks to forks, where tasks are numbers that the kernel gives: pid << 32 | tid.

    The kernel says whose child a process is. A thread's maker it does not say, but that is a thread of its own process.
    """

    def __init__(self, forks: Set[int]) -> None:
        """Prepare; ``forks`` are the numbers of the calls that return twice."""
        self._forks = forks
        self._unseen: dict[int, Birth] = {}
        """Forks that have come back to the parent, by the number that they returned, until the child is seen."""
        self._known: set[int] = set()

    def forget(self) -> None:
        """Nothing is known of any task."""
        self._unseen.clear()
        self._known.clear()

    def seen(self, task: int) -> None:
        """A task has been identified: it is new no more."""
        self._known.add(task)
        self._unseen.pop(task & _LOW, None)

    def ended(self, task: int) -> None:
        """Its number may be another's from now on."""
        self._known.discard(task)

    def returned(self, parent: int, call: Call, child: int) -> None:
        """A fork has come back to the parent."""
        if (child << 32 | child) not in self._known and (parent >> 32 << 32 | child) not in self._known:
            self._unseen[child] = Birth(parent, call.number, call.args)
            if len(self._unseen) > _MOST:
                del self._unseen[next(iter(self._unseen))]

    def birth(self, task: int, told: int, pc: int, pending: Mapping[int, Call]) -> Birth | None:
        """The fork that a task comes back from, or None if it is not new or that is not certain.

        Args:
            task: At an instruction that follows a call, with none of its own pending and 0 in the return register.
            told: The kernel's word for its parent, 0 if it has none.
            pc: The instruction.
            pending: The call of each task that has not come back.
        """
        if not told or task in self._known:
            return None
        is_thread = task >> 32 != task & _LOW

        def may_be(parent: int) -> bool:
            return parent >> 32 == task >> 32 if is_thread else parent == told

        found = self._unseen.get(task & _LOW)
        if found is not None:
            return found if may_be(found.parent) else None
        waiting = [
            Birth(parent, call.number, call.args)
            for parent, call in pending.items()
            if call.pc == pc and call.number in self._forks and may_be(parent)
        ]
        return waiting[0] if len(waiting) == 1 else None
