"""What a part of the benchmark is: a name, what it is about, and a function that measures and reports."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import synthetic


@dataclass(frozen=True)
class Target:
    """A figure with a limit.

    Attributes:
        text: What the figure is.
        limit: What it should reach, or keep to.
        got: What it was; None if it could not be measured.
        at_most: Whether the limit is an upper one.
        note: Under which condition the limit was set, if this run did not meet that; what bounds the figure.
    """

    text: str
    limit: float
    got: float | None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.got is not None and (self.got <= self.limit if self.at_most else self.got >= self.limit)


@dataclass(frozen=True)
class Report:
    """What a part measured: figures, which must be JSON values, and the targets that they decide."""

    figures: dict[str, Any]
    targets: list[Target] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        events: Of generated captures.
        repeats: Of each measurement.
        count: Loops of the guest's workload.
        segments: Captures of the user's own.
        scratch: A folder that vanishes afterwards.
    """

    events: int
    repeats: int
    count: int
    segments: list[Path]
    scratch: Path

    def capture(self, events: int, adversarial: bool = False) -> Path:
        """A generated capture, made when it is first asked for."""
        folder = self.scratch / f"{'adversarial' if adversarial else 'mix'}-{events}"
        if not folder.exists():
            say(f"generating {events:,} events")
            synthetic.generate(folder, events, adversarial=adversarial)
        return folder

    def needs(self, events: int) -> str:
        """A note for a target that was set for so many events, if these are fewer."""
        return f"set for --events {events}" if self.events < events else ""


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: For ``--only``.
        about: One line for ``--help``.
        run: Measures.
        usual: Whether it belongs to a run without ``--only``.
    """

    name: str
    about: str
    run: Callable[[Options], Report]
    usual: bool = True


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
