"""``process show``: calls as text, as strace prints them."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from process.errors import ProcessError
from process.text import printable, processors

if TYPE_CHECKING:
    from process.rows import Source
    from process.selection import Selection
    from process.show import Printer

EXAMPLES = """\b
Examples:
  process show captures/ | less -R
  process show run.sqlite -p 1234 --errors       what process 1234 tried and failed
  process show run.parquet --name httpd -e open,openat,execve
  process show captures/ -e '!clock_gettime' -r --since 2.5 --until 3
"""


class Colour(str, Enum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def show(
    paths: Annotated[
        list[Path], typer.Argument(help="Segments or folders of them; or one output.", show_default=False)
    ],
    pids: Annotated[list[int] | None, typer.Option("-p", "--pid", help="Only this process or thread.")] = None,
    names: Annotated[list[str] | None, typer.Option("--name", help="Only processes of this name.")] = None,
    calls: Annotated[
        list[str] | None, typer.Option("-e", "--calls", help="Only these syscalls: open,close; !read for all others.")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only calls that failed.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="From here on: seconds after the first call, or a time in UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to here, likewise.")] = None,
    most: Annotated[int | None, typer.Option("-n", "--lines", min=0, help="Stop after so many calls.")] = None,
    clock: Annotated[bool, typer.Option("-t", help="Begin each line with the time of entry, UTC.")] = False,
    relative: Annotated[bool, typer.Option("-r", help="Begin it with the seconds since the first call.")] = False,
    durations: Annotated[bool, typer.Option("-T", help="End each line with the time the call took.")] = False,
    colour: Annotated[Colour, typer.Option("--color", help="Colours.")] = Colour.AUTO,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Workers that survey segments. [default: all processors]")
    ] = None,
) -> None:
    """Print calls as strace does: the task, the call, its arguments with strings and file names, the result.

    Lines stand in the order in which the calls returned. Guest bytes are shown escaped. Options that may be given
    several times add up; different options must all hold.

    Exit status: 0, 1 nothing could be read, 2 wrong usage, 3 something is damaged or missing
    in the segments.
    """
    from process.rows import open_rows  # Polars is slow to import, and --help must not wait for it
    from process.selection import Selection, parse_calls, parse_time
    from process.show import Printer, Style

    try:
        wanted, negated = parse_calls(calls or ())
        source = open_rows(paths, jobs or processors())
        first = source.first_ns
        bounds = [None if text is None else parse_time(text, first) for text in (since, until)]
        selection = Selection(tuple(pids or ()), tuple(names or ()), wanted, negated, errors, *bounds)
        style = Style("time" if clock else "relative" if relative else "none", first, durations, _is_coloured(colour))
        _print(source, selection, Printer(style), most)
    except ProcessError as error:
        typer.echo(printable(f"process: error: {error}"), err=True)
        raise typer.Exit(error.status) from None
    except BrokenPipeError:  # the reader has seen enough; nothing more can be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    for _, note in source.ledger.notes():
        typer.echo(printable(f"process: warning: {note}"), err=True)
    if source.ledger.lossy:
        raise typer.Exit(3)


def _print(source: Source, selection: Selection, printer: Printer, most: int | None) -> None:
    from process.show import COLUMNS

    left = most
    for frame in source.frames(selection, COLUMNS):
        shown = frame if left is None else frame.head(left)
        if len(shown):
            sys.stdout.write("\n".join(printer.lines(shown).to_list()) + "\n")
        if left is not None:
            left -= len(shown)
            if left <= 0:
                break
    sys.stdout.flush()


def _is_coloured(colour: Colour) -> bool:
    """https://no-color.org: a variable of that name, not empty, turns automatic colours off."""
    if colour is Colour.AUTO:
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return colour is Colour.ALWAYS
