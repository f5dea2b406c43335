"""The tables of all ABIs: against the kernel's packages, the compiler, and PANDA's lists."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import abi_coverage
import errno_tables
import panda_syscalls
from capture import calls
from capture.segment import ABI_NUMBERS
from process import indirect, prototypes
from tables import abis
from tables.abis import Abi

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path.home() / ".cache/sysreel/packages"
FOLDERS = ("errno_tables", "process/tables", "capture/tables")
ABIS = {abi.name: abi for abi in abis.ROWS}

# What a compiler for the ABI defines, as far as the headers ask: gcc's own predefined macros.
PREDEFINED = {
    "x86_64": "__x86_64__ __LP64__",
    "x32": "__x86_64__ __ILP32__",
    "i386": "__i386__",
    "arm": "__arm__ __ARM_EABI__",
    "arm-oabi": "__arm__",
    "aarch64": "__aarch64__ __LP64__",
    "mips-o32": "__mips__ _MIPS_SIM=1 _MIPS_SZLONG=32",
    "mips-n32": "__mips__ _MIPS_SIM=2 _MIPS_SZLONG=32",
    "mips-n64": "__mips__ _MIPS_SIM=3 _MIPS_SZLONG=64 __LP64__",
    "powerpc": "__powerpc__",
    "powerpc64": "__powerpc__ __powerpc64__ __LP64__",
    "riscv32": "__riscv __SIZEOF_POINTER__=4",
    "riscv64": "__riscv __SIZEOF_POINTER__=8 __LP64__",
    "s390": "__s390__",
    "s390x": "__s390__ __s390x__ __LP64__",
    "sparc": "__sparc__",
    "sparc64": "__sparc__ __arch64__ __LP64__",
    # Its header is no Debian package's: these are the lines before its #include <asm-generic/unistd.h>.
    "loongarch64": "__LP64__ __SIZEOF_POINTER__=8 __ARCH_WANT_NEW_STAT __ARCH_WANT_SYS_CLONE __ARCH_WANT_SYS_CLONE3",
}


class Made(NamedTuple):
    """Tables made anew; `exact` when from the very packages of the committed ones."""

    out: Path
    exact: bool

    def include(self, abi: Abi) -> list[Path]:
        """Returns the folders of an ABI's UAPI headers."""
        return [self._package(abi, abi.package) / folder for folder in abi.include]

    def kernel(self, abi: Abi) -> Path:
        """Returns the folder of the kernel's own headers."""
        return next((self._package(abi, "linux-headers-") / "usr/src").glob("linux-headers-*-common"))

    def _package(self, abi: Abi, name: str) -> Path:
        header = prototypes.parse((self.out / f"process/tables/{abi.name}.tsv").read_text(), "made").header
        wanted = next(package for package in header["packages"].split() if package.startswith(name))
        pattern = wanted.replace("=", "_").replace(":", "%3a")
        return next(path for path in CACHE.glob(f"{pattern}_*") if path.is_dir())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Tables made from the recorded packages or, once those left the archive, the newest."""
    out = tmp_path_factory.mktemp("made")
    recorded = {name for abi in ABIS for name in prototypes.load(abi).header["packages"].split()}
    command = [sys.executable, "scripts/make_tables.py", "--out", str(out)]
    for pins in (sorted(f"--pin={name}" for name in recorded), []):
        done = subprocess.run([*command, *pins], cwd=ROOT, capture_output=True, text=True)
        if done.returncode != os.EX_UNAVAILABLE:
            assert done.returncode == 0, done.stderr
            return Made(out, bool(pins))
    pytest.skip(f"needs Debian's archive: {done.stderr.strip()}")


def tables(root: Path) -> list[str]:
    """Returns the tables below a folder that the generator makes."""
    return sorted(str(path.relative_to(root)) for folder in FOLDERS for path in (root / folder).glob("*.tsv"))


def test_every_abi_has_its_tables() -> None:
    assert set(ABIS) == set(ABI_NUMBERS) == set(PREDEFINED)
    shared = [
        "capture/tables/socketcall.tsv",
        *(f"process/tables/{name}.tsv" for name in ("ipc", "socketcall", "words")),
    ]
    assert tables(ROOT) == sorted([*shared, *(f"{folder}/{abi}.tsv" for folder in FOLDERS for abi in ABIS)])
    assert len(indirect.load_socketcall()) == len(calls.load_socketcall()) == 20
    assert {name: len(args) for name, args in indirect.load_words().items()} == {
        "sys_old_mmap": 6,
        "sys_old_select": 5,
        "sys_s390_mmap2": 6,
    }


def test_tables_made_anew_are_the_committed_ones(made: Made) -> None:
    assert tables(made.out) == tables(ROOT)
    changed = []
    for name in tables(ROOT):
        new, old = (made.out / name).read_text(), (ROOT / name).read_text()
        if made.exact:
            assert new == old
        elif new != old:
            # A stable update may add a row or respell a type. Numbers and names are ABI.
            new_rows, old_rows = rows_of(new), rows_of(old)
            assert [(number, row[0]) for number, row in old_rows.items() if new_rows[number][0] != row[0]] == []
            changed += [f"{name} {row[0]}" for number, row in old_rows.items() if new_rows[number] != row]
    if changed:
        print(f"the recorded packages left the archive; the newest change {', '.join(changed)}")


def rows_of(text: str) -> dict[str, list[str]]:
    """Returns a table's other cells by its first."""
    cells = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {first: rest for first, *rest in cells}


needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


def compiler(program: str, abi: Abi, include: list[Path], *options: str) -> str:
    """Returns what the compiler makes of a program; it is this machine's, made to read an ABI's headers."""
    defines = [f"-D{macro}" for macro in PREDEFINED[abi.name].split()]
    folders = [f"-I{folder}" for folder in include]
    command = ["gcc", "-undef", "-nostdinc", *defines, *folders, *options, "-x", "c", "-o", "-", "-"]
    return subprocess.run(command, input=program, check=True, capture_output=True, text=True).stdout


def macros(header: str, abi: Abi, include: list[Path]) -> dict[str, str]:
    """Returns the macros without arguments that a header defines."""
    text = compiler(f"#include <{header}>\n", abi, include, "-E", "-dM")
    return dict(re.findall(r"^#define (\w+) (.+)$", text, re.MULTILINE))


def values(header: str, names: list[str], abi: Abi, include: list[Path]) -> dict[str, int]:
    """Returns what constants of a header come to: a program with a list of them, compiled to assembly."""
    program = f"#include <{header}>\nunsigned values[] = {{{', '.join(f'{name} + 1' for name in names)}}};\n"
    found = re.findall(r"\.(?:long|word)\s+(\d+)$", compiler(program, abi, include, "-S"), re.MULTILINE)
    assert len(found) == len(names)
    return {name: int(value) - 1 for name, value in zip(names, found, strict=True)}


@needs_gcc
@pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS)
def test_errnos_are_those_the_compiler_finds(made: Made, abi: Abi) -> None:
    include = made.include(abi)
    user = {name: text for name, text in macros(abi.errno, abi, include).items() if re.fullmatch("E[A-Z0-9]+", name)}
    numbers = {name for name, text in user.items() if text.isdigit()}
    # What is not a number is an alias of a name that the table has.
    assert {name: user[name] for name in set(user) - numbers}.items() <= {
        "EWOULDBLOCK": "EAGAIN",
        "EDEADLOCK": "EDEADLK",
    }.items()
    expected = {(name, number, "uapi") for name, number in values(abi.errno, sorted(numbers), abi, include).items()}
    kernel = [made.kernel(abi) / "include", *include]
    own = {name for name in re.findall(r"^#define (E[A-Z0-9_]+)\s", (kernel[0] / "linux/errno.h").read_text(), re.M)}
    found = values("linux/errno.h", sorted(own), abi, kernel)
    expected |= {(name, number, "kernel") for name, number in found.items()}
    table = errno_tables.load(abi.name).by_number
    assert {(error.name, number, error.kind) for number, error in table.items()} == expected


def numbers_of(abi: Abi, include: list[Path]) -> dict[str, int]:
    """Returns the numbers of an ABI's syscalls by their `__NR_` names, as the compiler finds them."""
    found = macros(abi.unistd, abi, include)
    names = [
        name
        for name, text in found.items()
        if re.fullmatch(r"__(ARM_)?NR_[a-z_]\w*", name)
        and name not in ("__NR_syscalls", "__NR_arch_specific_syscall", "__NR_sync_file_range2" * ("arm" in abi.name))
        and text
    ]
    numbers = values(abi.unistd, names, abi, include)
    return {re.sub("__(ARM_)?NR_", "", name): number - abi.base for name, number in numbers.items()}


