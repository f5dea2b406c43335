"""Names of descriptors: what a capture's rows say against what strace says.

strace asks the guest's kernel at each call, so it shows the name that a file has at that moment; a row shows the name
under which it was opened. Where a program has renamed a file since, both are right: such pairs are counted by
themselves. A file that has lost its name is marked by strace and not by a row.
"""

from __future__ import annotations

import fcntl
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from oracle import Said
from strace_compare import UNKNOWN, Row, unescape
from strace_log import Call, Descriptor, descriptor, string

_SHOWN = re.compile(r"\w+=-?0x[0-9a-f]+\((.*)\)", re.DOTALL)
_SOCKET = re.compile(rb"([A-Z]+(?:-[A-Z]+)?):\[(\d+).*", re.DOTALL)
SOCKETS = {
    b"TCP": (b"AF_INET", b"SOCK_STREAM"), b"UDP": (b"AF_INET", b"SOCK_DGRAM"),
    b"UNIX-STREAM": (b"AF_UNIX", b"SOCK_STREAM"), b"UNIX-DGRAM": (b"AF_UNIX", b"SOCK_DGRAM"),
    b"UNIX": (b"AF_UNIX", b""),
}  # fmt: skip
"""strace's names of sockets, and what was asked for."""
_MEMFD, _DELETED = b"/memfd:", b" (deleted)"
_MOST_LINKS = 40
LINKS = {b"/dev/fd": b"/proc/self/fd", b"/tmp/shell/around": b"../shell", b"/tmp/shell/paths/to-b": b"a/b"}
"""Links of the workload that /init makes before strace runs, or that last: enough where there is no log."""


@dataclass
class Names:
    """What became of strace's names.

    Attributes:
        files: Counts of `equal`, `resolved` (equal once the guest's links are followed), `renamed`, `unknown` and
            `wrong`, for descriptors of files and folders, AT_FDCWD among them.
        others: The same for pipes, sockets and such.
        closed: Numbers without a file that a row gives no name either; close_range's are bounds.
        wrong: What is wrong, in words.
        unknown: Likewise, how often each kind of call has no name.
        sources: The rows' own word for where the names are from.
    """

    files: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    wrong: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """How many of the file names are equal, from 0 to 1."""
        return 1 - (self.files["unknown"] + self.files["wrong"]) / max(1, self.files.total())


class Guest:
    """The links and renames of a guest, as its programs make them in strace's log.

    Only calls that name their folder count: strace does not say where a relative path of the others begins.
    """

    def __init__(self) -> None:
        self._links = dict(LINKS)
        self._renames: list[tuple[bytes, bytes]] = []
        self._names: dict[tuple[int, int], bytes] = {}
        """Process and number to the name that strace last showed."""

    def watch(self, call: Call, row: Row) -> None:
        """Take notice of a call."""
        for text in (*call.args, call.result):
            named = descriptor(text)
            if named is not None and named.fd is not None:
                self._names[row["pid"], named.fd] = named.name
        if call.errno or call.name not in ("symlinkat", "renameat", "renameat2"):
            return
        paths, base = [], b""
        for text in call.args:
            at, path = descriptor(text), string(text)
            base = at.name if at else base
            if path is not None:
                paths.append(path if path.startswith(b"/") else base + b"/" + path)
        if call.name == "symlinkat":
            self._links[paths[-1]] = string(call.args[0]) or b""
        else:
            self._renames.append((self.resolve(paths[0], row), self.resolve(paths[1], row)))

    def resolve(self, path: bytes, row: Row) -> bytes:
        """The kernel's name of what a path leads to, all links followed."""
        done, left, links = b"", [part for part in path.split(b"/") if part], 0
        while left:
            part = left.pop(0)
            if part == b".":
                continue
            if part == b"..":
                done = done.rpartition(b"/")[0]
                continue
            done += b"/" + part
            target = self._target(done, row)
            if target is not None and links < _MOST_LINKS:
                links += 1
                left = [piece for piece in target.split(b"/") if piece] + left
                done = b"" if target.startswith(b"/") else done.rpartition(b"/")[0]
        return done or b"/"

    def _target(self, path: bytes, row: Row) -> bytes | None:
        if path == b"/proc/self":
            return b"%d" % row["pid"]
        if path == b"/proc/thread-self":
            return b"%d/task/%d" % (row["pid"], row["tid"])
        magic = re.fullmatch(rb"/proc/(\d+)/(?:task/\d+/)?fd/(\d+)", path)
        if magic:
            return self._names.get((int(magic[1]), int(magic[2])))
        return self._links.get(path)

    def renamed(self, before: bytes, now: bytes) -> bool:
        """Whether what was ``before`` can be called ``now``, by the renames so far."""
        for old, new in self._renames:
            if before == old or before.startswith(old + b"/"):
                before = new + before[len(old) :]
                if before == now:
                    return True
        return False


