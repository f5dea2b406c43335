"""Every rule by which a value is shown, row by row of the design's table."""

from pathlib import Path

import pytest

from capture.segment import EventFlag, StringFlag
from decoding import Row, rows_of
from process.schema import SCHEMA
from segments import (
    EXECVE,
    EXIT_GROUP,
    GETPID,
    LIST,
    MMAP,
    NEWSTAT,
    NOT_RETURNED,
    OPENAT,
    READ,
    Builder,
    task,
)

TRUNCATED, UNREADABLE = int(StringFlag.TRUNCATED), int(StringFlag.UNREADABLE)
AT_FDCWD = 0xFFFFFF9C
WRITE, CHDIR, UNUSED, REBOOT, RT_SIGRETURN = 1, 80, 9999, 169, 15


def only(builder: Builder, folder: Path) -> Row:
    """The one row of a segment."""
    (row,) = rows_of(builder.write(folder))
    return row


def shown(folder: Path, nr: int, *args: int, ret: int = 0, **strings: bytes | tuple[bytes, int]) -> Row:
    """The row of one call."""
    builder = Builder()
    builder.event(nr, *args, ret=ret, strings=builder.set(**strings) if strings else 0)
    return only(builder, folder)


def test_fd_by_name_is_shown_with_its_unknown_file(tmp_path: Path) -> None:
    row = shown(tmp_path, READ, 3, 0x7FFE10, 0x1000)
    assert row["arg0_repr"] == "fd=0x3([???])"
    assert row["fd_source"] == "unknown"


def test_the_current_folder_is_shown_where_a_folder_is_meant(tmp_path: Path) -> None:
    row = shown(tmp_path, OPENAT, AT_FDCWD, 0x7FFE10)
    assert row["arg0_repr"] == "dfd=0xffffff9c([???])"
    assert row["arg0"] == AT_FDCWD
    assert row["fd_source"] == "unknown"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"/etc/passwd", 'filename=0x7ffe10("/etc/passwd")'),
        (b"", 'filename=0x7ffe10("")'),
        ((b"abc", TRUNCATED), 'filename=0x7ffe10("abc"...)'),
        ((b"abc", UNREADABLE), 'filename=0x7ffe10("abc"[unreadable])'),
        ((b"", UNREADABLE), "filename=0x7ffe10([unreadable])"),
        ((b"", UNREADABLE | TRUNCATED), "filename=0x7ffe10([unreadable])"),
        (b'say "hi"\\', 'filename=0x7ffe10("say \\"hi\\"\\\\")'),
        (b"it's", 'filename=0x7ffe10("it\'s")'),
        (b"\x1b[31m\n", 'filename=0x7ffe10("\\x1b[31m\\x0a")'),
        (b"\xff\xfe", 'filename=0x7ffe10("\\xff\\xfe")'),
        ("zażółć 漢".encode(), 'filename=0x7ffe10("zażółć 漢")'),
        ("a\u202eb".encode(), 'filename=0x7ffe10("a\\xe2\\x80\\xaeb")'),
        (b"x" * 4096, f'filename=0x7ffe10("{"x" * 4096}")'),
    ],
)
def test_a_captured_string_is_shown_escaped(tmp_path: Path, text: bytes | tuple[bytes, int], expected: str) -> None:
    assert shown(tmp_path, OPENAT, AT_FDCWD, 0x7FFE10, a1=text)["arg1_repr"] == expected


def test_a_string_that_was_not_captured_is_a_pointer(tmp_path: Path) -> None:
    assert shown(tmp_path, OPENAT, AT_FDCWD, 0x7FFE10)["arg1_repr"] == "filename=0x7ffe10(ptr)"


def test_a_raw_buffer_is_a_pointer(tmp_path: Path) -> None:
    assert shown(tmp_path, READ, 3, 0x7FFE10, 4)["arg1_repr"] == "buf=0x7ffe10(ptr)"


def test_a_captured_buffer_is_shown(tmp_path: Path) -> None:
    row = shown(tmp_path, WRITE, 1, 0x7FFE10, 9, a1=(b"a\0b", int(StringFlag.BUFFER) | TRUNCATED))
    assert row["arg1_repr"] == 'buf=0x7ffe10("a\\x00b"...)'


