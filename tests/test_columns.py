"""Less than everything: ``--columns``, ``--no-repr``, and what `process.scan` is asked for."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import reduce
from operator import and_
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import process
import synthetic
from conftest import command
from decoding import frame_of
from process import schema
from process.decode import Decoder
from process.errors import ProcessError
from process.events import WORDS
from process.frames import frames
from process.output import Format
from process.overview import overview
from process.pipeline import decode
from process.pool import Workers
from process.prepare import prepare
from process.rows import open_rows
from process.schema import SCHEMA
from process.selection import Selection
from test_batches import many

NAMES = tuple(SCHEMA)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few thousand events in several batches."""
    folder = tmp_path_factory.mktemp("columns")
    many(folder)
    synthetic.generate(folder, 3000, processes=5, segment_size=1)
    return folder


@pytest.fixture(scope="module")
def whole(capture: Path) -> pl.DataFrame:
    return frame_of(capture)[0]


@pytest.fixture(scope="module")
def scanned(capture: Path) -> pl.LazyFrame:
    """One scan for all queries, as an analyst has it."""
    with pytest.warns(UserWarning, match="missing"):
        return process.scan(capture)


# --- the command -----------------------------------------------------------------------------------------------


def test_the_chosen_columns_are_in_their_order_and_id_is_among_them() -> None:
    assert schema.chosen() == NAMES
    assert schema.chosen(["tid", "name"]) == ("id", "name", "tid")
    assert schema.chosen(["name", "arg0_repr"], reprs=False) == ("id", "name")
    assert not {"arg3_repr", "retno_repr", "fd_source"} & set(schema.chosen(reprs=False))
    with pytest.raises(ProcessError, match=r"no column 'procnam'; did you mean procname\?") as raised:
        schema.chosen(["procnam"])
    assert raised.value.status == 2


@pytest.mark.parametrize(
    "columns",
    [
        ("id", "procname", "arg1_repr", "nr", "pid"),
        schema.chosen(reprs=False),
        ("id", "proc_id", "pid", "errno"),
        ("id",),
        ("id", "procname", "proc_id", "fd_source"),
    ],
)
def test_outputs_have_the_chosen_columns_and_the_same_values(
    capture: Path, whole: pl.DataFrame, tmp_path: Path, columns: tuple[str, ...]
) -> None:
    outputs = tmp_path / "a.parquet", tmp_path / "a.sqlite"
    for output, format_ in zip(outputs, (Format.PARQUET, Format.SQLITE), strict=True):
        decode([capture], output, format_, columns=columns)
        assert overview([output], 1).rows == len(whole)
    made = pl.read_parquet(outputs[0] / "part-*.parquet")
    assert_frame_equal(made, whole.select(columns), categorical_as_str=True)
    with closing(sqlite3.connect(outputs[1])) as connection:
        cursor = connection.execute("SELECT * FROM syscalls")
        assert tuple(column[0] for column in cursor.description) == columns
        assert cursor.fetchall() == made.rows()
        views = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    assert views == (["event"] if {"procname", "proc_id"} <= set(columns) else [])
    for output in outputs:
        with pytest.raises(ProcessError, match=rf"{output.name}: has no column \w+: decode again without --columns"):
            list(open_rows([output], 1).frames(Selection(), ["time_ns", "arg0_repr"]))


