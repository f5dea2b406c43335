"""The table `fd` against a small kernel run at random (`fd_world`): what is in it was so, for as long as it says."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

import synthetic
from capture.segment import FileFlag
from fd_world import NR, RETURNED, World, write
from process import fd_history, fd_pieces, fd_rows
from process.decode import Decoder
from process.errors import ProcessError
from process.fd_outline import Outline
from process.fd_pieces import EARLY, Alone, Left, Made, Piece, make_alone
from process.fd_records import Records
from process.fd_steps import Ends, Steps
from process.frames import frame, frames
from process.polars_types import dtypes
from process.pool import Workers
from process.prepare import Prepared, prepare
from process.tables import Decoded, Files, Table, tables
from segments import BEGAN, CLOSE, OPENAT, Builder, task

pytestmark = pytest.mark.usefixtures("no_batching")  # so that each segment is a worker's

Row = dict[str, Any]
AT_FDCWD = 2**64 - 100
CUTS = [50, 100, 130, 400, 700]


def files(*paths: Path) -> list[Row]:
    """The table `fd` of segments; ``procname`` and ``began`` are those of its program."""
    with Workers(1) as workers:
        prepared = prepare(paths, workers, history=True)
        return files_of(prepared, [], workers)


def files_of(prepared: Prepared, decoded: Decoded, workers: Workers) -> list[Row]:
    """Likewise, after some batches were decoded."""
    made = tables(prepared, decoded, workers)
    found, table = made["process"], made["fd"]
    assert isinstance(found, Table) and isinstance(table, Files)
    programs = {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}
    none = pl.DataFrame(schema=dtypes(table.columns))
    rows = pl.concat([none, *(frame(sheet.columns()) for sheet in table.sheets)]).to_dicts()
    for row in rows:
        assert row["program"] is None or programs[row["program"]]["pid"] == row["pid"], row
    return rows


def world(seed: int, **kinds: bool) -> World:
    made = World(random.Random(seed), shares=False)
    for name, value in kinds.items():
        setattr(made, name, value)
    made.run(2500)
    return made


def wrong(rows: list[Row], truth: World) -> list[tuple[Row, int]]:
    """Rows that are not so at some moment from the return of the call that made them to the one that ended them."""
    found = []
    under_way = [one.call.began for one in truth.tasks if one.alive and one.call is not None]
    for row in rows:
        since, until = row["start_time_ns"] - BEGAN, min(under_way, default=truth.clock)
        if row["how"] == "fork":
            since = max(
                since, truth.events[row["start_seq"]].time + truth.events[row["start_seq"]].duration % (1 << 63)
            )
        if row["ended"] is not None:
            until = since if row["end_seq"] is None else truth.events[row["end_seq"]].time
        for when, tasks in truth.moments:
            own = [names for number, names in tasks if number >> 32 == row["pid"]]
            is_so = any(names.get(row["fd"]) == row["name"] for names in own)
            if since <= when < until and own and row["name"] is not None and not is_so:
                found.append((row, when))
                break
    return found


KINDS: list[dict[str, bool]] = [{}, {"overlap": False}, {"silent": False}, {"threads": False}, {"children": False}]


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(f"no_{name}" for name in kinds) or "all")
@pytest.mark.parametrize("seed", range(2))
def test_what_was_open_when_is_right_and_segments_make_no_difference(
    seed: int, kinds: dict[str, bool], tmp_path: Path
) -> None:
    truth = world(seed, **kinds)
    write(truth.events, tmp_path / "whole", [])
    rows = files(tmp_path / "whole")
    assert not wrong(rows, truth)
    assert {"open", "dup", "pipe", "fork", "exec"} <= {row["how"] for row in rows}
    assert {"close", "exit", "exec", "replaced", None} <= {row["ended"] for row in rows}
    write(truth.events, tmp_path / "cut", [cut for cut in CUTS if cut < len(truth.events)])
    assert files(tmp_path / "cut") == rows


@pytest.mark.parametrize("seed", range(2))
def test_one_call_after_the_other_each_opening_has_its_row(seed: int, tmp_path: Path) -> None:
    truth = world(seed, overlap=False, silent=False, threads=False)
    write(truth.events, tmp_path, [])
    rows = files(tmp_path)
    made = {(row["start_seq"], row["fd"]) for row in rows if row["how"] in ("open", "dup")}
    opened = {
        (seq, event.ret)
        for seq, event in enumerate(truth.events)
        if event.nr in (NR["openat"], NR["dup"]) and event.ret >= 0 and event.flags & RETURNED
    }
    assert len(opened) > 50 and opened <= made
    counts = Counter(row["ended"] for row in rows)
    assert Counter(row["ended"] for row in rows if row["name"] is not None)["lost"] <= 0.05 * len(rows), counts


@pytest.mark.parametrize("seed", range(3))
def test_without_a_middle_segment_nothing_is_wrong(seed: int, tmp_path: Path) -> None:
    truth = world(seed)
    cuts = [cut for cut in (150, 300, 450, 600, 750) if cut < len(truth.events)]
    paths: list[Any] = write(truth.events, tmp_path, cuts)
    for missing in range(1, len(paths) - 1):
        rows = files(*(path for number, path in enumerate(paths) if number != missing))
        assert not wrong(rows, truth), missing
        assert sum(row["ended"] == "lost" for row in rows) > 3
        for row in rows:
            gone = range(150 * missing, 150 * (missing + 1))
            assert row["end_seq"] is None or not row["start_seq"] < gone.start <= gone.stop <= row["end_seq"], row


def test_the_kernels_own_name_is_the_rows_name_from_the_call_that_opened_it_on(tmp_path: Path) -> None:
    builder = Builder()
    builder.table(0x99, {0: b"/dev/console"})
    builder.task(task(7), argv=b"sh\0", table=0x99)
    builder.event()
    opened = builder.event(OPENAT, 0, 1, ret=3, strings=builder.set(a1=b"/link"))
    builder.file(0x99, 3, b"/real")
    builder.event()
    closed = builder.event(CLOSE, 3)
    builder.event(OPENAT, 0, 1, ret=4, strings=builder.set(a1=b"/x"))
    builder.file(0x99, 4, b"/x", FileFlag.CLOEXEC)
    builder.event()
    columns = ("fd", "name", "source", "how", "start_seq", "ended", "end_seq", "cloexec", "program")
    assert [tuple(row[name] for name in columns) for row in files(builder.write(tmp_path))] == [
        (0, "/dev/console", "captured", "seen", None, None, None, 0, None),
        (3, "/real", "captured", "open", opened, "close", closed, 0, None),
        (4, "/x", "captured", "open", closed + 1, None, None, 1, None),
    ]


def busy(seed: int, folder: Path, segments: int) -> None:
    """Two processes, one of two threads, that open and close few descriptors often; some calls take long, or for ever.

    The events are the same whatever the number of segments.
    """
    rng, last, clock, made, count = random.Random(seed), dict.fromkeys((task(7), task(7, 8), task(9)), 0), 100, 0, 2400
    for segment in range(segments):
        builder = Builder(segment=segment, first=made)
        for _ in range(count // segments):
            clock += 10
            who, fd, lasts = rng.choice(list(last)), rng.randrange(3, 6), rng.random()
            lasted = rng.randrange(1, 3000) if lasts < 0.01 else 3
            began, last[who] = max(last[who] + 1, clock - lasted), clock
            flags = 0 if rng.random() < 0.001 else RETURNED
            nr, args, ret = rng.choice(
                [(OPENAT, (AT_FDCWD, 1), fd)] * 3 + [(CLOSE, (fd,), 0)] * 4 + [(NR["dup2"], (fd, 3), 3)]
            )
            strings = builder.set(a1=rng.choice((b"/a", b"/b", b"c"))) if nr == OPENAT else 0
            builder.event(nr, *args, ret=ret, who=who, time=began, duration=clock - began, strings=strings, flags=flags)
            made += 1
        builder.write(folder)


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_workers_finish_are_those_of_all_steps_together(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for segments in (1, 3, 12):
        busy(seed, tmp_path / str(segments), segments)
    found = [files(tmp_path / str(segments)) for segments in (1, 3, 12)]
    passed: list[int] = []

    def pass_on(piece: Piece, steps: Steps) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        passed.append(int(cut(piece, steps)[0].sum()))
        return np.zeros(len(steps.fd), np.bool_), steps.began

    cut = fd_pieces._cut
    monkeypatch.setattr(fd_pieces, "_cut", pass_on)
    rows = files(tmp_path / "1")
    assert found == [rows] * 3
    assert passed[0] > 0 and files(tmp_path / "12") == rows
    assert {"close", "lost"} <= {row["ended"] for row in rows}


@pytest.mark.parametrize("seed", range(3))
def test_rows_made_with_those_of_their_batches_are_the_rows_that_are_made_alone(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(seed, tmp_path, 12)
    alone: list[int] = []

    def counted(item: Alone) -> Made:
        alone.append(item.piece.number)
        return make_alone(item)

    monkeypatch.setattr(fd_history, "make_alone", counted)
    found = []
    with Workers(1) as workers:
        prepared = prepare([tmp_path], workers, history=True)
        for one in (prepared, prepared.with_pieces()):
            decoders = [Decoder(plan) for plan in one.plans]
            assert sum(len(made) for decoder in decoders for made in frames(decoder)) == 2400
            found.append((files_of(one, [(decoder.plan, decoder.tally) for decoder in decoders], workers), len(alone)))
            alone.clear()
    (rows, were_alone), (made, are_alone) = found
    assert rows == made and len(rows) > 500
    assert were_alone >= 12 and are_alone == were_alone - 12  # those again of which one reached into another


@pytest.mark.parametrize("seed", range(3))
def test_rows_made_a_few_steps_at_a_time_are_those_of_all_at_once(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.generate(tmp_path, 20_000, seed=seed, segment_size=1 << 14)
    whole = files(tmp_path)
    assert len(whole) > 1000
    stretches = []
    made = fd_rows.records

    def counted(steps: Steps, ends: Ends) -> Records:
        stretches.append(len(steps.fd))
        return made(steps, ends)

    monkeypatch.setattr(fd_history, "_STRETCH", 50)
    monkeypatch.setattr(fd_history, "_MANY", 0)
    monkeypatch.setattr(fd_history, "records", counted)
    assert files(tmp_path) == whole
    assert len(stretches) > 20


def test_rows_of_a_batch_can_be_made_again_until_the_table_is_whole(tmp_path: Path) -> None:
    """A batch may turn out to reach into another only when that one is decoded."""
    busy(0, tmp_path, 3)
    prepared = prepare([tmp_path], Workers(1), history=True).with_pieces()
    for plan in prepared.plans:
        decoder = Decoder(plan)
        list(decoder.columns())
        assert plan.files is not None and plan.start is not None and decoder.tally.files is not None
        assert plan.start.stored is not None and not plan.start.stored.exists()  # read again
        alone = Alone(plan.files, plan.start, None, plan.batch, plan.blocks)
        assert make_alone(alone).count == decoder.tally.files.count > 0


@pytest.mark.parametrize("is_gone", [False, True])
def test_batches_of_which_one_turns_out_to_reach_into_another_are_read_again(
    is_gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept of them is gone by then. If their segments are, too, the run ends in a line."""
    busy(0, tmp_path, 12)
    expected = files(tmp_path)
    monkeypatch.setattr(Outline, "early", lambda *_: np.zeros(0, EARLY))  # net effects tell nothing of it
    with Workers(1) as workers:
        prepared = prepare([tmp_path], workers, history=True).with_pieces()
        decoders = [Decoder(plan) for plan in prepared.plans]
        assert sum(len(made) for decoder in decoders for made in frames(decoder)) == 2400
        decoded = [(decoder.plan, decoder.tally) for decoder in decoders]
        if not is_gone:
            assert files_of(prepared, decoded, workers) == expected
            return
        for path in tmp_path.glob("*.seg"):
            path.unlink()
        with pytest.raises(ProcessError, match=r"\.seg: cannot be read again for the table fd: .*; decode again$"):
            files_of(prepared, decoded, workers)


@pytest.mark.parametrize("place", ["", "none"])
def test_what_is_passed_on_lies_in_files_if_there_is_room(place: str, tmp_path: Path) -> None:
    busy(0, tmp_path, 3)
    expected = files(tmp_path)
    with Workers(1) as workers:
        prepared = prepare([tmp_path], workers, history=True).with_pieces()
        plans = [
            replace(plan, files=plan.files and replace(plan.files, path=tmp_path / place / plan.label))
            for plan in prepared.plans
        ]
        decoders = [Decoder(plan) for plan in plans]
        assert sum(len(made) for decoder in decoders for made in frames(decoder)) == 2400
        decoded = [(decoder.plan, decoder.tally) for decoder in decoders]
        left = [tally.files.left for _, tally in decoded if tally.files is not None]
        assert len(left) == 3 and all(isinstance(one, Left if place else Path) for one in left)
        assert files_of(prepared, decoded, workers) == expected


@pytest.mark.parametrize("content", [None, b"", b"something else"])
def test_what_was_passed_on_and_is_gone_is_told_in_a_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "0.left"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProcessError, match="what was kept there is gone"):
        Left.load(path)
