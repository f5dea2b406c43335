"""Which call an event is: its ABI, calls behind other calls, what no table has; and its values for other steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.segment import ABI_NUMBERS, EventFlag, SegmentError
from decoding import frame_of, rows_of
from guests import call, guest, packed, reprs
from process.abis import ABIS
from process.calls import Events, Rules
from process.discover import discover
from process.errors import ProcessError
from process.output import Format
from process.pipeline import decode
from process.read import load
from segments import RETURNED, Builder

ERROR = RETURNED | int(EventFlag.ERROR)
ENOENT = (1 << 64) - 2
EFAULT = 0xFFFFFFF2
X32 = 1 << 30
UPPER = 0xFFFFFFFF_00000000
"""What stands in the upper half of a 64-bit register that a 32-bit program has never seen."""


def of(abi: str, flags: int = RETURNED) -> int:
    """Flags of an event of an ABI."""
    return flags | ABI_NUMBERS[abi] << 16


# --- socketcall, ipc, syscall, old_mmap ----------------------------------------------------------------------

ARRAY = 0xBFFFF000
CONNECT = [3, ARRAY, 0, 0, 0, 0, 4, 0xBFFFE000, 16]


@pytest.mark.parametrize(
    ("abi", "nr"), [("i386", 102), ("arm-oabi", 102), ("mips-o32", 4102), ("powerpc", 102), ("sparc", 206)]
)
def test_socketcall_is_shown_as_the_call_that_it_is(tmp_path: Path, abi: str, nr: int) -> None:
    row = call(tmp_path, abi, nr, CONNECT)
    assert (row["name"], row["nr"]) == ("sys_connect", nr)
    assert reprs(row) == ["fd=0x4([???])", "uservaddr=0xbfffe000(struct sockaddr)", "addrlen=0x10"]
    assert [row["arg0"], row["arg1"], row["arg2"], row["arg3"]] == [4, 0xBFFFE000, 16, None]
    assert row["fd_source"] == "unknown"


def test_every_call_behind_socketcall(tmp_path: Path) -> None:
    names = (  # include/uapi/linux/net.h
        "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown "
        "setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
    )
    one = guest("i386")
    for number in range(1, 21):
        one.event(102, *packed([number, ARRAY, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16]))
    rows = rows_of(one.write(tmp_path))
    assert [row["name"] for row in rows] == [f"sys_{name}" for name in names.split()]
    assert [row["arg0"] for row in rows] == [11] * 20
    assert rows[10]["arg5"] == 16


def test_socketcall_without_arguments_stays_itself(tmp_path: Path) -> None:
    """No such call, or an array that the kernel could not read either; a fault for another reason is no such case."""
    unread = call(tmp_path / "a", "i386", 102, [3, ARRAY], EFAULT)
    unknown = call(tmp_path / "b", "i386", 102, [99, ARRAY, 0, 0, 0, 0, 1])
    whole = call(tmp_path / "c", "i386", 102, CONNECT, EFAULT)
    assert [row["name"] for row in (unread, unknown, whole)] == ["sys_socketcall", "sys_socketcall", "sys_connect"]
    assert reprs(unread) == ["call=0x3", f"args={ARRAY:#x}(ptr)"]
    mips = call(tmp_path / "d", "mips-o32", 4102, [3, ARRAY], 14, flags=ERROR)
    assert (mips["name"], mips["errno"]) == ("sys_socketcall", "EFAULT")


def test_socketcall_with_words_of_8_bytes_stays_itself(tmp_path: Path) -> None:
    row = call(tmp_path, "s390x", 102, [3, ARRAY])
    assert (row["name"], row["arg1"]) == ("sys_socketcall", ARRAY)


@pytest.mark.parametrize(
    ("abi", "nr", "words", "name", "shown"),
    [
        ("i386", 117, [2, 7, 3, 0x3B6], "semget", ["key=0x7", "nsems=0x3", "semflg=0x3b6"]),
        (
            "i386", 117, [21, 5, 0x1000, 0xBF000000, 0xB0000000],
            "shmat", ["shmid=0x5", "shmaddr=0xb0000000(ptr)", "shmflg=0x1000"],
        ),
        (
            "powerpc", 117, [1 << 16 | 12, 5, 64, 0x800, 0x10000, 0xFFFFFFFF],
            "msgrcv", ["msqid=0x5", "msgp=0x10000(struct msgbuf)", "msgsz=0x40", "msgtyp=0xffffffff", "msgflg=0x800"],
        ),
        (
            "mips-o32", 4117, [2 << 16 | 12, 5, 64, 0x800, 0x10000, 9],
            "msgrcv", ["msqid=0x5", "msgp=0x10000(struct msgbuf)", "msgsz=0x40", "msgtyp=0x9", "msgflg=0x800"],
        ),
        ("i386", 117, [12, 5, 64, 0x800, 0x10000], "msgrcv", ["msqid=0x5", "msgsz=0x40", "msgflg=0x800"]),
        ("i386", 117, [3, 5, 0, 0x110, 0x10000], "semctl", ["semid=0x5", "semnum=0x0", "cmd=0x110"]),
        (
            "sparc64", 215, [3, 5, 0, 0x110, 0x7FF00010000],
            "semctl", ["semid=0x5", "semnum=0x0", "cmd=0x110", "arg=0x7ff00010000"],
        ),
        (
            "s390x", 117, [4, 5, 2, 0x3FF00020000, 0x3FF00010000],
            "semtimedop", [
                "semid=0x5", "sops=0x3ff00010000(struct sembuf)", "nsops=0x2",
                "timeout=0x3ff00020000(struct __kernel_timespec)",
            ],
        ),
    ],
)  # fmt: skip
def test_ipc_is_shown_as_the_call_that_it_is(
    tmp_path: Path, abi: str, nr: int, words: list[int], name: str, shown: list[str]
) -> None:
    one = guest(abi)
    one.event(nr, *words)
    (row,) = rows_of(one.write(tmp_path))
    assert (row["name"], row["nr"]) == (f"sys_{name}", nr)
    assert reprs(row) == shown


def test_an_argument_in_memory_that_was_not_recorded_is_null(tmp_path: Path) -> None:
    row = call(tmp_path, "i386", 117, [12, 5, 64, 0x800, 0x10000])
    assert [row[f"arg{k}"] for k in range(6)] == [5, None, 64, None, 0x800, None]


def test_ipc_of_no_known_call_stays_itself(tmp_path: Path) -> None:
    row = call(tmp_path, "i386", 117, [77, 1, 2, 3, 4, 5])
    assert (row["name"], row["arg0"], row["arg5"]) == ("sys_ipc", 77, 5)


PREAD = ["fd=0x3([???])", "buf=0x10000(ptr)", "count=0x40", "pos=0x123456789"]


@pytest.mark.parametrize(
    ("abi", "big_endian", "nr", "words", "name", "shown"),
    [
        ("mips-o32", False, 4000, [4200, 3, 0x10000, 0x40, 0xDEAD, 0x23456789, 1], "pread64", PREAD),
        ("mips-o32", True, 4000, [4200, 3, 0x10000, 0x40, 0xDEAD, 1, 0x23456789], "pread64", PREAD),
        (
            "mips-o32", False, 4000, [4254, 3, 0xDEAD, 0x23456789, 1, 2, 0, 4],
            "fadvise64_64", ["fd=0x3([???])", "offset=0x123456789", "len=0x2", "advice=0x4"],
        ),
        ("mips-o32", False, 4000, [4020], "getpid", []),
        ("arm-oabi", False, 113, [3, 3, 0x10000, 0x40], "read", PREAD[:3]),
        ("arm-oabi", False, 0x900071, [0x900003, 3, 0x10000, 0x40], "read", PREAD[:3]),
    ],
)  # fmt: skip
def test_syscall_is_shown_as_the_call_that_it_makes(
    tmp_path: Path, abi: str, big_endian: bool, nr: int, words: list[int], name: str, shown: list[str]
) -> None:
    row = call(tmp_path, abi, nr, words, big_endian=big_endian)
    assert (row["name"], row["nr"], reprs(row)) == (f"sys_{name}", nr, shown)


@pytest.mark.parametrize("real", [4000, 3, 4999, 0xFFFFFFFF])
def test_syscall_of_nothing_stays_itself(tmp_path: Path, real: int) -> None:
    row = call(tmp_path, "mips-o32", 4000, [real, 1])
    assert (row["name"], row["arg0"]) == ("sys_syscall", real if real < 1 << 31 else -1)


def test_old_calls_have_the_arguments_of_their_array(tmp_path: Path) -> None:
    words = [ARRAY, 0, 0, 0, 0, 0, 0, 0x1000, 3, 0x22, 0xFFFFFFFF, 0]
    row = call(tmp_path / "a", "i386", 90, words, 0xB7700000)
    assert (row["name"], row["retno"]) == ("sys_old_mmap", 0xB7700000)
    assert reprs(row) == [
        "addr=0x0", "len=0x1000", "prot=0x3", "flags=0x22", "fd=0xffffffff", "offset=0x0",
    ]  # fmt: skip
    row = call(tmp_path / "b", "powerpc", 82, [ARRAY, 0, 0, 0, 0, 0, 9, 0x10, 0, 0, 0xBFFF0000])
    assert [row[f"arg{k}"] for k in range(6)] == [9, 0x10, 0, 0, 0xBFFF0000, None]


# --- the ABI of each event -----------------------------------------------------------------------------------


def test_each_event_is_read_by_its_own_abi(tmp_path: Path) -> None:
    """The same number in one segment: i386 writes, x86_64 stats, x32 stats, and what each returns is its own width."""
    one = guest("x86_64")
    one.event(4, 0x10000, 0x20000, ret=ENOENT)
    one.event(4, UPPER | 1, UPPER | 0x10000, UPPER | 64, ret=0xFFFFFFFE, flags=of("i386"))
    one.event(X32 | 4, UPPER | 0x10000, 0x20000, ret=ENOENT)
    one.event(4, 0x10000, 0x20000, ret=5, flags=of("x86_64"))
    one.event(102, *packed(CONNECT), ret=0xFFFFFFFE, flags=of("i386"))
    one.event(102, ret=0xFFFFFFFE)
    rows = rows_of(one.write(tmp_path))
    assert [(row["abi"], row["name"], row["nr"]) for row in rows] == [
        ("x86_64", "sys_newstat", 4),
        ("i386", "sys_write", 4),
        ("x32", "sys_newstat", X32 | 4),
        ("x86_64", "sys_newstat", 4),
        ("i386", "sys_connect", 102),
        ("x86_64", "sys_getuid", 102),
    ]
    assert [row["retno"] for row in rows] == [-2, -2, -2, 5, -2, 0xFFFFFFFE]
    assert [row["errno"] for row in rows] == ["ENOENT"] * 3 + [None, "ENOENT", None]
    assert reprs(rows[1]) == ["fd=0x1([???])", "buf=0x10000(ptr)", "count=0x40"]
    assert [rows[1][f"arg{k}"] for k in range(4)] == [1, 0x10000, 64, None]
    assert reprs(rows[2]) == ["filename=0x10000(ptr)", "statbuf=0x20000(struct stat)"]
    assert rows[4]["arg0"] == 4
    assert rows[5]["arg0"] is None


def test_32_bit_programs_on_other_64_bit_kernels(tmp_path: Path) -> None:
    one = guest("aarch64")
    one.event(180, 3, 0x10000, 0x40, 0, 0x23456789, 1, flags=of("arm"))
    one.event(67, 3, 0x10000, 0x40, 0x123456789)
    arm = rows_of(one.write(tmp_path / "arm"))
    assert [(row["abi"], row["name"], reprs(row)) for row in arm] == [
        ("arm", "sys_pread64", PREAD),
        ("aarch64", "sys_pread64", PREAD),
    ]
    two = guest("mips-n64", big_endian=True)
    words = packed([3, 0xDEAD, 1, 0x23456789, 0, 2, 4])
    two.event(4254, *words, ret=89, flags=of("mips-o32", ERROR))
    two.event(6215, UPPER | 3, flags=of("mips-n32"))
    two.event(5000, 3, UPPER | 0x90000000, 0x40, ret=89, flags=ERROR)
    mips = rows_of(two.write(tmp_path / "mips"))
    assert [row["abi"] for row in mips] == ["mips-o32", "mips-n32", "mips-n64"]
    assert [row["errno"] for row in mips] == ["ENOSYS", None, "ENOSYS"]
    assert reprs(mips[0]) == ["fd=0x3([???])", "offset=0x123456789", "len=0x2", "advice=0x4"]
    assert mips[2]["arg1_repr"] == "buf=0xffffffff90000000(ptr)"


def test_an_errno_is_named_by_the_table_of_its_own_abi(tmp_path: Path) -> None:
    one = guest("x86_64")
    one.event(2, ret=(1 << 64) - 110)
    one.event(5002, ret=145, flags=of("mips-n64", ERROR))
    one.event(5, ret=60, flags=of("sparc64", ERROR))
    one.event(2, ret=(1 << 64) - 145)
    rows = rows_of(one.write(tmp_path))
    assert [row["errno"] for row in rows] == ["ETIMEDOUT"] * 3 + [None]
    assert [row["retno"] for row in rows] == [-110, -145, -60, -145]


@pytest.mark.parametrize(("abi", "nr"), [("x32", X32), ("x32", 0), ("mips-n32", 6000)])
def test_pointers_of_32_bits_in_registers_of_64(tmp_path: Path, abi: str, nr: int) -> None:
    one = guest(abi)
    one.event(nr, 3, 0xFFFFFFFF_90001000, 0x123456789)
    (row,) = rows_of(one.write(tmp_path))
    assert reprs(row) == ["fd=0x3([???])", "buf=0x90001000(ptr)", "count=0x123456789"]
    assert (row["arg1"], row["arg2"]) == (0x90001000, 0x123456789)


def test_strings_are_found_by_the_register_that_points_to_them(tmp_path: Path) -> None:
    """fanotify_mark's path is its fifth argument, and in the sixth register of a 32-bit ABI."""
    one = guest("arm")
    one.event(368, 3, 9, 1, 0, 0, 0x10000, strings=one.set(a5=b"/etc"))
    two = guest("aarch64")
    two.event(263, 3, 9, 1, 0, 0x10000, strings=two.set(a4=b"/etc"))
    for row in (*rows_of(one.write(tmp_path / "a")), *rows_of(two.write(tmp_path / "b"))):
        assert row["arg4_repr"] == 'pathname=0x10000("/etc")'


