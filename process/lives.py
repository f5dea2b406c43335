"""What a segment's own calls say of processes: programs executed, children made, names changed, ends.

Part of the survey. `naming.py` puts the steps of all segments together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import EventFlag
from process.calls import Call, Events, Rules
from process.events import FLAGS_ENTRY, HIGH, NR_STRINGS, RET, TASK, TIME, WORDS, Flags, Ready, Unpacked, Words
from process.grouping import union
from process.read import Contents
from process.strings import Text, elements, escape, first_element
from process.wanted import Wanted, named

_EXECS = {"sys_execve": (0, 1), "sys_execveat": (1, 2)}
"""Positions of path and argv."""
_FORKS = frozenset({"sys_fork", "sys_vfork", "sys_clone", "sys_clone3"})
_ENDS = frozenset({"sys_exit_group", "sys_exit"})
_KILLS = frozenset({
    "sys_kill", "sys_tkill", "sys_tgkill", "sys_rt_sigqueueinfo", "sys_rt_tgsigqueueinfo", "sys_pidfd_send_signal",
})  # fmt: skip
_REAPS = frozenset({"sys_wait4", "sys_waitpid", "sys_waitid"})
_PR_SET_NAME = 15  # include/uapi/linux/prctl.h
_CLONE_VM, _CLONE_THREAD = 0x100, 0x10000  # include/uapi/linux/sched.h
_BATCH = 1 << 12
"""Events that are looked at together."""
_COMM = 15
"""Bytes of a name that the kernel keeps (TASK_COMM_LEN less its NUL, include/linux/sched.h)."""


class Kind(IntEnum):
    """What has happened."""

    APPEAR = 0
    """First event of an address space in the segment, or after its end; recorded only where a task is one."""
    EXEC = 1
    """A program was executed; where a task is an address space, perhaps: it has not failed."""
    FORK = 2
    """A process was made, seen by its parent."""
    BIRTH = 3
    """The same, seen by the child."""
    NAME = 4
    """A task has named itself."""
    END = 5
    """A process has ended."""
    REAP = 6
    """A parent has seen a child's end; recorded only where a task is an address space, as the next."""
    KILL = 7
    """A signal was sent: a process may end unseen."""
    THREAD = 8
    """A thread was made, seen by its process; recorded only where tasks have numbers, as the next."""
    EXIT = 9
    """A thread has ended."""


class Step(NamedTuple):
    """One of these.

    Attributes:
        seq: Sequence number of the event; what has changed holds for those after it.
        kind: What.
        task: Of the event.
        is_asid: Whether tasks are address spaces.
        other: The child's number (`FORK`), the parent's task or 0 (`BIRTH`), the entry's sequence number (`EXEC`),
            the status that a parent gets, -1 if not known (`END`, `EXIT`).
        time: When the call was entered, or the child came back (`BIRTH`), ns.
        shares: `FORK`: whether the child runs in its parent's memory.
        first: argv[0] as shown; empty if it is not known.
        argv: The whole as a JSON list of escaped text.
        name: The kernel's name for the task.
    """

    seq: int
    kind: Kind
    task: int
    is_asid: bool
    other: int = 0
    time: int = 0
    shares: bool = False
    first: str = ""
    argv: str | None = None
    name: str = ""


Rows = npt.NDArray[np.int64]


