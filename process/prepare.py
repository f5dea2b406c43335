"""Phase one of every command: find the segments, survey them in parallel, plan their decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from process.batch import Batch, batches
from process.discover import Part, discover
from process.errors import ProcessError
from process.ledger import Ledger, Severity
from process.plan import Plan, compose, crosses
from process.pool import Workers
from process.survey import Survey, survey


@dataclass(frozen=True)
class Prepared:
    """Segments ready to be decoded.

    Attributes:
        surveys: What is in them, in the output's order.
        plans: How to decode each.
        ledger: What capture counted and what is missing.
        whole: Whether surveys hold all that their segments do to descriptors.
    """

    surveys: list[Survey]
    plans: list[Plan]
    ledger: Ledger
    whole: bool = False


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
    surveys, failures = survey_all(batches(found.parts), workers, advance)
    for part, reason in failures:
        ledger.add(Severity.LOSS, "read", f"{part.name}: not read: {reason}")
    whole = crosses(surveys)
    if whole:
        again = workers.run(partial(survey, whole=True), [one.batch for one in surveys])
        surveys = [outcome.result if isinstance(outcome.result, Survey) else one
                   for one, outcome in zip(surveys, again, strict=True)]  # fmt: skip
    if not surveys:
        reasons = [rejected.message for rejected in found.rejected] + [reason for _, reason in failures]
        raise ProcessError("; ".join(reasons) or "no segments given")
    return Prepared(surveys, compose(surveys, ledger), ledger, whole)


def survey_all(
    wanted: Sequence[Batch],
    workers: Workers,
    advance: Callable[[int], object] = lambda _: None,
    *,
    whole: bool = False,
) -> tuple[list[Survey], list[tuple[Part, str]]]:
    """Survey batches; one that fails is done again segment by segment, so that a bad one costs itself alone.

    Args:
        wanted: The batches.
        workers: What to survey with.
        advance: Called with the events of each batch surveyed.
        whole: Keep all that they do to descriptors.

    Returns:
        Surveys in order, and the segments that cannot be read, and why.
    """
    made: dict[Batch, Survey] = {}
    failed: dict[Part, str] = {}
    divided: list[Batch] = []
    for outcome in workers.run(partial(survey, whole=whole), wanted):
        if isinstance(outcome.result, Survey):
            made[outcome.item] = outcome.result
            failed.update(outcome.result.failed)
            advance(outcome.result.events)
        elif len(outcome.item.parts) > 1:
            divided += outcome.item.alone()
        else:
            failed[outcome.item.parts[0]] = outcome.result.reason
    if divided:
        more, lost = survey_all(divided, workers, advance, whole=whole)
        made.update((one.batch, one) for one in more)
        failed.update(lost)
    order = {part: number for number, part in enumerate(part for batch in wanted for part in batch.parts)}
    surveys = sorted(made.values(), key=lambda one: order[one.batch.parts[0]])
    return surveys, sorted(failed.items(), key=lambda one: order[one[0]])
