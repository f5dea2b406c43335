"""Offsets in a kernel's structures, derived from the tasks of the running kernel itself.

For kernels that come without BTF and without debug data. What is searched for has stayed the same since Linux 2.6.22:

* task_struct (include/linux/sched.h) has in a row: pid, tgid, perhaps stack_canary, real_parent, parent, children,
  sibling, group_leader. The two lists are closed. Going from real_parent to real_parent ends at init_task, which is
  its own parent and leader and has pid 0; its children are pid 1 and pid 2, kthreadd.
* comm is "swapper" or "swapper/0" in init_task, and "kthreadd" in pid 2.
* mm and active_mm stand side by side: equal in a process, the first of them 0 in every kernel thread.
* mm_struct (include/linux/mm_types.h) has in a row: start_code, end_code, start_data, end_data, start_brk, brk,
  start_stack, arg_start, arg_end, env_start, env_end; arg_end equals env_start, and ends a string.
* start_time and start_boottime, of 8 bytes each and in nanoseconds since Linux 3.17, grow with the pids of the
  kernel's own threads.

An offset is taken only if all of that holds for every task looked at (init_task, pid 1, kthreadd, up to 64 kernel
threads, the current task and its ancestors), and if no second offset does as well. Otherwise it stays unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from capture.current import Finder, Memory

__all__ = ["derive"]

_MOST: Final = 10240
"""Bytes of a task_struct that are looked at. In Linux 6.1 comm lies 3 KB into it on x86_64, and 1.5 KB on i386."""
_MM_MOST: Final = 2048
_PAGE: Final = 4096
_MOST_PIDS: Final = 1 << 22
_MOST_CHILDREN: Final = 4096
_MOST_THREADS: Final = 64
_ENOUGH_THREADS: Final = 8
_DEEPEST: Final = 64
_KERNEL: Final = {8: 0xFFFF << 48, 4: 1 << 30}
"""By word size: no kernel keeps its data below."""
_COMM: Final = 16
_LATEST_START: Final = 100 * 365 * 86400 * 10**9
_LONGEST_START: Final = 10**8
"""Between the two readings of the clock that make start_time and start_boottime, ns."""


@dataclass
class _Row:
    """Where pid to group_leader lie; `links` is the offset of real_parent."""

    pid: int
    links: int


@dataclass
class _Kernel:
    """The memory of one moment, read once per page."""

    memory: Memory
    cpu: Any
    word_size: int
    big_endian: bool
    pages: dict[int, bytes | None] = field(default_factory=dict)

    def data(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes: as many as can be read."""
        found = b""
        while len(found) < size:
            page, at = address + len(found) & -_PAGE, address + len(found) & _PAGE - 1
            if page not in self.pages:
                self.pages[page] = self.memory.block(self.cpu, page, _PAGE)
            data = self.pages[page]
            if data is None:
                break
            found += data[at : at + size - len(found)]
        return found

    def words(self, data: bytes, offset: int = 0, count: int = 0) -> tuple[int, ...]:
        """Pointers in ``data``: ``count`` of them, or all."""
        count = count or (len(data) - offset) // self.word_size
        if offset + count * self.word_size > len(data):
            return ()
        code = f"{'>' if self.big_endian else '<'}{count}{'Q' if self.word_size == 8 else 'I'}"
        return struct.unpack_from(code, data, offset)

    def word(self, address: int) -> int:
        """The pointer at an address; 0 if it cannot be read."""
        return next(iter(self.words(self.data(address, self.word_size))), 0)

    def ids(self, data: bytes, offset: int) -> tuple[int, int]:
        """Process and thread group; (-1, -1) behind the end."""
        if offset + 8 > len(data):
            return -1, -1
        pid, tgid = struct.unpack_from(f"{'>' if self.big_endian else '<'}ii", data, offset)
        return pid, tgid

    def is_kernel(self, address: int) -> bool:
        """Whether this may be a pointer to one of the kernel's structures."""
        return address >= _KERNEL[self.word_size] and not address % self.word_size


