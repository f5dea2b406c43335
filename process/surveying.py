"""The first half of phase one (`prepare.py`): survey segments in parallel; a batch that fails, segment by segment.

Imports nothing that only later steps need: workers begin with it while the command still loads these.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from process.batch import Batch
from process.discover import Part, Parts
from process.errors import ProcessError
from process.ledger import Ledger, Severity
from process.pool import Failure, Workers
from process.stopping import held
from process.survey import Survey, survey
from process.temporary import Temporary
from process.work import Work


class Folder:
    """A temporary folder that lasts as long as this object.

    Attributes:
        path: Where it is; None if there can be none, or it is not wanted.
    """

    def __init__(self, is_wanted: bool = True) -> None:
        """Make it."""
        self.path: Path | None = None
        if not is_wanted:
            return
        with held(), suppress(OSError):
            folder = Temporary(Path(gettempdir()))
            self.path = folder.path
            weakref.finalize(self, folder.remove)


@dataclass(frozen=True)
class Surveyed:
    """Segments that were surveyed, and are to be planned.

    Attributes:
        surveys: What is in them, in the output's order.
        ledger: What is missing.
        folder: What the surveys keep for the decoders, for as long as this object lives.
    """

    surveys: list[Survey]
    ledger: Ledger
    folder: Folder


def survey_work(
    work: Work,
    workers: Workers,
    advance: Callable[[int], object] = lambda _: None,
    *,
    files: bool = True,
) -> Surveyed:
    """Survey.

    Args:
        work: What there is to do.
        workers: What to survey with.
        advance: Called with the events of each segment surveyed.
        files: Whether anybody will ask what descriptors are; without, plans have no start.

    Raises:
        ProcessError: No segment can be read.
    """
    found, ledger = work.found, Ledger()
    for rejected in found.rejected:
        ledger.add(Severity.LOSS if rejected.loss else Severity.WARNING, "read", rejected.message)
    folder = Folder(files or any(len(batch.parts) > 1 for batch in work.batches))
    surveys, failures = survey_all(work.batches, workers, folder, advance, files=files)
    for part, reason in failures:
        ledger.add(Severity.LOSS, "read", f"{part.name}: not read: {reason}")
    if not surveys:
        reasons = [rejected.message for rejected in found.rejected] + [reason for _, reason in failures]
        raise ProcessError("; ".join(reasons) or "no segments given")
    return Surveyed(surveys, ledger, folder)


def survey_all(
    wanted: Sequence[Batch],
    workers: Workers,
    folder: Folder,
    advance: Callable[[int], object] = lambda _: None,
    *,
    files: bool = True,
) -> tuple[list[Survey], list[tuple[Part, str]]]:
    """Survey batches; one that fails is done again segment by segment, so that a bad one costs itself alone.

    Args:
        wanted: The batches.
        workers: What to survey with.
        folder: Takes what they keep for the decoders.
        advance: Called with the events of each batch surveyed.
        files: Whether anybody will ask what descriptors are.

    Returns:
        Surveys in order, and the segments that cannot be read, and why.
    """
    made: list[Survey] = []
    failed: list[tuple[Part, str]] = []
    divided: list[Batch] = []
    look = partial(survey, folder=folder.path, files=files)
    for outcome in workers.run(look, wanted):
        if isinstance(outcome.result, Survey):
            made.append(outcome.result)
            failed += outcome.result.failed
            advance(outcome.result.events)
        elif len(outcome.item.parts) > 1:
            divided += outcome.item.alone()
        else:
            failed.append((outcome.item.parts[0], _reason(outcome.item, outcome.result)))
    if divided:
        more, lost = survey_all(divided, workers, folder, advance, files=files)
        order = {key: number for number, key in enumerate(key for batch in wanted for key in batch.key)}
        made = sorted(made + more, key=lambda one: order[one.batch.key[0]])
        failed = sorted(failed + lost, key=lambda one: order[Parts.of((one[0],)).numbers()[0]])
    return made, failed


def _reason(batch: Batch, failure: Failure) -> str:
    """Why a segment cannot be read, or what of it."""
    split = batch.split
    return failure.reason if split is None else f"from event {split.first} on: {failure.reason}"
