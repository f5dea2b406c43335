"""Rows of a capture against strace's log of the same run, task by task and call by call."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any

import polars as pl

from strace_log import LAST, Call, End, number, string, strings

Row = dict[str, Any]

# strace goes by the name in the kernel's syscall table, a row by the function behind it (sys_NAME).
FUNCTIONS = {
    "stat": "newstat", "fstat": "newfstat", "lstat": "newlstat",  # the old ones were for struct __old_kernel_stat
    "uname": "newuname",  # likewise
    "umount2": "umount",  # umount was 32-bit's first, without flags
    "sendfile": "sendfile64",  # on 64-bit ABIs, where off_t is loff_t
    "fadvise64": "fadvise64_64",  # aarch64's
}  # fmt: skip

# strace shows the same error by another of its names.
ERRNOS = {"EWOULDBLOCK": "EAGAIN", "ENOTSUPP": "EOPNOTSUPP", "EDEADLOCK": "EDEADLK"}

# Its arguments are shown by name, in an order that is no ABI's.
BY_NAME = frozenset({"clone", "clone3"})

EXCEPTIONS = {
    "restart": "a signal cut it short: strace stops the task before the kernel has decided between EINTR and a restart",
    "sigreturn": "rt_sigreturn comes back into other code: strace takes that code's register for the result",
    "killed": "the task was killed before it was back in its program, or gave its place to a thread's execve",
    "skipped": "killed while ptrace held it at a call's entry: the kernel leaves the call out, strace finds no task",
    "last": "exit and exit_group do not come back",
    "absent": "an exec's strings lay in pages that the kernel had yet to bring in; ptrace reads like the kernel",
    "kept": "strings that the capture does not record, see NOT_RECORDED",
}
"""Where a row may differ from what strace shows, and why."""

NOT_RECORDED = {
    ("prctl", 1): "PR_GET_NAME: the kernel's own name of the task, which its identity has",
}
"""Strings of strace that no row has, by call and argument."""

_STRING = re.compile(r'\w+=0x[0-9a-f]+\("((?:[^"\\]|\\.)*)"(\.\.\.)?\)', re.DOTALL)
_LIST = re.compile(r"\w+=0x[0-9a-f]+\(\[(.*)\]\)", re.DOTALL)
_FD = re.compile(r"\w+=-?0x[0-9a-f]+\((.*)\)", re.DOTALL)
UNKNOWN = "[???]"
_NO_SYSCALL = 0xFFFFFFFF
"""The number of a call that the kernel has forgotten: -1."""


@dataclass
class Findings:
    """What a comparison found.

    Attributes:
        compared: Pairs of a call and its row.
        missing: Calls of strace without a row.
        extra: Rows of traced tasks without a call.
        differences: What differs in a pair, and how.
        exceptions: How often each of `EXCEPTIONS` held.
        figures: Strings and numbers that were compared and were equal.
        pairs: All pairs.
    """

    compared: int = 0
    missing: list[Call] = field(default_factory=list)
    extra: list[Row] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    exceptions: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    pairs: list[tuple[Call, Row]] = field(default_factory=list)


def compare(tasks: dict[int, list[Call | End]], rows: pl.DataFrame) -> Findings:
    """Hold the calls of each task against the rows of the same tid, in the order in which they began.

    The tid that strace itself started made calls before it was traced, up to its first execve. Where a capture cannot
    tell threads apart, the process stands for its leader.
    """
    found = Findings()
    first = min((item for items in tasks.values() for item in items), key=lambda item: item.line)
    ordered = rows.sort("time_ns", maintain_order=True)
    parts = {tid: part for (tid,), part in ordered.group_by(pl.coalesce("tid", "pid"))}
    for tid, items in tasks.items():
        calls = made_once([item for item in items if isinstance(item, Call)], found)
        mine = parts[tid].to_dicts() if tid in parts else []
        if tid == first.tid:
            execs = (i for i, row in enumerate(mine) if row["name"] == "sys_execve" and row["status"] == "returned")
            mine = mine[next(execs, len(mine)) :]
        if mine and _is_skipped(items, calls, mine[-1]):
            found.exceptions["skipped"] += 1
            mine.pop()
        for call, row in _aligned(calls, mine, found):
            found.compared += 1
            found.pairs.append((call, row))
            for difference in _differences(call, row, found):
                found.differences.append(f"{difference}\n  strace {call}\n  row    {row}")
    return found


def _is_skipped(items: Sequence[Call | End], calls: Sequence[Call], last: Row) -> bool:
    """Whether a task's last row is a call that its death by SIGKILL has left no time for, and strace did not see.

    ptrace_report_syscall_entry tells the kernel to skip the call then, whose result stays ENOSYS (Linux 6.1,
    kernel/entry/common.c, syscall_trace_enter); aarch64 forgets its number instead (arch/arm64/kernel/ptrace.c,
    report_syscall).
    """
    is_killed = isinstance(items[-1], End) and items[-1].text == "killed by SIGKILL"
    is_other = last["errno"] == "ENOSYS" and (not calls or function(calls[-1]) != last["name"])
    return is_killed and (is_other or last["nr"] == _NO_SYSCALL)


def made_once(calls: Sequence[Call], found: Findings) -> list[Call]:
    """Calls as the program made them: one that the kernel made anew after a signal is one, with its last result.

    The kernel makes it anew at once, or when the signal's handler is done; there, the result that strace shows of
    rt_sigreturn tells whether the program gets EINTR instead.
    """
    made: list[Call] = []
    waiting: list[int] = []
    may_go_on = False
    for call in calls:
        if may_go_on and _is_anew(call, first := made[waiting[-1]]):
            made[waiting[-1]] = replace(call if call.name == first.name else first, line=first.line, result=call.result)
            found.figures["made anew"] += 1
            may_go_on = call.restart is not None
            if not may_go_on:
                waiting.pop()
            continue
        if call.name == "rt_sigreturn" and waiting and call.errno == "EINTR":
            waiting.pop()
        may_go_on = call.restart is not None or (call.name == "rt_sigreturn" and bool(waiting) and not call.errno)
        if call.restart:
            waiting.append(len(made))
        made.append(call)
    return made


def _is_anew(call: Call, first: Call) -> bool:
    return call.name == "restart_syscall" or (call.name == first.name and call.args[:1] == first.args[:1])


def function(call: Call) -> str:
    """The name that a row has for a call."""
    return f"sys_{FUNCTIONS.get(call.name, call.name)}"


def _aligned(calls: Sequence[Call], rows: Sequence[Row], found: Findings) -> Iterator[tuple[Call, Row]]:
    """Pairs of the same name in the same order; what has no partner goes into ``found``."""
    names, others = [function(call) for call in calls], [row["name"] for row in rows]
    for kind, a, b, c, d in SequenceMatcher(None, names, others, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from zip(calls[a:b], rows[c:d], strict=True)
        else:
            found.missing += calls[a:b]
            found.extra += rows[c:d]


def _differences(call: Call, row: Row, found: Findings) -> Iterator[str]:
    """What is not equal in a pair."""
    came_back = row["status"] == "returned"
    if call.name == "rt_sigreturn":
        found.exceptions["sigreturn"] += 1
    elif call.restart:
        found.exceptions["restart"] += 1
        if came_back and row["errno"] != "EINTR":
            yield "a call that a signal cut short"
    elif call.result.startswith("?"):
        found.exceptions["killed" if call.ended else "last"] += 1
        if came_back:
            yield "came back"
        if not call.ended and call.name not in LAST:
            yield "did not come back"
    elif not came_back and call.ended:
        found.exceptions["killed"] += 1
    elif not came_back:
        yield "did not come back"
    elif call.errno:
        if row["errno"] != ERRNOS.get(call.errno, call.errno) or row["retno"] >= 0:
            yield "errno"
    elif (row["retno"] - (call.value or 0)) % (1 << 64) or row["errno"] is not None:
        yield "return value"
    if call.name not in BY_NAME:
        for position, text in enumerate(call.args):
            yield from _argument(call, row, position, text, found)


def _argument(call: Call, row: Row, position: int, text: str, found: Findings) -> Iterator[str]:
    """What is not equal in an argument that is a string, a list of strings or a plain number."""
    shown, value = row.get(f"arg{position}_repr"), row.get(f"arg{position}")
    wanted, listed, plain = string(text), strings(text), number(text)
    if wanted is not None:
        match = _STRING.fullmatch(shown or "")
        if _is_absent(call, shown):
            found.exceptions["absent"] += 1
        elif match is None and (call.name, position) in NOT_RECORDED:
            found.exceptions["kept"] += 1
        elif match is None:
            yield f"argument {position} is no string"
        elif unescape(match[1]) != wanted:
            yield f"argument {position}: another string"
        else:
            found.figures["strings"] += 1
    elif listed is not None and text != "[]":
        match = _LIST.fullmatch(shown or "")
        if _is_absent(call, shown):
            found.exceptions["absent"] += 1
        elif match is None or [unescape(item) for item in re.findall(r"'((?:[^'\\]|\\.)*)'", match[1])] != listed:
            yield f"argument {position}: another list"
        else:
            found.figures["lists"] += 1
    elif plain is not None and value is not None:
        if (plain - value) % (1 << 32):
            yield f"argument {position}: another number"
        else:
            found.figures["numbers"] += 1


def _is_absent(call: Call, shown: str | None) -> bool:
    return call.name in ("execve", "execveat") and (shown or "").endswith("([unreadable])")


def unescape(text: str) -> bytes:
    r"""The guest's bytes behind a repr: `\xNN`, or a character with a backslash before it."""
    parts = re.findall(r"\\x([0-9a-f]{2})|\\(.)|([^\\]+)", text, re.DOTALL)
    return b"".join(bytes.fromhex(byte) if byte else (single or plain).encode() for byte, single, plain in parts)
