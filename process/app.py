"""The ``process`` command's verbs."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module

import typer

from process.cli import VERBS
from process.commands import decode


def app(verbs: Collection[str] = VERBS) -> typer.Typer:
    """The command with some verbs: typer looks at all options of each, a hundredth of a second for all of them."""
    made = typer.Typer(
        name="process",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        callback=_verbs,
        help="Decode recorded syscalls into SQLite or Parquet. `process DIR` alone decodes.",
        epilog=decode.EXAMPLES
        + "  process info captures.sqlite            what is in it\n"
        + "  process show captures/ --errors         calls as strace prints them\n"
        + "  process verify captures/                whether all of it is there",
    )
    for verb in verbs:
        module = import_module(f"process.commands.{verb}")
        made.command(epilog=module.EXAMPLES)(getattr(module, verb))
    return made


def _verbs() -> None:
    """Makes even a single command one that is named."""
