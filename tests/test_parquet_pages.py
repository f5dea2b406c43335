"""Pages of Parquet files: whatever is in a column, readers that others wrote find the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colliding import unmixed
from process import parquet
from process.library import SEED
from process.parquet import SOUGHT, WHOLE, new_part
from process.parquet_footer import Encoding
from process.parquet_pages import Chunk, Coded, chunk
from process.schema import SCHEMA
from process.text_array import TextArray
from process.values import Integers, Made, Texts

LENGTHS = (1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129)
EXTREMES = (-(2**63), -(2**63) + 1, -1, 0, 1, 2**31, 2**63 - 1)
INTEGER = st.one_of(st.integers(0, 4), st.sampled_from(EXTREMES), st.integers(-(2**63), 2**63 - 1))
TEXT = st.one_of(st.sampled_from(("", "a", "b", "\0", "é", "\U0001f600")), st.text(max_size=12), st.just("x" * 5000))

fast = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stretches(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Values, each some times in a row."""
    runs = st.lists(st.tuples(values, st.one_of(st.just(1), st.sampled_from(LENGTHS))), min_size=1, max_size=12)
    return runs.map(lambda found: [value for value, count in found for _ in range(count)])


def integers(values: Sequence[int | None]) -> Integers:
    filled = np.array([-7 if value is None else value for value in values], np.int64)
    return Integers(filled, np.array([value is not None for value in values]))


def texts(values: Sequence[str | None]) -> Texts:
    """Codes as a decoder's: one of them stands for no row, and one text is there twice."""
    known = list(dict.fromkeys(value for value in values if value is not None))
    array = TextArray.of(["unused", *known, *known[:1]])
    codes = [-1 if value is None else known.index(value) + 1 for value in values]
    codes = [len(known) + 1 if code == 1 and k % 2 else code for k, code in enumerate(codes)]
    return Texts(np.array(codes, np.int32), array)


def check(path: Path, made: Made, expected: dict[str, list[Any]]) -> None:
    """Write columns; Polars and pyarrow must read them, and know their extremes."""
    with new_part(path, list(made)) as write:
        write(made)
    file = pq.ParquetFile(path)
    found, group = file.read(), file.metadata.row_group(0)
    found.validate(full=True)
    assert file.metadata.num_row_groups == 1
    assert found.to_pydict() == expected
    assert pl.read_parquet(path).to_dict(as_series=False) == expected
    for k, (name, values) in enumerate(expected.items()):
        told, there = group.column(k).statistics, [value for value in values if value is not None]
        assert told.null_count == len(values) - len(there)
        is_told = name in SOUGHT and len(there) > 0
        if is_told:
            least, greatest = (choose(there, key=_in_order) for choose in (min, max))
            is_told = max(len(str(least).encode()), len(str(greatest).encode())) <= 1 << 12
        assert told.has_min_max is is_told
        assert not is_told or (told.min, told.max) == (least, greatest)


def _in_order(value: int | str) -> int | bytes:
    return value.encode() if isinstance(value, str) else value


# --- what comes back -------------------------------------------------------------------------------------------


@fast
@given(stretches(st.one_of(st.none(), INTEGER)))
def test_integers_come_back_as_dictionaries_and_as_differences(tmp_path: Path, values: list[int | None]) -> None:
    whole = [0 if value is None else value for value in values]
    made = {"id": integers(whole), "retno": integers(values), "nr": integers(whole), "duration_ns": integers(values)}
    check(tmp_path / "a.parquet", made, {"id": whole, "retno": values, "nr": whole, "duration_ns": values})


@fast
@given(stretches(st.one_of(st.none(), TEXT)))
def test_texts_come_back(tmp_path: Path, values: list[str | None]) -> None:
    whole = ["" if value is None else value for value in values]
    made = {"name": texts(whole), "arg0_repr": texts(values), "errno": texts(values)}
    check(tmp_path / "a.parquet", made, {"name": whole, "arg0_repr": values, "errno": values})


@pytest.mark.parametrize("rows", [*LENGTHS, 503, 504, 505, 1024])
def test_all_and_nothing_and_one_value_in_any_number_of_rows(tmp_path: Path, rows: int) -> None:
    columns: list[list[int | None]] = [[None] * rows, [5] * rows, [*[None] * (rows - 1), 5], [5, *[None] * (rows - 1)]]
    for k, values in enumerate(columns):
        shown = [None if value is None else "five" for value in values]
        made: Made = {"retno": integers(values), "duration_ns": integers(values), "errno": texts(shown)}
        expected: dict[str, list[Any]] = {"retno": values, "duration_ns": values, "errno": shown}
        check(tmp_path / f"{k}.parquet", made, expected)


