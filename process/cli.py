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
from process.text import processors

VERBS = ("decode", "info", "dump", "show", "verify", "recover")
"""In the order in which they are listed; each is a function of a module of its own (`process/commands/`)."""

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
    if given and given[0] not in VERBS and given[0] not in ("--help", "-h"):
        given.insert(0, "decode")
    verbs = [word for word in given[:1] if word in VERBS]
    if verbs == ["decode"] and _may_tell(given):
        from process.early import expect

        expect("process.polars_types")
    try:
        from process.app import app

        app(verbs or VERBS)(given, prog_name="process")
    except KeyboardInterrupt:  # before a verb has begun
        _stopped()
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            _stopped()
        raise


def _may_tell(given: Sequence[str]) -> bool:
    """Whether a decode seems to write Parquet with several jobs, long before its words are understood.

    Then another process loads Polars, which takes longer than to understand them; a wrong guess costs nobody else.
    """
    is_alone = processors() == 1 or "-j1" in given or "--jobs=1" in given or "1" in given
    return not is_alone and any(word.endswith("parquet") for word in given)


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
