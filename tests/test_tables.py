"""The committed tables of x86_64, and what reads and refuses tables; `test_abi_tables.py` has all ABIs."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import errno_tables
from capture import calls
from errno_tables import tsv
from process import prototypes
from tables import headers, kinds
from tables.headers import HeaderError, Parameter

ROOT = Path(__file__).resolve().parent.parent
SYSCALLS = prototypes.load("x86_64").by_number
BY_NAME = {call.name: call for call in SYSCALLS.values()}


def macros(header: str, include: Sequence[Path]) -> dict[str, str]:
    """Returns the macros a header defines, as the compiler sees them."""
    folders = [f"-I{folder}" for folder in include]
    command = ["gcc", "-E", "-dM", "-nostdinc", *folders, "-include", header, "-x", "c", "/dev/null"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"^#define (\w+) (\S+)$", text, re.MULTILINE))


needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


@needs_gcc
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs the headers of x86_64")
def test_committed_tables_agree_with_the_headers_of_this_machine() -> None:
    include = Path("/usr/include/x86_64-linux-gnu")
    numbers = macros("asm/errno.h", [include, Path("/usr/include")])
    names = entry_points(include)
    errnos = errno_tables.load("x86_64").by_number
    user = {error.name: str(number) for number, error in errnos.items() if error.kind == "uapi"}
    # Older or newer headers lack or add codes and calls; none is ever renumbered.
    assert user == {name: numbers.get(name, number) for name, number in user.items()}
    assert {n: call.name for n, call in SYSCALLS.items()} == {
        n: names.get(n, call.name) for n, call in SYSCALLS.items()
    }


def entry_points(include: Path) -> dict[int, str]:
    """Returns the entry points of asm/unistd_64.h: `sys_` and the name, but for a few."""
    # The "entry point" column of arch/x86/entry/syscalls/syscall_64.tbl; sysctl's as in Linux 5.4.
    renamed = {
        "stat": "newstat",
        "fstat": "newfstat",
        "lstat": "newlstat",
        "sendfile": "sendfile64",
        "uname": "newuname",
        "umount2": "umount",
        "_sysctl": "sysctl",
    }
    found = macros("asm/unistd_64.h", [include])
    names = {name.removeprefix("__NR_"): value for name, value in found.items() if name.startswith("__NR_")}
    return {int(value): f"sys_{renamed.get(name, name)}" for name, value in names.items()}


def test_every_char_pointer_is_a_string_or_decided_not_to_be() -> None:
    of_char = [arg for call in SYSCALLS.values() for arg in call.args if re.search(r"\bchar \*", arg.ctype)]
    assert {arg.kind for arg in of_char} == {"string", "strings", "out_string", "buffer", "pointer"}
    assert not {arg.kind for arg in of_char if arg.ctype == "const char *"} - {"string", "buffer"}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("sys_write", "fd buffer value"),
        ("sys_openat", "fd string value value"),
        ("sys_execve", "string strings strings"),
        ("sys_execveat", "fd string strings strings value"),
        ("sys_readlinkat", "fd string buffer value"),
        ("sys_getcwd", "out_string value"),
        ("sys_mount", "string string string value pointer"),
        ("sys_sethostname", "buffer value"),
        ("sys_shmat", "value pointer value"),
        ("sys_dup", "fd"),
        ("sys_sendfile64", "fd fd pointer value"),
        ("sys_pipe", "pointer"),
        ("sys_pidfd_getfd", "fd value value"),
        ("sys_capget", "pointer pointer"),
        ("sys_clone", "value value pointer pointer value"),
        ("sys_newstat", "string struct"),
    ],
)
def test_kinds_of_arguments(call: str, expected: str) -> None:
    assert " ".join(arg.kind for arg in BY_NAME[call].args) == expected


def test_capture_reads_the_strings_that_the_prototypes_have() -> None:
    expected = {
        number: tuple(
            (i, arg.kind) for i, arg in enumerate(call.args) if arg.kind in ("string", "strings", "out_string")
        )
        for number, call in SYSCALLS.items()
    }
    read = {
        number: tuple((i, kind) for i, kind in args if kind in ("string", "strings", "out_string"))
        for number, args in calls.load("x86_64").args.items()
    }
    assert {number: args for number, args in read.items() if args} == {
        number: args for number, args in expected.items() if args
    }


def test_buffers_go_in_or_come_out_with_a_length_that_capture_knows() -> None:
    directions = {SYSCALLS[n].name: dict(args) for n, args in calls.load("x86_64").args.items()}
    assert directions["sys_write"] == {1: "in_buffer"} and directions["sys_read"] == {1: "out_buffer"}
    assert directions["sys_setsockopt"] == {3: "in_buffer"} and "sys_getsockopt" not in directions
    for number, args in calls.load("x86_64").args.items():
        for position, kind in args:
            if kind == "in_buffer":
                assert SYSCALLS[number].args[position + 1].name in ("count", "len", "optlen", "msg_len")


def test_the_capture_table_loads_without_the_process_stage() -> None:
    code = "import sys, capture.calls as s; s.load('x86_64'); sys.exit('process' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("load", [errno_tables.load, prototypes.load, calls.load])
@pytest.mark.parametrize("abi", ["z80", "../x86_64", ""])
def test_an_abi_without_table_is_refused(load: Callable[[str], object], abi: str) -> None:
    with pytest.raises(tsv.TableError, match=r"^no table for ABI .* have .*x86_64$"):
        load(abi)


def damaged(parse: Callable[[str, str], object], folder: str, row: str) -> str:
    """Returns the message for a table that ends in a damaged row, which is line 8."""
    text = (ROOT / folder / "x86_64.tsv").read_text()
    header = "".join(line for line in text.splitlines(True) if line.startswith("#"))
    with pytest.raises(tsv.TableError) as error:
        parse(f"{header}{row}\n", "t.tsv")
    return str(error.value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1\tEPERM\tuapi", "3 columns"),
        ("1\tEPERM\t\tuapi", "empty text"),
        ("one\tEPERM\tno\tuapi", "'one' is not a decimal number"),
        ("-1\tEPERM\tno\tuapi", "'-1' is not a decimal number"),
        ("1\tEPERM\tno\tlibc", "unknown kind 'libc'"),
        ("", "1 columns"),
        ("1\tEPERM\t\udcff\tuapi", "not ASCII"),
    ],
)
def test_a_malformed_errno_row_is_named(row: str, problem: str) -> None:
    message = damaged(errno_tables.parse, "errno_tables", row)
    assert message.startswith(f"t.tsv:8: {problem}") and "\n" not in message


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1\tsys_a\tcall\tlong\ts\tvalue:int", "'value:int' is not an argument"),
        ("1\tsys_a\tcall\tlong\ts\tnumber:int a", "'number:int a' is not an argument"),
        ("1\tsys_a\tcall\tlong\ts\tstring:char *", "'string:char *' is not an argument"),
        ("1\tsys_a\tcall\tlong\ts\t" + "; ".join(["value:int a"] * 7), "7 arguments"),
        ("1\tsys_a\tcalled\tlong\ts\tvoid", "unknown kind or return"),
        ("1\tsys_a\tcall\tvoid\ts\tvoid", "unknown kind or return"),
    ],
)
def test_a_malformed_prototype_is_named(row: str, problem: str) -> None:
    message = damaged(prototypes.parse, "process/tables", row)
    assert message.startswith(f"t.tsv:8: {problem}") and "\n" not in message


@pytest.mark.parametrize("args", ["0", "6:string", "0:fd", "0:string  1:string", "-1:string"])
def test_a_malformed_string_argument_is_named(args: str) -> None:
    message = damaged(calls.parse, "capture/tables", f"1\tsys_a\t-\t{args}")
    assert message.startswith("t.tsv:8: ") and "is not an argument to read" in message


def test_rows_out_of_order_and_other_versions_are_refused() -> None:
    text = (ROOT / "errno_tables/x86_64.tsv").read_text()
    with pytest.raises(tsv.TableError, match=r"^t:\d+: number 1 after 531"):
        errno_tables.parse(text + "1\tEPERM\tno\tuapi\n", "t")
    with pytest.raises(tsv.TableError, match=r"^t:1: version 2, this program reads 1"):
        errno_tables.parse(text.replace("# version: 1", "# version: 2"), "t")
    with pytest.raises(tsv.TableError, match=r"^t:1: columns are"):
        prototypes.parse(text, "t")


def test_prototypes_are_chosen_by_the_conditions_of_the_abi(tmp_path: Path) -> None:
    header = tmp_path / "syscalls.h"
    header.write_text(
        "#ifndef CONFIG_ARCH_HAS_SYSCALL_WRAPPER\n"
        "asmlinkage long sys_a(const char __user *const __user *argv, /* a, b */ unsigned);\n"
        "#ifdef CONFIG_B\nasmlinkage long sys_b(int one);\n"
        "#else\nasmlinkage long sys_b(struct b __user * __user *two);\n#endif\n"
        "#if BITS_PER_LONG == 32 || defined(CONFIG_C)\nasmlinkage long sys_c(void);\n#endif\n"
        "#endif\nasmlinkage long sys_after(void);\n"
    )
    a = (Parameter("const char *const *", "argv"), Parameter("unsigned", ""))
    two, one = (Parameter("struct b **", "two"),), (Parameter("int", "one"),)
    assert headers.prototypes(header, 64, frozenset()) == {"sys_a": a, "sys_b": two}
    assert headers.prototypes(header, 32, frozenset()) == {"sys_a": a, "sys_b": two, "sys_c": ()}
    both = headers.prototypes(header, 64, frozenset({"CONFIG_B", "CONFIG_C"}))
    assert both == {"sys_a": a, "sys_b": one, "sys_c": ()}


def test_the_generator_stops_at_what_it_does_not_know(tmp_path: Path) -> None:
    header = tmp_path / "syscalls.h"
    start = "#ifndef CONFIG_ARCH_HAS_SYSCALL_WRAPPER\nasmlinkage long sys_a(void);\n"
    for text, problem in (
        (start + "#if IS_ENABLED(CONFIG_A)\n#endif\n#endif\n", "unknown condition"),
        (start + "#elif 1\n#endif\n", "unknown directive"),
        (start + start.partition("\n")[2] + "#endif\n", "sys_a is declared twice"),
        (start, "has no #endif"),
        ("", "is not found"),
    ):
        header.write_text(text)
        with pytest.raises(HeaderError, match=problem):
            headers.prototypes(header, 64, frozenset())
    with pytest.raises(HeaderError, match=r"sys_a: is `char \* thing` a string"):
        kinds.classify("sys_a", Parameter("char *", "thing"), {})