@needs_gcc
@pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS)
def test_numbers_and_entry_points_are_those_the_compiler_finds(made: Made, abi: Abi) -> None:
    include = made.include(abi)
    table = prototypes.load(abi.name).by_number
    numbers = numbers_of(abi, include)
    assert sorted(numbers.values()) == sorted(table)
    if abi.table:
        entries = entry_points(abi.name)
        expected = {number: entries.get(name, f"sys_{name}") for name, number in numbers.items()}
        unimplemented = {number for number, entry in expected.items() if entry == "unimplemented"}
    else:
        # The header calls __SYSCALL(number, entry point) for each, through macros of its own.
        program = f"#define __SYSCALL(number, entry) CALL number entry\n#include <{abi.unistd}>\n"
        found = re.findall(r"^CALL (\S+|\(.*\)) (\w+)$", compiler(program, abi, include, "-E", "-P"), re.MULTILINE)
        expected = {sum(int(part) for part in re.findall(r"\d+", number)): entry for number, entry in found}
        unimplemented = {number for number, entry in expected.items() if entry == "sys_ni_syscall"}
    assert {n: call.name for n, call in table.items() if n not in unimplemented} == {
        n: entry for n, entry in expected.items() if n not in unimplemented
    }
    assert unimplemented <= {n for n, call in table.items() if call.kind == "unimplemented"}


