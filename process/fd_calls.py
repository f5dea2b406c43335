"""What each syscall does to descriptors and current folders, by its name: one function for all events of a call.

Facts are the kernel's (Linux 6.1): the file that implements each call, and include/uapi for its constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from process.fd_batch import Batch, Called, in_progress, low_int
from process.fd_names import address_text, path_below, socket_text
from process.fd_records import CLOSED, CWD, NONE, ROOT, UNKNOWN, Cloexec, Join, Life

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Handler = Callable[[Batch, Called], None]

_F_DUPFD, _F_SETFD, _F_DUPFD_CLOEXEC = 0, 2, 1030
_FIOCLEX: Final = (0x5451, 0x6601, 0x20006601)
_FIONCLEX: Final = (0x5450, 0x6602, 0x20006602)
"""asm-generic, mips, and powerpc and sparc; none of them is another's anything."""
_O_TMPFILE: Final = 0o20000000
_O_TMPFILE_SPARC: Final = 0x2000000
_RESOLVE_IN_ROOT: Final = 0x10
_AT_FDCWD: Final = -100
_CLONE_VM, _CLONE_VFORK, CLONE_FILES, CLONE_THREAD = 0x100, 0x4000, 0x400, 0x10000
_CLONE_NEWNS, _MS_MOVE = 0x20000, 0x2000
_BPF_MAKES_FD: Final = (0, 5, 7, 13, 14, 17, 18, 19, 28, 30, 32, 33)
"""include/uapi/linux/bpf.h: MAP_CREATE, PROG_LOAD, OBJ_GET, *_GET_FD_BY_ID, RAW_TRACEPOINT_OPEN, BTF_LOAD..."""


def _o_cloexec(call: Called) -> int:
    return 0x400000 if call.abi.startswith("sparc") else 0o2000000


def _flagged(values: Numbers | None, bit: int, count: int) -> npt.NDArray[np.uint8]:
    """Whether a flag is set, as `Cloexec`; unsure where the flags are not known."""
    if values is None:
        return np.full(count, Cloexec.UNSURE, np.uint8)
    found: npt.NDArray[np.uint8] = (values & bit != 0).astype(np.uint8)
    return found


def _folder(call: Called, position: int) -> Numbers:
    """The descriptor that a relative path counts from."""
    dfd = low_int(call.arg(position))
    return np.where(dfd == _AT_FDCWD, CWD, np.where(dfd >= 0, dfd, NONE))


def _opens(batch: Batch, call: Called, path: int, folder: Numbers, flags: Numbers | None, cloexec: object) -> None:
    """A call that opens a path: what it returns is the descriptor."""
    texts, absolute = batch.paths(call, path)
    if flags is not None:
        unnamed = flags & (_O_TMPFILE_SPARC if call.abi.startswith("sparc") else _O_TMPFILE) != 0
        texts = np.where(unnamed, UNKNOWN, texts)
    _lead(batch, call, call.ok & (call.ret >= 0), low_int(call.ret), texts, absolute, folder, cloexec)


def _lead(
    batch: Batch,
    call: Called,
    which: Mask,
    fd: Numbers,
    texts: Numbers,
    absolute: Mask,
    folder: Numbers,
    cloexec: object,
) -> None:
    """Record that descriptors have paths for names, from a folder or from the root."""
    texts = np.where((folder == NONE) & ~absolute, UNKNOWN, texts)
    lone = texts < 0
    batch.change(
        call, which, fd, src=np.where(lone, NONE, np.where(absolute, ROOT, folder)), text=texts,
        join=np.where(lone, Join.TEXT, np.where(absolute, Join.ROOTED, Join.PATH)), cloexec=cloexec,
    )  # fmt: skip


def _open(batch: Batch, call: Called) -> None:
    flags = call.arg(1)
    _opens(batch, call, 0, np.full(len(call.rows), CWD), flags, _flagged(flags, _o_cloexec(call), len(call.rows)))


def _creat(batch: Batch, call: Called) -> None:
    _opens(batch, call, 0, np.full(len(call.rows), CWD), None, Cloexec.NO)


def _openat(batch: Batch, call: Called) -> None:
    flags = call.arg(2)
    _opens(batch, call, 1, _folder(call, 0), flags, _flagged(flags, _o_cloexec(call), len(call.rows)))