# --- what no table has ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "word_size"), [("freebsd-amd64", 8), ("windows", 8), ("", 4), ("vax\x1b[m", 4)])
def test_an_unknown_abi_is_kept_raw(tmp_path: Path, name: str, word_size: int) -> None:
    one = Builder(abi=name, word_size=word_size)
    one.event(3, 0xFFFFFFFF_FFFFFF9C, ret=ENOENT)
    frame, _ = frame_of(one.write(tmp_path))
    (row,) = frame.to_dicts()
    assert row["abi"] == name.replace("\x1b", "\\x1b")
    assert (row["name"], row["retno"], row["retno_repr"], row["errno"]) == ("sys_unknown_3", -2, "-0x2", None)
    assert row["arg0_repr"] == f"arg0={(1 << 8 * word_size) - 100:#x}"
    assert row["arg0"] == -100


def test_an_unknown_abi_number_is_kept_raw_and_counted(tmp_path: Path) -> None:
    one = guest("x86_64")
    for _ in range(3):
        one.event(39, 1 << 40, ret=ENOENT, flags=RETURNED | 200 << 16)
    one.event(0xFFFFFFFF)
    rows = rows_of(one.write(tmp_path / "in"))
    assert [(row["abi"], row["name"], row["errno"]) for row in rows[:3]] == [("abi_200", "sys_unknown_39", None)] * 3
    assert (rows[3]["abi"], rows[3]["name"], rows[3]["nr"]) == ("x86_64", "sys_unknown_4294967295", 0xFFFFFFFF)
    assert rows[0]["arg0"] == 1 << 40
    summary = decode([tmp_path / "in"], tmp_path / "out.parquet", Format.PARQUET)
    counted = {item: count for severity, stage, item, count in summary.ledger.rows() if severity == "warning"}
    assert counted == {
        "calls of abi_200 syscall 39, which no table has": 3,
        "calls of x86_64 syscall 4294967295, which no table has": 1,
    }


