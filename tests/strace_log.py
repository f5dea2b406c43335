r"""What ``strace -f -yy -v -s 4096 -o FILE`` wrote, as calls of tasks.

A line is `TID CALL(ARGS) = RESULT`, a signal `--- ... ---` or an end `+++ ... +++`. A call during which another task
had its turn comes in two lines: `TID CALL(ARGS <unfinished ...>` and `TID <... CALL resumed>ARGS) = RESULT`; here
they are one again, at the place of the first. A descriptor has its file's name behind it, in angle brackets in which
`<`, `>` and what is not printable are escapes: `3</etc/passwd>`, `4<pipe:[12]>`, `5</gone>(deleted)`,
`6</dev/null<char 1:3>>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

UNFINISHED = " <unfinished ...>"
NOT_RETURNED = "?"
LAST = frozenset({"exit", "exit_group"})
"""Calls that do not come back by their nature."""

_LINE = re.compile(r"(\d+) +(.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.DOTALL)
_CALL = re.compile(r"(\w+)\(")
_STRING = r'"(?:[^"\\]|\\.)*"'
# Sockets are the only ones with an arrow in their names, between the brackets: <TCP:[127.0.0.1:7->127.0.0.1:8]>.
_DECORATION = rf'<(?:[\w-]+:\[(?:{_STRING}|[^\]"])*\]|(?:[^<>]|<[^<>]*>)*)>(?:\(deleted\))?'
_TOKEN = re.compile(
    rf"{_STRING}(?:\.\.\.)?|/\*.*?\*/|(?:\b\d+|AT_FDCWD){_DECORATION}|<\.\.\. [^>]*>|=>|[^\w\s\[\](){{}},]|\w+|\s+|."
)
_FD = re.compile(rf"(-?\d+|AT_FDCWD)({_DECORATION})", re.DOTALL)
_ERROR = re.compile(r"-1 (E[A-Z0-9]+) \(")
_RESTART = re.compile(r"\? (E[A-Z0-9_]+) \(")
_NUMBER = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")
_SIMPLE = {"n": 10, "t": 9, "v": 11, "f": 12, "r": 13}
_OPEN, _CLOSED = "([{", ")]}"


class LogError(ValueError):
    """A line of the log is not understood."""


@dataclass(frozen=True)
class Descriptor:
    """A descriptor with its file's name, as an argument or a result.

    Attributes:
        fd: The number; None for AT_FDCWD.
        name: Bytes of the name, without the type that is given for devices.
        deleted: Whether strace says so.
    """

    fd: int | None
    name: bytes
    deleted: bool


@dataclass
class Call:
    """One call of one task.

    Attributes:
        line: Number of the line on which it began, from 1.
        tid: Of the task.
        name: strace's name of the call.
        args: Its arguments as strace shows them.
        result: What stands behind the equals sign; `?` where nothing came back.
        ended: Whether the task ended, or became another, in this call or on its way back.
    """

    line: int
    tid: int
    name: str
    args: tuple[str, ...] = ()
    result: str = NOT_RETURNED
    ended: bool = False

    @property
    def errno(self) -> str | None:
        """The error's name, if it failed."""
        match = _ERROR.match(self.result)
        return match[1] if match else None

    @property
    def restart(self) -> str | None:
        """The kernel's own error with which a signal cut the call short (ERESTARTSYS and such)."""
        match = _RESTART.match(self.result)
        return match[1] if match else None

    @property
    def value(self) -> int | None:
        """What it returned; None if it failed or did not come back."""
        if self.errno or self.result.startswith(NOT_RETURNED):
            return None
        match = _NUMBER.match(self.result)
        if match is None:
            raise LogError(f"line {self.line}: the result {self.result!r} is no number")
        text = match[0]
        return int(text, 8 if re.fullmatch("0[0-7]+", text) else 0)


@dataclass(frozen=True)
class End:
    """A task's end.

    Attributes:
        line: Number of the line.
        tid: Of the task.
        text: What strace says: `exited with 0`, `killed by SIGKILL`, `superseded by execve in pid 118`.
    """

    line: int
    tid: int
    text: str


