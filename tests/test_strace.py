"""strace inside the guest is the oracle: what it saw is what was captured and decoded, task by task, call by call."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import strace_log
from oracle import Oracle, consult, statements
from process.overview import overview
from process.strings import escape
from strace_compare import EXCEPTIONS, Findings, compare, made_once
from strace_files import compare_names, compare_statements, listing
from strace_log import Call, End, LogError

ARCHES = ("x86_64", "aarch64")
PROCESSES, CALLS = 20, 2500  # at least


@pytest.fixture(scope="module", params=ARCHES)
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return consult(tmp_path_factory.mktemp(request.param), request.param, "who")


@pytest.fixture(scope="module")
def findings(oracle: Oracle) -> Findings:
    return compare(strace_log.parse(oracle.strace), oracle.rows)


@pytest.mark.live
def test_every_call_that_strace_saw_is_there_in_order_and_nothing_else(findings: Findings) -> None:
    print(f"\n{findings.compared:,} calls found, {len(findings.missing)} missing, {len(findings.extra)} extra")
    assert not findings.missing and not findings.extra
    assert findings.compared >= CALLS
    assert len({row["pid"] for _, row in findings.pairs}) >= PROCESSES
    assert len({row["tid"] for _, row in findings.pairs if row["tid"] != row["pid"]}) >= 5


@pytest.mark.live
def test_results_errors_strings_and_numbers_are_those_of_strace(findings: Findings) -> None:
    print(f"\nequal arguments: {listing(findings.figures)}; exceptions: {listing(findings.exceptions)}")
    assert not findings.differences, "\n".join(findings.differences[:5])
    assert findings.exceptions.keys() <= EXCEPTIONS.keys()
    assert findings.exceptions["restart"] <= 12 and findings.exceptions["killed"] <= 3
    assert findings.exceptions["absent"] <= 4 and findings.exceptions["skipped"] <= 2
    assert (
        findings.figures["strings"] >= 700 and findings.figures["lists"] >= 80 and findings.figures["numbers"] >= 2000
    )


@pytest.mark.live
def test_each_number_of_a_process_belongs_to_one_at_a_time(findings: Findings) -> None:
    """Four processes in turn had one number: strace's order of calls and ends holds for the rows."""
    turns = [row for call, row in findings.pairs if call.name == "prctl" and call.args[-1].startswith('"turn ')]
    assert len({row["pid"] for row in turns}) == 1 and len(turns) == 4
    assert [row["seq"] for row in turns] == sorted(row["seq"] for row in turns)


@pytest.mark.live
def test_files_have_the_names_that_strace_gives_them(findings: Findings) -> None:
    names = compare_names(findings.pairs)
    print(f"\nfiles: {names.share:.2%}: {listing(names.files)}\nothers: {listing(names.others)}")
    print(f"closed: {names.closed}; sources: {listing(names.sources)}; unknown: {listing(names.unknown)}")
    assert not names.wrong, "\n".join(names.wrong[:10])
    assert names.files["unknown"] == 0 and names.files.total() >= 900
    assert names.files["renamed"] <= 20


@pytest.mark.live
def test_tasks_are_who_they_say_they_are_and_have_the_files_that_they_say(oracle: Oracle) -> None:
    """A task's own words, in the row of the call with which it wrote them down."""
    said = statements(oracle)
    assert len(said) >= 50
    for me, row in said:
        assert (row["pid"], row["tid"], row["procname"]) == (me.pid, me.tid, me.argv[0].decode()), row
    names = compare_statements(said, oracle.rows)
    print(f"\nfiles: {names.share:.2%}: {listing(names.files)}\nothers: {listing(names.others)}")
    assert not names.wrong, "\n".join(names.wrong[:10])
    assert names.files["unknown"] == 0 and names.files.total() >= 200


