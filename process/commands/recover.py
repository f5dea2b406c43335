"""``process recover``: clean segments out of damaged ones."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from process import stopping
from process.text import printable, processors

EXAMPLES = """\b
Examples:
  process recover captures/ -o clean/
"""


def recover(
    segments: Annotated[list[Path], typer.Argument(help="Segments, or folders of them.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the clean segments; new, or empty.")],
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Worker processes. [default: all processors]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no summary; what is missing only.")] = False,
) -> None:
    """Write clean segments from damaged ones, and say what is missing. The damaged ones stay as they are.

    Exit status: 0 all is there, 1 failed, 2 wrong usage, 3 written but something is missing.
    """
    from tqdm import tqdm  # as the next: --help must not wait for it

    from process.discover import discover
    from process.pool import Failure, Workers
    from process.recover import recover

    found = discover(segments)
    if not found.parts:
        reasons = "; ".join(one.message for one in found.rejected)
        typer.echo(printable(f"process: error: {reasons or 'no segments given'}"), err=True)
        raise typer.Exit(1)
    try:
        out.mkdir(exist_ok=True)
        if any(out.iterdir()):
            typer.echo(printable(f"process: error: {out}: is not empty; choose a new folder with -o"), err=True)
            raise typer.Exit(2)
    except OSError as error:
        typer.echo(printable(f"process: error: {out}: cannot be written: {error.strerror}"), err=True)
        raise typer.Exit(1) from None
    missing = [one.message for one in found.rejected if one.loss]
    written = blocks = events = 0
    silent = quiet or not sys.stderr.isatty()
    try:
        with (
            Workers(jobs or processors()) as workers,
            tqdm(desc="recover", total=len(found.parts), unit=" segments", leave=False, disable=silent) as bar,
        ):
            for outcome in workers.run(partial(recover, folder=out), found.parts):
                if isinstance(outcome.result, Failure):
                    missing.append(f"{outcome.item.name}: nothing of it: {outcome.result.reason}")
                else:
                    _, copied, kept, findings = outcome.result
                    written, blocks, events = written + 1, blocks + copied, events + kept
                    missing += [
                        f"{one.file}{'' if one.offset is None else f':{one.offset}'}: {one.text}" for one in findings
                    ]
                bar.update()
    except KeyboardInterrupt:
        stopping.ignore()
        typer.echo(printable(f"process: error: stopped; {out} is not complete"), err=True)
        raise typer.Exit(1) from None
    for line in missing:
        typer.echo(printable(f"process: warning: missing: {line}"), err=True)
    if not quiet:
        typer.echo(printable(f"{out}: {written:,} segments, {blocks:,} blocks, {events:,} events"))
    if missing or not written:
        raise typer.Exit(3 if written else 1)