class Lives:
    """Gathers the steps of one segment."""

    def __init__(self, contents: Contents, rules: Rules) -> None:
        """Prepare; the strings are read already."""
        self._contents, self._rules = contents, rules
        self._wanted = Wanted(named(rules, [name for name, make in _MAKERS.items() if make is not _signals]))
        self._wanted_of_spaces = Wanted(named(rules, _MAKERS))
        self._held: list[tuple[Rows, Words]] = []
        self._count = 0
        self._found: list[Step] = []
        self._spaces: list[tuple[Rows, Words, Words]] = []

    def add(self, first: int, block: Unpacked | Ready, flags: Flags) -> None:
        """Take an EVENTS block: its first sequence number, its events, and their flags."""
        spaces, children = flags.rows(EventFlag.TASK_IS_ASID), flags.rows(EventFlag.CHILD)
        rows = (self._wanted_of_spaces if len(spaces) else self._wanted).rows(block)
        rows = union(rows, children) if len(children) else rows
        if len(rows):
            words = np.empty((WORDS, len(rows)), np.uint64)
            block.choose(rows, words)
            self._take(first + rows, words)
        if len(spaces):
            self._spaces.append((first + spaces, block.word(TASK)[spaces], block.word(TIME)[spaces]))

    def _take(self, sequences: Rows, words: Words) -> None:
        """Take all events of a block that may make steps: uint64 of shape (12, n)."""
        is_child = words[FLAGS_ENTRY] & np.uint64(EventFlag.CHILD) != 0
        for row in np.flatnonzero(is_child).tolist():
            task, parent, time = int(words[TASK, row]), int(words[RET, row]), int(words[TIME, row])
            is_asid = _is_asid(words, row)
            self._found.append(Step(int(sequences[row]), Kind.BIRTH, task, is_asid, parent, time))
        if is_child.any():
            sequences, words = sequences[~is_child], words[:, ~is_child]
        if len(sequences):
            self._held.append((sequences, words))
            self._count += len(sequences)
        if self._count >= _BATCH:
            self._look()

    def _look(self) -> None:
        """Look at the events held."""
        if not self._count:
            return
        sequences = np.concatenate([held for held, _ in self._held])
        words = np.concatenate([held for _, held in self._held], axis=1)
        self._held, self._count = [], 0
        events = self._rules.resolve(words)
        for call in events.named(_MAKERS):
            self._found += _MAKERS[call.name](call, events, sequences, self._contents)

    def steps(self) -> list[Step]:
        """All steps, by sequence number."""
        self._look()
        return sorted(self._found + _appearances(self._spaces, self._found), key=lambda step: (step.seq, step.kind))


def _facts(call: Call, events: Events) -> tuple[Rows, npt.NDArray[np.bool_], npt.NDArray[np.bool_], list[int]]:
    """Result, whether it has returned, whether it failed, and back references, one for each of ``call.rows``."""
    values, failed = events.result(call)
    flags = events.words[FLAGS_ENTRY][call.rows]
    returned = flags & np.uint64(EventFlag.RETURNED) != 0
    return values, returned, failed & returned, (flags >> HIGH).astype(np.int64).tolist()


def _text(call: Call, position: int, row: int, events: Events, contents: Contents) -> Text | None:
    """The string of an argument of one event."""
    place = call.target.places[position]
    sets = contents.sets.find((events.words[NR_STRINGS][row : row + 1] >> HIGH).astype(np.int64))
    number = 0 if place.string is None else int(sets[place.string, 0])
    return contents.strings.get(number) if number > 0 else None


def _is_asid(words: Words, row: int) -> bool:
    return bool(int(words[FLAGS_ENTRY, row]) & EventFlag.TASK_IS_ASID)


def _execs(call: Call, events: Events, sequences: Rows, contents: Contents) -> Iterator[Step]:
    """Successful ones; where tasks are address spaces, entries, and as `FORK` with no child those that failed."""
    _, returned, failed, backs = _facts(call, events)
    at_path, at_argv = _EXECS[call.name]
    for row, is_back, is_failed, back in zip(
        call.rows.tolist(), returned.tolist(), failed.tolist(), backs, strict=True
    ):
        is_asid, seq = _is_asid(events.words, row), int(sequences[row])
        if not is_asid and (is_failed or not is_back):
            continue
        path, argv = (_text(call, position, row, events, contents) for position in (at_path, at_argv))
        name = "" if path is None else escape(path.data.rpartition(b"/")[2][:_COMM])
        listed = None if argv is None else json.dumps([escape(word) for word in elements(argv)], ensure_ascii=False)
        task, time = int(events.words[TASK, row]), int(events.words[TIME, row])
        entry = seq - back if is_back else seq
        yield Step(
            seq, Kind.EXEC, task, is_asid, entry, time, is_failed, escape(first_element(argv)), listed, name
        )  # `shares`: it has failed