@pytest.mark.parametrize("abi", sorted(ABIS))
@pytest.mark.parametrize("nr", [0x3FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
def test_oversized_numbers(tmp_path: Path, abi: str, nr: int) -> None:
    assert call(tmp_path, abi, nr, [1, 2, 3])["name"] == f"sys_unknown_{nr}"


@pytest.mark.parametrize(
    ("abi", "word_size", "reason"),
    [
        ("x86_64", 3, "registers of 3 bytes; only 4 and 8"),
        ("nowhere", 0, "registers of 0 bytes; only 4 and 8"),
        ("arm", 8, "registers of 8 bytes, and ABI arm has 4"),
        ("aarch64", 4, "registers of 4 bytes, and ABI aarch64 has 8"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, abi: str, word_size: int, reason: str) -> None:
    one = Builder(abi=abi, word_size=word_size)
    one.event(1)
    path = one.write(tmp_path / "in")
    with pytest.raises(SegmentError, match=reason):
        rows_of(path)
    with pytest.raises(ProcessError, match=rf"{path.name}: not decoded: .*{reason}") as raised:
        decode([path], tmp_path / "out.parquet", Format.PARQUET)
    assert "\n" not in str(raised.value)


# --- values for other steps ----------------------------------------------------------------------------------


def resolved(one: Builder, folder: Path) -> Events:
    """A segment's events as calls."""
    (part,) = discover([one.write(folder)]).parts
    contents = load(part)
    return Rules(contents.header).resolve(np.concatenate([block.words() for block in contents.events], axis=1))


def test_calls_by_name_whatever_the_abi(tmp_path: Path) -> None:
    one = guest("x86_64")
    one.event(33, 3, 10, ret=10)  # dup2
    one.event(39)
    one.event(63, UPPER | 4, 11, ret=0xFFFFFFF7, flags=of("i386"))
    one.event(33, 5, 12, ret=(1 << 64) - 9)
    events = resolved(one, tmp_path)
    found = {}
    for call_ in events.named({"sys_dup2"}):
        old, new = events.argument(call_, 0), events.argument(call_, 1)
        results, failed = events.result(call_)
        assert old is not None and new is not None
        for values in zip(
            call_.rows.tolist(), old.tolist(), new.tolist(), results.tolist(), failed.tolist(), strict=True
        ):
            found[values[0]] = (call_.abi, *values[1:])
    assert found == {
        0: ("x86_64", 3, 10, 10, False),
        2: ("i386", 4, 11, -9, True),
        3: ("x86_64", 5, 12, -9, True),
    }


def test_nothing_is_known_to_have_failed_on_an_unknown_abi(tmp_path: Path) -> None:
    one = guest("freebsd")
    one.event(3, ret=ENOENT)
    events = resolved(one, tmp_path)
    assert [part.tolist() for part in events.result(events.calls[0])] == [[-2], [False]]


def test_every_event_is_of_one_call(tmp_path: Path) -> None:
    one = guest("i386")
    for k in range(200):
        one.event((102, 117, 5, 90, 999)[k % 5], *packed([k % 30, ARRAY, 0, 0, 0, 0, k]), ret=-(k % 3) & 0xFFFFFFFF)
    events = resolved(one, tmp_path)
    rows = np.concatenate([call_.rows for call_ in events.calls])
    assert sorted(rows.tolist()) == list(range(200))
    for index, call_ in enumerate(events.calls):
        assert (events.call_of[call_.rows] == index).all()
        assert (np.diff(call_.rows) > 0).all()


def test_a_guest_of_64_bits_has_its_arguments_uncopied(tmp_path: Path) -> None:
    one = guest("x86_64")
    for k in range(20):
        one.event(k, *range(6))
    events = resolved(one, tmp_path)
    for k in range(6):
        assert np.shares_memory(events.arguments(k)[0], events.words)
    assert np.shares_memory(events.results()[0], events.words)


def test_the_words_stay_as_they_are(tmp_path: Path) -> None:
    one = guest("x86_64")
    one.event(1, 1, 2, 3)
    one.event(4, UPPER | 1, UPPER | 2, 3, ret=0xFFFFFFFE, flags=of("i386"))
    events = resolved(one, tmp_path)
    before = events.words.copy()
    assert [events.arguments(k)[0].tolist() for k in range(2)] == [[1, 1], [2, 2]]
    events.results()
    assert (events.words == before).all()
