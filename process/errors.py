"""What ends a command."""

from __future__ import annotations


class ProcessError(Exception):
    """A command cannot go on. The text is one line: what, where, what to do.

    Attributes:
        status: Exit status.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
