"""The ``process`` command's verbs."""

from __future__ import annotations

import typer

from process.commands import decode, dump, info, recover, show, verify

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
