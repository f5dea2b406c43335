"""What capture must know of an ABI: where its registers are, and which calls need more than one look.

Syscall numbers: arch/x86/entry/syscalls/syscall_64.tbl, Linux 6.1. tests/test_abi.py compares them with the tables.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Abi:
    """One ABI of the guest.

    Attributes:
        name: As in the tables and in segment headers.
        panda_arch: PANDA's name of the machine.
        word_size: Bytes of a register.
        big_endian: Byte order of the guest.
        user_limit: The first address that no process may pass to the kernel (TASK_SIZE_MAX).
        registers: cffi's type of the CPU state that holds ``regs``.
        args: Index in ``regs`` of the six arguments.
        ret: Index in ``regs`` of the return value.
        entry: Calls recorded at entry also: they may never return, or replace the memory that holds their strings.
        execs: Of these, those that replace the program.
        ends: Of these, those that end the task.
        resumes: Of these, those that return into code that a signal had interrupted.
        forks: Calls that return twice.
        waits: Calls whose positive return value is a pid that is now free.
        renames: Calls that change a task's name: number to the first argument that does so.
        context: Calls that carry process or file-descriptor state, kept whatever the filter.
    """

    name: str
    panda_arch: str
    word_size: int
    big_endian: bool
    user_limit: int
    registers: str
    args: tuple[int, int, int, int, int, int]
    ret: int
    entry: frozenset[int]
    execs: frozenset[int]
    ends: frozenset[int]
    resumes: frozenset[int]
    forks: frozenset[int]
    waits: frozenset[int]
    renames: dict[int, int]
    context: frozenset[int]


_X86_64_FORKS = frozenset({56, 57, 58, 435})  # clone, fork, vfork, clone3
_X86_64_EXECS = frozenset({59, 322})  # execve, execveat
_X86_64_ENDS = frozenset({60, 231})  # exit, exit_group
_X86_64_RESUMES = frozenset({15})  # rt_sigreturn
_X86_64_FILES = frozenset({
    2, 3, 22, 32, 33, 41, 42, 43, 49, 53, 72, 80, 81, 85,  # open close pipe dup dup2 socket connect accept bind
    # socketpair fcntl chdir fchdir creat
    161, 213, 253, 257, 272, 282, 283, 284, 288, 289, 290, 291, 292, 293, 294,  # chroot epoll_create inotify_init
    # openat unshare signalfd timerfd_create eventfd accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1
    304, 308, 319, 323, 434, 436, 437, 438,  # open_by_handle_at setns memfd_create userfaultfd pidfd_open
    # close_range openat2 pidfd_getfd
})  # fmt: skip
_X86_64_TASKS = frozenset({61, 157, 247})  # wait4 prctl waitid

X86_64 = Abi(
    name="x86_64",
    panda_arch="x86_64",
    word_size=8,
    big_endian=False,
    user_limit=0x7FFFFFFFF000,  # arch/x86/include/asm/page_64.h, four-level paging
    registers="CPUX86State *",
    args=(7, 6, 2, 10, 8, 9),  # rdi rsi rdx r10 r8 r9 in QEMU's order of regs (target/i386/cpu.h)
    ret=0,
    entry=_X86_64_EXECS | _X86_64_ENDS | _X86_64_RESUMES | {58, 169},  # vfork, reboot
    execs=_X86_64_EXECS,
    ends=_X86_64_ENDS,
    resumes=_X86_64_RESUMES,
    forks=_X86_64_FORKS,
    waits=frozenset({61}),
    renames={157: 15},  # prctl(PR_SET_NAME)
    context=_X86_64_FORKS | _X86_64_EXECS | _X86_64_ENDS | _X86_64_RESUMES | _X86_64_FILES | _X86_64_TASKS,
)

ABIS = {abi.name: abi for abi in (X86_64,)}