def derive(cpu: Any, memory: Memory, find: Finder, word_size: int, big_endian: bool) -> dict[str, int] | None:
    """Offsets under the keys of a profile, in bytes.

    Args:
        cpu: PANDA's CPU, at a system call's instruction.
        memory: Guest memory.
        find: Gives what may be the current task.
        word_size: Bytes of a pointer.
        big_endian: The guest's byte order.

    Returns:
        ``task.pid_offset`` and what else of a task is certain, or None if this is no task.
    """
    kernel = _Kernel(memory, cpu, word_size, big_endian)
    current = find(cpu)
    if not current or not kernel.is_kernel(current):
        return None
    found = []
    for row in _rows(kernel, current):
        tasks = _tasks(kernel, current, row)
        if tasks:
            found.append((row, tasks))
    if len(found) != 1:
        return None
    ((row, tasks),) = found
    comm = _comm(kernel, tasks)
    if comm is None:
        return None
    values = {
        "task.pid_offset": row.pid,
        "task.tgid_offset": row.pid + 4,
        "task.real_parent_offset": row.links,
        "task.group_leader_offset": row.links + 6 * word_size,
        "task.comm_offset": comm,
    }
    return values | _memory_map(kernel, tasks, row) | _start(kernel, tasks, row)


@dataclass
class _Tasks:
    """Tasks that are beyond doubt, by address, and the first bytes of each.

    Attributes:
        init: Address of init_task.
        kthreadd: Of pid 2.
        current: Of the current task, which is in user mode.
        threads: Of the kernel's own threads, kthreadd first.
        data: Of all.
    """

    init: int
    kthreadd: int
    current: int
    threads: list[int]
    data: dict[int, bytes]


