"""The syscalls2 back end: PANDA's own plugin calls at every syscall's entry and return."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

from capture.abi import Abi
from capture.arguments import ArgumentReader
from capture.calls import Calls
from capture.introspection import AddressSpaces, Introspection
from capture.recorder import Recorder, String
from capture.segment import EventFlag
from capture.tracer import Args, Identity, Tracer


class Syscalls2:
    """Feeds a `Recorder` from a running PANDA.

    Registers are read from the CPU, not from syscalls2's context: the kernel keeps the argument registers over a
    call, while the context of a call may be another thread's that waits at the same instruction (PANDA 0.1.1.5
    keys contexts by return address and address space).

    Attributes:
        enabled: Whether calls are recorded.
        recorder: Where they go.
        trouble: What first kept a call from being recorded, for the summary.
    """

    def __init__(
        self, panda: Any, abi: Abi, calls: Calls, recorder: Recorder, arguments: ArgumentReader,
        introspection: Introspection | None, procs: frozenset[bytes],
    ) -> None:  # fmt: skip
        """Load syscalls2 and register with it.

        Args:
            panda: A ``pandare.Panda`` that does not run yet.
            abi: Its guest's ABI.
            calls: The syscalls of that.
            recorder: Where events go.
            arguments: Reads what arguments point to.
            introspection: How tasks are told apart and named; None if there is no profile.
            procs: Names of the processes to record; empty for all.
        """
        self.enabled, self.recorder = True, recorder
        self.trouble: str | None = None
        self._panda, self._abi, self._arguments, self._introspection = panda, abi, arguments, introspection
        self._args: Callable[[memoryview], Args] = itemgetter(*abi.args)
        self._ret = abi.ret
        self._cpu: Any = None
        self._words = memoryview(bytearray(8)).cast("Q")
        """The CPU's registers, as they are at any moment."""
        self._running: set[tuple[int, int]] = set()
        """Return address and address space of each call whose return syscalls2 will report."""
        self._watched: set[int] = set()
        """Return addresses at which it has more than one thread wait, and so forgets one."""
        flags = 0 if introspection else int(EventFlag.TASK_IS_ASID)
        self.tracer = Tracer(calls, recorder, self, procs, flags)
        panda.load_plugin("syscalls2", {"load-info": True})
        panda.ppp("syscalls2", "on_all_sys_enter2", name=f"sysreel_enter_{id(self)}")(self._entered)
        panda.ppp("syscalls2", "on_all_sys_return2", name=f"sysreel_return_{id(self)}")(self._returned)

    def identity(self, task: int) -> Identity:
        """Who the current task is."""
        return (self._introspection or AddressSpaces()).identity(self._cpu, task)

    def args(self) -> Args:
        """The argument registers as they are now; the kernel has kept them over a call."""
        return self._args(self._words)

    def strings(self, number: int, args: Args, ret: int | None) -> tuple[String, ...]:
        """The strings of a call's arguments."""
        return self._arguments.read(self._cpu, number, args, ret)

    def _start(self, cpu: Any) -> None:
        """At the first call of all: find the registers, and see whether the profile fits the kernel that runs."""
        registers = self._panda.ffi.cast(self._abi.registers, cpu.env_ptr).regs
        self._words = memoryview(self._panda.ffi.buffer(registers)).cast("Q")
        self._cpu = cpu
        if self._introspection and self._introspection.task(cpu) is None:
            self._introspection = None
            self.tracer.tasks_are_asids()
            self.trouble = "no process names: the profile does not fit the guest's kernel (was it booted with nokaslr?)"

    def _task(self, cpu: Any, asid: int) -> int:
        """The current task; the address space where tasks cannot be told apart."""
        if self._cpu is None:
            self._start(cpu)
        if self._introspection is None:
            return asid
        task = self._introspection.task(cpu)
        if task is None:
            raise LookupError("the current task could not be read")
        return task

    def _entered(self, cpu: Any, pc: int, info: Any, context: Any) -> None:
        """PANDA's on_all_sys_enter2: the guest is about to execute its syscall instruction."""
        if not self.enabled:
            return
        try:
            asid = context.asid
            task = self._task(cpu, asid)
            self.tracer.enter(task, asid, context.retaddr, context.no, self._args(self._words))
            place = context.retaddr, asid
            if place not in self._running:
                self._running.add(place)
            elif place[0] not in self._watched:
                self._watch(place[0])
        except Exception as error:  # pandare would stop the guest
            self._failed(error)

    def _returned(self, cpu: Any, pc: int, info: Any, context: Any) -> None:
        """PANDA's on_all_sys_return2: the guest is back at the instruction after the call."""
        if not self.enabled:
            return
        try:
            asid = context.asid
            task = self._task(cpu, asid)
            self.tracer.leave(task, asid, pc, context.no, self._words[self._ret])
            self._running.discard((pc, asid))
        except Exception as error:  # as above
            self._failed(error)

    def _watch(self, address: int) -> None:
        """Two threads wait at one place: syscalls2 will report the first return alone, so look at each from now on."""
        self._watched.add(address)

        @self._panda.hook(address)  # type: ignore[untyped-decorator]
        def arrived(cpu: Any, block: Any, hook: Any) -> None:
            try:
                asid = self._panda.current_asid(cpu)
                if self.enabled and (address, asid) not in self._running:
                    task = self._task(cpu, asid)
                    if self.tracer.waits(task, address):
                        self.tracer.leave(task, asid, address, 0, self._words[self._ret])
            except Exception as error:  # as above
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Count a call that could not be recorded; the first error is kept for the summary."""
        self.recorder.counts["errors"] += 1
        if self.trouble is None:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.trouble = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
