"""The ledger: what was seen, written, lost and decoded, counted; and what that means for the exit status."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from process.text import printable


class Severity(IntEnum):
    """How much an entry matters; the greatest decides the exit status."""

    INFO = 0
    """A plain count."""
    WARNING = 1
    """Worth knowing; nothing that was recorded is missing from the output."""
    LOSS = 2
    """Something that happened is missing from the output, or may be."""


class Ledger:
    """Counts by severity, stage (capture, read, decode) and item, in the order of their first entry."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Severity, str, str], int] = {}

    def add(self, severity: Severity, stage: str, item: str, count: int = 1) -> None:
        """Raise a count. Zero makes an entry of a plain count only. An item may name a file: it is made printable."""
        item = printable(item)
        if count or severity is Severity.INFO:
            key = (severity, stage, item)
            self._counts[key] = self._counts.get(key, 0) + count

    @property
    def lossy(self) -> bool:
        """Whether anything is missing from the output."""
        return any(severity is Severity.LOSS for severity, _, _ in self._counts)

    def rows(self) -> Iterator[tuple[str, str, str, int]]:
        """The entries as (severity, stage, item, count)."""
        for (severity, stage, item), count in self._counts.items():
            yield severity.name.lower(), stage, item, count

    def notes(self) -> list[tuple[Severity, str]]:
        """Losses, then warnings, as lines for people."""
        return [
            (severity, item + (f": {count:,}" if count > 1 else ""))
            for wanted in (Severity.LOSS, Severity.WARNING)
            for (severity, _, item), count in self._counts.items()
            if severity is wanted
        ]
