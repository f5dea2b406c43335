"""Phase one of every command: find the segments, survey them in parallel, plan their decoding."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from process.discover import discover
from process.errors import ProcessError
from process.ledger import Ledger, Severity
from process.plan import Plan, compose
from process.pool import Failure, Workers
from process.stopping import held
from process.survey import Survey, survey
from process.temporary import Temporary
from process.tree import Tree


class Folder:
    """A temporary folder that lasts as long as this object.

    Attributes:
        path: Where it is; None if there can be none.
    """

    def __init__(self) -> None:
        """Make it."""
        self.path: Path | None = None
        with held(), suppress(OSError):
            folder = Temporary(Path(gettempdir()))
            self.path = folder.path
            weakref.finalize(self, folder.remove)


@dataclass(frozen=True)
class Prepared:
    """Segments ready to be decoded.

    Attributes:
        surveys: What is in them, in the output's order.
        plans: How to decode each.
        trees: The processes of each capture.
        ledger: What capture counted and what is missing.
        folder: What the surveys keep for the decoders, for as long as this object lives.
    """

    surveys: list[Survey]
    plans: list[Plan]
    trees: list[Tree]
    ledger: Ledger
    folder: Folder


def prepare(paths: Sequence[Path], workers: Workers, advance: Callable[[int], object] = lambda _: None) -> Prepared:
    """Find, survey and plan.

    Args:
        paths: Files and folders.
        workers: What to survey with.
        advance: Called with the events of each segment surveyed.

    Raises:
        ProcessError: No segment can be read.
    """
    found = discover(paths)
    ledger = Ledger()
    for rejected in found.rejected:
        ledger.add(Severity.LOSS if rejected.loss else Severity.WARNING, "read", rejected.message)
    surveys: list[Survey] = []
    failures: list[str] = []
    folder = Folder()
    for outcome in workers.run(partial(survey, folder=folder.path), found.parts):
        if isinstance(outcome.result, Failure):
            failures.append(outcome.result.reason)
            ledger.add(Severity.LOSS, "read", f"{outcome.item.name}: not read: {outcome.result.reason}")
        else:
            surveys.append(outcome.result)
            advance(outcome.result.events)
    if not surveys:
        reasons = [rejected.message for rejected in found.rejected] + failures
        raise ProcessError("; ".join(reasons) or "no segments given")
    plans, trees = compose(surveys, ledger, found.running)
    return Prepared(surveys, plans, trees, ledger, folder)