def hand_table(path: str) -> list[dict[str, str]]:
    """Reads a table kept by hand."""
    lines = [line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def entry_points(abi: str) -> dict[str, str]:
    """Returns the entry points that entries.tsv has for an ABI by `__NR_` name."""
    rows = hand_table("scripts/tables/entries.tsv")
    general = {row["syscall"]: row["entry"] for row in rows if row["abis"] == "*"}
    return general | {row["syscall"]: row["entry"] for row in rows if abi in row["abis"].split()}


def test_every_line_kept_by_hand_is_used() -> None:
    found = {abi: list(prototypes.load(abi).by_number.values()) for abi in ABIS}
    socket = [call for table in (indirect.load_socketcall(), indirect.load_ipc("i386")) for call in table.values()]
    arguments = {(call.name, arg.name) for calls in found.values() for call in calls for arg in call.args}
    arguments |= {(call.name, arg.name) for call in socket for arg in call.args}
    names = {abi: {call.name for call in calls} for abi, calls in found.items()}
    for table in ("argument_kinds.tsv", "reads.tsv"):
        rows = hand_table(f"scripts/tables/{table}")
        assert [row for row in rows if (row["syscall"], row["argument"]) not in arguments] == []
        assert all(row["reason"] for row in rows)
    for row in hand_table("scripts/tables/supplement.tsv"):
        assert row["source"]
        for abi in ABIS if row["abis"] == "*" else row["abis"].split():
            assert row["abis"] == "*" or row["entry"] in names[abi]
        assert any(row["entry"] in mine for mine in names.values())
    every = set[str]().union(*names.values())
    for row in hand_table("scripts/tables/entries.tsv"):
        entry = f"sys_{row['syscall']}".replace("sys_sys_", "sys_") if row["entry"] == "unimplemented" else row["entry"]
        assert all(entry in names[abi] for abi in row["abis"].split()) if row["abis"] != "*" else entry in every, row
    assert [row for row in hand_table("scripts/tables/roles.tsv") if row["syscall"] not in every] == []


def test_unknown_arguments_are_only_in_calls_that_do_not_exist() -> None:
    for abi in ABIS:
        table = prototypes.load(abi).by_number.values()
        assert {call.kind for call in table if not call.known} <= {"unimplemented"}
        assert all(call.source.startswith(("arch/", "include/")) for call in table if not call.known)


# Types that take one register or stack word on every ABI; with `prototypes.WIDE_TYPES` those are all.
WORD_TYPES = re.compile(
    r".*\*|(unsigned )?(int|long|char|short)|unsigned|__?[us]32|uint32_t|u32|uintptr_t|enum \w+"
    r"|(size|off|umode|key|mqd|rwf|timer|key_serial|aio_context|old_sigset|__sighandler)_t|\w+id_t"
    r"|(const )?cap_user_\w+_t|utrap_\w+_t"
)


def test_the_types_of_two_words_are_listed() -> None:
    types = {arg.ctype for abi in ABIS for call in prototypes.load(abi).by_number.values() for arg in call.args}
    assert {ctype for ctype in types if not WORD_TYPES.fullmatch(ctype)} == {"loff_t", "u64"}
    assert {"loff_t", "u64"} <= prototypes.WIDE_TYPES


@pytest.mark.parametrize(
    ("abi", "number", "expected"),
    [
        # Numbers from the manual of each architecture's calls; arguments in the kernel's order for the architecture.
        ("i386", 180, "sys_pread64 unsigned int fd, char * buf, size_t count, loff_t pos"),
        ("i386", 250, "sys_fadvise64 int fd, loff_t offset, size_t len, int advice"),
        ("i386", 140, "sys_llseek unsigned int fd, unsigned long offset_high, unsigned long offset_low, "
         "loff_t * result, unsigned int whence"),
        ("i386", 339, "sys_fanotify_mark int fanotify_fd, unsigned int flags, u64 mask, int fd, const char * pathname"),
        ("i386", 253, "sys_lookup_dcookie u64 cookie64, char * buf, size_t len"),
        ("i386", 120, "sys_clone unsigned long clone_flags, unsigned long newsp, int * parent_tidptr, "
         "unsigned long tls, int * child_tidptr"),
        ("s390x", 120, "sys_clone unsigned long newsp, unsigned long clone_flags, int * parent_tidptr, "
         "int * child_tidptr, unsigned long tls"),
        ("x86_64", 56, "sys_clone unsigned long clone_flags, unsigned long newsp, int * parent_tidptr, "
         "int * child_tidptr, unsigned long tls"),
        ("arm", 270, "sys_arm_fadvise64_64 int fd, int advice, loff_t offset, loff_t len"),
        ("arm", 341, "sys_sync_file_range2 int fd, unsigned int flags, loff_t offset, loff_t nbytes"),
        ("arm", 0xF0005, "sys_set_tls unsigned long tls"),
        ("arm", 0xF0002, "sys_cacheflush unsigned long start, unsigned long end, int flags"),
        ("arm-oabi", 90, "sys_old_mmap struct mmap_arg_struct * arg"),
        ("powerpc", 254, "sys_ppc_fadvise64_64 int fd, int advice, loff_t offset, loff_t len"),
        ("powerpc", 308, "sys_sync_file_range2 int fd, unsigned int flags, loff_t offset, loff_t nbytes"),
        ("mips-o32", 4254, "sys_fadvise64_64 int fd, loff_t offset, loff_t len, int advice"),
        ("mips-o32", 4211, "sys_truncate64 const char * path, loff_t length"),
        ("mips-o32", 4042, "sys_pipe "),
        ("mips-o32", 4072, "sys_sigsuspend sigset_t * uset"),
        ("arm", 72, "sys_sigsuspend int unused1, int unused2, old_sigset_t mask"),
        ("mips-o32", 4147, "sys_cacheflush unsigned long addr, unsigned long bytes, unsigned int cache"),
        ("riscv32", 223, "sys_fadvise64_64 int fd, loff_t offset, loff_t len, int advice"),
        ("riscv32", 62, "sys_llseek unsigned int fd, unsigned long offset_high, unsigned long offset_low, "
         "loff_t * result, unsigned int whence"),
        ("x32", 0x40000000 + 534, "sys_preadv64 unsigned long fd, const struct iovec * vec, unsigned long vlen, "
         "loff_t pos"),
        ("loongarch64", 80, "sys_newfstat unsigned int fd, struct stat * statbuf"),
    ],
)  # fmt: skip
def test_prototypes_of_architectures(abi: str, number: int, expected: str) -> None:
    call = prototypes.load(abi).by_number[number]
    assert f"{call.name} {', '.join(f'{arg.ctype} {arg.name}' for arg in call.args)}" == expected


def test_capture_reads_registers_and_the_prototypes_have_arguments() -> None:
    marks = {abi: (name, kind) for abi in ABIS for name, kind in [string_of(abi, "sys_fanotify_mark")]}
    wide = {
        "x86_64",
        "x32",
        "aarch64",
        "mips-n32",
        "mips-n64",
        "powerpc64",
        "riscv64",
        "s390x",
        "sparc64",
        "loongarch64",
    }
    assert marks == {abi: (4 if abi in wide else 5, "string") for abi in ABIS}
    assert string_of("i386", "sys_lookup_dcookie") == (2, "out_string")
    for abi in ABIS:
        table = calls.load(abi).args
        assert all(kind.startswith("words:") <= (abi in ("i386", "arm-oabi", "powerpc", "s390"))
                   for args in table.values() for _, kind in args)  # fmt: skip


def string_of(abi: str, name: str) -> tuple[int, str]:
    """Returns the register of a call's one argument that capture reads, and how."""
    number = next(call.number for call in prototypes.load(abi).by_number.values() if call.name == name)
    (found,) = calls.load(abi).args[number]
    return found


def test_addresses_come_back_from_calls_that_map() -> None:
    for abi in ABIS:
        pointers = {call.name for call in prototypes.load(abi).by_number.values() if call.returns == "pointer"}
        assert {"sys_brk", "sys_mremap", "sys_shmat"} - pointers <= {"sys_shmat"}
        maps = {"sys_mmap", "sys_mmap2", "sys_mmap_pgoff", "sys_old_mmap", "sys_s390_mmap2"}
        names = {call.name for call in prototypes.load(abi).by_number.values()}
        assert names & maps and names & maps <= pointers


def test_ipc_feeds_the_real_calls_by_abi() -> None:
    assert indirect.load_ipc("i386")[12].feeds == (1, None, 2, None, 3)
    assert indirect.load_ipc("sparc64")[12].feeds == (1, 4, 2, 5, 3)
    assert indirect.load_ipc("s390x")[4].feeds == (1, 4, 2, 3)
    assert indirect.load_ipc("mips-o32")[4].feeds == (1, 4, 2, 5)
    for abi in ABIS:
        names = {call.name for call in prototypes.load(abi).by_number.values()}
        assert len(names & indirect.IPC_NAMES) == ("sys_socketcall" in names or abi == "mips-o32"), abi


def differences(theirs: str, abi: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields (syscall, what, PANDA's, ours) where one of PANDA's lists and a table of ours differ."""
    path = panda_syscalls.library(theirs)
    if path is None:
        pytest.skip("needs pandare with its libraries (0.1.1.5)")
    table: Mapping[int, prototypes.Prototype] = prototypes.load(abi).by_number
    for call in panda_syscalls.syscalls(path):
        ours = table.get(call.number)
        if ours is None:
            yield call.name, "number", str(call.number), "-"
            continue
        if ours.name != call.name:
            yield call.name, "name", call.name, ours.name
        if len(ours.args) != len(call.args):
            yield call.name, "count", str(len(call.args)), str(len(ours.args))
        for position, (name, arg) in enumerate(zip(call.args, ours.args, strict=False)):
            if name not in (f"arg{position}", arg.name):  # arg0 if its header had no name there
                yield call.name, f"arg{position}", name, arg.name


def covers(row: Mapping[str, str], theirs: str, difference: tuple[str, str, str, str]) -> bool:
    """Returns whether a row of panda_differences.tsv is about a difference."""
    syscall, what, panda, ours = difference
    cells = ((row["lists"], theirs), (row["syscalls"], syscall), (row["what"], what))
    return all(re.fullmatch(pattern, text) for pattern, text in cells) and bool(
        re.fullmatch(f"(?:{row['panda']})\t(?:{row['ours']})", f"{panda}\t{ours}")
    )


def test_names_and_arguments_are_pandas_but_for_the_listed_differences() -> None:
    rows = hand_table("tests/panda_differences.tsv")
    assert all(row["reason"] for row in rows)
    found = [(theirs, each) for theirs, abi in panda_syscalls.ABIS.items() for each in differences(theirs, abi)]
    assert [each for each in found if not any(covers(row, *each) for row in rows)] == []
    assert [row for row in rows if not any(covers(row, *each) for each in found)] == []  # stale


def test_the_page_of_coverage_is_what_the_tables_say() -> None:
    assert (ROOT / "docs/ABIS.md").read_text() == abi_coverage.page()
