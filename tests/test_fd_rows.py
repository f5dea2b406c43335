"""Rows of the table `fd` as numbers, with names that are codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from process.errors import ProcessError
from process.fd_history import Sheet
from process.fd_records import NEVER
from process.fd_rows import KEYS, ROW, Stretch
from process.frames import frame
from process.polars_types import dtypes
from process.schema import FD_COLUMNS, kinds
from process.values import joined

NAMES = ["/a", "/b", "", "/unused"]


def _rows(seqs: list[int], names: list[int]) -> np.ndarray:
    rows = np.zeros(len(seqs), ROW)
    rows["seq"], rows["name"], rows["end_time"], rows["ended"], rows["fd"] = (
        seqs,
        names,
        NEVER,
        -1,
        np.arange(len(seqs)),
    )
    return rows


def _named(stretch: Stretch) -> list[tuple[int, str | None]]:
    texts = [*stretch.names.to_list(), None]
    return [(int(row["seq"]), texts[row["name"]]) for row in stretch.rows]


def test_only_names_that_rows_have_are_kept() -> None:
    stretch = Stretch.of(_rows([5, 6, 7, 8], [2, -1, 0, 2]), NAMES)
    assert sorted(stretch.names.to_list()) == ["", "/a"]
    assert _named(stretch) == [(5, ""), (6, None), (7, "/a"), (8, "")]
    assert not len(Stretch.of(_rows([], []), NAMES).names)


def test_rows_keep_their_names_in_a_file_and_beside_others(tmp_path: Path) -> None:
    parts = [Stretch.of(_rows(seqs, names), NAMES) for seqs, names in (([9, 3], [1, -1]), ([], []), ([4], [0]))]
    for number, part in enumerate(parts):
        part.save(tmp_path / str(number))
    whole = Stretch.joined([Stretch.load(tmp_path / str(number)) for number in range(len(parts))])
    assert _named(whole) == [(9, "/b"), (3, None), (4, "/a")]
    assert _named(whole.in_order()) == [(3, None), (4, "/a"), (9, "/b")]


def test_rows_of_one_call_are_ordered_by_all_keys() -> None:
    random = np.random.default_rng(1)
    rows = np.zeros(500, ROW)
    for key in KEYS:
        rows[key] = random.integers(0, 3, len(rows))
    ordered = Stretch.of(rows, ["/a"]).in_order().rows
    found = list(zip(*(ordered[key].tolist() for key in KEYS), strict=True))
    assert found == sorted(found)


def test_columns_of_a_sheet_are_those_of_the_table(tmp_path: Path) -> None:
    sheets = [
        Sheet((Stretch.of(_rows([7, 2], [1, -1]), NAMES),), 1, 1, 2, np.array([3]), 0),
        Sheet((Stretch.of(_rows([1], [0]), NAMES),), 2, 3, 1, np.array([-1]), 0),
    ]
    found = frame(joined([sheet.columns() for sheet in sheets]))
    assert found.schema == dtypes(kinds(FD_COLUMNS))
    assert found.select("id", "capture", "program", "name", "start_seq", "ended").rows() == [
        (1, 1, 3, None, 2, None), (2, 1, 3, "/b", 7, None), (3, 2, None, "/a", 1, None)
    ]  # fmt: skip
    assert found.select(pl.col("end_time_ns").is_null().all()).item()


@pytest.mark.parametrize("content", [None, b"", b"something else", "short"])
def test_what_was_kept_and_is_gone_is_told_in_a_line(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "kept"
    Stretch.of(_rows([7, 2], [1, -1]), NAMES).save(path)
    whole = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(ProcessError, match="what was kept there is gone"):
        Sheet((path,), 1, 1, 2, np.array([3]), 0).columns()
