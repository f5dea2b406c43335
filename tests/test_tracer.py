"""Pairing entries and returns, on orders of events that a guest makes only now and then."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from capture import calls
from capture.chunk import Room
from capture.recorder import Recorder, String
from capture.segment import ABI_NUMBERS, UNKNOWN, EventFlag, StringFlag
from capture.tracer import Args, Identity, Tracer
from process import prototypes

EXECVE, VFORK, CLONE, READ, SIGRETURN, EXIT, GETPID, PRCTL = 59, 58, 56, 0, 15, 60, 39, 157
I386 = ABI_NUMBERS["i386"]
NONE: Args = (0, 0, 0, 0, 0, 0)
PARENT, CHILD = 7 << 32 | 7, 8 << 32 | 8


class Guest:
    """Answers what the tracer asks; nobody has a name but what is in ``names``."""

    def __init__(self) -> None:
        self.names: dict[int, bytes] = {}
        self.found: dict[int, tuple[String, ...]] = {}
        self.asked: list[int] = []
        self.told: list[tuple[object, ...]] = []
        self.forker = 0
        self.results: list[int | None] = []

    def identity(self, task: int) -> Identity:
        self.asked.append(task)
        return Identity(task >> 32, task & 0xFFFFFFFF, 1, 15, 0, self.names.get(task, b"x"), b"", 0)

    def args(self) -> Args:
        return (3, 4, 5, 0, 0, 0)

    def wide(self, number: int, args: Args) -> Args:
        return args

    def strings(self, number: int, args: Args, ret: int | None) -> tuple[String, ...]:
        self.results.append(ret)
        return self.found.get(number, ())

    def rights(self, number: int, message: int) -> list[int]:
        return [message]

    def parent(self) -> int:
        return self.forker

    def opened(self, task: int, again: bool) -> None:
        self.told.append(("opened", task, again))

    def made(self, fds: Iterable[int]) -> None:
        self.told.append(("made", *fds))

    def moved(self, task: int) -> None:
        self.told.append(("moved", task))

    def gone(self, pid: int) -> None:
        self.told.append(("gone", pid))

    def forget(self) -> None:
        self.told.append(("forget",))

    def waiting(self) -> None:
        pass


class Rows(Recorder):
    """A recorder that also keeps what it was given."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "x86_64", wait=True, room=Room(256, 256, 1 << 20, 256, 64, 64))
        self.rows: list[tuple[int, int, int, int, int, int]] = []

    def event(self, *event: int) -> int:
        _, duration, task, *_, ret, number, _, flags, entry = event
        self.rows.append((task, number, ret, flags, entry, duration))
        return super().event(*event)


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path)


@pytest.fixture
def tracer(rows: Rows, guest: Guest) -> Tracer:
    return Tracer(calls.load("x86_64"), rows, guest, frozenset(), 0)


def shown(rows: Rows) -> list[tuple[int, int, int, int, int]]:
    return [row[:5] for row in rows.rows]


def test_a_call_and_its_return_are_one_event_with_a_duration(tracer: Tracer, rows: Rows) -> None:
    tracer.enter(PARENT, 1, 100, READ, NONE)
    tracer.leave(PARENT, 1, 100, 5)
    assert shown(rows) == [(PARENT, READ, 5, EventFlag.RETURNED, 0)]
    assert rows.rows[0][5] != UNKNOWN


def test_an_execve_that_is_not_seen_to_return_has_succeeded_when_its_task_calls_from_a_new_space(
    tracer: Tracer, rows: Rows, guest: Guest
) -> None:
    tracer.enter(PARENT, 1, 100, EXECVE, NONE)
    tracer.enter(PARENT, 2, 200, GETPID, NONE)
    assert shown(rows) == [
        (PARENT, EXECVE, 0, 0, 0),
        (PARENT, EXECVE, 0, EventFlag.RETURNED | EventFlag.INFERRED, 1),
    ]
    assert guest.asked == [PARENT, PARENT]


