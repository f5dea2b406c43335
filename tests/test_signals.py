"""Calls that signals interrupt, against the guest's own account: one that goes on is one row, with one result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import capture_guest, decode

pytestmark = pytest.mark.live

Line = dict[str, Any]


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, list[Line]]:
    """Rows, and the lines of the guest."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    captured = capture_guest(folder, "signals", arch=request.param)
    console = captured.console.splitlines()
    told = console[console.index("signals: the truth begins") + 1 : console.index("signals: the truth ends")]
    assert "signals: exit status 0" in console
    return decode(captured.segments, folder / "signals.parquet"), [json.loads(line) for line in told]


def test_every_call_of_every_scene_is_one_row_with_the_result_that_the_program_saw(
    played: tuple[pl.DataFrame, list[Line]],
) -> None:
    rows, truth = played
    scenes = {line["scene"] for line in truth}
    assert len(scenes) == 12
    for tid in {line["tid"] for line in truth}:
        lines = [line for line in truth if line["tid"] == tid]
        shown = rows.filter(pl.col("tid") == tid).sort("time_ns", maintain_order=True).to_dicts()
        first = next(at for at, row in enumerate(shown) if row["nr"] == lines[0]["nr"])
        ends = {"exit_group", "rt_sigreturn"}
        wanted = [
            (line["nr"], line["ret"], "returned" if line["ret"] is not None else
             "noreturn" if line["name"] in ends else "unfinished")
            for line in lines
        ]  # fmt: skip
        found = [(row["nr"], row["retno"], row["status"]) for row in shown[first:]]
        assert found == wanted, lines[0]["scene"]


def test_a_calls_time_is_from_its_first_entry_to_its_result(played: tuple[pl.DataFrame, list[Line]]) -> None:
    rows, truth = played
    for scene, least in (("sleep stopped and continued", 150), ("sleep stopped twice", 150)):
        (line,) = (line for line in truth if line["scene"] == scene and line["name"] == "nanosleep")
        (row,) = rows.filter((pl.col("tid") == line["tid"]) & (pl.col("nr") == line["nr"])).to_dicts()
        assert row["duration_ns"] > 1_000_000 * least * 0.5
    returned = rows.filter(pl.col("status") == "returned")
    assert returned["duration_ns"].null_count() == 0
