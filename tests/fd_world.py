"""A small kernel, run at random: what calls do to descriptors, one step at a time, and the events that a capture has.

It shares nothing with process/: a table is a dict, a call takes effect at one moment between its entry and its return,
and what every descriptor was at that moment is kept as the truth. Calls of different tasks overlap unless told not to.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from capture.segment import EventFlag, StringFlag
from segments import Builder, task

RETURNED, INFERRED, CHILD = int(EventFlag.RETURNED), int(EventFlag.INFERRED), int(EventFlag.CHILD)
CLOEXEC = 0o2000000
CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK, CLONE_THREAD = 0x100, 0x200, 0x400, 0x800, 0x4000, 0x10000
AT_FDCWD = (1 << 64) - 100
EBADF = -9
NR = {
    "read": 0, "close": 3, "dup": 32, "dup2": 33, "fork": 57, "vfork": 58, "clone": 56, "execve": 59, "exit": 60,
    "exit_group": 231, "fcntl": 72, "chdir": 80, "fchdir": 81, "openat": 257, "unshare": 272, "dup3": 292, "pipe2": 293,
    "close_range": 436,
}  # fmt: skip


@dataclass
class Open:
    """An open descriptor."""

    name: str
    cloexec: bool = False


Table = dict[int, Open]


@dataclass
class Task:
    """A thread: its table and its folder may be those of others, too."""

    number: int
    table: Table
    folder: list[str]
    call: Call | None = None
    alive: bool = True
    waits_for: Task | None = None


@dataclass
class Life:
    """What became of a process that was forked: the truth.

    Attributes:
        pid: Its number.
        parent: The life of the process that forked it; None of one that was there before.
        birth: Its own first return from fork, -1 if that is no event.
        fork: The return of the fork that made it, -1 if there is none.
        execs: The returns of its successful execves.
        end: The call that ended it; None if it lives or was killed.
        status: What that was given.
    """

    pid: int
    parent: Life | None = None
    birth: int = -1
    fork: int = -1
    execs: list[int] = field(default_factory=list)
    end: int | None = None
    status: int | None = None


@dataclass
class Call:
    """A call under way; ``effect`` returns what it returns."""

    name: str
    args: tuple[int, ...]
    began: int
    fds: tuple[int, ...]
    effect: Callable[[], int]
    strings: dict[str, bytes | tuple[bytes, int]]
    entry: int = -1
    done: bool = False
    ret: int = 0
    truth: tuple[str | None, ...] = ()
    made: Life | None = None


@dataclass
class Event:
    """What a capture records; ``truth`` has the name of each descriptor among the arguments, None if it is not open."""

    nr: int
    args: tuple[int, ...]
    ret: int
    who: int
    time: int
    duration: int
    flags: int
    entry: int
    strings: dict[str, bytes | tuple[bytes, int]]
    truth: tuple[str | None, ...] = ()


@dataclass
class World:
    """Tasks at random.

    Attributes:
        source: Of all chance.
        overlap: Whether calls of different tasks may be under way at once.
        children: Whether a child's first return is recorded.
        threads: Whether processes have threads.
        shares: Whether processes may share tables.
        silent: Whether processes may be killed.
    """

    source: random.Random
    overlap: bool = True
    children: bool = True
    threads: bool = True
    shares: bool = True
    silent: bool = True
    events: list[Event] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    clock: int = 1000
    lives: list[Life] = field(default_factory=list)
    """All processes, by their begin."""
    lost: list[tuple[int, Call]] = field(default_factory=list)
    """Calls of tasks that died in them: recorded at the end, as not returned."""

    def run(self, steps: int) -> list[Event]:
        """Do some steps and give all events."""
        for pid in (1, 2):
            table = {fd: Open(f"/initial/{pid}/{fd}") for fd in range(3)}
            self.tasks.append(Task(task(pid), table, ["/first"]))
            self.lives.append(Life(pid))
        for _ in range(steps):
            self.step()
        for number, call in self.lost:
            self.record(Task(number, {}, []), call, 0, 0, (1 << 64) - 1)
        return self.events

    def tick(self) -> int:
        self.clock += self.source.randint(1, 20)
        return self.clock

    def step(self) -> None:
        """One task goes on: it enters a call, the call takes effect, or it comes back."""
        living = [one for one in self.tasks if one.alive and one.waits_for is None]
        if not living:
            self.tasks.append(Task(task(1), {}, ["/first"]))
            self.events_of_birth(self.tasks[-1])
            return
        busy = [one for one in living if one.call is not None]
        chosen = self.source.choice(living) if self.overlap or not busy else busy[0]
        if chosen.call is None:
            self.enter(chosen)
        elif not chosen.call.done:
            self.take_effect(chosen, chosen.call)
        else:
            self.come_back(chosen, chosen.call)

    def events_of_birth(self, one: Task) -> None:
        """A process that nobody forked: its number must not be one that was used."""
        one.number = task(5000 + len(self.events))
        self.lives.append(Life(5000 + len(self.events)))

    def life(self, one: Task) -> Life:
        """Of a task's process, the latest one of that number."""
        return next(life for life in reversed(self.lives) if life.pid == one.number >> 32)

    def record(self, one: Task, call: Call, ret: int, flags: int, duration: int) -> int:
        entry = len(self.events) - call.entry if call.entry >= 0 and flags & RETURNED else 0
        self.events.append(
            Event(
                NR[call.name], call.args, ret, one.number, call.began, duration, flags, entry, call.strings, call.truth
            )
        )
        return len(self.events) - 1

    def enter(self, one: Task) -> None:
        kinds = ["openat"] * 5 + ["close"] * 4 + ["read"] * 8 + ["dup", "dup2", "dup3", "fcntl", "setfd", "pipe2"]
        kinds += ["chdir", "fchdir", "fork", "fork", "vfork", "execve", "exit_group", "close_range", "unshare", "exit"]
        kinds += ["thread", "thread"] * self.threads + ["share"] * self.shares
        if len([other for other in self.tasks if other.alive]) > 8:
            kinds = [kind for kind in kinds if kind not in ("fork", "vfork", "thread", "share")] + ["exit_group"]
        kind = self.source.choice(kinds)
        one.call = getattr(self, "call_" + kind)(one)
        one.call.began = self.tick()
        if one.call.name in ("execve", "exit", "exit_group", "vfork"):
            self.look(one, one.call)
            one.call.entry = self.record(one, one.call, 0, 0, (1 << 64) - 1)
            if one.call.name.startswith("exit"):
                one.call.effect()
                one.call = None

    def look(self, one: Task, call: Call) -> None:
        """Keep what the call's descriptors are now."""
        named = []
        for fd in call.fds:
            opened = one.table.get(fd)
            named.append(one.folder[0] if fd == -100 else opened.name if opened else None)
        call.truth = tuple(named)

    def take_effect(self, one: Task, call: Call) -> None:
        self.tick()
        self.look(one, call)
        call.ret = call.effect()
        call.done = True

    def come_back(self, one: Task, call: Call) -> None:
        one.call = None
        inferred = call.name in ("execve", "vfork") and call.ret >= 0
        seq = self.record(one, call, call.ret, RETURNED | (INFERRED if inferred else 0), self.tick() - call.began)
        if call.made is not None:
            call.made.fork = seq
        if call.name == "execve" and call.ret >= 0:
            self.life(one).execs.append(seq)
        if self.silent and self.source.random() < 0.01:
            self.kill(one)

    def kill(self, one: Task) -> None:
        """A process dies without a word."""
        for other in self.tasks:
            if other.number >> 32 == one.number >> 32:
                self.end(other)

    def end(self, one: Task) -> None:
        if one.alive and one.call is not None and one.call.entry < 0:
            self.lost.append((one.number, one.call))
        one.alive, one.call = False, None
        for other in self.tasks:
            if other.waits_for is one:
                other.waits_for = None

    def any_fd(self, one: Task) -> int:
        return self.source.choice(sorted(one.table) or [3]) if self.source.random() < 0.9 else self.source.randrange(9)

    def place(self, one: Task, name: str, cloexec: bool, low: int = 0) -> int:
        fd = next(fd for fd in range(low, 1 << 20) if fd not in one.table)
        one.table[fd] = Open(name, cloexec)
        return fd

    def call_read(self, one: Task) -> Call:
        fd = self.any_fd(one)
        return Call("read", (fd, 0x7000, 10), 0, (fd,), lambda: 10 if fd in one.table else EBADF, {})

    def call_close(self, one: Task) -> Call:
        fd = self.any_fd(one)
        return Call("close", (fd,), 0, (fd,), lambda: 0 if one.table.pop(fd, None) else EBADF, {})

    def call_openat(self, one: Task) -> Call:
        name = f"f{self.source.randrange(1000)}"
        flags = CLOEXEC * self.source.randrange(2)
        kind = self.source.randrange(4)
        folder = self.any_fd(one) if kind == 2 else -100
        text = f"/abs/{name}" if kind == 0 else name

        def effect() -> int:
            if kind == 3 or (folder >= 0 and (folder not in one.table or not one.table[folder].name.startswith("/"))):
                return EBADF
            base = one.folder[0] if folder == -100 else one.table[folder].name
            whole = text if kind == 0 else f"{base}/{text}"
            return self.place(one, whole, bool(flags)) if len(whole) < 100 else EBADF

        dfd = AT_FDCWD if folder == -100 else folder
        return Call("openat", (dfd, 0x7100, flags), 0, (folder,), effect, {"a1": text.encode()})

    def call_dup(self, one: Task) -> Call:
        fd = self.any_fd(one)
        return Call("dup", (fd,), 0, (fd,), lambda: self.copy(one, fd, 0, False), {})

    def copy(self, one: Task, fd: int, low: int, cloexec: bool) -> int:
        return self.place(one, one.table[fd].name, cloexec, low) if fd in one.table else EBADF

    def call_fcntl(self, one: Task) -> Call:
        fd, command, low = self.any_fd(one), self.source.choice((0, 1030)), self.source.randrange(8)
        return Call("fcntl", (fd, command, low), 0, (fd,), lambda: self.copy(one, fd, low, command == 1030), {})

    def call_setfd(self, one: Task) -> Call:
        fd, bit = self.any_fd(one), self.source.randrange(2)

        def effect() -> int:
            if fd not in one.table:
                return EBADF
            one.table[fd] = Open(one.table[fd].name, bool(bit))
            return 0

        return Call("fcntl", (fd, 2, bit), 0, (fd,), effect, {})

    def call_dup2(self, one: Task, name: str = "dup2", flags: int = 0) -> Call:
        old, new = self.any_fd(one), self.source.randrange(9)

        def effect() -> int:
            if old not in one.table or (old == new and name == "dup3"):
                return EBADF
            if old != new:
                one.table[new] = Open(one.table[old].name, bool(flags))
            return new

        return Call(name, (old, new, flags), 0, (old, new), effect, {})

    def call_dup3(self, one: Task) -> Call:
        return self.call_dup2(one, "dup3", CLOEXEC * self.source.randrange(2))

    def call_pipe2(self, one: Task) -> Call:
        flags = CLOEXEC * self.source.randrange(2)
        strings: dict[str, bytes | tuple[bytes, int]] = {}

        def effect() -> int:
            fds = self.place(one, "pipe(read)", bool(flags)), self.place(one, "pipe(write)", bool(flags))
            strings["a0"] = struct.pack("<2i", *fds), int(StringFlag.BUFFER)
            return 0

        return Call("pipe2", (0x7200, flags), 0, (), effect, strings)

    def call_chdir(self, one: Task) -> Call:
        text = f"/d{self.source.randrange(20)}" if self.source.randrange(3) else f"sub{self.source.randrange(3)}"

        def effect() -> int:
            whole = text if text.startswith("/") else f"{one.folder[0]}/{text}"
            if len(whole) > 60:
                return EBADF
            one.folder[0] = whole
            return 0

        return Call("chdir", (0x7300,), 0, (), effect, {"a0": text.encode()})

    def call_fchdir(self, one: Task) -> Call:
        fd = self.any_fd(one)

        def effect() -> int:
            if fd not in one.table or not one.table[fd].name.startswith("/"):
                return EBADF
            one.folder[0] = one.table[fd].name
            return 0

        return Call("fchdir", (fd,), 0, (fd,), effect, {})

    def new_pid(self) -> int:
        """A number that is free, the lowest: numbers are used again soon. A process's lasts as long as its threads."""
        taken = {part for one in self.tasks if one.alive for part in (one.number & 0xFFFFFFFF, one.number >> 32)}
        return next(pid for pid in range(3, 1 << 20) if pid not in taken)

    def spawn(self, one: Task, flags: int, nr: str, args: tuple[int, ...]) -> int:
        pid = self.new_pid()
        number = task(one.number >> 32, pid) if flags & CLONE_THREAD else task(pid)
        table = one.table if flags & CLONE_FILES else {fd: Open(o.name, o.cloexec) for fd, o in one.table.items()}
        folder = one.folder if flags & CLONE_FS else list(one.folder)
        child = Task(number, table, folder)
        self.tasks = [other for other in self.tasks if other.alive or other.number != number] + [child]
        if flags & CLONE_VFORK:
            one.waits_for = child
        if not flags & CLONE_THREAD:
            self.lives.append(Life(pid, self.life(one), len(self.events) if self.children else -1))
            if one.call is not None:
                one.call.made = self.lives[-1]
        if self.children:
            now = self.tick()
            self.events.append(Event(NR[nr], args, one.number, number, now, (1 << 64) - 1, CHILD, 0, {}))
        return pid

    def call_fork(self, one: Task) -> Call:
        return Call("fork", (), 0, (), lambda: self.spawn(one, 0, "fork", ()), {})

    def call_vfork(self, one: Task) -> Call:
        return Call("vfork", (), 0, (), lambda: self.spawn(one, CLONE_VM | CLONE_VFORK, "vfork", ()), {})

    def call_thread(self, one: Task) -> Call:
        flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
        return Call("clone", (flags,), 0, (), lambda: self.spawn(one, flags, "clone", (flags,)), {})

    def call_share(self, one: Task) -> Call:
        flags = CLONE_FILES
        return Call("clone", (flags,), 0, (), lambda: self.spawn(one, flags, "clone", (flags,)), {})

    def call_execve(self, one: Task) -> Call:
        def effect() -> int:
            if one.number >> 32 != one.number & 0xFFFFFFFF or self.source.random() < 0.2:
                return -2
            for other in self.tasks:
                if other is not one and other.number >> 32 == one.number >> 32:
                    self.end(other)
            one.table = {fd: Open(o.name) for fd, o in one.table.items() if not o.cloexec}
            for other in self.tasks:
                if other.waits_for is one:
                    other.waits_for = None
            return 0

        return Call("execve", (0x7400, 0, 0), 0, (), effect, {"a0": b"/bin/x"})

    def call_exit(self, one: Task) -> Call:
        pid, status = one.number >> 32, one.number & 0x7F

        def effect() -> int:
            entry = one.call.entry if one.call else -1
            self.end(one)
            if not any(other.alive and other.number >> 32 == pid for other in self.tasks):
                self.life(one).end, self.life(one).status = entry, pid & 0x7F
            return 0

        return Call("exit", (status | 0x500,), 0, (), effect, {})

    def call_exit_group(self, one: Task) -> Call:
        def effect() -> int:
            self.life(one).end, self.life(one).status = one.call.entry if one.call else -1, one.number & 0x7F
            self.kill(one)
            return 0

        return Call("exit_group", (one.number & 0x7F,), 0, (), effect, {})

    def call_close_range(self, one: Task) -> Call:
        low, high, flags = self.source.randrange(2, 9), self.source.randrange(2, 12), self.source.choice((0, 0, 2, 4))

        def effect() -> int:
            if low > high:
                return -22
            if flags & 2:
                one.table = {fd: Open(o.name, o.cloexec) for fd, o in one.table.items()}
            for fd in [fd for fd in one.table if low <= fd <= high]:
                if flags & 4:
                    one.table[fd] = Open(one.table[fd].name, True)
                else:
                    del one.table[fd]
            return 0

        return Call("close_range", (low, high, flags), 0, (low,), effect, {})

    def call_unshare(self, one: Task) -> Call:
        def effect() -> int:
            one.table = {fd: Open(o.name, o.cloexec) for fd, o in one.table.items()}
            return 0

        return Call("unshare", (CLONE_FILES,), 0, (), effect, {})


def write(events: list[Event], folder: object, cuts: list[int], lost: frozenset[int] = frozenset()) -> list[object]:
    """Write events as segments that end at some sequence numbers, without those that are lost."""
    paths: list[object] = []
    first = 0
    for number, end in enumerate([*cuts, len(events)]):
        builder = Builder(segment=number, first=first)
        for seq in range(first, end):
            event = events[seq]
            if seq in lost:
                builder.skip(1)
                continue
            strings = builder.set(**event.strings) if event.strings else 0
            builder.event(
                event.nr, *event.args, ret=event.ret, who=event.who, time=event.time, duration=event.duration,
                strings=strings, flags=event.flags, entry=event.entry,
            )  # fmt: skip
            if (seq - first) % 37 == 36:
                builder.block()
        paths.append(builder.write(folder))  # type: ignore[arg-type]
        first = end
    return paths