def test_a_failed_execve_has_its_result(tracer: Tracer, rows: Rows) -> None:
    tracer.enter(PARENT, 1, 100, EXECVE, NONE)
    tracer.leave(PARENT, 1, 100, 2**64 - 2)
    assert shown(rows)[1] == (PARENT, EXECVE, 2**64 - 2, EventFlag.RETURNED, 1)


def test_vfork_returns_to_the_parent_after_the_child_has_come_back_from_it(
    tracer: Tracer, rows: Rows, guest: Guest
) -> None:
    guest.forker = PARENT
    tracer.enter(PARENT, 1, 100, VFORK, NONE)
    tracer.leave(CHILD, 1, 100, 0)
    tracer.enter(CHILD, 1, 300, EXIT, NONE)
    tracer.leave(PARENT, 1, 100, 8)
    assert shown(rows) == [
        (PARENT, VFORK, 0, 0, 0),
        (CHILD, VFORK, PARENT, EventFlag.CHILD, 0),
        (CHILD, EXIT, 0, 0, 0),
        (PARENT, VFORK, 8, EventFlag.RETURNED, 3),
    ]


def test_where_tasks_are_address_spaces_a_childs_return_is_not_its_parents(rows: Rows, guest: Guest) -> None:
    tracer = Tracer(calls.load("x86_64"), rows, guest, frozenset(), int(EventFlag.TASK_IS_ASID))
    tracer.enter(1, 1, 100, CLONE, NONE)
    tracer.leave(1, 1, 100, 0)
    tracer.enter(1, 1, 200, GETPID, NONE)
    tracer.leave(1, 1, 200, 7)
    tracer.enter(1, 1, 300, EXIT, NONE)
    tracer.leave(1, 1, 100, 8)
    assert [row[1:3] for row in shown(rows)] == [(GETPID, 7), (EXIT, 0), (CLONE, 8)]


def test_where_tasks_are_address_spaces_vforks_return_proves_its_childs_execve(rows: Rows, guest: Guest) -> None:
    tracer = Tracer(calls.load("x86_64"), rows, guest, frozenset(), int(EventFlag.TASK_IS_ASID))
    tracer.enter(1, 1, 100, VFORK, NONE)
    tracer.leave(1, 1, 100, 0)
    tracer.enter(1, 1, 200, EXECVE, NONE)
    tracer.enter(2, 2, 300, GETPID, NONE)
    tracer.leave(1, 1, 100, 8)
    flags = EventFlag.RETURNED | EventFlag.TASK_IS_ASID
    assert shown(rows)[2:] == [(1, EXECVE, 0, flags | EventFlag.INFERRED, 1), (1, VFORK, 8, flags, 3)]


def test_a_call_comes_back_to_its_task_under_another_number_where_address_spaces_move(rows: Rows, guest: Guest) -> None:
    tracer = Tracer(calls.load("x86_64"), rows, guest, frozenset(), int(EventFlag.TASK_IS_ASID))
    tracer.spaces_move = True
    tracer.enter(1, 1, 100, READ, (3, 4, 6, 0, 0, 0))
    tracer.enter(2, 2, 100, CLONE, (3, 4, 5, 0, 0, 0))
    tracer.leave(4, 4, 100, 0)
    tracer.leave(3, 3, 100, 8)
    assert [row[:3] for row in shown(rows)] == [(3, CLONE, 8)]


def test_a_program_that_passes_the_address_of_the_execve_that_began_it_does_not_return_from_it(
    tracer: Tracer, rows: Rows
) -> None:
    tracer.enter(PARENT, 1, 100, EXECVE, NONE)
    tracer.leave(PARENT, 2, 100, 0)
    tracer.enter(PARENT, 2, 200, GETPID, NONE)
    assert shown(rows)[1] == (PARENT, EXECVE, 0, EventFlag.RETURNED | EventFlag.INFERRED, 1)


