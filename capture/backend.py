"""What the ways to see calls have in common: they answer the tracer's questions about the task that runs."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from capture.abi import Abi
from capture.arguments import ArgumentReader
from capture.calls import Calls
from capture.compat import compat_of
from capture.files import FileRecords
from capture.introspection import AddressSpaces, Introspection
from capture.memory import GuestMemory
from capture.recorder import Recorder, String
from capture.registers import Tables, arguments_of, space_of, tables_of, words_of
from capture.segment import EventFlag
from capture.tracer import Args, Identity, Tracer

_WORD = (1 << 64) - 1


class Backend:
    """Feeds a `Recorder` from a running PANDA, by way of a `Tracer`.

    Attributes:
        name: As the ``capture`` command and the segments' META block have it.
        enabled: Whether calls are recorded.
        recorder: Where they go.
        tracer: Makes events of them.
        trouble: What first kept a call from being recorded, for the summary.
    """

    name = ""

    def __init__(
        self, panda: Any, abi: Abi, calls: Calls, recorder: Recorder, memory: GuestMemory, arguments: ArgumentReader,
        introspection: Introspection | None, procs: frozenset[bytes], compat_arguments: ArgumentReader | None = None,
    ) -> None:  # fmt: skip
        """Prepare to record.

        Args:
            panda: A ``pandare.Panda`` that does not run yet.
            abi: Its guest's ABI.
            calls: The syscalls of that.
            recorder: Where events go.
            memory: The guest's memory.
            arguments: Reads what arguments point to.
            introspection: How tasks are told apart and named; None if there is no profile.
            procs: Names of the processes to record; empty for all.
            compat_arguments: Reads those of 32-bit programs, if the guest's kernel may run such.
        """
        self.enabled, self.recorder = True, recorder
        self.trouble: str | None = None
        self._panda, self._abi, self._arguments, self._introspection = panda, abi, arguments, introspection
        self._memory, self._calls, self._cpu = memory, calls, None
        self._files: FileRecords | None = None
        self._args = arguments_of(abi, memory, lambda: self._cpu)
        self._words = memoryview(bytearray(8)).cast("Q")
        self._space: memoryview | Tables = self._words
        """The CPU's registers, and the one that tells address spaces apart, as they are at any moment."""
        self._space_mask = abi.space.mask
        flags = 0 if introspection else int(EventFlag.TASK_IS_ASID)
        self.tracer = Tracer(calls, recorder, self, procs, flags)
        self._compat_arguments = compat_arguments
        self._compat = compat_of(panda, abi, memory, self._compat_entered, self._compat_returned)

    def identity(self, task: int) -> Identity:
        """Who the current task is."""
        return (self._introspection or AddressSpaces()).identity(self._cpu, task)

    def args(self) -> Args:
        """The argument registers as they are now."""
        return self._args(self._words)

    def wide(self, number: int, args: Args) -> Args:
        """The arguments of a call whose arguments lie in memory."""
        return self._reader(number).wide(self._cpu, number, args)

    def strings(self, number: int, args: Args, ret: int | None) -> tuple[String, ...]:
        """The strings of a call's arguments."""
        return self._reader(number).read(self._cpu, number, args, ret)

    def _reader(self, number: int) -> ArgumentReader:
        """What reads the arguments of a call: those of 32-bit programs have pointers of 4 bytes."""
        return self._compat_arguments if number >> 32 and self._compat_arguments else self._arguments

    def rights(self, number: int, message: int) -> list[int]:
        """The descriptors that a message has brought."""
        return self._reader(number).rights(self._cpu, message) if self._files else []

    def parent(self) -> int:
        """The task that made the current one; 0 if it is not known."""
        return self._introspection.parent(self._cpu) if self._introspection else 0

    def opened(self, task: int, again: bool) -> None:
        """Record the table and the folder of the current task."""
        if self._files and self._introspection:
            self._files.identified(self._cpu, self._introspection.current, task, again)

    def made(self, fds: Iterable[int]) -> None:
        """Record descriptors of the current task."""
        if self._files and self._introspection:
            self._files.made(self._cpu, self._introspection.current, fds)

    def moved(self, task: int) -> None:
        """Record the folder of the current task and of those who share it."""
        if self._files and self._introspection:
            self._files.moved(self._cpu, self._introspection.current, task)

    def gone(self, pid: int) -> None:
        """The table of a process is another's from now on, or has changed."""
        if self._files:
            self._files.gone(pid)

    def forget(self) -> None:
        """No table is on record: a chunk has begun."""
        if self._files:
            self._files.forget()

    def waiting(self) -> None:
        """Tell the tracer of calls that it has not been told of, since they have not come back."""

    def _start(self, cpu: Any) -> None:
        """At the first call of all: find the registers, and see whether the profile fits the kernel that runs."""
        self._words, self._space = words_of(self._panda, self._abi, cpu), space_of(self._panda, self._abi, cpu)
        self._cpu = cpu
        if self._compat:
            self._compat.start(cpu)
        tables = tables_of(self._panda, self._abi, self._memory, cpu)
        if tables:
            self._space, self._space_mask = tables, _WORD
        moves = self._abi.space.moves and tables is None
        if self._introspection and self._introspection.task(cpu) is None:
            self._introspection = None
            self.tracer.tasks_are_asids()
            self.trouble = "no names from the kernel: the profile does not fit it (was it booted with nokaslr?)"
        elif self._introspection and self._introspection.descriptors:
            self._files = FileRecords(self._introspection.descriptors, self.recorder)
        self.tracer.spaces_move = moves and self._introspection is None

    def _task(self, cpu: Any, asid: int) -> int:
        """The current task; the address space where tasks cannot be told apart."""
        if self._introspection is None:
            return asid
        task = self._introspection.task(cpu)
        if task is None:
            raise LookupError("the current task could not be read")
        return task

    def _compat_entered(self, cpu: Any, back: int, number: int, args: Args) -> None:
        """A 32-bit program has made a call; ``back`` and ``number`` are marked with its ABI."""
        if not self.enabled:
            return
        try:
            if self._cpu is None:
                self._start(cpu)
            asid = self._space[0] & self._space_mask
            self.tracer.enter(self._task(cpu, asid), asid, back, number, args)
        except Exception as error:  # pandare would stop the guest
            self._failed(error)

    def _compat_returned(self, cpu: Any, back: int, ret: int) -> None:
        """A 32-bit program's call may have come back."""
        if not self.enabled or self._cpu is None:
            return
        try:
            asid = self._space[0] & self._space_mask
            self.tracer.leave(self._task(cpu, asid), asid, back, ret)
        except Exception as error:  # as above
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Count a call that could not be recorded; the first error is kept for the summary."""
        self.recorder.counts["errors"] += 1
        if self.trouble is None:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.trouble = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
