"""From two moments to one event: pairs the entry and the return of a call, and knows when a task is new.

The order of things, as the back end shows them: every call's entry, and each time that a task is at an instruction
which follows a call. Whether that is a return is known here, where each task's pending call is kept: a task without
one at that instruction merely passes by, or is the child of a fork. A successful execve is never seen to return; it is
proven by its task's next entry.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from time import monotonic_ns
from typing import NamedTuple, Protocol

from capture.births import Births
from capture.calls import Calls, load_socketcall
from capture.recorder import Recorder, String
from capture.segment import UNKNOWN, EventFlag, StringFlag

Args = tuple[int, int, int, int, int, int]

# Plain integers: looking up a member of an enumeration costs more than all the rest of a line (Python 3.11).
_RETURNED = int(EventFlag.RETURNED)
_UNREADABLE, _BUFFER = int(StringFlag.UNREADABLE), int(StringFlag.BUFFER)
_CUT = _UNREADABLE | int(StringFlag.TRUNCATED)
_PR_SET_NAME = 15  # include/uapi/linux/prctl.h
_F_DUPFD = (0, 1030)  # and F_DUPFD_CLOEXEC, include/uapi/linux/fcntl.h
_LOW = 0xFFFFFFFF
_TWO = struct.Struct("<2I")
"""What pipe fills; descriptors are looked up only in guests with a profile, which are little-endian."""
_MAX_NESTED = 8
"""Calls of one task that a signal handler may have interrupted before the oldest is given up."""


class Pending(NamedTuple):
    """A call that has been entered."""

    pc: int
    """Return address: which of a task's calls comes back."""
    asid: int
    began: int
    """On the recorder's clock."""
    number: int
    args: Args
    entry: int
    """Sequence number of its entry event, -1 if none was recorded."""
    found: tuple[String, ...]
    """Strings read at entry."""


class Identity(NamedTuple):
    """Who a task is. Fields that could not be read are 0 or empty, and ``flags`` says which are known."""

    pid: int
    tid: int
    ppid: int
    flags: int
    start_ns: int
    comm: bytes
    argv: bytes
    argv_flags: int
    table: int = 0
    """Its table of descriptors."""


class Guest(Protocol):
    """What the tracer asks of the emulator, for the task that runs now."""

    def identity(self, task: int) -> Identity:
        """Read who the current task is."""

    def args(self) -> Args:
        """The argument registers as they are now; the kernel keeps the first three over a call."""

    def wide(self, number: int, args: Args) -> Args:
        """The arguments of a call of ``Calls.wide``, which lie in memory."""

    def strings(self, number: int, args: Args, ret: int | None) -> tuple[String, ...]:
        """Read the strings of a call: at its return if ``ret`` is given, else at its entry."""

    def rights(self, number: int, message: int) -> list[int]:
        """The descriptors that a message has brought."""

    def parent(self) -> int:
        """The task that made the current one; 0 if it is not known."""

    def opened(self, task: int, again: bool) -> None:
        """Record the table and the folder of the current task; ``again``: although its table is on record."""

    def made(self, fds: Iterable[int]) -> None:
        """Record descriptors of the current task."""

    def moved(self, task: int) -> None:
        """Record the folder of the current task and of those who share it."""

    def gone(self, pid: int) -> None:
        """The table of a process is another's from now on, or has changed."""

    def forget(self) -> None:
        """No table is on record: a chunk has begun."""

    def waiting(self) -> None:
        """Tell `Tracer.wait` of calls that have not come back and that the tracer has not been told of."""


