"""Runs a function over all plans; a batch that fails is done again segment by segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from process.ledger import Ledger, Severity
from process.plan import Plan, divide
from process.pool import Failure, Workers
from process.prepare import Prepared
from process.surveying import survey_all

Result = TypeVar("Result")


def succeeded(
    function: Callable[[Plan], Result], prepared: Prepared, workers: Workers
) -> Iterator[tuple[Plan, Result]]:
    """What a function gives for the plans; a segment that gave nothing is a loss, and the others are still done.

    Plans are done in order, but for the segments of batches that failed: these come last.

    Args:
        function: As for `Workers.run`.
        prepared: Has the plans; its ledger is told of losses.
        workers: What to run it with.
    """
    failed: list[Plan] = []
    for outcome in workers.run(function, prepared.plans):
        if not isinstance(outcome.result, Failure):
            yield outcome.item, outcome.result
        elif len(outcome.item.batch.parts) > 1:
            failed.append(outcome.item)
        else:
            _enter(outcome.item, outcome.result, prepared.ledger)
    for outcome in workers.run(function, _divided(prepared, failed, workers)):
        if isinstance(outcome.result, Failure):
            _enter(outcome.item, outcome.result, prepared.ledger)
        else:
            yield outcome.item, outcome.result


def _enter(plan: Plan, failure: Failure, ledger: Ledger) -> None:
    """Enter a segment that could not be decoded, with the rows that it had."""
    ledger.add(Severity.LOSS, "decode", f"{plan.batch.name}: not decoded: {failure.reason}", max(plan.rows, 1))


def _divided(prepared: Prepared, plans: Sequence[Plan], workers: Workers) -> list[Plan]:
    """Plans of the segments of some batches; what is known of the others is taken from their surveys."""
    made = []
    for plan in plans:
        capture = [one for one in prepared.surveys if one.batch.header.capture == plan.batch.header.capture]
        mine, failed = survey_all(plan.batch.alone(), workers, prepared.folder, files=plan.start is not None)
        rows = dict(zip(plan.batch.parts, plan.counts, strict=True))
        for part, reason in failed:
            prepared.ledger.add(Severity.LOSS, "decode", f"{part.name}: not decoded: {reason}", max(rows[part], 1))
        at = next(k for k, one in enumerate(capture) if one.batch == plan.batch)
        if mine:
            made += divide(capture[:at] + mine + capture[at + 1 :], plan)
    return made