@pytest.mark.live
def test_processes_end_and_execute_programs_as_strace_says(oracle: Oracle) -> None:
    """Each number's processes in turn: what they exited with, none if they were killed, and the programs they ran."""
    log = strace_log.parse(oracle.strace)
    rows = [row for row in overview([oracle.segments], 1).process if row["pid"] in log]
    ends = 0
    for pid in {row["pid"] for row in rows}:
        last = {row["process"]: row for row in rows if row["pid"] == pid}
        found = [row["exit_status"] if row["ended"] == "exit" else None for row in last.values()]
        texts = [item.text for item in log[pid] if isinstance(item, End) and not item.text.startswith("superseded")]
        told = [int(text.removeprefix("exited with ")) if text.startswith("exited") else None for text in texts]
        assert told and found[-len(told) :] == told, (pid, told, list(last.values()))
        ends += len(told)
    calls = [call for items in log.values() for call in items if isinstance(call, Call) and call.name == "execve"]
    argvs = [[escape(word) for word in strace_log.strings(call.args[1]) or []] for call in calls if call.value == 0]
    executed = Counter(row["argv"] for row in rows if row["began"] == "exec")
    assert not Counter(json.dumps(argv, ensure_ascii=False) for argv in argvs) - executed
    assert len(argvs) >= 40 and ends >= PROCESSES
    children = [row for row in rows if row["began"] == "fork"]
    assert all(row["parent"] is not None and row["start_time_ns"] <= row["first_time_ns"] for row in children)


@pytest.mark.live
@pytest.mark.parametrize("arch", ARCHES)
def test_without_a_profile_no_file_has_a_name_that_strace_does_not_give_it(arch: str, tmp_path: Path) -> None:
    """Names are inferred from calls: nearly all are there, and what is not known is said to be so."""
    oracle = consult(tmp_path, arch, "who", "--profile", "symbols")
    findings = compare(strace_log.parse(oracle.strace), oracle.rows)
    names = compare_names(findings.pairs)
    print(f"\n{findings.compared:,} calls found, {len(findings.missing)} missing, {len(findings.extra)} extra")
    print(f"files: {names.share:.2%}: {listing(names.files)}\nothers: {listing(names.others)}")
    print(f"sources: {listing(names.sources)}; unknown: {listing(names.unknown)}")
    assert findings.compared >= CALLS
    assert not names.wrong, "\n".join(names.wrong[:10])
    assert names.share >= 0.95


LOG = r"""
7     execve("/bin/a", ["a", "b\tc \"\\", ""], ["X=1"]) = 0
7     openat(AT_FDCWD</tmp>, "x\n\377\0011>", O_RDONLY) = 3</tmp/x\n\377\0011\76>
7     read(3</tmp/x\n\377\0011\76>,  <unfinished ...>
8     dup2(4</gone (deleted)>(deleted), 1</dev/null<char 1:3>>) = 1</gone (deleted)>(deleted)
8     sendto(5<TCP:[127.0.0.1:7000->127.0.0.1:34]>, "a, b)", 5, 0, NULL, 0) = 5
7     <... read resumed>"= -1 ENOENT (", 100) = 13
8     umask(022 /* not ( but */)        = 022
8     pause()                           = ? ERESTARTNOHAND (To be restarted if no handler)
8     --- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---
8     read(6<pipe:[12]>,  <unfinished ...>
7     futex(0x7f, FUTEX_WAIT, 9, NULL <unfinished ...>
9     execve("/b", ["b"], [] <unfinished ...>
7     <... futex resumed>)              = ?
7     +++ superseded by execve in pid 9 +++
7     <... execve resumed>)             = 0
8     <... read resumed> <unfinished ...>) = ?
8     +++ killed by SIGKILL +++
7     exit_group(0)                     = ?
7     +++ exited with 0 +++
""".lstrip()


