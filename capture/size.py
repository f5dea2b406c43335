"""Numbers of bytes as people write them, for the options of both commands."""

from __future__ import annotations

import re


def bytes_of(text: str) -> int:
    """A number of bytes, with an optional K, M or G (powers of 1024).

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no size; write bytes, or 64K, 800M, 2G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]