def _openat2(batch: Batch, call: Called) -> None:
    """`struct open_how`: flags, mode, resolve, 8 bytes each."""
    flags, resolve = batch.words(call, 2, 0, 8), batch.words(call, 2, 16, 8)
    sure = (flags >= 0) & (resolve >= 0) & (resolve & _RESOLVE_IN_ROOT == 0)
    cloexec = np.where(flags >= 0, _flagged(flags, _o_cloexec(call), len(flags)), Cloexec.UNSURE)
    _opens(batch, call, 1, _folder(call, 0), np.where(sure, flags, _O_TMPFILE | _O_TMPFILE_SPARC), cloexec)


def _open_tree(batch: Batch, call: Called) -> None:
    flags = call.arg(2)
    _opens(batch, call, 1, _folder(call, 0), None, _flagged(flags, _o_cloexec(call), len(call.rows)))


def _dup(batch: Batch, call: Called) -> None:
    batch.change(call, call.ok, low_int(call.ret), src=low_int(call.arg(0)), join=Join.SAME, cloexec=Cloexec.NO)


def _dup2(batch: Batch, call: Called) -> None:
    old, new = low_int(call.arg(0)), low_int(call.arg(1))
    flags = call.arg(2) if call.name == "sys_dup3" else np.zeros(len(old), np.int64)
    cloexec = _flagged(flags, _o_cloexec(call), len(old))
    batch.change(call, call.ok & (old != new), new, src=old, join=Join.SAME, cloexec=cloexec)
    batch.lose(call, call.pending & (old != new), new)


def _fcntl(batch: Batch, call: Called) -> None:
    fd, command, value = low_int(call.arg(0)), low_int(call.arg(1)), call.arg(2)
    for wanted, cloexec in ((_F_DUPFD, Cloexec.NO), (_F_DUPFD_CLOEXEC, Cloexec.YES)):
        batch.change(call, call.ok & (command == wanted), low_int(call.ret), src=fd, join=Join.SAME, cloexec=cloexec)
    is_set = command == _F_SETFD
    batch.change(call, call.ok & is_set, fd, src=fd, join=Join.SAME, cloexec=(value & 1).astype(np.uint8))
    batch.lose(call, call.pending & is_set, fd)


def _ioctl(batch: Batch, call: Called) -> None:
    fd, command = low_int(call.arg(0)), call.arg(1) & 0xFFFFFFFF
    for wanted, cloexec in ((_FIOCLEX, Cloexec.YES), (_FIONCLEX, Cloexec.NO)):
        which = np.isin(command, wanted)
        if which.any():
            batch.change(call, call.ok & which, fd, src=fd, join=Join.SAME, cloexec=cloexec)


def _close(batch: Batch, call: Called) -> None:
    """Closes even when it fails: EINTR and EIO come after the descriptor is gone (fs/open.c)."""
    fd = low_int(call.arg(0))
    batch.change(call, call.returned, fd, text=CLOSED, cloexec=Cloexec.NO)
    batch.lose(call, call.pending, fd)


def _close_range(batch: Batch, call: Called) -> None:
    first, last = call.arg(0) & 0xFFFFFFFF, call.arg(1) & 0xFFFFFFFF
    batch.life(call, call.pending, Life.TAINT)
    batch.life(call, call.ok, Life.RANGE, (first | last << 32).view(np.uint64), call.arg(2) & 0xFFFFFFFF)


def _pipe(batch: Batch, call: Called) -> None:
    flags = call.arg(1) if call.name == "sys_pipe2" else np.zeros(len(call.rows), np.int64)
    _pair(batch, call, 0, ("pipe(read)", "pipe(write)"), _flagged(flags, _o_cloexec(call), len(call.rows)))


def _pair(batch: Batch, call: Called, position: int, names: tuple[str, str], cloexec: object) -> None:
    """Two descriptors that the call stored in memory."""
    for which, name in enumerate(names):
        fd = batch.words(call, position, 4 * which, 4)
        batch.change(call, call.ok & (fd >= 0), fd, text=batch.text(name), cloexec=cloexec)