class Tracer:
    """Turns entries and returns into events of a `Recorder`."""

    def __init__(self, calls: Calls, recorder: Recorder, guest: Guest, procs: frozenset[bytes], flags: int) -> None:
        """Trace a guest.

        Args:
            calls: Those of the guest's ABI.
            recorder: Where events go.
            guest: The emulator.
            procs: Names of the processes to record: argv[0], its last path component, or comm; empty for all.
            flags: ``EventFlag`` bits that every event of this capture carries.
        """
        self._calls, self._recorder, self._guest, self._procs, self._flags = calls, recorder, guest, procs, flags
        self._began = recorder.began
        self._pending: dict[int, Pending] = {}
        self._interrupted: dict[int, list[Pending]] = {}
        self._seen: dict[int, int] = {}
        """Task to the address space in which its identity was recorded."""
        self._unwanted: set[int] = set()
        self._births = Births(calls.forks)
        self.spaces_move = False
        """Tasks are address spaces, and a task's may get another number while it is in a call."""

    def forget(self) -> None:
        """Record every task's identity and table anew when it is next seen: a chunk has begun."""
        self._seen.clear()
        self._guest.forget()

    def reset(self) -> None:
        """The machine has been put into another state: a snapshot was loaded. Nothing that was known holds."""
        self.finish()
        self.forget()
        self._unwanted.clear()
        self._births.forget()
        self._recorder.reset(monotonic_ns() - self._began)

    def tasks_are_asids(self) -> None:
        """From now on a task is an address-space id."""
        self._flags |= EventFlag.TASK_IS_ASID

    def enter(self, task: int, asid: int, pc: int, number: int, args: Args, began: int | None = None) -> None:
        """A task has entered a call, now or when it ``began``.

        ``number`` has its ABI's number in the upper half; 0 for the capture's own.
        """
        now = monotonic_ns() - self._began if began is None else began
        changed = self._seen.get(task) != asid
        if changed and task >> 32 == task & 0xFFFFFFFF:
            self._take_over(task, asid, now)
        if task in self._pending:
            call = self._pending[task]
            if call.pc == pc and self._goes_on(call, number, args):
                return
            self._prove(task, call, asid, now)
        if changed:
            self._identify(task, asid)
        if number in self._calls.wide:
            args = self._guest.wide(number, args)
        entry = -1
        found: tuple[String, ...] = ()
        if number in self._calls.entry:
            if number in self._calls.execs:
                found = self._guest.strings(number, args, None)
            entry = self._write(task, now, UNKNOWN, args, 0, number, found, 0, 0)
            if number in self._calls.ends:
                self._ended(task)
                return
            if number in self._calls.resumes:
                if task in self._interrupted:
                    self._resumed(task)
                return
        self._pending[task] = Pending(pc, asid, now, number, args, entry, found)

    def leave(self, task: int, asid: int, pc: int, ret: int, error: int = 0) -> None:
        """A task is at an instruction that follows a call.

        Args:
            task: The task.
            asid: Its address space.
            pc: The instruction.
            ret: The return register.
            error: ``EventFlag.ERROR`` if the ABI has a flag for errors and it is set.
        """
        call = self._pending.pop(task, None)
        if call is None or call.pc != pc:
            latest, call = call, self._resume(task, pc)
            if latest is not None:
                self._still_waits(task, latest, call)
            if call is None and self.spaces_move:
                call = self._moved(pc, ret)
            if call is None:
                if ret == 0 and latest is None:
                    self._born(task, asid, pc)
                return
        number, calls = call.number, self._calls
        if ret == 0 and not error and self._is_anothers(call, asid):
            self._pending[task] = call
            return
        if self._seen.get(task) != asid:
            self._identify(task, asid)
        now, found, began = monotonic_ns() - self._began, call.found, call.began
        if not found or any(flags & _UNREADABLE for _, _, flags in found):
            found = self._guest.strings(number, call.args, UNKNOWN if error else ret)
        if call.entry >= 0 or self._unwanted:
            self._write(task, began, now - began, call.args, ret, number, found, _RETURNED | error, call.entry)
        else:  # nearly every call
            strings = self._intern(found) if found else 0
            flags = _RETURNED | self._flags | error | number >> 32 << 16
            self._recorder.event(began, now - began, task, *call.args, ret, number & 0xFFFFFFFF, strings, flags, 0)
        if number in calls.after and not error and ret >> 31 == 0:
            self._after(task, call, ret, found)

    def whole(self, task: int, asid: int, pc: int, number: int, args: Args, ret: int, began: int) -> None:
        """A call of the capture's own ABI that is seen once, when it comes back, and by no flag for errors.

        It must be none that has to be known of before: none of ``Calls.entry`` and ``Calls.forks``.
        """
        if task in self._pending or self._seen.get(task) != asid:
            self.enter(task, asid, pc, number, args, began)
            self.leave(task, asid, pc, ret)
            return
        calls, strings = self._calls, 0
        found: tuple[String, ...] = ()
        if number in calls.args:
            found = self._guest.strings(number, args, ret)
            if found:
                strings = self._intern(found)
        duration = monotonic_ns() - self._began - began
        if self._unwanted:
            self._write(task, began, duration, args, ret, number, found, _RETURNED, -1)
        else:
            self._recorder.event(began, duration, task, *args, ret, number, strings, _RETURNED | self._flags, 0)
        if number in calls.after and ret >> 31 == 0:
            self._after(task, Pending(pc, asid, began, number, args, -1, found), ret, found)

    def wait(self, task: int, pc: int, number: int, args: Args, began: int) -> None:
        """A task has been in a call since it ``began``, and has not come back."""
        if task in self._pending:
            self._interrupted.setdefault(task, []).append(self._pending[task])
        self._pending[task] = Pending(pc, 0, began, number, args, -1, ())

    def executed(self, was: int, task: int, asid: int) -> None:
        """A task runs the program that it has executed; ``was``: what it was before, if it was no leader."""
        call = self._pending.pop(was, None)
        if call is not None:
            duration = monotonic_ns() - self._began - call.began
            self._write(was, call.began, duration, call.args, 0, call.number, call.found, _RETURNED, call.entry)
        if was != task:
            self._ended(was)
            if task in self._pending:
                self._give_up(task, self._pending.pop(task))
        self._identify(task, asid)

    def died(self, task: int) -> None:
        """A task will run no more, and come back from nothing."""
        if task in self._pending:
            self._give_up(task, self._pending.pop(task))
        self._ended(task)

    def _after(self, task: int, call: Pending, ret: int, found: tuple[String, ...]) -> None:
        """A call has succeeded that may have changed who a task is or what it has open."""
        calls, guest, number, args = self._calls, self._guest, call.number, call.args
        role = calls.files.get(number, "")
        if number in calls.renames and args[0] == _PR_SET_NAME:
            self._seen.pop(task, None)
        elif number in calls.waits and ret:
            self._seen.pop(ret << 32 | ret, None)
            self._births.ended(ret << 32 | ret)
            guest.gone(ret)
        elif number in calls.forks:
            self._births.returned(task, call, ret)
        if role == "socketcall":
            sub = load_socketcall().get(args[0] & _LOW)
            role = sub.role if sub else ""
            args = (args[0] >> 32, args[1] >> 32, args[2] >> 32, *args[3:])
        if role == "fd" or (role == "dupfd" and args[1] & _LOW in _F_DUPFD):
            guest.made((ret,))
        elif role == "fds":
            for _, data, _ in found:
                if len(data) == _TWO.size:
                    guest.made(_TWO.unpack(data))
        elif role == "rights":
            guest.made(guest.rights(number, args[1]))
        elif role == "cwd":
            guest.moved(task)
        elif role == "table":
            self._seen.pop(task, None)
            guest.gone(task >> 32)

    def finish(self) -> None:
        """Record what has not come back: calls that are still waiting, or whose return was never seen."""
        self._guest.waiting()
        for task, calls in self._interrupted.items():
            for call in calls:
                self._give_up(task, call)
        for task, call in self._pending.items():
            self._give_up(task, call)
        self._pending.clear()
        self._interrupted.clear()

    def _write(
        self, task: int, began: int, duration: int, args: Args, ret: int, number: int, found: tuple[String, ...],
        flags: int, entry: int,
    ) -> int:  # fmt: skip
        """Record an event unless the filter drops it. ``entry`` is a sequence number, or 0 or -1 for none."""
        recorder = self._recorder
        if task in self._unwanted:
            if number not in self._calls.context:
                recorder.counts["filtered"] += 1
                return -1
            recorder.counts["context"] += 1
            flags |= EventFlag.CONTEXT
        strings = self._intern(found) if found else 0
        distance = recorder.next_event - entry if entry >= 0 and flags & _RETURNED else 0
        if distance >= 1 << 32:
            distance = 0
        flags |= self._flags | number >> 32 << 16
        return recorder.event(began, duration, task, *args, ret, number & 0xFFFFFFFF, strings, flags, distance)

    def _intern(self, found: tuple[String, ...]) -> int:
        """The id of an event's strings; counts those that are not whole."""
        for _, _, flags in found:
            if flags & _CUT and not flags & _BUFFER:
                self._recorder.counts["unreadable" if flags & _UNREADABLE else "truncated"] += 1
        return self._recorder.strings(found)

    def _prove(self, task: int, call: Pending, asid: int, now: int) -> None:
        """A task enters a call while another of its calls is pending: what has become of that one?"""
        del self._pending[task]
        if call.number in self._calls.execs and (asid != call.asid or self._flags & EventFlag.TASK_IS_ASID):
            self._infer(task, call, 0, now)
        elif call.number not in self._calls.execs:
            nested = self._interrupted.setdefault(task, [])
            nested.append(call)
            if len(nested) > _MAX_NESTED:
                self._give_up(task, nested.pop(0))

    def _take_over(self, leader: int, asid: int, now: int) -> None:
        """A process is in a new address space: if one of its threads was executing a program, it goes on as the leader.

        The kernel gives such a thread the leader's number and ends all others.
        """
        for task, call in list(self._pending.items()):
            if task >> 32 == leader >> 32 and task != leader and call.number in self._calls.execs and call.asid != asid:
                del self._pending[task]
                self._infer(task, call, 0, now)
                self._ended(task)
                if leader in self._pending:
                    self._give_up(leader, self._pending.pop(leader))

    def _goes_on(self, call: Pending, number: int, args: Args) -> bool:
        """Whether a task that is in a call has not made another, but the kernel goes on with that one after a signal.

        It makes the program's instruction run again, or with restart_syscall in place of the call (ERESTARTSYS and its
        kin in include/linux/errno.h). The program sees one call, and one result. Where a task is an address space, the
        same call may be another thread's.
        """
        calls = self._calls
        if self._flags & EventFlag.TASK_IS_ASID or call.number in calls.execs:
            return False
        return number in calls.restarts or (number == call.number and (args == call.args or number in calls.wide))

    def _resumed(self, task: int) -> None:
        """A signal's handler returns: the call that the signal had interrupted, if it had, is the latest again."""
        nested = self._interrupted[task]
        self._pending[task] = nested.pop()
        if not nested:
            del self._interrupted[task]

    def _infer(self, task: int, call: Pending, ret: int, now: int) -> None:
        """Record a return that was not seen but has happened."""
        self._recorder.counts["inferred"] += 1
        flags = _RETURNED | EventFlag.INFERRED
        self._write(task, call.began, now - call.began, call.args, ret, call.number, call.found, flags, call.entry)

    def _give_up(self, task: int, call: Pending) -> None:
        """Record a call as entered only, unless its entry is already an event."""
        if call.entry < 0:
            self._write(task, call.began, UNKNOWN, call.args, 0, call.number, call.found, 0, 0)

    def _is_anothers(self, call: Pending, asid: int) -> bool:
        """Whether what looks like a call's return of 0 is none: a fork's child, or the program that was executed.

        Where tasks are address spaces, a child may share its parent's. A new program may pass the same address.
        """
        calls = self._calls
        return call.number in calls.forks or (call.number in calls.execs and asid != call.asid)

    def _still_waits(self, task: int, latest: Pending, returned: Pending | None) -> None:
        """Keep a call that is not the one that came back, unless that proves what has become of it.

        Where tasks are address spaces, vfork's return proves that the child, which had its parent's, has executed.
        """
        calls = self._calls
        if returned is not None and returned.number in calls.forks and latest.number in calls.execs:
            self._infer(task, latest, 0, monotonic_ns() - self._began)
        else:
            self._pending[task] = latest

    def _resume(self, task: int, pc: int) -> Pending | None:
        """The call that comes back although it is not the task's latest, or None."""
        nested = self._interrupted.get(task, [])
        for index in range(len(nested) - 1, -1, -1):
            if nested[index].pc == pc:
                call = nested[index]
                for lost in nested[index + 1 :]:
                    self._give_up(task, lost)
                del nested[index:]
                if not nested:
                    del self._interrupted[task]
                return call
        return None

    def _moved(self, pc: int, ret: int) -> Pending | None:
        """The latest call made at ``pc`` with the arguments that the CPU still holds, by whomsoever, or None."""
        args, calls = self._guest.args()[:3], self._calls
        for task, call in reversed(self._pending.items()):
            if call.pc == pc and call.args[:3] == args and (ret or call.number not in calls.forks):
                del self._pending[task]
                return call
        return None

    def _born(self, task: int, asid: int, pc: int) -> None:
        """A task without a call comes by with a result of 0: record it if it is a fork's child."""
        birth = self._births.birth(task, self._guest.parent(), pc, self._pending)
        if birth is None:
            return
        if self._seen.get(task) != asid:
            self._identify(task, asid)
        now = monotonic_ns() - self._began
        self._write(task, now, UNKNOWN, birth.args, birth.parent, birth.number, (), int(EventFlag.CHILD), -1)

    def _identify(self, task: int, asid: int) -> None:
        """Record who a task is, and whether the filter wants it."""
        who = self._guest.identity(task)
        self._recorder.identity(task, asid, *who)
        self._guest.opened(task, again=task in self._seen)
        self._seen[task] = asid
        self._births.seen(task)
        if self._procs:
            first = who.argv.split(b"\0", 1)[0]
            if self._procs.isdisjoint((first, first.rsplit(b"/", 1)[-1], who.comm)):
                self._unwanted.add(task)
            else:
                self._unwanted.discard(task)

    def _ended(self, task: int) -> None:
        """A task has entered its last call: its number may be another's from now on."""
        if self._flags & EventFlag.TASK_IS_ASID:
            return  # its address space may have other threads
        for call in self._interrupted.pop(task, []):
            self._give_up(task, call)
        self._seen.pop(task, None)
        self._unwanted.discard(task)
        self._births.ended(task)
        self._guest.gone(task >> 32)
