"""What several verbs say, and how."""

from __future__ import annotations

import os

from capture.size import bytes_of
from process.errors import ProcessError


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def size_text(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def size_of(text: str, option: str) -> int:
    """What an option says of bytes.

    Raises:
        ProcessError: It is no size.
    """
    try:
        return bytes_of(text)
    except ValueError as error:
        raise ProcessError(f"{option}: {error}", 2) from None


def printable(text: str) -> str:
    """A line for a terminal: what a file's name or a message has of control characters is escaped.

    So are lone surrogates, which stand for the bytes of a name that is not UTF-8, and what turns the direction
    of writing.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