def _sysm_pipe(batch: Batch, call: Called) -> None:
    """On mips the two descriptors come back in registers, of which the first is recorded (arch/mips/kernel)."""
    batch.change(call, call.ok, low_int(call.ret), text=batch.text("pipe(read)"), cloexec=Cloexec.NO)


def _socket_texts(batch: Batch, call: Called, name: str) -> Numbers:
    triples = np.stack([low_int(call.arg(k)) for k in range(3)])
    distinct, inverse = np.unique(triples, axis=1, return_inverse=True)
    codes = [batch.text(socket_text(f, t, p, call.abi, name)) for f, t, p in distinct.T.tolist()]
    return np.array(codes, np.int64)[inverse.reshape(-1)]


def _socket(batch: Batch, call: Called) -> None:
    cloexec = _flagged(call.arg(1), _o_cloexec(call), len(call.rows))
    batch.change(call, call.ok, low_int(call.ret), text=_socket_texts(batch, call, "socket"), cloexec=cloexec)


def _socketpair(batch: Batch, call: Called) -> None:
    texts = _socket_texts(batch, call, "socketpair")
    cloexec = _flagged(call.arg(1), _o_cloexec(call), len(call.rows))
    for which in range(2):
        fd = batch.words(call, 3, 4 * which, 4)
        batch.change(call, call.ok & (fd >= 0), fd, text=texts, cloexec=cloexec)


def _addresses(batch: Batch, call: Called) -> Numbers:
    return batch.buffers(call, 1, lambda data: address_text(data, batch.big_endian))


def _connect(batch: Batch, call: Called) -> None:
    fd, text = low_int(call.arg(0)), _addresses(batch, call)
    done = call.ok | (call.returned & (call.ret == -in_progress(call.abi)))
    batch.change(call, done & (text >= 0), fd, src=fd, text=text, join=Join.PEER, cloexec=Cloexec.KEEP)


def _bind(batch: Batch, call: Called) -> None:
    fd, text = low_int(call.arg(0)), _addresses(batch, call)
    how = Join.PEER if call.name == "sys_getpeername" else Join.LOCAL
    batch.change(call, call.ok & (text >= 0), fd, src=fd, text=text, join=how, cloexec=Cloexec.KEEP)


def _accept(batch: Batch, call: Called) -> None:
    flags = call.arg(3) if call.name == "sys_accept4" else np.zeros(len(call.rows), np.int64)
    text = _addresses(batch, call)
    batch.change(
        call, call.ok, low_int(call.ret), src=low_int(call.arg(0)), text=np.where(text >= 0, text, batch.text("")),
        join=Join.ACCEPT, cloexec=_flagged(flags, _o_cloexec(call), len(text)),
    )  # fmt: skip


def _memfd(batch: Batch, call: Called) -> None:
    text = batch.strings(call, 0, lambda name: f"/memfd:{name} (deleted)")
    batch.change(call, call.ok, low_int(call.ret), text=text, cloexec=_flagged(call.arg(1), 1, len(text)))


def _mq_open(batch: Batch, call: Called) -> None:
    text = batch.strings(call, 0, lambda name: f"mqueue:{name}")
    batch.change(call, call.ok, low_int(call.ret), text=text, cloexec=Cloexec.YES)


def _signalfd(batch: Batch, call: Called) -> None:
    flags = call.arg(3) if call.name == "sys_signalfd4" else np.zeros(len(call.rows), np.int64)
    made = call.ok & (low_int(call.arg(0)) == -1)
    cloexec = _flagged(flags, _o_cloexec(call), len(flags))
    batch.change(call, made, low_int(call.ret), text=batch.text("anon_inode:[signalfd]"), cloexec=cloexec)


def _bpf(batch: Batch, call: Called) -> None:
    made = call.ok & np.isin(low_int(call.arg(0)), _BPF_MAKES_FD)
    batch.change(call, made, low_int(call.ret), text=UNKNOWN, cloexec=Cloexec.YES)


def _landlock(batch: Batch, call: Called) -> None:
    made = call.ok & (call.arg(2) & 0xFFFFFFFF == 0)
    text = batch.text("anon_inode:[landlock-ruleset]")
    batch.change(call, made, low_int(call.ret), text=text, cloexec=Cloexec.YES)