@pytest.mark.parametrize(
    ("nr", "args", "column", "expected"),
    [
        (OPENAT, (AT_FDCWD, 0), "arg1_repr", "filename=[NULL]"),
        (EXECVE, (0x10, 0), "arg1_repr", "argv=[NULL]"),
        (NEWSTAT, (0x10, 0), "arg1_repr", "statbuf=[NULL]"),
        (READ, (3, 0), "arg1_repr", "buf=[NULL]"),
        (READ, (3, 0, 0), "arg2_repr", "count=0x0"),
    ],
)
def test_null_is_null_for_pointers_only(
    tmp_path: Path, nr: int, args: tuple[int, ...], column: str, expected: str
) -> None:
    assert shown(tmp_path, nr, *args)[column] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ((b"sh\0-c\0ls\0", LIST), "argv=0x7ffe20(['sh', '-c', 'ls'])"),
        ((b"sh\0-c\0", LIST | TRUNCATED), "argv=0x7ffe20(['sh', '-c', ...])"),
        ((b"sh\0-c\0l", LIST | TRUNCATED), "argv=0x7ffe20(['sh', '-c', 'l', ...])"),
        ((b"", LIST), "argv=0x7ffe20([])"),
        ((b"\0", LIST), "argv=0x7ffe20([''])"),
        ((b"", LIST | TRUNCATED), "argv=0x7ffe20([...])"),
        ((b"", LIST | UNREADABLE), "argv=0x7ffe20([unreadable])"),
        ((b"sh\0", LIST | UNREADABLE), "argv=0x7ffe20(['sh', [unreadable]])"),
        ((b'it\'s "x"\0', LIST), "argv=0x7ffe20(['it\\'s \"x\"'])"),
    ],
)
def test_a_list_of_strings(tmp_path: Path, text: tuple[bytes, int], expected: str) -> None:
    assert shown(tmp_path, EXECVE, 0x10, 0x7FFE20, 0, a1=text)["arg1_repr"] == expected


def test_a_struct_is_named(tmp_path: Path) -> None:
    row = shown(tmp_path, NEWSTAT, 0x10, 0x7FFE30)
    assert row["arg1_repr"] == "statbuf=0x7ffe30(struct stat)"


@pytest.mark.parametrize(
    ("ret", "retno", "text", "errno"),
    [
        (3, 3, "0x3", None),
        (0, 0, "0x0", None),
        (-2, -2, "ENOENT(No such file or directory)", "ENOENT"),
        (-0x1FF, -0x1FF, "-0x1ff", None),
        (-4096, -4096, "-0x1000", None),
        ((1 << 63) + 5, -(1 << 63) + 5, "-0x7ffffffffffffffb", None),
    ],
)
def test_a_return_value(tmp_path: Path, ret: int, retno: int, text: str, errno: str | None) -> None:
    row = shown(tmp_path, MMAP, ret=ret)
    assert (row["retno"], row["retno_repr"], row["errno"]) == (retno, text, errno)
    assert row["status"] == "returned"


def test_integers_from_2_63_on_are_twos_complement_and_shown_as_their_pattern(tmp_path: Path) -> None:
    row = shown(tmp_path, READ, (1 << 64) - 1, 1 << 63, (1 << 63) + 1)
    assert [row["arg0"], row["arg1"], row["arg2"]] == [-1, -(1 << 63), -(1 << 63) + 1]
    assert row["arg0_repr"] == "fd=0xffffffffffffffff"
    assert row["arg2_repr"] == "count=0x8000000000000001"


def test_registers_of_a_32_bit_abi_are_32_bits_wide(tmp_path: Path) -> None:
    builder = Builder(abi="nowhere", word_size=4)
    builder.event(1, 0xDEADBEEF_FFFFFF9C, ret=0xFFFFFFFE)
    row = only(builder, tmp_path)
    assert (row["arg0"], row["arg0_repr"]) == (-100, "arg0=0xffffff9c")
    assert (row["retno"], row["retno_repr"]) == (-2, "-0x2")


