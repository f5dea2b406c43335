"""``process dump``: raw records as JSON lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from process.text import printable

EXAMPLES = """\b
Examples:
  process dump captures/
  process dump a-000000.seg | jq 'select(.type == "event" and .nr == 257)'
"""


def dump(
    segments: Annotated[list[Path], typer.Argument(help="Segments, or folders of them.", show_default=False)],
) -> None:
    """Print the raw records of segments as JSON lines, nothing decoded.

    Each line has a "type": segment, string, set, task, mark, file, event, damage or totals. Guest bytes are shown
    as text with backslash escapes, from which they can be had back exactly.

    Exit status: 0, 1 nothing could be read, 2 wrong usage, 3 something is damaged or missing.
    """
    from process.discover import discover
    from process.records import records  # NumPy is slow to import, and --help must not wait for it

    found = discover(segments)
    for rejected in found.rejected:
        typer.echo(printable(f"process: {'warning' if found.parts else 'error'}: {rejected.message}"), err=True)
    sound = not any(rejected.loss for rejected in found.rejected)
    try:
        for part in found.parts:
            sound &= _print(records(part))
    except BrokenPipeError:  # the reader has seen enough; nothing more can be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if not found.parts:
        raise typer.Exit(1)
    if not sound:
        raise typer.Exit(3)


def _print(lines: Iterator[dict[str, Any]]) -> bool:
    """Print records; whether none of them tells of damage."""
    sound = True
    for line in lines:
        sound &= line["type"] != "damage"
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()
    return sound