def _rows(kernel: _Kernel, current: int) -> Iterator[_Row]:
    """Where the current task may have its pid: the task itself is consistent."""
    data, word = kernel.data(current, _MOST), kernel.word_size
    for offset in range(0, len(data) - 8 - 8 * word, 4):
        pid, tgid = kernel.ids(data, offset)
        if 0 < pid < _MOST_PIDS and 0 < tgid < _MOST_PIDS:
            links = -(-(offset + 8) // word) * word
            for row in (_Row(offset, links), _Row(offset, links + word)):
                if _links(kernel, current, row) is not None:
                    yield row


def _links(kernel: _Kernel, task: int, row: _Row) -> int | None:
    """The real_parent of a task whose members from pid to group_leader fit together, None if they do not."""
    data, word = kernel.data(task, row.links + 7 * kernel.word_size), kernel.word_size
    pid, tgid = kernel.ids(data, row.pid)
    links = kernel.words(data, row.links, 7)
    if not links or not all(map(kernel.is_kernel, links)) or not 0 <= pid < _MOST_PIDS:
        return None
    for head, after, before in ((2, links[2], links[3]), (4, links[4], links[5])):
        node = task + row.links + head * word
        if kernel.word(after + word) != node or kernel.word(before) != node:
            return None
    leader = links[6]
    theirs = kernel.data(leader, row.links + 7 * word)
    if kernel.ids(theirs, row.pid) != (tgid, tgid) or kernel.words(theirs, row.links + 6 * word, 1) != (leader,):
        return None
    return links[0] if (leader == task) == (pid == tgid) else None


def _children(kernel: _Kernel, task: int, row: _Row) -> list[int] | None:
    """The children of a task that are in its list, None if the list does not come back to it."""
    head = task + row.links + 2 * kernel.word_size
    node, found = kernel.word(head), list[int]()
    while node != head:
        if not kernel.is_kernel(node) or len(found) > _MOST_CHILDREN:
            return None
        found.append(node - row.links - 4 * kernel.word_size)
        node = kernel.word(node)
    return found


def _tasks(kernel: _Kernel, current: int, row: _Row) -> _Tasks | None:
    """From the current task to init_task and down to the kernel's threads; None if anything does not fit."""
    chain = [current]
    for _ in range(_DEEPEST):
        parent = _links(kernel, chain[-1], row)
        if parent is None:
            return None
        if parent == chain[-1]:
            break
        chain.append(parent)
    init = chain[-1]
    if kernel.ids(kernel.data(init, row.pid + 8), row.pid) != (0, 0) or _links(kernel, init, row) != init:
        return None
    family = _children(kernel, init, row)
    by_pid = {kernel.ids(kernel.data(task, row.pid + 8), row.pid): task for task in family or ()}
    kthreadd = by_pid.get((2, 2))
    if (1, 1) not in by_pid or kthreadd is None:
        return None
    threads = _children(kernel, kthreadd, row)
    if threads is None:
        return None
    threads = [kthreadd, *threads[:_MOST_THREADS]]
    relatives = [*threads, by_pid[1, 1]]
    parents = [init, *[kthreadd] * (len(threads) - 1), init]
    if any(_links(kernel, task, row) != parent for task, parent in zip(relatives, parents, strict=True)):
        return None
    return _Tasks(init, kthreadd, current, threads, {task: kernel.data(task, _MOST) for task in (*chain, *relatives)})


def _comm(kernel: _Kernel, tasks: _Tasks) -> int | None:
    """Offset of the name."""
    found = []
    data = tasks.data[tasks.init]
    at = data.find(b"swapper")
    while at >= 0:
        names = {task: data[at : at + _COMM].partition(b"\0") for task, data in tasks.data.items()}
        fits = names[tasks.init][0] in (b"swapper", b"swapper/0") and names[tasks.kthreadd][0] == b"kthreadd"
        if fits and all(end for _, end, _ in names.values()) and all(names[task][0] for task in tasks.threads):
            found.append(at)
        at = data.find(b"swapper", at + 1)
    return found[0] if len(found) == 1 else None


def _memory_map(kernel: _Kernel, tasks: _Tasks, row: _Row) -> dict[str, int]:
    """Offsets of mm in a task, and of the argument vector's addresses in that."""
    word, found = kernel.word_size, list[tuple[int, int]]()
    columns = {task: kernel.words(data[: row.pid]) for task, data in tasks.data.items()}
    own = columns[tasks.current]
    others = [columns[task] for task in (tasks.init, *tasks.threads)]
    for index in range(min(map(len, columns.values())) - 1):
        mm = own[index]
        if mm == own[index + 1] and kernel.is_kernel(mm) and not any(other[index] for other in others):
            starts = list(_arguments(kernel, mm))
            if len(starts) == 1:
                found.append((index * word, starts[0]))
    if len(found) != 1:
        return {}
    ((mm, start),) = found
    return {"task.mm_offset": mm, "mm.arg_start_offset": start, "mm.arg_end_offset": start + word}


def _arguments(kernel: _Kernel, mm: int) -> Iterator[int]:
    """Where arg_start may be in the mm_struct of the current task."""
    data = kernel.data(mm, _MM_MOST)
    words, limit = kernel.words(data), _KERNEL[kernel.word_size] if kernel.word_size == 8 else 1 << 32
    for i in range(len(words) - 10):
        code, code_end, start, end, heap, brk, stack, arg, arg_end, env, env_end = words[i : i + 11]
        ordered = 0 < code < code_end and start <= end and 0 < heap <= brk and stack <= arg < arg_end
        if not ordered or not arg_end == env <= env_end < limit or arg - stack >= 1 << 20 or env_end - arg > 1 << 23:
            continue
        if kernel.data(arg_end - 1, 1) == b"\0" and (env == env_end or kernel.data(env_end - 1, 1) == b"\0"):
            yield (i + 7) * kernel.word_size


def _start(kernel: _Kernel, tasks: _Tasks, row: _Row) -> dict[str, int]:
    """Offset of start_boottime."""
    if len(tasks.threads) < _ENOUGH_THREADS:
        return {}
    order, found = ">" if kernel.big_endian else "<", []
    threads = sorted((kernel.ids(tasks.data[task], row.pid)[0], tasks.data[task]) for task in tasks.threads)
    for offset in range(row.links, min(len(data) for _, data in threads) - 16, kernel.word_size):
        before = 1
        for _, data in threads:
            first, second = struct.unpack_from(f"{order}QQ", data, offset)
            if not before <= first < _LATEST_START or not first <= second <= first + _LONGEST_START:
                break
            before = first
        else:
            found.append(offset)
    return {"task.start_boottime_offset": found[0] + 8} if len(found) == 1 else {}