def test_the_log_is_read_as_strace_wrote_it() -> None:
    tasks = strace_log.parse(LOG)
    calls = {tid: [item for item in items if isinstance(item, Call)] for tid, items in tasks.items()}
    assert [call.name for call in calls[7]] == ["execve", "openat", "read", "futex", "exit_group"]
    assert strace_log.strings(calls[7][0].args[1]) == [b"a", b'b\tc "\\', b""]
    opened, name = calls[7][1], b"/tmp/x\n\xff\x011>"
    assert opened.value == 3 and strace_log.string(opened.args[1]) == b"x\n\xff\x011>"
    assert strace_log.descriptor(opened.args[0]) == strace_log.Descriptor(None, b"/tmp", False)
    assert strace_log.descriptor(opened.result) == strace_log.Descriptor(3, name, False)
    assert calls[7][2].args[1:] == ('"= -1 ENOENT ("', "100") and calls[7][2].value == 13
    assert strace_log.descriptor(calls[8][0].args[0]) == strace_log.Descriptor(4, b"/gone (deleted)", True)
    assert strace_log.descriptor(calls[8][0].args[1]) == strace_log.Descriptor(1, b"/dev/null", False)
    assert strace_log.string(calls[8][1].args[1]) == b"a, b)" and len(calls[8][1].args) == 6
    assert calls[8][2].value == 0o22 and calls[8][3].restart == "ERESTARTNOHAND"
    assert [(call.name, call.value, call.ended) for call in calls[9]] == [("execve", 0, True)]
    assert calls[7][3].ended and calls[8][4].ended and not calls[7][4].ended


ANEW = """
7 read(3, 0x10, 1) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
7 --- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---
7 getpid() = 7
7 rt_sigreturn({mask=[]}) = 0
7 read(3, "x", 1) = 1
7 pause() = ? ERESTARTNOHAND (To be restarted if no handler)
7 rt_sigreturn({mask=[]}) = -1 EINTR (Interrupted system call)
7 pause() = ? ERESTARTNOHAND (To be restarted if no handler)
7 pause() = ? ERESTARTNOHAND (To be restarted if no handler)
7 rt_sigreturn({mask=[]}) = -1 EINTR (Interrupted system call)
7 nanosleep({tv_sec=1}, NULL) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)
7 restart_syscall(<... resuming interrupted nanosleep ...>) = 0
""".lstrip()


def test_a_call_that_the_kernel_makes_anew_is_one() -> None:
    calls = [item for item in strace_log.parse(ANEW)[7] if isinstance(item, Call)]
    found = Findings()
    made = made_once(calls, found)
    names = ["read", "getpid", "rt_sigreturn", "pause", "rt_sigreturn", "pause", "rt_sigreturn", "nanosleep"]
    assert [call.name for call in made] == names and found.figures["made anew"] == 3
    assert made[0].args[1] == '"x"' and made[0].value == 1 and made[0].line == 1
    assert made[3].restart and made[5].restart and made[7].value == 0


@pytest.mark.parametrize("line", ["no number", "7 (", "7 read(3", "7 read(3) -1", "7 <... read resumed>) = 0"])
def test_a_line_that_is_not_understood_is_an_error(line: str) -> None:
    with pytest.raises((LogError, KeyError)):
        strace_log.parse(line)


@pytest.mark.parametrize("change", [("= 13", "= 12"), ("ENOENT (", "EBADF ("), ("gone", "there")])
def test_the_comparison_can_fail(change: tuple[str, str]) -> None:
    """Rows made of the log itself; a log that says something else differs from them."""
    log = '7 openat(AT_FDCWD</>, "/gone", O_RDONLY) = -1 ENOENT (No such file or directory)\n7 read(3, 0x10, 20) = 13\n'
    row = {"tid": 7, "pid": 7, "status": "returned", "errno": None, "arg0": 3, "arg0_repr": "fd=0x3([???])"}
    path = 'filename=0x10("/gone")'
    execve = {**row, "time_ns": 0, "seq": 0, "name": "sys_execve", "retno": 0, "arg0_repr": 'f=0x10("/x")', "arg0": 1}
    first = {**row, "time_ns": 1, "seq": 1, "name": "sys_openat", "retno": -2, "errno": "ENOENT", "arg1_repr": path}
    second = {**row, "time_ns": 2, "seq": 2, "name": "sys_read", "retno": 13, "arg1": 16, "arg2": 20}
    rows = pl.DataFrame([execve, first, second], infer_schema_length=None)
    log = '7 execve("/x", [], []) = 0\n' + log
    same, other = compare(strace_log.parse(log), rows), compare(strace_log.parse(log.replace(*change)), rows)
    assert not (same.differences or same.missing or same.extra) and same.compared == 3
    assert len(other.differences) == 1