def compare_names(pairs: Iterable[tuple[Call, Row]]) -> Names:
    """Hold the names of all descriptors among arguments against each other. ``pairs`` in the order of the log."""
    found, guest, last = Names(), Guest(), 0
    for call, row in sorted(pairs, key=lambda pair: pair[0].line):
        assert call.line > last
        last = call.line
        for position, text in enumerate(call.args):
            shown, named = shown_name(row, position), descriptor(text)
            if named is not None:
                _one(call, row, named, shown, guest, found)
            elif (
                call.name != "close_range"
                and "(" in (row.get(f"arg{position}_repr") or "")
                and re.fullmatch(r"-?\d+", text)
            ):
                if shown is None:
                    found.closed += 1
                else:
                    found.wrong.append(_told("a name for what is closed", call, row, b"", shown))
        guest.watch(call, row)
    return found


def shown_name(row: Row, position: int) -> bytes | None:
    """The name that a row gives to the descriptor in an argument; None if it says that it does not know it."""
    match = _SHOWN.fullmatch(row.get(f"arg{position}_repr") or "")
    return None if match is None or match[1] == UNKNOWN else unescape(match[1])


def _one(call: Call, row: Row, named: Descriptor, shown: bytes | None, guest: Guest, found: Names) -> None:
    """Count one descriptor."""
    is_file = named.name.startswith(b"/") and not named.name.startswith(_MEMFD)
    counts = found.files if is_file else found.others
    if shown is None:
        verdict = "unknown"
        found.unknown[call.name] += 1
    elif not is_file:
        verdict = "equal" if is_same_kind(named, shown) else "wrong"
    else:
        bare = shown.removesuffix(_DELETED) if named.deleted else shown
        if bare == named.name:
            verdict = "equal"
        elif guest.resolve(bare, row) == named.name:
            verdict = "resolved"
        elif guest.renamed(bare, named.name) or guest.renamed(guest.resolve(bare, row), named.name):
            verdict = "renamed"
        else:
            verdict = "wrong"
    counts[verdict] += 1
    found.sources[str(row.get("fd_source"))] += 1
    if verdict == "wrong":
        found.wrong.append(_told("another name", call, row, named.name, shown or b""))


def is_same_kind(named: Descriptor, shown: bytes) -> bool:
    """Whether a row's name for what is no file is that of strace, which has its own for sockets and processes.

    An inferred name cannot have the kernel's number of a pipe or socket: it then says what was asked for.
    """
    name = named.name
    socket = _SOCKET.fullmatch(name)
    if socket:
        family, kind = SOCKETS[socket[1]]
        bare = re.split(rb" at |->|<-", shown)[0]  # a row also says the addresses, as calls told them
        return (
            bare == b"socket:[%s]" % socket[2] or re.match(rb"socket(pair)?\(%s, %s" % (family, kind), bare) is not None
        )
    if name.startswith(b"socket:["):  # /proc's name
        return shown.startswith((name, b"socket(", b"socketpair("))
    if name.startswith(b"pid:"):
        return shown == b"anon_inode:[pidfd]"
    if name.startswith(_MEMFD):
        return shown.removesuffix(_DELETED) == name
    return shown == name or shown.partition(b"(")[0] == name.partition(b":")[0]


def _told(what: str, call: Call, row: Row, wanted: bytes, shown: bytes) -> str:
    return f"{what}: {shown!r}, strace {wanted!r} ({row.get('fd_source')})\n  strace {call}\n  row    {row}"


def compare_statements(said: Iterable[tuple[Said, Row]], rows: pl.DataFrame) -> Names:
    """Hold the names that tasks gave their own descriptors against those of the calls that carry their tickets."""
    found, guest = Names(), Guest()
    asked = rows.filter(pl.col("name").is_in(["sys_fcntl", "sys_fcntl64"]) & (pl.col("arg1") == fcntl.F_GETFD))
    calls: dict[tuple[int, int], list[Row]] = {}
    for row in asked.to_dicts():
        calls.setdefault((row["arg2"], row["arg0"]), []).append(row)
    for me, statement in said:
        for fd, name in me.fds.items():
            # Processes that had one number had one ticket, too: the call that follows the statement is its own.
            row = next(one for one in calls[me.ticket, fd] if one["seq"] > statement["seq"])
            row = {**row, "pid": me.pid, "tid": me.tid}
            if name:
                named = Descriptor(fd, name.removesuffix(_DELETED), name.endswith(_DELETED))
                call = Call(0, me.tid, "fcntl", (str(fd), "F_GETFD", str(me.ticket)))
                _one(call, row, named, shown_name(row, 0), guest, found)
    return found


def listing(counts: Mapping[str, int]) -> str:
    """Counts in one line."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"