@pytest.fixture
def unmade(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that nobody has made are nothing that could be one."""
    monkeypatch.setattr("process.slices._room", lambda count: np.full((WORDS, count), 0xA5A5_5A5A_C3C3_3C3C, np.uint64))


@pytest.mark.usefixtures("unmade")
def test_nothing_is_read_of_words_that_no_column_is_made_of(capture: Path, whole: pl.DataFrame) -> None:
    prepared = prepare([capture], Workers(1))
    for name in NAMES:
        made = [frame for plan in prepared.plans for frame in frames(Decoder(plan, columns=(name,)))]
        assert_frame_equal(pl.concat(made), whole.select(name), categorical_as_str=True)


@pytest.mark.usefixtures("unmade")
@pytest.mark.filterwarnings("ignore:.*missing")
@pytest.mark.parametrize(
    "condition", [pl.col("name") == "sys_openat", pl.col("errno") == "ENOENT", pl.col("arg0_repr").str.contains("/")]
)
def test_nor_by_queries(capture: Path, whole: pl.DataFrame, condition: pl.Expr) -> None:
    found = process.scan(capture).filter(condition).select("id", "procname", "arg1_repr").collect()
    assert len(found)
    wanted = whole.filter(condition).select("id", "procname", "arg1_repr")
    assert_frame_equal(found, wanted, categorical_as_str=True)


def test_the_command_takes_both_options(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    done = command("process", capture, "-o", out, "-j1", "--columns", "pid, errno,arg0_repr", "--no-repr")
    assert done.returncode == 3, done.stderr  # the fourth segment has lost events
    assert pl.scan_parquet(out / "part-*.parquet").collect_schema().names() == ["id", "pid", "errno"]


def test_without_names_of_files_nothing_is_found_out_about_descriptors(capture: Path) -> None:
    prepared = prepare([capture], Workers(1), files=False)
    full = prepare([capture], Workers(1))
    assert prepared.folder.path is not None and full.folder.path is not None
    assert not list(prepared.folder.path.glob("*.scan")) and list(full.folder.path.glob("*.scan"))
    for light, heavy in zip(prepared.plans, full.plans, strict=True):
        assert light.start is None and heavy.start is not None
        assert (light.counts, light.blocks) == (heavy.counts, heavy.blocks)
        assert (light.state.identities, light.state.marks) == (heavy.state.identities, heavy.state.marks)
    assert [tree.programs for tree in prepared.trees] == [tree.programs for tree in full.trees]
    for survey, other in zip(prepared.surveys, full.surveys, strict=True):
        assert (survey.steps, survey.identities, survey.marks) == (other.steps, other.identities, other.marks)


# --- process.scan ----------------------------------------------------------------------------------------------

NUMBERS = ("id", "proc_id", "retno", "arg0", "arg1", "seq", "nr", "pid", "tid", "time_ns", "duration_ns", "capture")
LABELS = ("name", "procname", "abi", "errno", "status", "mark", "fd_source")
REPRS = ("retno_repr", *(f"arg{k}_repr" for k in range(6)))


@st.composite
def conditions(draw: st.DrawFn, frame: pl.DataFrame) -> pl.Expr:
    """A condition that some rows may meet: one on numbers, labels or texts, or several."""

    def one() -> pl.Expr:
        kind, row = draw(st.sampled_from("nlrbx")), draw(st.integers(0, len(frame) - 1))
        if kind == "n":
            name = draw(st.sampled_from(NUMBERS))
            compared: Callable[[pl.Expr, int], pl.Expr] = draw(
                st.sampled_from([pl.Expr.__eq__, pl.Expr.__ge__, pl.Expr.__lt__, pl.Expr.__ne__])
            )
            return compared(pl.col(name), frame[name][row] or 0)
        if kind == "l":
            name = draw(st.sampled_from(LABELS))
            value = frame[name].cast(pl.String)[row]
            return pl.col(name).is_null() if value is None else pl.col(name).cast(pl.String) == value
        if kind == "r":
            text = draw(st.sampled_from(["/dir", "[???]", "lib", "0x1", "lost", "=0x3("]))
            return pl.col(draw(st.sampled_from(REPRS))).str.contains(text, literal=True)
        if kind == "b":
            return one() | one()
        return ~one()

    return reduce(and_, [one() for _ in range(draw(st.integers(1, 3)))])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_filtered_scan_gives_what_filtering_all_rows_gives(
    scanned: pl.LazyFrame, whole: pl.DataFrame, data: st.DataObject
) -> None:
    condition = data.draw(conditions(whole))
    columns = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    found = scanned.filter(condition).select(columns).collect()
    expected = whole.filter(condition).select(columns)
    assert_frame_equal(found, expected, categorical_as_str=True)
    as_text = [frame.with_columns(pl.col(pl.Categorical).cast(pl.String)) for frame in (found, expected)]
    assert as_text[0].hash_rows().to_list() == as_text[1].hash_rows().to_list()


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, 3200), count=st.integers(0, 3200), data=st.data())
def test_a_slice_of_a_scan_is_a_slice_of_all_rows(
    scanned: pl.LazyFrame, whole: pl.DataFrame, first: int, count: int, data: st.DataObject
) -> None:
    columns = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    found = scanned.select(columns).slice(first, count).collect()
    assert_frame_equal(found, whole.select(columns).slice(first, count), categorical_as_str=True)
    condition = data.draw(conditions(whole))
    found = scanned.head(count).filter(condition).select(columns).collect()
    assert_frame_equal(found, whole.head(count).filter(condition).select(columns), categorical_as_str=True)


def test_a_scan_of_a_call_without_descriptors_never_looks_for_them(
    capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Decoder) -> None:
        raise AssertionError("asked for descriptors")

    with pytest.warns(UserWarning, match="missing"):
        frame = process.scan(capture).filter(pl.col("name") == "sys_openat")
    monkeypatch.setattr("process.columns.Segment.descriptors", property(refused))
    assert frame.select("procname", "arg1_repr").collect().height > 100
    with pytest.raises(AssertionError, match="asked for descriptors"):
        frame.select("arg0_repr").collect()
