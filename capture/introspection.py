"""Who runs in the guest: the kernel's task structures, read with the offsets of a profile, or with derived ones.

The current task is found as the kernel finds it: a per-cpu variable. PANDA emulates one CPU, so its address is
constant once the kernel has set up its per-cpu areas.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from capture.abi import Abi
from capture.current import Finder, candidates
from capture.derive import derive
from capture.descriptors import Descriptors
from capture.memory import GuestMemory
from capture.placement import places
from capture.profile import Profile, ProfileError
from capture.segment import StringFlag, TaskFlag
from capture.tracer import Identity

_ARGV_PART = 4096
_MASK = (1 << 64) - 1


class Introspection:
    """Reads the current task of a guest with a profile."""

    def __init__(self, panda: Any, memory: GuestMemory, profile: Profile, max_argv: int) -> None:
        """Prepare to read; nothing is read before the first call.

        Args:
            panda: A ``pandare.Panda``.
            memory: Its memory.
            profile: Of the guest's kernel.
            max_argv: Bytes of an argument vector that are kept.
        """
        self._panda, self._memory, self._profile, self._max_argv = panda, memory, profile, max_argv
        self._read = memory.read
        self._pointer, self._ids = panda.ffi.new("uint64_t *"), panda.ffi.new("uint64_t *")
        self._pointer_bytes = panda.ffi.cast("char *", self._pointer)
        self._ids_bytes = panda.ffi.cast("char *", self._ids)
        self._current = 0
        """Address of the pointer to the current task; 0 until the per-cpu areas are set up."""
        self._descriptors: Descriptors | None = None
        self._known = int(TaskFlag.PIDS)
        """Flags of every identity."""
        if profile.is_complete:
            self._use(profile)

    def _use(self, profile: Profile) -> None:
        """Read with these offsets from now on."""
        self._pid, self._tgid = profile["task.pid_offset"], profile["task.tgid_offset"]
        self._parent, self._comm = profile["task.real_parent_offset"], profile["task.comm_offset"]
        self._start, self._mm = profile.values.get("task.start_boottime_offset"), profile.values.get("task.mm_offset")
        self._arg_start = profile.values.get("mm.arg_start_offset")
        self._arg_end = profile.values.get("mm.arg_end_offset")
        if self._tgid != self._pid + 4:
            raise ProfileError("profile: tgid does not follow pid in task_struct; not a kernel that sysreel knows")

    def task(self, cpu: Any) -> int | None:
        """The current task as pid << 32 | tid (the kernel's tgid and pid), or None if it cannot be read."""
        if not self._current:
            self._current = self._locate(cpu)
            if not self._current:
                return None
        pointer, ids = self._pointer, self._ids
        if self._read(cpu, self._current, self._pointer_bytes, 8) < 0:
            return None
        if self._read(cpu, pointer[0] + self._pid, self._ids_bytes, 8) < 0:
            return None
        value: int = ids[0]
        return value

    @property
    def current(self) -> int:
        """Address of the task_struct that `task` has read last."""
        address: int = self._pointer[0]
        return address

    @property
    def pointer(self) -> Any:
        """Where `current` is kept, as element 0: who knows the current task already writes it there."""
        return self._pointer

    @property
    def descriptors(self) -> Descriptors | None:
        """What reads the tables of descriptors, once a task has been read; None with a profile that lacks them."""
        return self._descriptors

    def parent(self, cpu: Any) -> int:
        """The current task's real parent as `task` gives it: the thread that forked it, if it lives. 0: unknown."""
        parent = self._memory.word(cpu, self._pointer[0] + self._parent)
        if not parent:
            return 0
        return (self._memory.word(cpu, parent + self._tgid, 4) or 0) << 32 | (
            self._memory.word(cpu, parent + self._pid, 4) or 0
        )

    def _locate(self, cpu: Any) -> int:
        """The address of the pointer to the current task, 0 if it is not there yet; opens the tables as well."""
        values = self._profile.values
        memory, displacement = next(places(self._panda, cpu, self._memory, self._profile))
        per_cpu, current = values.get("task.per_cpu_offsets_addr"), values.get("task.current_task_addr")
        if per_cpu is None or current is None:
            return 0
        base = memory.word(cpu, per_cpu + displacement & _MASK)
        if not base:
            return 0
        self._open(memory, displacement)
        return base + current & _MASK

    def _open(self, memory: GuestMemory, displacement: int) -> None:
        """Read the kernel in this way from now on, and its tables of descriptors if the profile has what it takes."""
        self._memory, self._read = memory, memory.read
        if Descriptors.fits(self._profile):
            self._descriptors = Descriptors(memory, self._profile, displacement)

    def identity(self, cpu: Any, task: int) -> Identity:
        """Who the current task is. What cannot be read is left out, and the flags say so."""
        memory, pointer, flags = self._memory, self._pointer[0], self._known
        parent = memory.word(cpu, pointer + self._parent)
        ppid = memory.word(cpu, parent + self._tgid, 4) if parent else None
        start = memory.word(cpu, pointer + self._start, 8) if self._start is not None else None
        comm = memory.block(cpu, pointer + self._comm, 16)
        mm = memory.word(cpu, pointer + self._mm) if self._mm is not None else None
        argv, argv_flags = self._argv(cpu, mm) if mm else (b"", 0)
        flags |= TaskFlag.COMM if comm is not None else 0
        flags |= TaskFlag.START if start is not None else 0
        flags |= TaskFlag.ARGV if argv else 0
        flags |= TaskFlag.KERNEL if mm == 0 else 0
        name = (comm or b"").split(b"\0", 1)[0]
        table = self._descriptors.table_of(cpu, pointer) if self._descriptors else 0
        return Identity(task >> 32, task & 0xFFFFFFFF, ppid or 0, flags, start or 0, name, argv, argv_flags, table)

    def _argv(self, cpu: Any, mm: int) -> tuple[bytes, int]:
        """The argument vector as /proc/PID/cmdline shows it, and its ``StringFlag`` bits."""
        if self._arg_start is None:
            return b"", 0
        start = self._memory.word(cpu, mm + self._arg_start)
        # PANDA's own kernelinfo has no arg_end; it is the word after arg_start (include/linux/mm_types.h)
        end = self._memory.word(cpu, mm + (self._arg_end or self._arg_start + 8))
        if not start or not end or end <= start:
            return b"", 0
        data, flags = b"", 0
        if end - start > self._max_argv:
            end, flags = start + self._max_argv, int(StringFlag.TRUNCATED)
        while start < end:
            size = min(end - start, _ARGV_PART - start % _ARGV_PART)
            part = self._memory.block(cpu, start, size)
            if part is None:
                flags |= StringFlag.UNREADABLE
                break
            data, start = data + part, start + size
        return data if data.endswith(b"\0") or not data else data + b"\0", flags


class DerivedIntrospection(Introspection):
    """Reads the current task where the profile has no offsets, or does not say where the current task is.

    What is missing is found in the running kernel, at the first call; see `current.py` and `derive.py`.
    """

    def __init__(self, panda: Any, memory: GuestMemory, profile: Profile, max_argv: int, abi: Abi) -> None:
        """Prepare to read.

        Args:
            panda: A ``pandare.Panda``.
            memory: Its memory.
            profile: Of the guest's kernel: its functions at least.
            max_argv: Bytes of an argument vector that are kept.
            abi: The guest's ABI.
        """
        super().__init__(panda, memory, profile, max_argv)
        self._abi = abi
        self._find: Finder | None = None

    def task(self, cpu: Any) -> int | None:
        """As `Introspection.task`; None at the first call if the kernel is not understood."""
        find, ids = self._find or self._derive(cpu), self._ids
        task = find(cpu) if find else None
        if not task or self._read(cpu, task + self._pid, self._ids_bytes, 8) < 0:
            return None
        self._pointer[0] = task
        value: int = ids[0]
        if self._abi.big_endian:  # two integers of 4 bytes: tgid is the first in the value, and in the wrong order
            value = int.from_bytes(value.to_bytes(8, "little"), "big")
            return (value & 0xFFFFFFFF) << 32 | value >> 32
        return value

    def _derive(self, cpu: Any) -> Finder | None:
        """Find the current task, and the offsets unless the profile has them. None if either cannot be trusted."""
        profile, abi = self._profile, self._abi
        for memory, displacement in places(self._panda, cpu, self._memory, profile):
            shown = candidates(self._panda, cpu, memory, abi.panda_arch, profile.symbols, displacement)
            for find in chain(self._told(cpu, memory, displacement), shown):
                values = derive(cpu, memory, find, abi.word_size, abi.big_endian)
                if values is None:
                    continue
                if not profile.is_complete:
                    self._use(Profile(profile.group, profile.name, values))
                    self._known |= TaskFlag.DERIVED
                elif profile["task.pid_offset"] != values["task.pid_offset"]:
                    continue
                self._open(memory, displacement)
                self._find = find
                return find
        return None

    def _told(self, cpu: Any, memory: GuestMemory, displacement: int) -> Iterator[Finder]:
        """The way to the current task that the profile itself knows."""
        values, mask = self._profile.values, (1 << 8 * self._abi.word_size) - 1
        if "task.current_task_addr" in values:
            per_cpu = values.get("task.per_cpu_offsets_addr", 0)  # 0: a kernel for one CPU
            base = memory.word(cpu, per_cpu + displacement & mask) or 0 if per_cpu else displacement
            address = base + values["task.current_task_addr"] & mask
            yield lambda cpu: memory.word(cpu, address)


def introspect(panda: Any, memory: GuestMemory, profile: Profile, max_argv: int, abi: Abi) -> Introspection:
    """What reads tasks with a profile, or derives what it lacks."""
    if profile.is_complete and "task.current_task_addr" in profile.values and abi.word_size == 8:
        return Introspection(panda, memory, profile, max_argv)
    return DerivedIntrospection(panda, memory, profile, max_argv, abi)


class AddressSpaces:
    """Stands in for `Introspection` where there is no profile: a task is its address-space id, nobody has a name."""

    def identity(self, cpu: Any, task: int) -> Identity:
        """Nothing is known."""
        return Identity(0, 0, 0, 0, 0, b"", b"", 0)
