"""Without offsets: what is derived from a running kernel names each process as it names itself."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from conftest import command
from oracle import Oracle, consult, statements
from strace_files import compare_statements, listing

pytestmark = pytest.mark.live
SYMBOLS = ("--profile", "symbols")
RUNS = [("x86_64", SYMBOLS), ("aarch64", SYMBOLS), ("i386", ()), ("arm", ()), ("mipsel", ())]


@pytest.mark.parametrize(("arch", "options"), RUNS, ids=[arch for arch, _ in RUNS])
def test_processes_have_the_names_and_files_that_they_say_they_have(
    arch: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    oracle = consult(tmp_path, arch, "names", *options)
    said = statements(oracle)
    names = Counter("right" if row["procname"] == me.argv[0].decode() else "wrong" for me, row in said)
    tasks = Counter("right" if (row["pid"], row["tid"]) == (me.pid, me.tid) else "wrong" for me, row in said)
    out = tmp_path / "a.sqlite"
    assert command("process", oracle.segments, "-o", out).returncode == 0
    with sqlite3.connect(out) as database:
        rows = database.execute("SELECT pid, ppid, procname, argv, source FROM process").fetchall()
    database.close()
    sources = Counter(source for *_, source in rows)
    print(f"\n{arch}: {len(said)} statements: names {dict(names)}, tasks {dict(tasks)}; sources {dict(sources)}")
    assert len(said) >= 50
    assert names["right"] >= 0.99 * len(said) and tasks["right"] == len(said)
    programs = {(pid, ppid, tuple(json.loads(argv))) for pid, ppid, _, argv, _ in rows if argv}
    for me, _ in said:
        words = tuple(word.decode() for word in me.argv)
        parents = {ppid for pid, ppid, argv in programs if (pid, argv) == (me.pid, words)}
        assert parents and (me.ppid in parents or me.ppid == 1), me  # pid 1 takes children whose parent has ended
    files = compare_statements(said, oracle.rows)
    print(f"files: {files.share:.2%}: {listing(files.files)}; others: {listing(files.others)}")
    assert not files.wrong, "\n".join(files.wrong[:10])
    assert files.share >= 0.9
    assert sources["derived"] >= 20 and sources["profile"] == 0
    assert sources["unknown"] == 0


def nothing_known(oracle: Oracle) -> Counter[str]:
    rows = [row["procname"] for _, row in statements(oracle)]
    return Counter("unknown" if name == "[none]" else "named" for name in rows)


def test_from_the_calls_alone_no_name_is_wrong(tmp_path: Path) -> None:
    """Tasks are address spaces: some processes of the shell are named, and none by another's name."""
    oracle = consult(tmp_path, "x86_64", "names", "--profile", "none")
    wrong = [
        (me.argv[0], row["procname"])
        for me, row in statements(oracle)
        if row["procname"] not in (me.argv[0].decode(), "[none]")
    ]
    named = oracle.rows["procname"].cast(str).value_counts(sort=True).rows()
    print(f"\n{nothing_known(oracle)}; rows by name: {dict(named)}")
    assert not wrong
    executed = {"busybox", "ifconfig", "/bin/sh", "/bin/cat", "/bin/ls", "/bin/tr", "/bin/wc"}
    assert len(executed & {name for name, _ in named}) >= 4
    assert oracle.rows["pid"].null_count() == len(oracle.rows)
