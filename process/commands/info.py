"""``process info``: what is in segments, or in an output."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from process.errors import ProcessError
from process.text import printable, processors, size_text

if TYPE_CHECKING:
    from process.overview import Overview

EXAMPLES = """\b
Examples:
  process info captures/
  process info run.sqlite
  process info run.parquet
"""
_MOST = 20
"""Processes listed."""


def info(
    paths: Annotated[
        list[Path], typer.Argument(help="Segments or folders of them; or one output.", show_default=False)
    ],
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Worker processes. [default: all processors]")
    ] = None,
) -> None:
    """Show what is in segments or in an output: counts, time span, processes, damage, the ledger.

    Exit status: 0, 1 nothing could be read, 2 wrong usage, 3 something is damaged or missing.
    """
    from process.overview import overview  # Polars is slow to import, and --help must not wait for it

    try:
        found = overview(paths, jobs or processors())
    except ProcessError as error:
        typer.echo(printable(f"process: error: {error}"), err=True)
        raise typer.Exit(error.status) from None
    for line in _lines(found):
        typer.echo(printable(line))
    if any(row["severity"] == "loss" for row in found.stats):
        raise typer.Exit(3)


def _lines(found: Overview) -> Iterator[str]:
    captures = {row["uuid"] for row in found.segment}
    size = sum(row["size"] for row in found.segment)
    yield f"{_count(captures, 'capture')}, {_count(found.segment, 'segment')}, {size_text(size)}"
    yield f"syscalls   {found.rows:,}"
    if found.span:
        first, last = found.span
        yield f"time       {_time(first)} to {_time(last)} ({(last - first) / 1e9:,.3f} s)"
    yield ""
    yield "segments"
    for row in found.segment:
        state = "sealed" if row["sealed"] else "not sealed"
        damage = f", damaged in {row['damage']} places" if row["damage"] else ""
        counts = f"{row['rows']:,} syscalls, {size_text(row['size'])}"
        yield f"  {row['file']}: {row['abi']}, {counts}, {state}{damage}"
    yield ""
    yield f"processes ({len({(row['capture'], row['pid']) for row in found.process}):,})"
    busiest = sorted(found.process, key=lambda row: -row["events"])
    for row in busiest[:_MOST]:
        yield f"  {row['events']:>12,}  {'-' if row['pid'] is None else row['pid']:>7}  {row['procname']}"
    if len(busiest) > _MOST:
        yield f"  and {len(busiest) - _MOST:,} more"
    yield ""
    yield "ledger"
    for row in found.stats:
        yield f"  {row['severity']:<8} {row['stage']:<8} {row['count']:>14,}  {row['item']}"


def _count(things: set[str] | list[dict[str, object]], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _time(unix_ns: int) -> str:
    """A time in UTC for people; one beyond the calendar as it is."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}.{rest // 1000:06d} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{unix_ns} ns"
