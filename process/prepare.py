"""Phase one of every command: find the segments, survey them (`surveying.py`), plan their decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from process.fd_history import History
from process.ledger import Ledger
from process.memory import Room
from process.plan import Plan, compose
from process.pool import Workers
from process.survey import Survey
from process.surveying import Folder, Surveyed, survey_work
from process.tree import Tree
from process.work import Work, divide


@dataclass(frozen=True)
class Prepared:
    """Segments ready to be decoded.

    Attributes:
        surveys: What is in them, in the output's order.
        plans: How to decode each.
        trees: The processes of each capture.
        ledger: What capture counted and what is missing.
        folder: What the surveys keep for the decoders, for as long as this object lives.
        room: How much is to be done at a time.
        histories: Of each capture, for the table `fd`; none if nobody makes it.
    """

    surveys: list[Survey]
    plans: list[Plan]
    trees: list[Tree]
    ledger: Ledger
    folder: Folder
    room: Room
    histories: list[History] = field(default_factory=list)

    def with_pieces(self) -> Prepared:
        """The same, but each batch's part of the table `fd` is made with its rows."""
        pieces = [piece for history in self.histories for piece in history.pieces]
        return replace(self, plans=[replace(plan, files=piece) for plan, piece in zip(self.plans, pieces, strict=True)])


def prepare(
    paths: Sequence[Path], workers: Workers, *, files: bool = True, trees: bool = True, history: bool = False,
    is_query: bool = False,
) -> Prepared:  # fmt: skip
    """Find, survey and plan: `work.divide`, `survey_work` and `plan_work`."""
    work = divide(paths, workers, is_query=is_query)
    return plan_work(work, survey_work(work, workers, files=files), trees=trees, history=history)


def plan_work(work: Work, surveyed: Surveyed, *, trees: bool = True, history: bool = False) -> Prepared:
    """Plan.

    Args:
        work: What there is to do.
        surveyed: What came of its survey.
        trees: Whether anybody will ask which program a process ran, or count rows by it.
        history: Whether anybody will make the table `fd`; takes trees, and a survey with files.
    """
    surveys, ledger, folder, histories = surveyed.surveys, surveyed.ledger, surveyed.folder, list[History]()
    asked = histories if history else None
    plans, grown = compose(surveys, ledger, work.found.running, trees=trees, histories=asked, folder=folder.path)
    return Prepared(surveys, plans, grown, ledger, folder, work.room, histories)
