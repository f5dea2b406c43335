"""Phase one of every command: find the segments, survey them in parallel, plan their decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from process.discover import discover
from process.errors import ProcessError
from process.ledger import Ledger, Severity
from process.plan import Plan, compose, crosses
from process.pool import Failure, Workers
from process.survey import Survey, survey


@dataclass(frozen=True)
class Prepared:
    """Segments ready to be decoded.

    Attributes:
        surveys: What is in them, in the output's order.
        plans: How to decode each.
        ledger: What capture counted and what is missing.
    """

    surveys: list[Survey]
    plans: list[Plan]
    ledger: Ledger


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
    for outcome in workers.run(survey, found.parts):
        if isinstance(outcome.result, Failure):
            failures.append(outcome.result.reason)
            ledger.add(Severity.LOSS, "read", f"{outcome.item.name}: not read: {outcome.result.reason}")
        else:
            surveys.append(outcome.result)
            advance(outcome.result.events)
    if crosses(surveys):
        again = workers.run(partial(survey, whole=True), [one.part for one in surveys])
        surveys = [outcome.result if isinstance(outcome.result, Survey) else one
                   for one, outcome in zip(surveys, again, strict=True)]  # fmt: skip
    if not surveys:
        reasons = [rejected.message for rejected in found.rejected] + failures
        raise ProcessError("; ".join(reasons) or "no segments given")
    return Prepared(surveys, compose(surveys, ledger, found.running), ledger)
