"""Fuzz the readers of segments: they are read, verified, recovered, dumped and decoded, and nothing may go wrong.

The mutations are those of scripts/mutations.py. With Atheris (a fuzzer for Python, on libFuzzer) what reaches code
that was not reached before is mutated further; without it, or with ``--engine plain``, only sound segments are.

What fails is kept as a file; tests/test_fuzz.py runs again whatever lies in tests/data/crashers.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from capture.reader import parse_segment
from capture.segment import SegmentError
from mutations import Mutator, seeds
from process import splits
from process.decode import Decoder
from process.discover import discover
from process.errors import ProcessError
from process.frames import frame as frame_of
from process.frames import series
from process.parquet import new_part
from process.pool import Workers
from process.prepare import prepare
from process.records import records
from process.recover import recover
from process.schema import SCHEMA
from process.sqlite_leaves import leaves
from process.tables import Decoded, Table, tables
from process.values import Made
from process.verify import verify

CRASHERS = Path(__file__).resolve().parent.parent / "tests" / "data" / "crashers"
HAS_ATHERIS = importlib.util.find_spec("atheris") is not None
COUNTS = struct.Struct("<2Q")
"""What the process that Atheris runs in tells: executions, and those with rows."""
_PAGE = 8192
"""Bytes of a page of SQLite."""
MOST_MEMORY = 4096
"""MB that a process may have before Atheris takes it for a failure."""


@dataclass
class Fuzzed:
    """What came of a run.

    Attributes:
        executions: Segments that were tried.
        decoded: Of these, some events were rows.
        failures: Of these, something went wrong: names of the files kept.
        corpus: Segments that each reach code which those before did not; 0 without Atheris.
        coverage: Branches that were reached; 0 without Atheris.
    """

    executions: int = 0
    decoded: int = 0
    failures: list[str] = field(default_factory=list)
    corpus: int = 0
    coverage: int = 0


def examine(path: Path) -> int:
    """Do everything with a file that the command does; gives how many rows it has.

    Raises:
        Exception: Anything is a failure.
    """
    read(path)
    rows = decode(path)
    with divided():
        decode(path)
    return rows


@contextmanager
def divided() -> Iterator[None]:
    """Have segments divided that are much too small for it."""
    kept = splits.LEAST, splits.PER_BLOCK, splits.EVENTS
    splits.LEAST, splits.PER_BLOCK, splits.EVENTS = 0, 1, 10
    try:
        yield
    finally:
        splits.LEAST, splits.PER_BLOCK, splits.EVENTS = kept


def read(path: Path) -> None:
    """Find a segment, show its records, verify it, recover it."""
    for part in discover([path]).parts:
        for record in records(part):
            assert all(not isinstance(value, str) or value.isprintable() for value in record.values()), record
        with suppress(SegmentError, OSError):
            verify(part)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                clean = recover(part, Path(folder)).path
                assert parse_segment(clean.read_bytes(), clean.name).header.capture == part.header.capture


def decode(path: Path) -> int:
    """Make rows and tables of a segment; gives how many rows."""
    rows, decoded = 0, Decoded()
    workers = Workers(1)
    try:
        prepared = prepare([path], workers, history=True).with_pieces()
    except ProcessError:
        return 0
    for plan in prepared.plans:
        with suppress(SegmentError):
            decoder = Decoder(plan)
            for made in decoder.columns():
                frame = frame_of(made)
                _write(made, frame, path.parent)
                assert frame["id"].to_list() == list(range(rows + 1, rows + 1 + len(frame))), "ids are not in order"
                rows += len(frame)
                raw = frame.select(pl.col(pl.String).str.contains(r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]").any()).row(0)
                assert not any(raw), "a raw control character"
            decoded.append((plan, decoder.tally))
    for table in tables(prepared, decoded, workers).values():
        for sheet in [] if isinstance(table, Table) else table.sheets:
            assert all(len(series(column)) == sheet.count for column in sheet.columns().values())
    assert all(item.isprintable() for _, _, item, _ in prepared.ledger.rows()), "a raw control character in the ledger"
    return rows


def _write(made: Made, frame: pl.DataFrame, folder: Path) -> None:
    """Write rows, and see that they are read as they were."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part = Path(scratch, "part.parquet")
        with new_part(part, tuple(SCHEMA)) as write:
            write(made)
        assert_frame_equal(pl.read_parquet(part), frame, categorical_as_str=True)
    for _ in leaves(frame["id"].to_numpy(), [None, *list(made.values())[1:]], _PAGE):
        pass  # SQLite's own reader is asked in the tests


def keep_failure(keep: Path, data: bytes) -> str:
    """Keep a segment that has failed, and say why; while its exception is handled."""
    keep.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:16] + ".seg"
    (keep / name).write_bytes(data)
    print(f"{name}:\n{traceback.format_exc()}", file=sys.stderr)
    return name


