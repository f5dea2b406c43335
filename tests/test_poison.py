"""Segments that kill the worker that has them, or have it take memory without end: they alone are missing, and named.

What no segment is known to do (every claim in one is checked) is done to it here: some segments, drawn by a seed, are
poison to the worker that comes to them, be it to survey or to decode them.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from captures import write_capture
from figures import Figure
from process.backstop import Backstop, backstop, memory_of_machine
from process.pool import Failure, Workers
from test_resume import content
from test_stopped import count
from workers import devour

M = 1 << 20
LOSS = 3
ROOT = Path(__file__).parent.parent
SEGMENTS, LIMIT = 5, 300
PATIENCE = 300
"""Seconds until a run counts as hanging."""
KINDS = ("SIGKILL", "numpy", "polars")
SITE = """
import process.survey, process.write_sqlite
from workers import poison
POISON = {poison!r}
load_batch, decode = process.survey.load_batch, process.write_sqlite.write_rows
def look(stage, batch):
    for part in batch.parts:
        if (stage, part.name) in POISON:
            poison(POISON[stage, part.name])
def load(batch):
    look("survey", batch)
    return load_batch(batch)
def write_rows(plan, **given):
    look("decode", plan.batch)
    return decode(plan, **given)
write_rows.__module__, write_rows.__qualname__ = "process.write_sqlite", "write_rows"
process.survey.load_batch, process.write_sqlite.write_rows = load, write_rows
"""
"""Poisons the workers of a run."""


def run(folder: Path, out: str, *words: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, [*([site] if site else []), ROOT, ROOT / "tests"]))
    return subprocess.run(
        [sys.executable, "-c", "from process.cli import main; main()", "caps", "-o", out, "-j", "2", *words],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path},
        timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts memory on Linux")
@pytest.mark.parametrize("seed", range(3))
def test_random_segments_that_kill_their_worker_are_named_and_the_others_decoded(
    tmp_path: Path, seed: int, figure: Figure
) -> None:
    source = random.Random(seed)
    paths = write_capture(tmp_path / "caps", SEGMENTS)
    bad = source.sample(paths, 2)
    kinds = [KINDS[seed], source.choice(KINDS)]
    stages = ["survey", "decode"] if seed % 2 else ["decode", "survey"]
    poison = {(stage, path.name): kind for stage, path, kind in zip(stages, bad, kinds, strict=True)}
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(poison=poison))
    done = run(tmp_path, "a.sqlite", "--max-memory", f"{LIMIT}M", site=site)
    said = done.stderr.splitlines()
    assert done.returncode == LOSS, done.stderr
    assert all(line.startswith("process: warning: ") for line in said), done.stderr
    for (stage, name), kind in poison.items():
        (told,) = [line for line in said if f"loss: {name}: not {'read' if stage == 'survey' else 'decoded'}: " in line]
        assert ("out of memory" in told) and ("was killed" in told) == (kind != "numpy"), told
    for path in set(paths) - set(bad):
        assert not [line for line in said if line.startswith(f"process: warning: loss: {path.name}")], done.stderr
    figure(f"poison by {', '.join(f'{kind} in {stage}' for (stage, _), kind in poison.items())}",
           f"hangs 0, {len(said)} lines, 2 of 2 named, exit 3")  # fmt: skip
    assert (tmp_path / "a.sqlite").exists() and content(tmp_path / "a.sqlite") and count(tmp_path / "a.sqlite") > 180


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts memory on Linux")
def test_workers_that_take_memory_without_end_are_stopped(figure: Figure, capfd: pytest.CaptureFixture[str]) -> None:
    with Workers(2) as workers:
        workers.backstop = Backstop(256 * M, 512 * M)
        outcomes = list(workers.run(devour, ["nothing", "numpy", "nothing", "polars", "nothing"]))
    failed = [isinstance(outcome.result, Failure) for outcome in outcomes]
    assert failed == [False, True, False, True, False]
    assert all("out of memory" in one.result.reason for one in outcomes if isinstance(one.result, Failure))
    assert capfd.readouterr() == ("", "")
    figure("workers of 512 MiB that take memory without end", "2 of 2 stopped, 3 of 3 others done")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts memory on Linux")
def test_what_needs_more_than_there_is_beside_others_is_done_alone() -> None:
    with Workers(2) as workers:
        workers.backstop = Backstop(64 * M, 2048 * M)
        assert [outcome.result for outcome in workers.run(devour, ["nothing", "300 MiB", "nothing"])] == [0, 300, 0]


def test_the_backstop_is_far_above_what_is_reckoned_and_below_the_machine() -> None:
    machine = memory_of_machine()
    assert 1 << 26 < machine <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert backstop(None, 1, 0).alone >= machine * 3 // 4 >= backstop(None, 3, 0).beside
    assert backstop(100 * M, 2, 300 * M) == Backstop(2224 * M, 2224 * M)
    assert backstop(9000 * M, 2, 300 * M) == Backstop(9000 * M, 9000 * M)
