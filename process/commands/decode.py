"""``process decode``: segments into SQLite or Parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from process import stopping
from process.errors import ProcessError
from process.ledger import Severity
from process.output import Format, choose
from process.text import printable, processors, size_of, size_text

if TYPE_CHECKING:
    from process.pipeline import Progress, Summary

EXAMPLES = """\b
Examples:
  process captures/                       into captures.sqlite
  process captures/ -o run.parquet -j 8   a Parquet dataset, eight workers
  process a-000000.seg -o one.sqlite      one segment alone
  process captures/ --no-repr             numbers without texts: faster and smaller
  process captures/ -o few.parquet --columns name,procname,arg1_repr
  process captures/ --max-memory 1G       in little memory: smaller steps, fewer workers
  process captures/ --strict --force      all or nothing, replacing the last output
  process captures/ -o all.parquet --resume   every night: decodes what is new or has changed
"""
_NOTHING = "nothing is left of the output"
_KEPT = "what is done is kept in OUT.resume: go on with --resume"
LOSS = 3
"""Exit status: decoded, but something is missing."""


def decode(
    segments: Annotated[list[Path], typer.Argument(help="Segments, or folders of them.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Output; its suffix picks the format. [default: FOLDER.sqlite]"),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Worker processes. [default: all processors]")
    ] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="Output format.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail, leaving no output, if anything is missing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Decode only what is new or has changed since the last run with --resume, or what a run that was "
            "stopped had not done; work is kept in OUT.resume.",
        ),
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", help="Columns of the output, separated by commas; id is always there. [default: all]"
        ),
    ] = None,
    no_repr: Annotated[
        bool, typer.Option("--no-repr", help="Leave out the texts of arguments and results, which cost most.")
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", help="Memory of all its processes together, like 800M or 2G. [default: what they need]"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no summary; errors only.")] = False,
) -> None:
    """Decode segments into one table: a row for every syscall.

    Exit status: 0 all decoded, 1 failed or stopped, 2 wrong usage, 3 decoded but something is missing (the
    summary says what). Ctrl-C and SIGTERM leave nothing behind; what a killed run has left beside its output
    (.sysreel-*.tmp) is removed by the next one there.
    """
    try:
        memory = None if max_memory is None else size_of(max_memory, "--max-memory")
        target, chosen = choose(segments, out, format_)
        summary = _run(segments, target, chosen, jobs, strict, force, resume, quiet, columns, not no_repr, memory)
    except ProcessError as error:
        typer.echo(printable(f"process: error: {error}"), err=True)
        raise typer.Exit(error.status) from None
    except KeyboardInterrupt:
        stopping.ignore()
        typer.echo(f"process: error: stopped; {_KEPT if resume else _NOTHING}", err=True)
        raise typer.Exit(1) from None
    _report(summary, strict, quiet)
    if memory is not None and summary.memory > memory and not quiet:
        text = f"--max-memory {max_memory}: not kept, {size_text(summary.memory)} were needed at the least"
        typer.echo(f"process: warning: {text}", err=True)
    if summary.ledger.lossy:
        raise typer.Exit(1 if strict else LOSS)


def _run(
    segments: list[Path],
    out: Path,
    format_: Format,
    jobs: int | None,
    strict: bool,
    force: bool,
    resume: bool,
    quiet: bool,
    columns: str | None,
    reprs: bool,
    memory: int | None,
) -> Summary:
    from process import pipeline

    names = None
    if columns is not None or not reprs:
        from process import schema  # Polars is slow to import, and --help must not wait for it

        wanted = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
        names = schema.chosen(wanted, reprs)

    progress = pipeline.Progress(whole=stopping.ignore) if quiet or not sys.stderr.isatty() else _bars()
    return pipeline.decode(
        segments, out, format_, jobs=jobs or processors(), strict=strict, force=force, resume=resume,
        columns=names, memory=memory, progress=progress,
    )  # fmt: skip


def _bars() -> Progress:
    """Progress bars on a terminal."""
    from tqdm import tqdm

    from process.pipeline import Progress

    first = tqdm(desc="survey", unit=" events", unit_scale=True, leave=False)
    second = tqdm(desc="decode", unit=" rows", unit_scale=True, leave=False)

    def begin(rows: int) -> None:
        first.close()
        second.reset(rows)

    def decoded(rows: int) -> None:
        second.update(rows)
        if second.n >= (second.total or 0):
            second.close()

    return Progress(first.update, begin, decoded, stopping.ignore)


def _report(summary: Summary, strict: bool, quiet: bool) -> None:
    """Losses and warnings, a line each, then what was done."""
    for severity, note in summary.ledger.notes():
        if severity is Severity.LOSS:
            typer.echo(printable(f"process: {'error' if strict else 'warning'}: loss: {note}"), err=True)
        elif not quiet:
            typer.echo(printable(f"process: warning: {note}"), err=True)
    if summary.resumed and not quiet:
        for note in summary.resumed.notes:
            typer.echo(printable(f"process: warning: {note}"), err=True)
    if summary.out is None:
        typer.echo("process: error: something is missing and --strict was given; no output was left", err=True)
    elif not quiet:
        if summary.resumed:
            one = summary.resumed
            typer.echo(f"{one.taken:,} segments taken over, {one.decoded:,} decoded, {one.surveyed:,} surveyed")
        rate = summary.rows / max(summary.seconds, 1e-9)
        typer.echo(f"{summary.rows:,} syscalls of {summary.processes:,} processes, {summary.errors:,} failed")
        typer.echo(f"{summary.seconds:.1f} s, {rate:,.0f} rows/s")
        typer.echo(printable(f"{summary.out}: {size_text(summary.size)}"))
