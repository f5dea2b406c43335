"""The ``process`` command: `process DIR` decodes; other verbs are named.

Workers import this, too, as the main module; so it loads nothing of the command (`app`) until it runs.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from capture.version import VERSION
from process import stopping
from process.garbage import collect_rarely, take_small_pages

_VERBS = frozenset({"decode", "info", "dump", "show", "verify", "recover"})

_INTERRUPTED = 130
"""Typer's exit status after KeyboardInterrupt, for verbs that do not say themselves what is left."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    for threads in ("POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"):  # the parallelism is in the workers
        os.environ.setdefault(threads, "1")
    collect_rarely()
    take_small_pages()
    stopping.obey()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--version"]:
        print(f"process (sysreel {VERSION})")
        return
    if given and given[0] not in _VERBS and given[0] not in ("--help", "-h"):
        given.insert(0, "decode")
    try:
        from process.app import app

        app(given, prog_name="process")
    except KeyboardInterrupt:  # before a verb has begun
        _stopped()
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            _stopped()
        raise


def command() -> None:
    """The console script. If all went well it ends at once.

    The interpreter would take each object apart first, for a tenth of a second after a decode.
    """
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    atexit._run_exitfuncs()  # among them those that take temporary folders away
    with suppress(OSError, ValueError):  # nobody reads what is said: left to the interpreter, which says so
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _stopped() -> NoReturn:
    """Say so, and exit."""
    stopping.ignore()
    print("process: error: stopped", file=sys.stderr)
    sys.exit(1)
