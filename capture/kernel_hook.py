"""The kernel-hook back end: hooks on the kernel's own functions, where a call begins and where it is done.

syscalls2 makes PANDA give up chaining blocks, which slows all of a guest; a hook of this kind costs other code nothing.
Where a call is done, the program's registers as the kernel keeps them (struct pt_regs) have its number, arguments and
result: one read gives all. Where it begins no more than the time is noted, but for those calls that may not come back,
change who the task is, or replace the memory of their arguments. The struct's address says which task it is: that is
read from the kernel once, when a task is first seen, and again whenever it may be another's: `kernel_points.py` names
the places.

What it sees differs from syscalls2 in this: a call is done before a signal's handler runs, not after it; a successful
execve is seen to return; and when a task is killed, its call is known not to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from time import monotonic_ns
from typing import Any

from capture.backend import Backend
from capture.kernel_points import LAYOUTS, Points, find_points, missing
from capture.placement import ttbr1_of
from capture.profile import Profile
from capture.registers import space_of, words_of
from capture.returns import Returns
from capture.tracer import Args

_LOW = 0xFFFFFFFF
_PCID = 0x1FFF
"""Bits of CR3 that do not say which address space it is: what they say changes, and bit 12 while a program runs."""
_PROGRAMS = 1 << 12
"""That bit (PTI_USER_PGTABLE_BIT of arch/x86/mm); without KPTI it is one of the address."""
_ADDRESS = 0x0000FFFFFFFFFFFE
"""Bits of TTBR1_EL1 that say where the table is; above them is the number of the address space."""
_RESTARTS = frozenset((1 << 64) - code for code in (512, 513, 514, 516))  # ERESTART*, include/linux/errno.h
_FIRST_RESTART = min(_RESTARTS)
_UNREADABLE = "the registers of a task could not be read"

Hook = Callable[[Any, Any, Any], None]


class KernelHook(Backend):
    """Sees calls from within the kernel. Takes a profile that has the functions of the kernel that runs."""

    name = "kernel-hook"

    def __init__(self, profile: Profile, fallback: Callable[[str], None], panda: Any, *parts: Any) -> None:
        """Wait for the kernel to set up the CPU.

        Args:
            profile: Of the guest's kernel; `unusable` has no objection to it.
            fallback: Told why, if it turns out that the kernel cannot be hooked.
            panda: A ``pandare.Panda`` that does not run yet.
            parts: What else `Backend` takes.
        """
        super().__init__(panda, *parts)
        assert self._introspection is not None
        self._tasks = self._introspection
        self._symbols, self._fallback = profile.symbols, fallback
        self._layout = LAYOUTS[self._abi.name]
        self._began: dict[int, int] = {}
        """Struct pt_regs of tasks in a call to when it began, on the recorder's clock; 0: the tracer knows it."""
        self._owners: dict[int, tuple[int, int]] = {}
        """Struct pt_regs to its task, as the tracer has it, and that one's task_struct."""
        self._known: set[int] = set()
        """Those whose task has been identified: of the others, a call's beginning is looked at."""
        self._changing = self._calls.renames | {nr for nr, role in self._calls.files.items() if role == "table"}
        """Calls after which the task has another name or table."""
        self._registers = panda.ffi.new("char[]", self._layout.words.size)
        if self._compat:
            self._compat.is_alone = True
        if self._abi.name == "x86_64":
            self._space_mask &= ~_PCID
        self._hooks: list[Returns] = []
        self._tables = memoryview(bytearray(8)).cast("Q")
        self._bits = self._kernels = 0
        """The register that says which tables the kernel is in, bits of it that differ while a program runs, and what
        these are while the kernel runs."""
        self._until_found = f"sysreel_kernel_{id(self)}"
        panda.cb_asid_changed(name=self._until_found)(self._space_changed)

    @staticmethod
    def unusable(abi: str, profile: Profile | None) -> str | None:
        """Why this back end cannot be used, or None if it may be."""
        if profile is None:
            return "there is no profile"
        if abi == "x86_64" and not (profile.is_complete and "task.current_task_addr" in profile.values):
            return "the profile has no offsets"
        return missing(abi, profile.symbols)

    def waiting(self) -> None:
        """Tell the tracer of calls that have not come back, out of the tasks' registers."""
        for regs, began in list(self._began.items()):
            if began and regs in self._owners:
                self._wait(regs, began, self._owners[regs][0])
        self._began.clear()
        self._owners.clear()
        self._known.clear()

    def forget(self) -> None:
        """No table and no identity is on record: a chunk has begun."""
        super().forget()
        self._known.clear()

    def _space_changed(self, cpu: Any, old: int, new: int) -> int:
        """PANDA's asid_changed: hook the kernel as soon as it is there."""
        try:
            points = find_points(self._panda, self._abi.name, cpu, self._memory, self._symbols)
            if points is None:
                return 0
            self._panda.disable_callback(self._until_found)
            if isinstance(points, str):
                self._give_up(points)
            else:
                self._hook(cpu, points)
        except Exception as error:  # pandare would stop the guest
            self._failed(error)
        return 0

    def _give_up(self, reason: str) -> None:
        """This kernel cannot be hooked."""
        self.enabled = False
        self._fallback(reason)

    def _hook(self, cpu: Any, points: Points) -> None:
        """Put the hooks in place."""
        panda = self._panda
        self._words = words_of(panda, self._abi, cpu)
        self._space = self._tables = space_of(panda, self._abi, cpu)
        if self._abi.name == "x86_64":
            self._bits = _PROGRAMS
        begins, ends = self._functions(points)
        if points.table:
            begins = self._if_native(begins, *points.table)
        for function, address in (
            (begins, points.begin), (ends, points.end), (self._born, points.birth), (self._dies, points.death),
        ):  # fmt: skip
            hook = Returns(panda, function)
            hook.watch(cpu, address)
            self._hooks.append(hook)

    def _if_native(self, begins: Hook, register: int, table: int) -> Hook:
        """Passes over 32-bit programs' calls, which `Compat` sees."""
        words = self._words

        def native(cpu: Any, block: Any, hook: Any) -> None:
            if words[register] == table:
                begins(cpu, block, hook)

        return native

    def _functions(self, points: Points) -> tuple[Hook, Hook]:
        """What is called where a call begins, and where it is done: each time, so all that they use is at hand."""
        layout, tracer, words, space, mask = self._layout, self.tracer, self._words, self._space, self._space_mask
        began, owners, known, calls, zero = self._began, self._owners, self._known, self._calls, self.recorder.began
        begin_at, number_at, end_at = points.begin_regs, points.begin_number, points.end_regs
        offset, size, buffer, read = layout.at, layout.words.size, self._registers, self._memory.read
        view, unpack, arguments = self._panda.ffi.buffer(buffer), layout.words.unpack_from, itemgetter(*layout.args)
        ret_at, pc_at, nr_at, pointer = layout.ret, layout.pc, layout.number, self._tasks.pointer
        early = calls.entry | calls.forks | self._changing

        def begins(cpu: Any, block: Any, hook: Any) -> None:
            regs = words[begin_at]
            if regs in known and words[number_at] & _LOW not in early:
                began[regs] = monotonic_ns() - zero
            elif self.enabled:
                self._enter(cpu, regs, words[number_at] & _LOW)

        def ends(cpu: Any, block: Any, hook: Any) -> None:
            regs = words[end_at]
            start = began.pop(regs, None)
            if not start:
                if start is not None:
                    self._leave(regs)
                return
            try:
                if read(cpu, regs + offset, buffer, size) < 0:
                    raise LookupError(_UNREADABLE)
                found = unpack(view)
                task, pointer[0] = owners[regs]
                ret, number = found[ret_at], found[nr_at] & _LOW
                if ret >= _FIRST_RESTART and ret in _RESTARTS:
                    tracer.enter(task, space[0] & mask, found[pc_at], number, arguments(found), start)
                else:
                    tracer.whole(task, space[0] & mask, found[pc_at], number, arguments(found), ret, start)
            except Exception as error:  # pandare would stop the guest
                self._failed(error)

        return begins, ends

    def _enter(self, cpu: Any, regs: int, number: int) -> None:
        """A call begins that must be known of before it is done, or the first call of a task."""
        try:
            if self._cpu is None:
                if self._tasks.task(cpu) is None:
                    self._give_up("the profile does not fit the kernel")
                    return
                self._start(cpu)
                if self._abi.name == "aarch64":
                    self._tables, self._bits = ttbr1_of(self._panda, cpu), _ADDRESS
                    self._kernels = self._tables[0] & _ADDRESS
            self._began[regs] = 0
            words, layout = self._read(regs), self._layout
            args = itemgetter(*layout.first_args)(words)
            self._known.add(regs)
            self.tracer.enter(self._current(regs), self._asid(), words[layout.pc], number, args)
        except Exception as error:  # as above
            self._failed(error)

    def _leave(self, regs: int) -> None:
        """A call is done that the tracer knows of."""
        try:
            words, layout = self._read(regs), self._layout
            was, task = self._owners.get(regs), self._current(regs)
            ret, number = words[layout.ret], words[layout.number] & _LOW
            if ret in _RESTARTS:
                return
            if ret == 0 and number in self._calls.execs:
                self.tracer.executed(was[0] if was else task, task, self._asid())
            else:
                self.tracer.leave(task, self._asid(), words[layout.pc], ret)
            if number in self._changing:
                self._known.discard(regs)
        except Exception as error:  # as above
            self._failed(error)

    def _born(self, cpu: Any, block: Any, hook: Any) -> None:
        """A new task runs for the first time: whatever was known of this stack was another's."""
        regs = self._words[self._layout.stack]
        self._began.pop(regs, None)
        self._owners.pop(regs, None)
        self._known.discard(regs)
        if self._words[self._layout.thread] or not self.enabled or self._cpu is None:
            return
        try:
            self.tracer.leave(self._current(regs), self._asid(), self._read(regs)[self._layout.pc], 0)
        except Exception as error:  # as above
            self._failed(error)

    def _dies(self, cpu: Any, block: Any, hook: Any) -> None:
        """A task ends, by a call or by a signal."""
        if not self.enabled or self._cpu is None:
            return
        try:
            task = self._task(cpu, 0)
            for regs in [regs for regs, owner in self._owners.items() if owner[0] == task]:
                began = self._began.pop(regs, 0)
                if began:
                    self._wait(regs, began, task)
                del self._owners[regs]
                self._known.discard(regs)
            self.tracer.died(task)
        except Exception as error:  # as above
            self._failed(error)

    def _wait(self, regs: int, began: int, task: int) -> None:
        """A task's call, which has not come back."""
        try:
            words, layout = self._read(regs), self._layout
        except LookupError as error:
            self._failed(error)
            return
        number, args = words[layout.number] & _LOW, itemgetter(*layout.args)(words)
        self.tracer.wait(task, words[layout.pc], number, args, began)

    def _compat_entered(self, cpu: Any, back: int, number: int, args: Args) -> None:
        with self._kernels_tables(cpu):
            super()._compat_entered(cpu, back, number, args)

    def _compat_returned(self, cpu: Any, back: int, ret: int) -> None:
        with self._kernels_tables(cpu):
            super()._compat_returned(cpu, back, ret)

    @contextmanager
    def _kernels_tables(self, cpu: Any) -> Iterator[None]:
        """The kernel can be read also where the CPU still has a program's page tables, which lack it (KPTI)."""
        cell = self._tables
        tables = cell[0]
        kernels = tables & ~self._bits | self._kernels
        if not self._hooks or tables == kernels or self._tasks.task(cpu) is not None:
            yield
            return
        cell[0] = kernels
        try:
            yield
        finally:
            cell[0] = tables

    def _current(self, regs: int) -> int:
        """The current task, whose registers these are: read from the kernel."""
        task = self._task(self._cpu, 0)
        self._owners[regs] = task, self._tasks.current
        return task

    def _asid(self) -> int:
        return self._space[0] & self._space_mask

    def _read(self, regs: int) -> tuple[int, ...]:
        """A task's registers."""
        words = self._layout.words
        if self._memory.read(self._cpu, regs + self._layout.at, self._registers, words.size) < 0:
            raise LookupError(_UNREADABLE)
        return words.unpack(self._panda.ffi.buffer(self._registers))