def test_the_flag_that_says_error_is_kept_and_what_the_call_would_have_written_is_not_read(
    tracer: Tracer, rows: Rows, guest: Guest
) -> None:
    tracer.enter(PARENT, 1, 100, READ, NONE)
    tracer.leave(PARENT, 1, 100, 9, EventFlag.ERROR)
    assert shown(rows) == [(PARENT, READ, 9, EventFlag.RETURNED | EventFlag.ERROR, 0)]
    assert guest.results == [UNKNOWN]


def test_a_call_that_a_signal_handler_interrupts_keeps_its_own_arguments(tracer: Tracer, rows: Rows) -> None:
    tracer.enter(PARENT, 1, 100, READ, (3, 4, 5, 0, 0, 0))
    tracer.enter(PARENT, 1, 200, GETPID, NONE)
    tracer.leave(PARENT, 1, 200, 7)
    tracer.enter(PARENT, 1, 300, SIGRETURN, NONE)
    tracer.leave(PARENT, 1, 100, 2**64 - 4)
    assert shown(rows) == [
        (PARENT, GETPID, 7, EventFlag.RETURNED, 0),
        (PARENT, SIGRETURN, 0, 0, 0),
        (PARENT, READ, 2**64 - 4, EventFlag.RETURNED, 0),
    ]


def test_what_is_still_waiting_at_the_end_is_recorded_as_entered(tracer: Tracer, rows: Rows) -> None:
    tracer.enter(PARENT, 1, 100, READ, NONE)
    tracer.enter(CHILD, 2, 100, READ, NONE)
    tracer.finish()
    assert shown(rows) == [(PARENT, READ, 0, 0, 0), (CHILD, READ, 0, 0, 0)]
    assert all(row[5] == UNKNOWN for row in rows.rows)


def test_a_task_that_passes_where_it_made_no_call_does_not_return(tracer: Tracer, rows: Rows) -> None:
    tracer.leave(PARENT, 1, 100, 1)
    tracer.enter(PARENT, 1, 200, READ, NONE)
    tracer.leave(PARENT, 1, 100, 1)
    tracer.leave(PARENT, 1, 200, 5)
    assert shown(rows) == [(PARENT, READ, 5, EventFlag.RETURNED, 0)]


def test_an_endless_nest_of_handlers_is_given_up_without_growing(tracer: Tracer, rows: Rows) -> None:
    for depth in range(100):
        tracer.enter(PARENT, 1, depth, READ, NONE)
    assert len(rows.rows) == 100 - 1 - 8
    tracer.enter(PARENT, 1, 1000, EXIT, NONE)
    assert len(rows.rows) == 100 + 1


def test_strings_that_could_not_be_read_at_entry_are_read_again_at_return(
    tracer: Tracer, rows: Rows, guest: Guest
) -> None:
    guest.found[EXECVE] = ((0, b"", int(StringFlag.UNREADABLE)),)
    tracer.enter(PARENT, 1, 100, EXECVE, NONE)
    guest.found[EXECVE] = ((0, b"/bin/true", 0),)
    tracer.leave(PARENT, 1, 100, 2**64 - 2)
    rows.close()
    assert rows.counts["strings"] >= 2 and rows.counts["unreadable"] == 1


def test_a_filtered_task_leaves_only_calls_that_carry_state(rows: Rows, guest: Guest) -> None:
    guest.names[CHILD] = b"wanted"
    tracer = Tracer(calls.load("x86_64"), rows, guest, frozenset({b"wanted"}), 0)
    for task, number in ((PARENT, GETPID), (PARENT, 257), (CHILD, GETPID)):
        tracer.enter(task, task, 100, number, NONE)
        tracer.leave(task, task, 100, 3)
    assert shown(rows) == [
        (PARENT, 257, 3, EventFlag.RETURNED | EventFlag.CONTEXT, 0),
        (CHILD, GETPID, 3, EventFlag.RETURNED, 0),
    ]
    assert rows.counts["filtered"] == 1 and rows.counts["context"] == 1


