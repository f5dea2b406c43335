"""``--resume``: whatever came between, the output is what a run from nothing gives, and little is done twice."""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import polars as pl
import pytest

from captures import write_capture
from fd_world import World, write
from process import batch
from process.errors import ProcessError
from process.output import Format
from process.pipeline import Summary, decode
from process.resume import folder_of
from process.schema import chosen
from process.write_parquet import FD_GLOB
from segments import BEGAN, Builder
from test_process_cli import assert_lines, run

ROOT = Path(__file__).parent.parent
TABLES = ("process", "fd", "segment", "stats")
Folder = Path


def content(out: Path) -> str:
    """Hash of all rows and small tables of an output."""
    found = hashlib.sha256()
    if out.is_dir():
        rows = pl.scan_parquet(f"{out}/part-*.parquet").sort("id").collect().rows()
        found.update(repr(rows).encode())
        found.update(repr(pl.read_parquet(out / FD_GLOB).rows()).encode())
        for table in TABLES:
            found.update(b"" if table == "fd" else (out / f"{table}.json").read_bytes())
    else:
        with sqlite3.connect(out) as connection:
            for table in ("syscalls", *TABLES):
                found.update(repr(connection.execute(f"SELECT * FROM {table}").fetchall()).encode())
        connection.close()
    return found.hexdigest()


def from_nothing(inputs: Path, out: Path, format_: Format) -> str:
    """What an output must hold."""
    fresh = out.with_name(f"fresh-{out.name}")
    decode([inputs], fresh, format_, force=True)
    return content(fresh)


def shares(summary: Summary) -> tuple[int, int, int]:
    """Segments taken over, decoded, surveyed."""
    assert summary.resumed is not None
    return summary.resumed.taken, summary.resumed.decoded, summary.resumed.surveyed


def again(inputs: Path, out: Path, format_: Format, *, jobs: int = 1) -> tuple[int, int, int]:
    """Decode with ``--resume``, and hold the output against one from nothing."""
    summary = decode([inputs], out, format_, jobs=jobs, resume=True)
    assert content(out) == from_nothing(inputs, out, format_)
    return shares(summary)