def parse(text: str) -> dict[int, list[Call | End]]:
    """The calls and ends of each task, in the order in which they began.

    Raises:
        LogError: A line is not understood.
    """
    tasks: dict[int, list[Call | End]] = {}
    pending: dict[int, tuple[Call, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise LogError(f"line {number}: no task: {line!r}")
        tid, body = int(match[1]), match[2]
        history = tasks.setdefault(tid, [])
        if body.startswith("--- "):
            continue
        if body.startswith("+++ "):
            end = End(number, tid, body[4:].removesuffix(" +++"))
            if history and isinstance(history[-1], Call) and history[-1].name not in LAST:
                history[-1].ended = history[-1].result == NOT_RETURNED or end.text.startswith("killed")
            history.append(end)
            _superseded(end, pending)
            continue
        resumed = _RESUMED.fullmatch(body)
        if resumed is not None:
            call, head = pending.pop(tid)
            if call.name != resumed[1]:
                raise LogError(f"line {number}: {resumed[1]} resumes {call.name}")
            body = head + resumed[2]
        else:
            name = _CALL.match(body)
            if name is None:
                raise LogError(f"line {number}: no call: {line!r}")
            call = Call(number, tid, name[1])
            history.append(call)
        if body.endswith(UNFINISHED):
            pending[tid] = call, body.removesuffix(UNFINISHED)
        else:
            _finish(call, body)
    for call, head in pending.values():
        _finish(call, head + UNFINISHED + ") = ?")
    return tasks


def _superseded(end: End, pending: dict[int, tuple[Call, str]]) -> None:
    """A thread has executed a program: its call comes back as the leader's, whose own is given up."""
    match = re.fullmatch(r"superseded by execve in pid (\d+)", end.text)
    if match is None:
        return
    lost = pending.pop(end.tid, None)
    if lost is not None:
        _finish(lost[0], lost[1] + UNFINISHED + ") = ?")
    call, head = pending.pop(int(match[1]))
    call.ended = True
    pending[end.tid] = call, head.removesuffix(f" <pid changed to {end.tid} ...>")


def _finish(call: Call, body: str) -> None:
    """Fill in a call from its whole text."""
    given_up = body.find(UNFINISHED + ")")
    if given_up >= 0:
        body, call.ended = body[:given_up] + body[given_up + len(UNFINISHED) :], True
    parts, end = _split(body[len(call.name) + 1 :], call)
    call.args = tuple(parts)
    call.result = end


def _split(text: str, call: Call) -> tuple[list[str], str]:
    """Arguments and result out of `ARGS) = RESULT`."""
    parts: list[str] = []
    part, depth = "", 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == ")" and depth == 0:
            rest = re.fullmatch(r"\s*= (.*)", text[match.end() :], re.DOTALL)
            if rest is None:
                break
            return [*parts, part.strip()] if parts or part.strip() else [], rest[1]
        if token == "," and depth == 0:
            parts.append(part.strip())
            part = ""
            continue
        depth += (token in _OPEN) - (token in _CLOSED)
        part += token
    raise LogError(f"line {call.line}: {call.name} has no end: {text!r}")


def descriptor(text: str) -> Descriptor | None:
    """An argument or result that is a descriptor with a name; None for any other."""
    match = _FD.match(text)
    if match is None:
        return None
    rest = text[match.end() :].strip()
    if rest and not rest.startswith("("):
        return None
    name = match[2]
    deleted = name.endswith("(deleted)")
    name = name.removesuffix("(deleted)")[1:-1]
    if name.startswith("/"):
        name = name.split("<", 1)[0]  # </dev/null<char 1:3>>: a < of the name itself is an escape
    return Descriptor(None if match[1] == "AT_FDCWD" else int(match[1]), unescape(name), deleted)


def string(text: str) -> bytes | None:
    """The bytes of an argument that is one string, whole; None for any other."""
    return unescape(text[1:-1]) if re.fullmatch(_STRING, text, re.DOTALL) else None


def strings(text: str) -> list[bytes] | None:
    """The strings of an argument that is a list of nothing else (argv); None for any other."""
    if not re.fullmatch(rf"\[(?:{_STRING}(?:, )?)*\]", text, re.DOTALL):
        return None
    return [unescape(item[0][1:-1]) for item in re.finditer(_STRING, text, re.DOTALL)]


def number(text: str) -> int | None:
    """The value of an argument that is a plain number; None for any other."""
    if text == "NULL":
        return 0
    return int(text, 0) if re.fullmatch(r"-?(?:0x[0-9a-f]+|[1-9]\d*|0)", text) else None


def unescape(text: str) -> bytes:
    """The bytes behind C's escapes; an octal one has up to three digits."""
    return b"".join(_bytes(text))


def _bytes(text: str) -> Iterator[bytes]:
    for match in re.finditer(r"\\([0-7]{1,3})|\\x([0-9a-f]{2})|\\(.)|([^\\]+)", text, re.DOTALL):
        if match[1]:
            yield bytes([int(match[1], 8)])
        elif match[2]:
            yield bytes([int(match[2], 16)])
        elif match[3]:
            yield bytes([_SIMPLE.get(match[3], ord(match[3]))])
        else:
            yield match[4].encode()
