"""The ``process`` command: `process DIR` decodes; other verbs are named."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from capture.version import VERSION
from process import stopping
from process.commands import decode, dump, info, recover, show, verify
from process.garbage import collect_rarely

app = typer.Typer(
    name="process",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Decode recorded syscalls into SQLite or Parquet. `process DIR` alone decodes.",
    epilog=decode.EXAMPLES
    + "  process info captures.sqlite            what is in it\n"
    + "  process show captures/ --errors         calls as strace prints them\n"
    + "  process verify captures/                whether all of it is there",
)
app.command(epilog=decode.EXAMPLES)(decode.decode)
app.command(epilog=info.EXAMPLES)(info.info)
app.command(epilog=dump.EXAMPLES)(dump.dump)
app.command(epilog=show.EXAMPLES)(show.show)
app.command(epilog=verify.EXAMPLES)(verify.verify)
app.command(epilog=recover.EXAMPLES)(recover.recover)

_VERBS = frozenset({"decode", "info", "dump", "show", "verify", "recover"})

_INTERRUPTED = 130
"""Typer's exit status after KeyboardInterrupt, for verbs that do not say themselves what is left."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # the parallelism is in the workers
    collect_rarely()
    stopping.obey()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--version"]:
        print(f"process (sysreel {VERSION})")
        return
    if given and given[0] not in _VERBS and given[0] not in ("--help", "-h"):
        given.insert(0, "decode")
    try:
        app(given, prog_name="process")
    except SystemExit as ended:
        if ended.code != _INTERRUPTED:
            raise
        stopping.ignore()
        print("process: error: stopped", file=sys.stderr)
        sys.exit(1)
