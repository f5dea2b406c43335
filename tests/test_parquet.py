"""Parts of a Parquet output: what readers see is what the decoder made, and nothing is stored twice."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import synthetic
from capture.segment import SegmentError
from captures import write_capture
from decoding import frame_of
from process import parquet
from process.errors import ProcessError
from process.frames import SCHEMA, frame
from process.parquet import RISING, SOUGHT, WHOLE, new_part
from process.pool import Workers
from process.prepare import prepare
from process.schema import Kind
from process.text_array import TextArray
from process.values import Integers, Made, Texts, labels
from process.write_parquet import PART_GLOB, write_part

HOSTILE = ("", "'; DROP TABLE", "\0", "\\xff\\xed", "é\u202e\U0001f600", "x" * (3 << 20))


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments of several ABIs and hostile strings, and some thousand generated events in a batch or two."""
    folder = tmp_path_factory.mktemp("capture")
    write_capture(folder)
    synthetic.generate(folder, 3000, processes=5, segment_size=1)
    return folder


@pytest.fixture(scope="module")
def dataset(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its parts."""
    folder = tmp_path_factory.mktemp("dataset")
    for plan in prepare([capture], Workers(1)).plans:
        write_part(plan, folder)
    return folder


def part(path: Path, *written: Made, columns: Sequence[str] = ("id", "name", "retno", "arg0_repr")) -> Path:
    with new_part(path, columns) as write:
        for made in written:
            write(made)
    return path


def rows(texts: Sequence[str | None], *, first: int = 0) -> Made:
    """A row for each text, and every third null in ``retno``."""
    ids = np.arange(first, first + len(texts))
    known = list(dict.fromkeys(text for text in texts if text is not None))
    codes = np.array([-1 if text is None else known.index(text) for text in texts], np.int32)
    return {
        "id": Integers(ids),
        "name": labels(np.zeros(len(texts), np.int64), ["sys_read"]),
        "retno": Integers(ids, ids % 3 > 0),
        "arg0_repr": Texts(codes, TextArray.of(known)),
    }


def groups(path: Path) -> list[pq.RowGroupMetaData]:
    found = pq.read_metadata(path)
    return [found.row_group(k) for k in range(found.num_row_groups)]


# --- readers ---------------------------------------------------------------------------------------------------


def test_polars_reads_what_the_decoder_makes_with_its_dtypes(capture: Path, dataset: Path) -> None:
    expected = frame_of(capture)[0]
    assert all(pl.read_parquet_schema(path) == SCHEMA for path in dataset.iterdir())
    for read in (pl.read_parquet(dataset / PART_GLOB), pl.scan_parquet(dataset / PART_GLOB).collect()):
        assert read.schema == SCHEMA
        assert_frame_equal(read.sort("id"), expected, categorical_as_str=True)


def test_pyarrow_reads_the_same_and_reprs_as_plain_strings(capture: Path, dataset: Path) -> None:
    tables = [pq.read_table(path) for path in sorted(dataset.iterdir())]
    table = pa.concat_tables(tables, promote_options="default").sort_by("id")
    assert table.schema.field("arg1_repr").type == pa.large_string()
    assert table.schema.field("name").type == pa.dictionary(pa.uint32(), pa.string())
    expected = frame_of(capture)[0].cast({pl.Categorical: pl.String})
    assert table.to_pylist() == expected.to_dicts()


def test_duckdb_reads_the_same(capture: Path, dataset: Path) -> None:
    found = duckdb.sql(f"SELECT * FROM read_parquet('{dataset}/*.parquet') ORDER BY id")
    assert found is not None and found.fetchall() == frame_of(capture)[0].rows()


def test_parts_without_rows_and_with_some_are_read_together(tmp_path: Path) -> None:
    part(tmp_path / "part-0.parquet")
    part(tmp_path / "part-1.parquet", rows(["a", None]))
    part(tmp_path / "part-2.parquet")
    read = pl.read_parquet(tmp_path / PART_GLOB)
    assert read.rows() == [(0, "sys_read", None, "a"), (1, "sys_read", 1, None)]
    nothing = pl.read_parquet(tmp_path / "part-0.parquet")
    assert len(nothing) == 0 and nothing.schema == read.schema == {name: SCHEMA[name] for name in nothing.columns}
    assert pq.read_table(tmp_path / "part-2.parquet").num_rows == 0


def test_hostile_texts_and_those_longer_than_a_page_come_back(tmp_path: Path) -> None:
    texts = [*HOSTILE, None] * 2
    made = rows(texts)
    path = part(tmp_path / "part-0.parquet", made)
    assert_frame_equal(pl.read_parquet(path), frame(made), categorical_as_str=True)
    assert pq.read_table(path)["arg0_repr"].to_pylist() == texts


@pytest.mark.parametrize("columns", [("id",), ("id", "seq"), ("id", "arg0_repr"), ("id", "name", "errno")])
def test_any_columns_make_a_part(capture: Path, tmp_path: Path, columns: tuple[str, ...]) -> None:
    for plan in prepare([capture], Workers(1)).plans:
        write_part(plan, tmp_path, columns)
    read = pl.read_parquet(tmp_path / PART_GLOB).sort("id")
    assert_frame_equal(read, frame_of(capture)[0].select(columns), categorical_as_str=True)


# --- what is stored --------------------------------------------------------------------------------------------


def test_columns_that_readers_seek_by_have_statistics(dataset: Path) -> None:
    assert {"id", "seq", "time_ns", "nr", "name", "pid", "tid", "retno", "errno"} <= SOUGHT
    for path in dataset.iterdir():
        for number, group in enumerate(groups(path)):
            values = pl.from_arrow(pq.ParquetFile(path).read_row_group(number))
            assert isinstance(values, pl.DataFrame)
            for k, name in enumerate(SCHEMA):
                told = group.column(k).statistics
                column = values[name].cast(pl.String if SCHEMA[name] != pl.Int64 else pl.Int64)
                assert told.null_count == column.null_count()
                assert told.has_min_max is (name in SOUGHT and told.null_count < len(column)), name
                if told.has_min_max:
                    assert (told.min, told.max) == (column.min(), column.max())


def test_a_query_skips_row_groups_that_statistics_exclude(tmp_path: Path) -> None:
    path = part(tmp_path / "part-0.parquet", rows(["a"] * 100), rows(["b"] * 100, first=100))
    start, end = (group.column(0).data_page_offset for group in groups(path))
    stored = bytearray(path.read_bytes())
    stored[start:end] = bytes(end - start)  # what is skipped may be anything
    path.write_bytes(stored)
    lazy = pl.scan_parquet(path)
    assert lazy.filter(pl.col("id") >= 150).select("arg0_repr").collect().to_series().to_list() == ["b"] * 50
    with pytest.raises(pl.exceptions.ComputeError):
        lazy.collect()


def test_dictionaries_hold_each_text_once_and_none_without_a_row(dataset: Path) -> None:
    texts = [name for name, dtype in SCHEMA.items() if dtype != pl.Int64]
    seen = 0
    for path in dataset.iterdir():
        file = pq.ParquetFile(path, read_dictionary=texts)
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            group.validate(full=True)
            for name in texts:
                for column in group[name].chunks:
                    found = column.dictionary.to_pylist()
                    assert len(set(found)) == len(found) == len(set(column.indices.drop_null().to_pylist())), name
                    seen += len(found)
    assert seen > 1000


def test_only_columns_that_may_have_nulls_say_which_rows_have_values(dataset: Path) -> None:
    for path in dataset.iterdir():
        told = pq.ParquetFile(path).schema
        assert {told.column(k).name for k in range(len(SCHEMA)) if not told.column(k).max_definition_level} == WHOLE


@pytest.mark.parametrize(
    "codes, texts",
    [
        ([], []),
        ([], ["unused"]),
        ([-1, -1], []),
        ([-1, -1], ["unused"]),
        ([2, 0, 2, -1], ["a", "unused", "a"]),
        ([1, 1, 1], ["unused", "a"]),
    ],
)
def test_any_codes_stand_for_their_texts(tmp_path: Path, codes: list[int], texts: list[str]) -> None:
    expected = [texts[code] if code >= 0 else None for code in codes]
    for number, dtype in enumerate((np.int8, np.int32, np.int64)):
        columns = {
            name: Texts(np.array(codes, dtype), TextArray.of(texts), kind)
            for name, kind in (("arg0_repr", Kind.TEXT), ("errno", Kind.LABEL))
        }
        path = part(tmp_path / f"{number}.parquet", columns, columns=list(columns))
        assert_frame_equal(pl.read_parquet(path), frame(columns), categorical_as_str=True)
        found = pq.ParquetFile(path, read_dictionary=list(columns)).read()
        for name in columns:
            assert found[name].to_pylist() == expected
            stored = [text for chunk in found[name].chunks for text in chunk.dictionary.to_pylist()]
            assert sorted(stored) == sorted({text for text in expected if text is not None})


@pytest.mark.parametrize("codes", [[1], [0, 1 << 20], [-(1 << 40)], [1 << 32]])
def test_codes_without_a_text_are_not_written(tmp_path: Path, codes: list[int]) -> None:
    column = Texts(np.array(codes), TextArray.of(["a"]))
    with pytest.raises(AssertionError):
        part(tmp_path / "part-0.parquet", {"arg0_repr": column}, columns=["arg0_repr"])
    assert not list(tmp_path.iterdir())


def test_texts_are_stored_as_dictionaries_and_rising_numbers_as_differences(dataset: Path) -> None:
    for path in dataset.iterdir():
        for group in groups(path):
            for k, name in enumerate(SCHEMA):
                column = group.column(k)
                has_values = column.statistics.null_count < group.num_rows
                assert column.has_dictionary_page is (name not in RISING and has_values), name
                assert ("DELTA_BINARY_PACKED" in column.encodings) is (name in RISING and has_values), name


def test_rows_with_long_texts_become_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST", 100)
    made = rows([*(f"{k}" * 30 for k in range(10) for _ in range(3)), *["y" * 1000] * 3])
    path = part(tmp_path / "part-0.parquet", made)
    assert len(groups(path)) > 4 and sum(group.num_rows for group in groups(path)) == 33
    assert all(group.column(3).has_dictionary_page for group in groups(path))
    assert_frame_equal(pl.read_parquet(path), frame(made), categorical_as_str=True)


# --- what goes wrong -------------------------------------------------------------------------------------------


def test_what_the_decoder_raises_is_raised_and_the_part_removed(tmp_path: Path) -> None:
    for error in (SegmentError("changed"), OSError(errno.EIO, "gone", "x.seg"), KeyboardInterrupt()):
        path = tmp_path / "part-0.parquet"
        with pytest.raises(type(error)) as raised, new_part(path, ["id"]) as write:
            write({"id": Integers(np.arange(10))})
            raise error
        assert raised.value is error and not path.exists()


def test_a_part_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"part-0.parquet: cannot be written: No such file or directory; choose"):
        part(tmp_path / "none" / "part-0.parquet")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "part-0.parquet").symlink_to("/dev/full")
    with pytest.raises(ProcessError, match=r"part-0.parquet: cannot be written: No space left on device; choose"):
        part(tmp_path / "part-0.parquet", rows(["a"]))
    assert not list(tmp_path.iterdir())


def test_pyarrow_is_no_part_of_it(capture: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['pyarrow'] = None\nimport process.cli; sys.argv[0] = 'process'; process.cli.main()"
    )
    for name in ("a.parquet", "a.sqlite"):
        words = [sys.executable, "-c", script, str(capture), "-o", str(tmp_path / name), "-j", "1"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr and (tmp_path / name).exists(), done.stderr
