"""``process verify``: whether segments are whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from process import stopping
from process.text import printable, processors, size_text

if TYPE_CHECKING:
    from process.verify import Finding

EXAMPLES = """\b
Examples:
  process verify captures/
  process verify captures/ --quiet && rsync -a captures/ archive:
"""


def verify(
    segments: Annotated[list[Path], typer.Argument(help="Segments, or folders of them.", show_default=False)],
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Worker processes. [default: all processors]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no summary; findings only.")] = False,
) -> None:
    """Check segments without decoding them: checksums, order, counts and references.

    A line for each finding: FILE:OFFSET: what is wrong. A note is a finding that costs nothing.

    Exit status: 0 sound, 1 nothing could be read, 2 wrong usage, 3 something is damaged or missing.
    """
    from tqdm import tqdm  # as the next: --help must not wait for it

    from process.discover import discover
    from process.pool import Failure, Workers
    from process.verify import Finding, Result, across, rejected, verify

    found = discover(segments)
    bad = _tell(list(rejected(found)))
    results: list[Result] = []
    silent = quiet or not sys.stderr.isatty()
    try:
        with (
            Workers(jobs or processors()) as workers,
            tqdm(desc="verify", total=len(found.parts), unit=" segments", leave=False, disable=silent) as bar,
        ):
            for outcome in workers.run(verify, found.parts):
                if isinstance(outcome.result, Failure):
                    bad += _tell([Finding(outcome.item.name, None, f"not read: {outcome.result.reason}")])
                else:
                    bad += _tell(outcome.result.findings)
                    results.append(outcome.result)
                bar.update()
    except KeyboardInterrupt:
        stopping.ignore()
        typer.echo("process: error: stopped", err=True)
        raise typer.Exit(1) from None
    bad += _tell(list(across(results)))
    if not results:
        typer.echo("process: error: no segment could be read", err=True)
        raise typer.Exit(1)
    if not quiet:
        files = sum(len(result.part.files) for result in results)
        size = size_text(sum(result.size for result in results))
        blocks, events = (sum(getattr(result, name) for result in results) for name in ("blocks", "events"))
        typer.echo(f"{files:,} files, {size}: {blocks:,} sound blocks, {events:,} events")
        typer.echo(f"damaged or missing: {bad:,} findings" if bad else "nothing is damaged or missing")
    if bad:
        raise typer.Exit(3)


def _tell(findings: list[Finding]) -> int:
    """Print findings; how many of them tell of a loss."""
    for one in findings:
        place = one.file + ("" if one.offset is None else f":{one.offset}") + (": " if one.file else "")
        typer.echo(printable(f"{place}{'' if one.loss else 'note: '}{one.text}"))
    return sum(one.loss for one in findings)