def _maker(text: str | None, position: int | None, bit: int) -> Handler:
    """A call that returns a new descriptor; ``bit`` of an argument (0: O_CLOEXEC) makes it close-on-exec.

    Without a position: it always is, if ``bit`` is 1, else never.
    """

    def handler(batch: Batch, call: Called) -> None:
        cloexec: object = Cloexec.YES if bit else Cloexec.NO
        if position is not None:
            cloexec = _flagged(call.arg(position), bit or _o_cloexec(call), len(call.rows))
        code = UNKNOWN if text is None else batch.text(text)
        batch.change(call, call.ok, low_int(call.ret), text=code, cloexec=cloexec)

    return handler


def _chdir(batch: Batch, call: Called) -> None:
    _change_folder(batch, call, CWD)


def _chroot(batch: Batch, call: Called) -> None:
    """Changes the root alone; the current folder stays (fs/open.c)."""
    _change_folder(batch, call, ROOT)


def _change_folder(batch: Batch, call: Called, what: int) -> None:
    texts, absolute = batch.paths(call, 0)
    here = np.full(len(texts), CWD)
    _lead(batch, call, call.ok, np.full(len(texts), what), texts, absolute, here, Cloexec.NO)
    batch.lose(call, call.pending, np.full(len(texts), what))


def _mount(batch: Batch, call: Called) -> None:
    """What is mounted at the current folder becomes the root of all paths: `mount --move . /` of switch_root."""
    moved = call.ok & (call.arg(3) & _MS_MOVE != 0)
    to_root = batch.strings(call, 1, lambda path: "/" if path_below("", path) == "/" else None) >= 0
    here = batch.strings(call, 0, lambda path: "/" if path == "." else None)
    batch.change(call, moved & to_root, np.full(len(here), CWD), text=here, cloexec=Cloexec.NO)


def _fchdir(batch: Batch, call: Called) -> None:
    folder = np.full(len(call.rows), CWD)
    batch.change(call, call.ok, folder, src=low_int(call.arg(0)), join=Join.SAME, cloexec=Cloexec.NO)
    batch.lose(call, call.pending, folder)


def _getcwd(batch: Batch, call: Called) -> None:
    """Tells the current folder; a path that cannot be reached begins otherwise (fs/d_path.c)."""
    text = batch.strings(call, 0, lambda path: path_below("", path) if path.startswith("/") else None)
    told, all_ = call.ok & (text >= 0), np.ones(len(text), np.bool_)
    _lead(batch, call, told, np.full(len(text), CWD), text, all_, np.full(len(text), NONE), Cloexec.NO)


def _pivot_root(batch: Batch, call: Called) -> None:
    batch.life(call, call.ok | call.pending, Life.PIVOT)


def _setns(batch: Batch, call: Called) -> None:
    done, kinds = call.ok | call.pending, call.arg(1) & 0xFFFFFFFF
    for what in (CWD, ROOT):
        batch.lose(call, done & ((kinds == 0) | (kinds & _CLONE_NEWNS != 0)), np.full(len(kinds), what))
    batch.life(call, done, Life.SETNS, b=kinds)


def _io_uring(batch: Batch, call: Called) -> None:
    batch.change(call, call.ok, low_int(call.ret), text=batch.text("anon_inode:[io_uring]"), cloexec=Cloexec.YES)
    batch.life(call, call.ok, Life.TAINT)


def _fork(batch: Batch, call: Called) -> None:
    flags = fork_flags(batch, call)
    made = call.ok & (call.ret > 0)
    batch.life(call, made, Life.FORK, (call.ret & 0xFFFFFFFF).view(np.uint64), flags)  # a pid_t, as the program sees it
    batch.life(call, call.pending, Life.FORK, 0, flags)
    batch.life(call, call.pending & (flags & (CLONE_FILES | CLONE_THREAD) == CLONE_FILES), Life.TAINT)
    batch.life(call, call.child, Life.CHILD, call.raw_ret, flags)