def test_a_task_is_identified_again_when_it_renames_itself_or_its_number_is_anothers(
    tracer: Tracer, guest: Guest
) -> None:
    tracer.enter(PARENT, 1, 100, PRCTL, (15, 0, 0, 0, 0, 0))
    tracer.leave(PARENT, 1, 100, 0)
    tracer.enter(PARENT, 1, 200, EXIT, NONE)
    tracer.enter(PARENT, 1, 300, GETPID, NONE)
    assert guest.asked == [PARENT, PARENT, PARENT]


def test_calls_of_another_abi_have_its_roles_and_say_so(rows: Rows, guest: Guest) -> None:
    """11 is munmap to a 64-bit program and execve to a 32-bit one; 59 is execve, and oldolduname."""
    both = calls.joined(calls.load("x86_64"), calls.load("i386"), I386)
    tracer, other = Tracer(both, rows, guest, frozenset(), 0), I386 << 32
    for number in (11, other | EXECVE, other | 11, EXECVE):
        tracer.enter(PARENT, 1, 100, number, NONE)
        tracer.leave(PARENT, 1, 100, 5)
    tagged = I386 << 16
    assert shown(rows) == [
        (PARENT, 11, 5, EventFlag.RETURNED, 0),
        (PARENT, EXECVE, 5, EventFlag.RETURNED | tagged, 0),
        (PARENT, 11, 0, tagged, 0),
        (PARENT, 11, 5, EventFlag.RETURNED | tagged, 1),
        (PARENT, EXECVE, 0, 0, 0),
        (PARENT, EXECVE, 5, EventFlag.RETURNED, 1),
    ]


def test_joined_tables_keep_both() -> None:
    native, other = calls.load("aarch64"), calls.load("arm")
    both = calls.joined(native, other, ABI_NUMBERS["arm"])
    for name, value in vars(native).items():
        theirs = {ABI_NUMBERS["arm"] << 32 | number for number in getattr(other, name)}
        assert set(getattr(both, name)) == set(value) | theirs
    assert both.args[ABI_NUMBERS["arm"] << 32 | 5] == other.args[5] != native.args.get(5)


def test_the_roles_of_calls_are_those_of_the_kernel_table() -> None:
    names = {number: prototype.name for number, prototype in prototypes.load("x86_64").by_number.items()}
    table = calls.load("x86_64")
    assert {names[number] for number in table.entry} == {
        "sys_execve", "sys_execveat", "sys_exit", "sys_exit_group", "sys_rt_sigreturn", "sys_vfork", "sys_reboot",
    }  # fmt: skip
    assert {names[number] for number in table.forks} == {"sys_clone", "sys_fork", "sys_vfork", "sys_clone3"}
    assert {names[number] for number in table.context} >= {
        "sys_open", "sys_close", "sys_pipe", "sys_dup", "sys_dup2", "sys_socket", "sys_connect", "sys_accept",
        "sys_bind", "sys_socketpair", "sys_fcntl", "sys_chdir", "sys_fchdir", "sys_creat", "sys_chroot",
        "sys_openat", "sys_unshare", "sys_dup3", "sys_pipe2", "sys_close_range", "sys_openat2", "sys_wait4",
        "sys_prctl", "sys_waitid", "sys_clone", "sys_execve", "sys_exit", "sys_rt_sigreturn",
    }  # fmt: skip
    assert "sys_read" not in {names[number] for number in table.context}


RESTART = 219


def test_a_call_that_goes_on_after_a_signal_is_one_event(tracer: Tracer, rows: Rows) -> None:
    """Stopped and continued: the instruction runs again, or restart_syscall does."""
    args = (3, 4, 5, 0, 0, 0)
    for number in (READ, RESTART, READ):
        tracer.enter(PARENT, 1, 100, number, args)
    tracer.leave(PARENT, 1, 100, 1)
    tracer.finish()
    assert shown(rows) == [(PARENT, READ, 1, EventFlag.RETURNED, 0)]