def test_arguments_beyond_the_prototype_are_null(tmp_path: Path) -> None:
    row = shown(tmp_path, GETPID, 1, 2, 3, 4, 5, 6)
    assert all(row[f"arg{k}"] is None and row[f"arg{k}_repr"] is None for k in range(6))


def test_an_unknown_syscall_has_six_plain_arguments(tmp_path: Path) -> None:
    row = shown(tmp_path, UNUSED, 1, 2, 3, 4, 5, 0)
    assert row["name"] == "sys_unknown_9999"
    assert [row[f"arg{k}_repr"] for k in range(6)] == [
        "arg0=0x1", "arg1=0x2", "arg2=0x3", "arg3=0x4", "arg4=0x5", "arg5=0x0",
    ]  # fmt: skip


def test_a_call_of_another_abi_is_not_taken_for_one_of_the_segments_own(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(GETPID, ret=-2, flags=int(EventFlag.RETURNED) | 200 << 16)
    row = only(builder, tmp_path)
    assert (row["name"], row["abi"], row["errno"]) == ("sys_unknown_39", "abi_200", None)


@pytest.mark.parametrize(
    ("nr", "status"),
    [
        (EXIT_GROUP, "noreturn"),
        (REBOOT, "noreturn"),
        (RT_SIGRETURN, "noreturn"),
        (READ, "unfinished"),
        (EXECVE, "unfinished"),
        (UNUSED, "unfinished"),
    ],
)
def test_a_call_that_did_not_come_back_has_no_return_value(tmp_path: Path, nr: int, status: str) -> None:
    builder = Builder()
    builder.event(nr, ret=-2, flags=NOT_RETURNED)
    row = only(builder, tmp_path)
    assert row["status"] == status
    assert [row[name] for name in ("retno", "retno_repr", "errno", "duration_ns")] == [None] * 4


def test_an_inferred_return_is_a_return(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(EXECVE, flags=int(EventFlag.RETURNED | EventFlag.INFERRED))
    assert only(builder, tmp_path)["status"] == "returned"


def test_ids_times_and_columns(tmp_path: Path) -> None:
    builder = Builder(first=0)
    builder.event(GETPID, who=task(40, 41), time=7, duration=9)
    row = only(builder, tmp_path)
    assert list(row) == list(SCHEMA)
    assert (row["id"], row["seq"], row["nr"], row["abi"], row["capture"]) == (1, 0, GETPID, "x86_64", 1)
    assert (row["pid"], row["tid"], row["proc_id"]) == (40, 41, 40)
    assert row["time_ns"] == builder.realtime_ns + 7
    assert row["duration_ns"] == 9


def test_a_task_known_only_by_its_address_space_has_no_pid(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(GETPID, who=0x1000, flags=int(EventFlag.RETURNED | EventFlag.TASK_IS_ASID))
    row = only(builder, tmp_path)
    assert [row[name] for name in ("pid", "tid", "proc_id")] == [None] * 3


def test_the_same_address_with_different_strings_keeps_each(tmp_path: Path) -> None:
    builder = Builder()
    names = [b"a", b"b", b"a"]
    for name in names:
        builder.event(OPENAT, AT_FDCWD, 0x10, strings=builder.set(a1=name))
    builder.event(OPENAT, AT_FDCWD, 0x10)
    rows = rows_of(builder.write(tmp_path))
    assert [row["arg1_repr"] for row in rows] == [
        'filename=0x10("a")',
        'filename=0x10("b")',
        'filename=0x10("a")',
        "filename=0x10(ptr)",
    ]


def test_rows_and_columns_decode_alike(tmp_path: Path) -> None:
    def build(columns: bool) -> Builder:
        builder = Builder(columns=columns)
        builder.task()
        for k in range(50):
            builder.event(OPENAT, AT_FDCWD, k, k, ret=k - 25, strings=builder.set(a1=b"%d" % (k % 7)))
        return builder

    rows = [rows_of(build(columns).write(tmp_path / str(columns))) for columns in (True, False)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 50
