"""Outputs of `process` on a disk that fails at the N-th call, for every N: the old output stays, or the new is whole.

Runs `process.pipeline.decode` below a library that makes calls on the output's folder fail (scripts/bad_disk.py):
for good from the N-th on, and once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bad_disk import ERRORS, FOREVER, Disk, asked, run_below

OUTPUTS = ("a.sqlite", "a.parquet")


@dataclass
class Counts:
    """What came of all faults.

    Attributes:
        faults: How many.
        failed: Runs that ended with an error; the others did without the call.
        problems: What must not be, a line each.
    """

    faults: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)


def contents(out: Path) -> str:
    """What the rows of an output come to; empty if it is not there, an error's text if it is not sound."""
    import polars as pl

    if not out.exists():
        return ""
    try:
        if out.is_dir():
            rows: list[object] = list(pl.read_parquet(out / "*.parquet").sort("id").iter_rows())
            rows += [json.loads(path.read_text())[0].keys() for path in sorted(out.glob("*.json"))]
            rows += pl.read_parquet(out / "fd-*.pq").rows()
        else:
            with closing(sqlite3.connect(out)) as base:
                rows = [*base.execute("PRAGMA integrity_check"), *base.execute("SELECT * FROM syscalls ORDER BY id")]
                rows += list(base.execute("SELECT name FROM sqlite_master ORDER BY name"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def work(folder: Path, is_long: bool) -> Counts:
    """Below the library: every fault."""
    from process.errors import ProcessError
    from process.output import Format
    from process.pipeline import decode
    from source import Source

    for name, events in (("new", 300), ("old", 100)):
        source = Source(folder / name, 3, segment_size=1, wait=True)
        source.run(events)
        source.recorder.close()
    disk, counts = Disk(), Counts()
    for out, is_there in ((folder / "out" / name, is_there) for name in OUTPUTS for is_there in (False, True)):
        format_ = Format.PARQUET if out.suffix == ".parquet" else Format.SQLITE

        def renew(out: Path = out, format_: Format = format_, is_there: bool = is_there) -> str:
            shutil.rmtree(out.parent, ignore_errors=True)
            out.parent.mkdir()
            if is_there:
                decode([folder / "old"], out, format_)
            return contents(out)

        renew()
        disk.fail(out.parent, FOREVER, 1, "EIO")
        decode([folder / "new"], out, format_, force=True)
        calls, whole = disk.heal(), contents(out)
        old = renew()
        for number, (first, often) in enumerate(_faults(calls, is_long)):
            error = ERRORS[number % len(ERRORS)]
            fault = f"{out.name}, {error} at call {first}{'' if often == 1 else ' and on'}, old: {is_there}"
            disk.fail(out.parent, first, often, error)
            said = ""
            try:
                decode([folder / "new"], out, format_, force=is_there)
            except ProcessError as raised:
                said = str(raised)
            except Exception as raised:
                counts.problems.append(f"{fault}: {type(raised).__name__}: {raised}")
            disk.heal()
            counts.faults += 1
            counts.failed += bool(said)
            now = contents(out)
            if now != whole and (not said or now != old):
                counts.problems.append(f"{fault}: {said or 'no error'}, and the output is {now or 'gone'}")
            if said and ("\n" in said or str(out.parent) not in said):
                counts.problems.append(f"{fault}: says {said!r}")
            if [path for path in out.parent.iterdir() if path != out]:
                counts.problems.append(f"{fault}: left {sorted(out.parent.iterdir())}")
            if now != old or len(list(out.parent.iterdir())) != bool(old):
                renew()
    return counts


def _faults(calls: int, is_long: bool) -> Iterator[tuple[int, int]]:
    """First call that fails, and how many do."""
    for first in range(1, calls + 2, 1 if is_long else max(1, calls // 12)):
        yield first, FOREVER
        yield first, 1


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if every fault left the old output or the whole new one."""
    options = asked(__doc__, "scripts/failing_output.py --long", "every call, not some of them", words)
    if options.work:
        print(json.dumps(asdict(work(options.work, options.long))))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="sysreel-disk-"))
    try:
        told = run_below(folder, [__file__, "--work", folder, *(["--long"] if options.long else [])])
        counts = Counts(**json.loads(told))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for problem in counts.problems[:20]:
        print(problem, file=sys.stderr)
    print(f"faults: {counts.faults}")
    print(f"runs that failed: {counts.failed}")
    print(f"old outputs lost, half outputs, leftovers, unclear messages: {len(counts.problems)}")
    return 1 if counts.problems else 0


if __name__ == "__main__":
    sys.exit(main())