@pytest.mark.parametrize("makes_calls", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_call_goes_on_or_fails_when_a_handler_has_returned(
    tracer: Tracer, rows: Rows, makes_calls: bool, fails: bool
) -> None:
    tracer.enter(PARENT, 1, 100, READ, NONE)
    if makes_calls:
        call(tracer, GETPID, NONE, 7)
    tracer.enter(PARENT, 1, 300, SIGRETURN, NONE)
    if not fails:
        tracer.enter(PARENT, 1, 100, READ, NONE)
    tracer.leave(PARENT, 1, 100, 2**64 - 4 if fails else 1)
    tracer.finish()
    assert [row[:3] for row in shown(rows) if row[1] != GETPID] == [
        (PARENT, SIGRETURN, 0), (PARENT, READ, 2**64 - 4 if fails else 1),
    ]  # fmt: skip


def test_another_call_from_the_same_place_does_not_go_on(tracer: Tracer, rows: Rows) -> None:
    """A handler that leaves its frame by longjmp: the call that it interrupted never comes back."""
    for args in (NONE, (1, 0, 0, 0, 0, 0)):
        tracer.enter(PARENT, 1, 100, READ, args)
    tracer.leave(PARENT, 1, 100, 1)
    tracer.finish()
    assert shown(rows) == [(PARENT, READ, 1, EventFlag.RETURNED, 0), (PARENT, READ, 0, 0, 0)]


def test_where_a_task_is_an_address_space_the_same_call_may_be_another_threads(tracer: Tracer, rows: Rows) -> None:
    tracer.tasks_are_asids()
    for _ in range(2):
        tracer.enter(1, 1, 100, READ, NONE)
    for _ in range(2):
        tracer.leave(1, 1, 100, 1)
    assert len(rows.rows) == 2


FORK, OPENAT, FCNTL, PIPE, RECVMSG, CHDIR, UNSHARE, CLOSE_RANGE = 57, 257, 72, 22, 47, 80, 272, 436


def call(tracer: Tracer, number: int, args: Args, ret: int, task: int = PARENT) -> None:
    tracer.enter(task, 1, 100, number, args)
    tracer.leave(task, 1, 100, ret)


@pytest.mark.parametrize(
    ("number", "args", "ret", "told"),
    [
        (OPENAT, NONE, 3, ("made", 3)),
        (OPENAT, NONE, 0, ("made", 0)),
        (OPENAT, NONE, 2**64 - 2, None),
        (FCNTL, (3, 0, 10, 0, 0, 0), 10, ("made", 10)),
        (FCNTL, (3, 1030, 10, 0, 0, 0), 10, ("made", 10)),
        (FCNTL, (3, 3, 0, 0, 0, 0), 2, None),
        (PIPE, NONE, 0, ("made", 5, 6)),
        (RECVMSG, (3, 77, 0, 0, 0, 0), 1, ("made", 77)),
        (CHDIR, NONE, 0, ("moved", PARENT)),
        (UNSHARE, NONE, 0, ("gone", 7)),
        (CLOSE_RANGE, NONE, 0, ("gone", 7)),
        (READ, NONE, 4, None),
    ],
)
def test_after_a_call_that_makes_descriptors_they_are_looked_up(
    tracer: Tracer, guest: Guest, number: int, args: Args, ret: int, told: tuple[object, ...] | None
) -> None:
    guest.found[PIPE] = ((0, b"\5\0\0\0\6\0\0\0", int(StringFlag.BUFFER)),)
    call(tracer, number, args, ret)
    assert guest.told == [("opened", PARENT, False)] + ([told] if told else [])


def test_a_table_is_recorded_anew_when_its_task_has_executed_a_program_or_left_it(tracer: Tracer, guest: Guest) -> None:
    tracer.enter(PARENT, 1, 100, GETPID, NONE)
    tracer.leave(PARENT, 1, 100, 7)
    tracer.enter(PARENT, 2, 100, GETPID, NONE)
    tracer.leave(PARENT, 2, 100, 7)
    tracer.enter(PARENT, 2, 100, UNSHARE, NONE)
    tracer.leave(PARENT, 2, 100, 0)
    tracer.enter(PARENT, 2, 100, GETPID, NONE)
    tracer.forget()
    assert guest.told == [
        ("opened", PARENT, False),
        ("opened", PARENT, True),
        ("gone", 7),
        ("opened", PARENT, False),
        ("forget",),
    ]


OTHER = 9 << 32 | 9
ARGS: Args = (17, 2, 0, 0, 0, 0)


def births(rows: Rows) -> list[tuple[int, int, int]]:
    """Tasks that came back from a fork: the task, the call, its parent."""
    return [(task, number, ret) for task, number, ret, flags, _ in shown(rows) if flags & EventFlag.CHILD]


def test_a_child_that_comes_after_its_parent_has_gone_on_is_still_known(
    tracer: Tracer, rows: Rows, guest: Guest
) -> None:
    guest.forker = PARENT
    call(tracer, FORK, ARGS, 8)
    call(tracer, GETPID, NONE, 7)
    tracer.leave(CHILD, 2, 100, 0)
    assert births(rows) == [(CHILD, FORK, PARENT)]
    tracer.leave(CHILD, 2, 100, 0)  # it passes the instruction once more
    assert births(rows) == [(CHILD, FORK, PARENT)]


def test_a_child_is_not_taken_for_that_of_another_that_forks_at_the_same_instruction(
    tracer: Tracer, rows: Rows, guest: Guest
) -> None:
    tracer.enter(PARENT, 1, 100, FORK, NONE)
    tracer.enter(OTHER, 2, 100, VFORK, NONE)
    guest.forker = OTHER
    tracer.leave(CHILD, 2, 100, 0)
    assert births(rows) == [(CHILD, VFORK, OTHER)]


def test_a_thread_whose_maker_is_not_certain_is_nobodys(tracer: Tracer, rows: Rows, guest: Guest) -> None:
    second, third, fourth = 7 << 32 | 20, 7 << 32 | 21, 7 << 32 | 22
    guest.forker = OTHER  # of a thread the kernel says who made its process
    tracer.enter(PARENT, 1, 100, FORK, ARGS)
    tracer.enter(second, 1, 100, FORK, ARGS)
    tracer.leave(third, 1, 100, 0)
    assert births(rows) == []
    tracer.leave(PARENT, 1, 100, 22)
    tracer.leave(fourth, 1, 100, 0)
    assert births(rows) == [(fourth, FORK, PARENT)]


def test_who_was_seen_before_or_passes_by_is_no_child(tracer: Tracer, rows: Rows, guest: Guest) -> None:
    call(tracer, GETPID, NONE, 8, CHILD)
    guest.forker = PARENT
    tracer.enter(PARENT, 1, 100, FORK, NONE)
    tracer.forget()
    tracer.leave(CHILD, 1, 100, 0)
    guest.forker = 0
    tracer.leave(OTHER, 1, 100, 0)
    guest.forker = PARENT
    tracer.leave(OTHER, 1, 200, 0)
    assert births(rows) == []


def test_a_thread_that_executes_a_program_goes_on_as_its_leader(tracer: Tracer, rows: Rows) -> None:
    """The thread's execve has succeeded; what its leader waited for never comes back."""
    thread = PARENT & ~0xFFFFFFFF | 8
    tracer.enter(PARENT, 1, 100, READ, NONE)
    tracer.enter(thread, 1, 200, EXECVE, NONE)
    tracer.enter(PARENT, 2, 300, GETPID, NONE)
    tracer.leave(PARENT, 2, 300, 7)
    inferred = EventFlag.RETURNED | EventFlag.INFERRED
    assert shown(rows) == [
        (thread, EXECVE, 0, 0, 0),
        (thread, EXECVE, 0, inferred, 1),
        (PARENT, READ, 0, 0, 0),
        (PARENT, GETPID, 7, EventFlag.RETURNED, 0),
    ]
