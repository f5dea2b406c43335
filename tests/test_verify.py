"""``process verify`` and ``process recover``: what is damaged is named, what is sound is kept as it is."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from capture.segment import BLOCK_HEADER_SIZE, BlockType
from conftest import RECORDED
from decoding import frame_of, losses
from faults import flipped
from ledger_source import record
from process import repair
from process.app import app
from process.text import printable
from segments import OPENAT, Builder

LOSS = 3


def run(*words: object) -> tuple[int, str]:
    """Exit status and output of the command."""
    done = CliRunner().invoke(app(), [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_sound_segments_are_sound(tmp_path: Path) -> None:
    record(tmp_path / "a", 50)
    record(tmp_path / "none", 0)
    for folder in (tmp_path / "a", tmp_path / "none", RECORDED):
        status, text = run("verify", folder, "-j", 1)
        assert (status, text.splitlines()[-1]) == (0, "nothing is damaged or missing"), text
    builder = Builder()
    builder.event()
    builder.live(tmp_path / "live")
    status, text = run("verify", tmp_path / "live", "-j", 1)
    assert status == 0 and ".live: note: not sealed" in text


def test_every_kind_of_block_that_is_hit_is_named_with_its_place(tmp_path: Path) -> None:
    record(tmp_path / "a", 40, segment_size=1 << 20)
    (path,) = (tmp_path / "a").iterdir()
    data = path.read_bytes()
    for block in repair.parse(data, "").blocks:
        bit = 8 * (block.offset + BLOCK_HEADER_SIZE + len(block.stored) // 2)
        path.write_bytes(next(flipped(data, [bit])))
        status, text = run("verify", path, "-j", 1)
        assert status == LOSS and f"{path.name}:{block.offset}: payload CRC mismatch\n" in text


def test_missing_segments_and_events_are_named(tmp_path: Path) -> None:
    record(tmp_path, 80)
    paths = sorted(tmp_path.iterdir())
    paths[1].unlink()
    status, text = run("verify", tmp_path, "-j", 1)
    assert status == LOSS
    assert "segment 1 is missing" in text and "events 16 to 31 are missing: 16" in text


def test_what_points_to_nothing_is_counted_and_totals_are_held_against_records(tmp_path: Path) -> None:
    builder = Builder()
    builder.event(OPENAT, 1, 2, strings=5)
    builder.counters["strings"] = 3
    path = builder.write(tmp_path)
    status, text = run("verify", path, "-j", 1)
    assert status == LOSS and "1 of its records point to strings or sets that are not there" in text
    builder = Builder(counters={"events": 7})
    builder.event()
    status, text = run("verify", builder.write(tmp_path), "-j", 1)
    assert status == LOSS and "1 events are there; its totals say 7" in text


def test_totals_beyond_a_word_are_survived(tmp_path: Path) -> None:
    """A forged header or END: the sum of what was recorded and dropped has more than 64 bits."""
    builder = Builder(counters={"events": (1 << 64) - 1, "dropped": (1 << 64) - 1})
    builder.event()
    path = builder.write(tmp_path / "a")
    assert run("verify", path, "-j", 1)[0] == LOSS
    status, text = run("recover", path, "-o", tmp_path / "clean", "-j", 1)
    assert status == LOSS and "1 events" in text
    assert len(frame_of(tmp_path / "clean")[0]) == 1


def test_nothing_to_verify_or_recover_is_a_failure(tmp_path: Path) -> None:
    assert run("verify", tmp_path, "-j", 1)[0] == 1
    assert run("recover", tmp_path, "-o", tmp_path / "out", "-j", 1)[0] == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", range(4))
def test_what_is_recovered_decodes_as_the_damaged_did_and_is_clean(tmp_path: Path, seed: int) -> None:
    record(tmp_path / "a", 80)
    source = random.Random(seed)
    for path in sorted((tmp_path / "a").iterdir())[:-1]:
        data = path.read_bytes()
        block = source.choice([one for one in repair.parse(data, "").blocks if one.type == BlockType.EVENTS])
        at = block.offset + source.randrange(BLOCK_HEADER_SIZE + len(block.stored))
        path.write_bytes(next(flipped(data, [8 * at + source.randrange(8)])))
    frame, ledger = frame_of(tmp_path / "a")
    status, text = run("recover", tmp_path / "a", "-o", tmp_path / "clean", "-j", 1)
    assert status == LOSS and "missing: " in text
    again, rest = frame_of(tmp_path / "clean")
    assert again.select(pl.exclude("capture")).equals(frame.select(pl.exclude("capture")))
    kept = {item: count for item, count in losses(rest).items() if "dropped by capture" not in item}
    assert kept == {item: count for item, count in losses(ledger).items() if "damaged at" not in item}
    assert kept, "the loss is still known"
    for path in (tmp_path / "clean").iterdir():
        found = repair.read(path)
        assert found.sealed and not found.damage


def test_recover_makes_a_sealed_segment_of_a_live_file_and_leaves_folders_in_use_alone(tmp_path: Path) -> None:
    builder = Builder()
    builder.task()
    builder.event(OPENAT, 1, 0x10, strings=builder.set(a1=b"/etc/passwd"))
    builder.live(tmp_path / "a")
    before = frame_of(tmp_path / "a")[0]
    assert run("recover", tmp_path / "a", "-o", tmp_path / "clean", "-j", 1)[0] == 0
    after, ledger = frame_of(tmp_path / "clean")
    assert after.equals(before) and not losses(ledger)
    assert run("verify", tmp_path / "clean", "-j", 1)[0] == 0
    status, text = run("recover", tmp_path / "a", "-o", tmp_path / "clean", "-j", 1)
    assert status == 2 and "is not empty" in text


def test_nothing_raw_reaches_a_terminal() -> None:
    assert printable("a\x1b]0;x\x07\n\u202e\udcff b\u00e9") == "a\\x1b]0;x\\x07\\n\\u202e\\udcff b\u00e9"
