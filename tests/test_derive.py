"""Offsets derived from tasks in built memory: found in any layout, and not at all where one thing does not fit."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from capture.derive import derive

PAGE = 4096
KEYS = ("pid", "tgid", "real_parent", "group_leader", "comm", "mm", "start_boottime")


@dataclass
class Guest:
    """Memory of a small kernel: init_task, pid 1, kthreadd, ten threads of the kernel, a shell and its thread.

    Attributes:
        word: Bytes of a pointer.
        big: Byte order.
        canary: Whether task_struct has a stack_canary.
        shift: Bytes of other members before these.
    """

    word: int
    big: bool
    canary: bool
    shift: int
    pages: dict[int, bytearray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random.seed(4)
        self.kernel = 0xFFFF888000000000 if self.word == 8 else 0x81000000
        word, at = self.word, self.shift
        self.mm, at = at, at + 2 * word + 64
        self.pid, at = at, at + 8
        self.links = -(-at // word) * word + (word if self.canary else 0)
        self.start = -(-(self.links + 9 * word) // 8) * 8 + 24
        self.comm = self.start + 16 + 40
        self.tasks = [self.kernel + 0x10000 * n for n in range(1, 16)]
        init, one, kthreadd, *rest = self.tasks
        threads, (shell, thread) = rest[:10], rest[10:12]
        pids = {init: 0, one: 1, kthreadd: 2, shell: 70, thread: 71} | {t: 3 + n for n, t in enumerate(threads)}
        parents = {init: init, one: init, kthreadd: init, shell: one, thread: one} | dict.fromkeys(threads, kthreadd)
        names = {init: b"swapper/0", one: b"init", kthreadd: b"kthreadd", shell: b"sh", thread: b"worker"}
        for place in range(0, 3000, word):  # other members, not all of them 0
            for task in pids:
                self.put(task + place, random.choice([0, 0, 1, 64, random.getrandbits(31)]))
        for task, pid in pids.items():
            leader = shell if task == thread else task
            self.put(task + self.pid, pid, 4)
            self.put(task + self.pid + 4, pids[leader], 4)
            self.put(task + self.links, parents[task])
            self.put(task + self.links + word, parents[task])
            self.put(task + self.links + 6 * word, leader)
            children = [child for child, parent in parents.items() if parent == task != child and child != thread]
            self.ring(task + self.links + 2 * word, [child + self.links + 4 * word for child in children])
            self.put(task + self.start, 10_000_000 * (pid + 1), 8)
            self.put(task + self.start + 8, 10_000_000 * (pid + 1) + 500, 8)
            self.write(task + self.comm, names.get(task, b"kworker/%d" % pid).ljust(16, b"\0"))
            mm = {one: self.kernel + 0x200000, shell: self.kernel + 0x201000, thread: self.kernel + 0x201000}
            self.put(task + self.mm, mm.get(task, 0))
            self.put(task + self.mm + word, mm.get(task, self.kernel + 0x201000))
        for lonely in (init, thread):
            self.ring(lonely + self.links + 4 * word, [])
        self.init, self.one, self.kthreadd, self.threads, self.shell = init, one, kthreadd, threads, shell
        self.arg_start, self.map = 20 * word, self.kernel + 0x201000
        stack = 0x7FFF7000
        addresses = (0x400000, 0x401000, 0x402000, 0x402800, 0x500000, 0x521000, stack)
        for n, value in enumerate((*addresses, stack + 0x100, stack + 0x110, stack + 0x110, stack + 0x180)):
            self.put(self.map + self.arg_start + (n - 7) * word, value)
        self.write(stack + 0x100, b"sh\0-c\0ls /a/b c\0"[:16])
        self.write(stack + 0x17C, b"a=b\0")
        self.current = shell

    def write(self, address: int, data: bytes) -> None:
        for n, byte in enumerate(data):
            self.pages.setdefault((address + n) & -PAGE, bytearray(PAGE))[(address + n) % PAGE] = byte

    def put(self, address: int, value: int, size: int = 0) -> None:
        self.write(address, (value & (1 << 8 * (size or self.word)) - 1).to_bytes(size or self.word, self.order))

    @property
    def order(self) -> Any:
        return "big" if self.big else "little"

    def copy(self, offset: int, to: int, size: int) -> None:
        """Give every task a member twice."""
        for task in self.tasks:
            self.write(task + to, self.block(None, task + offset, size) or b"")

    def ring(self, head: int, nodes: list[int]) -> None:
        """A closed list."""
        around = [head, *nodes, head]
        for node, after in pairwise(around):
            self.put(node, after)
            self.put(after + self.word, node)

    def block(self, cpu: Any, address: int, size: int) -> bytes | None:
        page = self.pages.get(address & -PAGE)
        return None if page is None else bytes(page[address % PAGE : address % PAGE + size])

    def word_at(self, cpu: Any, address: int, size: int = 0) -> int | None:
        data = self.block(cpu, address, size or self.word)
        return None if data is None else int.from_bytes(data, self.order)

    def derive(self) -> dict[str, int] | None:
        memory = type("M", (), {"block": self.block, "word": self.word_at})()
        return derive(None, memory, lambda _: self.current, self.word, self.big)


LAYOUTS = [
    (8, False, True, 1200),
    (8, False, False, 0),
    (4, False, True, 900),
    (4, False, False, 72),
    (4, True, True, 8),
]


@pytest.mark.parametrize(("word", "big", "canary", "shift"), LAYOUTS)
def test_offsets_are_found_in_every_layout(word: int, big: bool, canary: bool, shift: int) -> None:
    guest = Guest(word, big, canary, shift)
    expected = {
        "task.pid_offset": guest.pid,
        "task.tgid_offset": guest.pid + 4,
        "task.real_parent_offset": guest.links,
        "task.group_leader_offset": guest.links + 6 * word,
        "task.comm_offset": guest.comm,
        "task.mm_offset": guest.mm,
        "mm.arg_start_offset": guest.arg_start,
        "mm.arg_end_offset": guest.arg_start + word,
        "task.start_boottime_offset": guest.start + 8,
    }
    for current in (guest.shell, guest.tasks[14 - 1], guest.one):
        guest.current = current
        found = guest.derive()
        assert found is not None
        if current == guest.one:  # its memory map holds no addresses
            assert found == {key: value for key, value in expected.items() if "mm" not in key.replace("comm", "")}
        else:
            assert found == expected


Break = Callable[[Guest], None]
BREAKS: dict[str, Break] = {
    "no task": lambda g: setattr(g, "current", g.kernel + 0x300000),
    "a user's address": lambda g: setattr(g, "current", 0x1000),
    "children list": lambda g: g.put(g.one + g.links + 2 * g.word, g.shell),
    "sibling list": lambda g: g.put(g.shell + g.links + 5 * g.word, g.one),
    "leader": lambda g: g.put(g.shell + g.links + 6 * g.word, g.one),
    "tgid": lambda g: g.put(g.shell + g.pid + 4, 69, 4),
    "parents go round": lambda g: g.put(g.one + g.links, g.shell),
    "first task has a number": lambda g: g.put(g.init + g.pid, 5, 4),
    "pid 1": lambda g: g.put(g.one + g.pid, 9, 4),
    "kthreadd": lambda g: g.put(g.kthreadd + g.pid, 9, 4),
    "a thread of the kernel": lambda g: g.put(g.threads[4] + g.links, g.one),
    "kthreadd's children": lambda g: g.put(g.kthreadd + g.links + 2 * g.word, 0),
    "name of the first task": lambda g: g.write(g.init + g.comm, b"swapping\0"),
    "name of kthreadd": lambda g: g.write(g.kthreadd + g.comm, b"kthreade"),
    "a name without an end": lambda g: g.write(g.shell + g.comm, b"x" * 16),
    "a second name": lambda g: g.copy(g.comm, g.comm + 64, 16),
}  # fmt: skip


@pytest.mark.parametrize("word", [8, 4])
@pytest.mark.parametrize("what", BREAKS)
def test_nothing_is_derived_where_one_thing_does_not_fit(what: str, word: int) -> None:
    guest = Guest(word, False, True, 600)
    assert guest.derive() is not None
    BREAKS[what](guest)
    assert guest.derive() is None


@pytest.mark.parametrize(
    ("what", "missing"),
    [
        (lambda g: g.put(g.threads[7] + g.mm, g.map), "task.mm_offset"),
        (lambda g: g.put(g.shell + g.mm + g.word, 0), "task.mm_offset"),
        (lambda g: g.put(g.map + g.arg_start + 2 * g.word, 0x7FFF7114), "task.mm_offset"),
        (lambda g: g.write(0x7FFF710F, b"x"), "task.mm_offset"),
        (lambda g: g.put(g.threads[7] + g.start, 1, 8), "task.start_boottime_offset"),
    ],
)
def test_what_is_not_certain_stays_unknown(what: Break, missing: str) -> None:
    guest = Guest(8, False, True, 600)
    assert missing in (guest.derive() or {})
    what(guest)
    found = guest.derive()
    assert found is not None and missing not in found
    assert ("mm.arg_start_offset" in found) == ("task.mm_offset" in found)


def test_random_memory_is_no_task() -> None:
    generator = random.Random(1)
    guest = Guest(8, False, True, 600)
    for _ in range(20):
        data = struct.pack("<1024Q", *(generator.choice(guest.tasks) + generator.randrange(2048) for _ in range(1024)))
        guest.write(guest.kernel + 0x400000, data)
        guest.current = guest.kernel + 0x400000
        assert guest.derive() is None