def _forks(call: Call, events: Events, sequences: Rows, contents: Contents) -> Iterator[Step]:
    values, returned, failed, _ = _facts(call, events)
    at = next((i for i, argument in enumerate(call.args) if "flags" in argument.name), 0)  # second on s390
    flags = events.argument(call, at) if call.name == "sys_clone" else None
    for index in np.flatnonzero(returned & ~failed & (values > 0)).tolist():
        row = int(call.rows[index])
        bits = int(flags[index]) if flags is not None else _CLONE_VM if call.name == "sys_vfork" else 0
        if call.name == "sys_clone3":
            given = _text(call, 0, row, events, contents)
            bits = int.from_bytes(given.data[:8], "little") if given is not None else _CLONE_THREAD
        task, time = int(events.words[TASK, row]), int(events.words[TIME, row])
        child, is_asid = int(values[index]), _is_asid(events.words, row)
        if not bits & _CLONE_THREAD:
            yield Step(int(sequences[row]), Kind.FORK, task, is_asid, child, time, bool(bits & _CLONE_VM))
        elif not is_asid:
            yield Step(int(sequences[row]), Kind.THREAD, task, is_asid, child, time)


def _names(call: Call, events: Events, sequences: Rows, contents: Contents) -> Iterator[Step]:
    _, returned, failed, _ = _facts(call, events)
    option = events.argument(call, 0)
    if option is None:
        return
    for index in np.flatnonzero(returned & ~failed & (option == _PR_SET_NAME)).tolist():
        row = int(call.rows[index])
        text = _text(call, 1, row, events, contents)
        if text is not None:
            name = escape(text.data[:_COMM])
            yield Step(
                int(sequences[row]), Kind.NAME, int(events.words[TASK, row]), _is_asid(events.words, row), name=name
            )


def _ends(call: Call, events: Events, sequences: Rows, contents: Contents) -> Iterator[Step]:
    statuses = events.argument(call, 0)
    kind = Kind.EXIT if call.name == "sys_exit" else Kind.END
    for index, row in enumerate(call.rows.tolist()):
        task, time, is_asid = int(events.words[TASK, row]), int(events.words[TIME, row]), _is_asid(events.words, row)
        status = -1 if statuses is None else int(statuses[index]) & 0xFF
        if kind is Kind.END or not is_asid:
            yield Step(int(sequences[row]), kind, task, is_asid, status, time)


def _signals(call: Call, events: Events, sequences: Rows, contents: Contents) -> Iterator[Step]:
    values, returned, failed, _ = _facts(call, events)
    kind = Kind.KILL if call.name in _KILLS else Kind.REAP
    told = returned & ~failed & ((values > 0) | (call.name not in ("sys_wait4", "sys_waitpid")))
    of_space = events.words[FLAGS_ENTRY][call.rows] & np.uint64(EventFlag.TASK_IS_ASID) != 0
    for row in call.rows[told & of_space].tolist():
        yield Step(int(sequences[row]), kind, int(events.words[TASK, row]), True)


_MAKERS = {
    **dict.fromkeys(_KILLS | _REAPS, _signals),
    **dict.fromkeys(_EXECS, _execs),
    **dict.fromkeys(_FORKS, _forks),
    **dict.fromkeys(_ENDS, _ends),
    "sys_prctl": _names,
}


def _appearances(spaces: list[tuple[Rows, Words, Words]], steps: list[Step]) -> list[Step]:
    """First events of address spaces: in the segment, and after an end or an execve."""
    if not spaces:
        return []
    sequences, tasks, times = (np.concatenate([columns[i] for columns in spaces]) for i in range(3))
    order = np.argsort(tasks, kind="stable")
    tasks, sequences, times = tasks[order], sequences[order], times[order]
    is_first = np.ones(len(tasks), np.bool_)
    is_first[1:] = tasks[1:] != tasks[:-1]
    gone = np.array([step.seq for step in steps if step.kind in (Kind.END, Kind.EXEC)], np.int64)
    is_first[1:] |= np.isin(sequences[:-1], gone)
    return [
        Step(int(seq), Kind.APPEAR, int(task), True, time=int(time))
        for seq, task, time in zip(sequences[is_first], tasks[is_first], times[is_first], strict=True)
    ]