def fuzz(folder: Path, seed: int, keep: Path, goes_on: Callable[[int], bool]) -> Fuzzed:
    """Try segments for as long as ``goes_on`` says, which gets the number of those tried."""
    sound = seeds(folder / "seeds")
    choose, mutator, done, path = random.Random(seed), Mutator(seed), Fuzzed(), folder / "a.seg"
    while goes_on(done.executions):
        data = mutator.mutated(choose.choice(sound))
        path.write_bytes(data)
        done.executions += 1
        try:
            done.decoded += examine(path) > 0
        except Exception:
            done.failures.append(keep_failure(keep, data))
    return done


def fuzz_guided(
    folder: Path, seed: int, keep: Path, seconds: float, patience: int = 60, targets: str = "fuzz", first: bool = False
) -> Fuzzed:
    """Have Atheris try segments, in a process of its own, which is begun anew if one ends it.

    Args:
        folder: Scratch.
        seed: Of what is chosen.
        keep: Folder for what fails.
        seconds: How long.
        patience: Seconds that one segment may take.
        targets: Module with the functions `read` and `decode` that are tried.
        first: Whether to end with the first failure.
    """
    done, until = Fuzzed(), time.monotonic() + seconds
    corpus, counts = folder / "corpus", folder / "counts"
    corpus.mkdir()
    keep.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in keep.iterdir()}
    for number, data in enumerate(seeds(folder / "seeds")):
        (corpus / f"seed-{number}").write_bytes(data)
    while (left := until - time.monotonic()) >= 1 and not (first and done.failures):
        counts.write_bytes(bytes(COUNTS.size))
        engine = Path(__file__).with_name("fuzz_guided.py")
        options = {
            "max_total_time": int(left), "seed": seed + len(done.failures), "timeout": patience,
            "rss_limit_mb": MOST_MEMORY, "max_len": 1 << 22, "artifact_prefix": f"{keep}/",
        }  # fmt: skip
        words = [f"-{name}={value}" for name, value in options.items()]
        ended = subprocess.run(
            [sys.executable, engine, targets, folder, keep, "first" if first else "all", *words, corpus],
            stderr=subprocess.PIPE, text=True, errors="replace", check=False,
            env={**os.environ, "POLARS_MAX_THREADS": "1"},
        )  # fmt: skip
        executions, decoded = COUNTS.unpack(counts.read_bytes())
        done.executions, done.decoded = done.executions + executions, done.decoded + decoded
        done.coverage = max([done.coverage, *(int(found) for found in re.findall(r"\bcov: (\d+)", ended.stderr))])
        done.failures = sorted({path.name for path in keep.iterdir()} - before)
        if ended.returncode or not executions:
            print(ended.stderr[-4000:], file=sys.stderr)
            done.failures = done.failures or [f"Atheris ended with {ended.returncode}"]
            if not executions:
                break
        elif done.failures:
            print(ended.stderr, file=sys.stderr)
    done.corpus = len(list(corpus.iterdir()))
    return done


def main(words: list[str] | None = None) -> int:
    """The command line: 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: scripts/fuzz.py --minutes 60 --seed 7",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=CRASHERS, help="folder for what fails")
    parser.add_argument(
        "--engine", choices=("atheris", "plain"), default="atheris" if HAS_ATHERIS else "plain",
        help="atheris, guided by coverage, where there is a wheel of it; else plain",
    )  # fmt: skip
    parser.add_argument("--patience", type=int, default=60, help="seconds that one segment may take, under Atheris")
    parser.add_argument("--first", action="store_true", help="end with the first failure, under Atheris")
    parser.add_argument("--targets", default="fuzz", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.engine == "atheris" and not HAS_ATHERIS:
        parser.error("Atheris is not installed: it has wheels for Linux on x86_64 alone")
    until = time.monotonic() + 60 * options.minutes
    folder = Path(tempfile.mkdtemp(prefix="sysreel-fuzz-"))
    try:
        if options.engine == "atheris":
            seconds = 60 * options.minutes
            done = fuzz_guided(
                folder, options.seed, options.keep, seconds, options.patience, options.targets, options.first
            )
        else:
            done = fuzz(folder, options.seed, options.keep, lambda _: time.monotonic() < until)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"executions: {done.executions}")
    print(f"segments with rows: {done.decoded}")
    if options.engine == "atheris":
        print(f"segments kept for what they reach: {done.corpus}")
        print(f"branches reached: {done.coverage}")
    print(f"unexpected exceptions, hangs, crashes: {len(done.failures)}")
    return 1 if done.failures else 0


if __name__ == "__main__":
    sys.exit(main())
