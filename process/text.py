"""What several verbs say, and how."""

from __future__ import annotations

import os
import re

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
    """A number of bytes, with an optional K, M or G (powers of 1024).

    Raises:
        ProcessError: It is none.
    """
    match = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ProcessError(f"{option}: {text!r} is no size; write bytes, or 800M, 2G", 2)
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]


def printable(text: str) -> str:
    """A line for a terminal: what a file's name or a message has of control characters is escaped.

    So are lone surrogates, which stand for the bytes of a name that is not UTF-8, and what turns the direction
    of writing.
    """
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