def fork_flags(batch: Batch, call: Called) -> Numbers:
    """Clone flags of a call of the fork family, -1 where they are not known."""
    if call.name == "sys_clone3":
        return batch.words(call, 0, 0, 8)  # struct clone_args begins with them
    if call.name == "sys_clone":
        position = next((k for k, name in enumerate(call.arg_names) if "flags" in name), 0)
        return call.arg(position) & 0xFFFFFFFF
    return np.full(len(call.rows), _CLONE_VM | _CLONE_VFORK if call.name == "sys_vfork" else 0)


def _exec(batch: Batch, call: Called) -> None:
    batch.life(call, call.ok, Life.EXEC)
    is_first = call.tasks >> np.uint64(32) == call.tasks & np.uint64(0xFFFFFFFF)
    batch.life(call, call.pending & ~is_first, Life.EXEC_BEGUN)
    batch.life(call, call.returned & ~call.ok & ~is_first, Life.EXEC_FAILED, call.entry)


def _exit(batch: Batch, call: Called) -> None:
    batch.life(call, ~call.child, Life.EXIT if call.name == "sys_exit" else Life.EXIT_GROUP)


def _unshare(batch: Batch, call: Called) -> None:
    batch.life(call, call.ok, Life.UNSHARE, b=call.arg(0) & 0xFFFFFFFF)


HANDLERS: Final[dict[str, Handler]] = {
    "sys_open": _open, "sys_creat": _creat, "sys_openat": _openat, "sys_openat2": _openat2,
    "sys_open_tree": _open_tree, "sys_dup": _dup, "sys_dup2": _dup2, "sys_dup3": _dup2, "sys_fcntl": _fcntl,
    "sys_fcntl64": _fcntl, "sys_ioctl": _ioctl, "sys_close": _close, "sys_close_range": _close_range,
    "sys_pipe": _pipe, "sys_pipe2": _pipe, "sysm_pipe": _sysm_pipe, "sys_socket": _socket,
    "sys_socketpair": _socketpair, "sys_connect": _connect, "sys_bind": _bind, "sys_getsockname": _bind,
    "sys_getpeername": _bind, "sys_accept": _accept, "sys_accept4": _accept, "sys_memfd_create": _memfd,
    "sys_mq_open": _mq_open, "sys_signalfd": _signalfd, "sys_signalfd4": _signalfd, "sys_bpf": _bpf,
    "sys_landlock_create_ruleset": _landlock, "sys_chdir": _chdir, "sys_fchdir": _fchdir, "sys_getcwd": _getcwd,
    "sys_chroot": _chroot, "sys_mount": _mount,
    "sys_pivot_root": _pivot_root, "sys_setns": _setns,
    "sys_io_uring_setup": _io_uring,
    "sys_fork": _fork, "sys_vfork": _fork, "sys_clone": _fork, "sys_clone3": _fork, "sys_execve": _exec,
    "sys_execveat": _exec, "sys_exit": _exit, "sys_exit_group": _exit, "sys_unshare": _unshare,
    "sys_eventfd": _maker("anon_inode:[eventfd]", None, 0), "sys_eventfd2": _maker("anon_inode:[eventfd]", 1, 0),
    "sys_epoll_create": _maker("anon_inode:[eventpoll]", None, 0),
    "sys_epoll_create1": _maker("anon_inode:[eventpoll]", 0, 0),
    "sys_timerfd_create": _maker("anon_inode:[timerfd]", 1, 0),
    "sys_inotify_init": _maker("anon_inode:inotify", None, 0), "sys_inotify_init1": _maker("anon_inode:inotify", 0, 0),
    "sys_userfaultfd": _maker("anon_inode:[userfaultfd]", 0, 0),
    "sys_memfd_secret": _maker("/secretmem (deleted)", 0, 0), "sys_pidfd_open": _maker("anon_inode:[pidfd]", None, 1),
    "sys_pidfd_getfd": _maker(None, None, 1), "sys_fanotify_init": _maker("anon_inode:[fanotify]", 0, 1),
    "sys_perf_event_open": _maker("anon_inode:[perf_event]", 4, 8),
    "sys_fsopen": _maker("anon_inode:[fscontext]", 1, 1), "sys_fspick": _maker("anon_inode:[fscontext]", 2, 1),
    "sys_fsmount": _maker(None, 1, 1), "sys_open_by_handle_at": _maker(None, 2, 0),
}  # fmt: skip
"""By the kernel's name of the call, the same for all ABIs."""