@pytest.mark.parametrize("bits", [*range(13), 16, 17, 20])
def test_codes_of_any_width_come_back(tmp_path: Path, bits: int) -> None:
    for count in (1 << bits, (1 << bits) + 1):
        some = np.random.default_rng(bits).permutation(count).repeat(2)
        values = np.concatenate([some, np.full(9, some[0]), some[:13]]) << 20  # far apart
        path = tmp_path / f"{count}.parquet"
        with new_part(path, ["arg0"]) as write:
            write({"arg0": Integers(values)})
        assert "RLE_DICTIONARY" in pq.read_metadata(path).row_group(0).column(0).encodings
        assert (pl.read_parquet(path)["arg0"].to_numpy() == values).all()
        assert (pq.read_table(path)["arg0"].to_numpy() == values).all()


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 34, 127, 128, 129, 130, 256, 257, 258, 1000])
@pytest.mark.parametrize("bits", [0, 1, 7, 8, 9, 31, 32, 33, 63, 64])
def test_differences_of_any_width_come_back(tmp_path: Path, rows: int, bits: int) -> None:
    numbers = np.random.default_rng(rows)
    steps = numbers.integers(0, 1 << 64, rows, np.uint64, endpoint=False) >> np.uint64(64 - bits if bits else 63)
    values = np.cumsum(steps if bits else np.zeros(rows, np.uint64)).view(np.int64)  # wraps around
    check(tmp_path / "a.parquet", {"seq": Integers(values)}, {"seq": values.tolist()})


def test_integers_that_hardly_repeat_are_plain(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 5000)
    check(tmp_path / "a.parquet", {"arg0": Integers(values)}, {"arg0": values.tolist()})
    encodings = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0).encodings
    assert "PLAIN" in encodings and "RLE_DICTIONARY" not in encodings


def test_columns_without_order_in_memory_are_written(tmp_path: Path) -> None:
    values = np.arange(40).reshape(2, 20).T[:, 0][::-1]
    check(tmp_path / "a.parquet", {"arg0": Integers(values)}, {"arg0": values.tolist()})


# --- that the readers would tell --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["errno", "retno", "duration_ns"])
def test_any_wrong_bit_of_a_data_page_is_seen(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [None if k % 3 == 0 else k * k % 7 for k in range(96)]  # 64 of them are there: no bit is padding
    shown = [None if value is None else f"t{value}" for value in values]
    made = texts(shown) if name == "errno" else integers(values)
    expected = shown if name == "errno" else values
    place = [0, 0]

    def flipped(*args: Any, **words: Any) -> Chunk:
        found = chunk(*args, **words)
        found.data[place[0]] ^= 1 << place[1]
        return found

    def read() -> list[Any]:
        with new_part(tmp_path / "a.parquet", [name]) as write:
            write({name: made})
        found: list[Any] = pq.read_table(tmp_path / "a.parquet")[name].to_pylist()
        return found

    assert read() == expected
    column = made if isinstance(made, Integers) else Coded.of(made)
    size = len(chunk(column, may_be_null=True, rising=name == "duration_ns", sought=False).data)
    levels = 4 + 1 + 96 // 8
    monkeypatch.setattr(parquet, "chunk", flipped)
    places = [*range(4, levels + 1)] + ([*range(levels + 1, size)] if name != "duration_ns" else [levels + 2])
    for place[:] in ([at, bit] for at in places for bit in range(8)):
        with suppress(OSError):
            assert read() != expected, place


# --- what collides ----------------------------------------------------------------------------------------------


def test_a_guest_that_knew_the_seed_could_not_make_it_slow() -> None:
    values = np.array([unmixed(i << 40, SEED) for i in range(10_000)] * 4, np.uint64).view(np.int64)
    found = chunk(Integers(values), may_be_null=False, rising=False, sought=False)
    assert found.encoding is Encoding.PLAIN and (found.data.view("<i8") == values).all()


def test_columns_that_cannot_be_null_are_told_so() -> None:
    assert set(SCHEMA) >= WHOLE
    with pytest.raises(AssertionError):
        chunk(integers([1, None]), may_be_null=False, rising=False, sought=False)