def later_capture(folder: Path, number: int) -> Path:
    """A capture of one segment, which began after those before it."""
    builder = Builder(capture=UUID(int=number), realtime_ns=BEGAN + number * 10**9)
    for k in range(20):
        builder.event(k, number)
    return builder.write(folder, f"later-{number}.seg")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No segment shares a batch: each is taken over or not by itself."""
    monkeypatch.setattr(batch, "SMALL", 0)


@pytest.fixture
def caps(tmp_path: Path) -> Path:
    """Six segments of one capture that depend on each other."""
    write_capture(tmp_path / "caps", segments=6)
    return tmp_path / "caps"


@pytest.mark.parametrize("format_", Format)
def test_a_growing_folder(caps: Path, tmp_path: Path, format_: Format, record_property: Callable[..., None]) -> None:
    out = tmp_path / f"all.{format_.value}"
    assert again(caps, out, format_) == (0, 6, 6)
    assert again(caps, out, format_) == (6, 0, 0)
    for number in (1, 2):
        later_capture(caps, number)
        assert again(caps, out, format_, jobs=number) == (5 + number, 1, 1)
    (caps / "later-2.seg").unlink()
    assert again(caps, out, format_) == (7, 0, 0)
    moved = caps.rename(tmp_path / "moved")
    assert again(moved, out, format_) == (7, 0, 0)
    record_property("FIGURE resume: segments decoded again with nothing new", 0)
    leftovers = {path.name for path in tmp_path.iterdir()} - {"moved", out.name, folder_of(out).name}
    assert leftovers == {f"fresh-{out.name}"}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("format_", Format)
def test_segments_that_change_vanish_and_come_back(caps: Path, tmp_path: Path, format_: Format) -> None:
    out, paths = tmp_path / f"all.{format_.value}", sorted(caps.iterdir())
    first = later_capture(caps, 9)
    again(caps, out, format_)
    sound = paths[2].read_bytes()
    paths[2].write_bytes(sound[:-1])  # its END block is torn: what followed it may be lost
    assert again(caps, out, format_)[2] == 1
    paths[2].write_bytes(sound[: len(sound) // 2])
    assert again(caps, out, format_)[2] == 1
    paths[2].write_bytes(sound)
    again(caps, out, format_)
    paths[5].rename(tmp_path / "aside")
    assert again(caps, out, format_)[2] == 0
    (tmp_path / "aside").rename(paths[5])
    assert again(caps, out, format_)[2] == 1, "its neighbours are decoded again, and surveyed no more"
    first.unlink()
    assert again(caps, out, format_) == (6, 0, 0)


def test_a_capture_that_is_being_written_grows(tmp_path: Path) -> None:
    """Its live file changes in place: what was made of it is right for the bytes that it had."""
    caps, out, builder = tmp_path / "caps", tmp_path / "all.parquet", Builder()
    builder.task()
    for k in range(30):
        builder.event(k)
        if k % 10 == 9:
            builder.live(caps)
            assert again(caps, out, Format.PARQUET) == (0, 1, 1)
            assert again(caps, out, Format.PARQUET) == (1, 0, 0)
    next(caps.glob("*.live")).unlink()
    builder.write(caps)
    assert again(caps, out, Format.PARQUET) == (0, 1, 1)


@pytest.mark.usefixtures("alone")
def test_a_capture_in_which_everything_depends_on_everything(tmp_path: Path) -> None:
    """Forks, shared tables and calls under way, cut into segments that come one after the other."""
    world = World(random.Random(5)).run(3000)
    write(world, tmp_path / "whole", [cut for cut in range(50, 1500, 50) if cut < len(world)])
    caps, out = tmp_path / "caps", tmp_path / "all.parquet"
    caps.mkdir()
    paths = sorted((tmp_path / "whole").iterdir())
    total = 0
    for at in range(0, len(paths), 9):
        for path in paths[at : at + 9]:
            shutil.copy(path, caps)
        total += again(caps, out, Format.PARQUET)[0]
    assert again(caps, out, Format.PARQUET) == (len(paths), 0, 0)
    assert total > 0


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("format_", Format)
def test_what_was_kept_is_damaged(caps: Path, tmp_path: Path, format_: Format) -> None:
    out = tmp_path / f"all.{format_.value}"
    again(caps, out, format_)
    folder = folder_of(out)
    manifest = folder / "resume.json"
    for damage in (b"", b"\0" * 50, b"[]", b'{"outputs": 1, "made_with": {}}', manifest.read_bytes()[:-9]):
        manifest.write_bytes(damage)
        summary = decode([caps], out, format_, resume=True)
        assert shares(summary) == (6, 0, 0)
        assert summary.resumed and "resume.json: damaged" in summary.resumed.notes[0]
    source = random.Random(1)
    files = sorted(path for path in folder.iterdir() if path != manifest)
    for path in files:
        data = bytearray(path.read_bytes())
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(data) if len(data) % 2 else path.write_bytes(data[: source.randrange(len(data))])
    summary = decode([caps], out, format_, resume=True)
    assert shares(summary) == (0, 6, 6)
    assert summary.resumed and "12 results are damaged" in summary.resumed.notes[0]
    assert content(out) == from_nothing(caps, out, format_)
    for path in files:
        path.unlink()
    assert again(caps, out, format_) == (0, 6, 6)


def test_other_tables_or_another_format_decode_all_again(caps: Path, tmp_path: Path) -> None:
    first = run("caps", "-o", "all.parquet", "--resume", cwd=tmp_path)
    assert_lines(first, 0)
    assert "0 segments taken over, 6 decoded, 6 surveyed" in first.stdout
    for package in ("capture", "errno_tables", "process"):
        shutil.copytree(ROOT / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "other" / "errno_tables" / "x86_64.tsv"
    table.write_text(table.read_text().replace("Operation not permitted", "Not for you"))
    code = "from process.cli import main; main()"
    command = [sys.executable, "-c", code, "caps", "-o", "all.parquet", "--resume"]
    for wanted in ((0, 6, 6), (6, 0, 0)):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "other")},
        )  # fmt: skip
        assert_lines(done, 0, *([r"options \(decoder\)"] if wanted[1] else []))
        assert "{} segments taken over, {} decoded, {} surveyed".format(*wanted) in done.stdout
    texts = pl.scan_parquet(tmp_path / "all.parquet" / "*.parquet").collect()["retno_repr"]
    assert texts.str.contains("Not for you").any()
    assert_lines(run("caps", "-o", "all.parquet", "--resume", cwd=tmp_path), 0, r"options \(decoder\)")
    assert content(tmp_path / "all.parquet") == from_nothing(caps, tmp_path / "all.parquet", Format.PARQUET)


@pytest.mark.parametrize("format_", Format)
def test_other_options_decode_all_again_and_survey_no_more(caps: Path, tmp_path: Path, format_: Format) -> None:
    out, few = tmp_path / f"all.{format_.value}", chosen(["name", "arg1_repr", "seq"], True)
    again(caps, out, format_)
    summary = decode([caps], out, format_, columns=few, resume=True)
    assert shares(summary) == (0, 6, 0)
    assert summary.resumed and summary.resumed.notes[0].endswith("with other options (columns): decoded again")
    decode([caps], tmp_path / "few", format_, columns=few)
    assert content(out) == content(tmp_path / "few")
    assert again(caps, out, format_) == (0, 6, 0)


def test_a_batch_of_small_segments_that_grows(caps: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    last = sorted(caps.iterdir())[4:]
    for path in last:
        path.rename(tmp_path / path.name)
    assert again(caps, out, Format.PARQUET) == (0, 4, 4)
    for path in last:
        (tmp_path / path.name).rename(path)
    assert again(caps, out, Format.PARQUET) == (0, 6, 6), "it is another batch now"
    assert again(caps, out, Format.PARQUET) == (6, 0, 0)


def test_an_output_that_resume_did_not_write_is_kept(caps: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.sqlite"
    decode([caps], out, Format.SQLITE)
    with pytest.raises(ProcessError, match="exists, and is not as --resume wrote it; give --force"):
        decode([caps], out, Format.SQLITE, resume=True)
    assert not folder_of(out).exists()
    assert shares(decode([caps], out, Format.SQLITE, resume=True, force=True)) == (0, 6, 6)
    with sqlite3.connect(out) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(ProcessError, match="exists, and is not as --resume wrote it; give --force"):
        decode([caps], out, Format.SQLITE, resume=True)
    out.unlink()
    assert again(caps, out, Format.SQLITE) == (6, 0, 0)


def test_the_folder_is_not_ours_or_anothers_at_work(caps: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.sqlite"
    folder = folder_of(out)
    folder.mkdir()
    (folder / "mine").write_text("text")
    with pytest.raises(ProcessError, match=r"all\.sqlite\.resume: holds files that process did not write"):
        decode([caps], out, Format.SQLITE, resume=True)
    shutil.rmtree(folder)
    folder.symlink_to(caps)
    with pytest.raises(ProcessError, match=r"all\.sqlite\.resume: cannot be written"):
        decode([caps], out, Format.SQLITE, resume=True)
    folder.unlink()
    code = f"import sys; from process.kept import Folder; Folder(__import__('pathlib').Path({str(folder)!r}), {{}}); "
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "print('held', flush=True); sys.stdin.read()"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin and holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(ProcessError, match="another run with --resume is at work"):
        decode([caps], out, Format.SQLITE, resume=True)
    holder.communicate()
    assert again(caps, out, Format.SQLITE) == (0, 6, 6)


def test_losses_are_told_every_time(caps: Path, tmp_path: Path) -> None:
    sorted(caps.iterdir())[3].unlink()
    for _ in range(2):
        assert_lines(run("caps", "-o", "all.sqlite", "--resume", cwd=tmp_path), 3, "loss: events missing")
    stats = json.dumps(sqlite3.connect(tmp_path / "all.sqlite").execute("SELECT * FROM stats").fetchall())
    assert "taken" not in stats
    assert_lines(run("caps", "-o", "all.sqlite", "--resume", "--strict", cwd=tmp_path), 1, "no output was left")
