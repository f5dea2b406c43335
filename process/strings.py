"""The strings of a segment: found by id, and shown so that no guest byte reaches a terminal raw."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import STRING_INDEX, StringFlag

Ids = npt.NDArray[np.int64]

MAX_ID = (1 << 32) - 1
LOST = -1
"""Stands for the id of a string whose set is lost."""


class Text(NamedTuple):
    """One recorded string: its bytes and its ``StringFlag`` bits."""

    data: bytes
    flags: int


class StringTable:
    """The strings of a segment by id, as far as their blocks are there."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._blocks: list[tuple[Ids, npt.NDArray[np.uint32], memoryview]] = []

    def add(self, first: int, count: int, payload: bytes | memoryview) -> bool:
        """Take a STRINGS block's payload. False if it contradicts itself and was not taken."""
        index_size = STRING_INDEX.size * count
        if first + count > MAX_ID + 1 or index_size > len(payload):
            return False
        index = np.frombuffer(payload, "<u4", 2 * count).reshape(count, 2)
        bounds = np.concatenate(([0], index[:, 0])).astype(np.int64)
        if (np.diff(bounds) < 0).any() or bounds[-1] > len(payload) - index_size:
            return False
        at = bisect_right(self._firsts, first)
        self._firsts.insert(at, first)
        self._blocks.insert(at, (bounds, index[:, 1], memoryview(payload)[index_size:]))
        return True

    def get(self, number: int) -> Text | None:
        """The string with an id, None if its block is lost."""
        at = bisect_right(self._firsts, number) - 1
        if at < 0 or number < 1:
            return None
        bounds, flags, data = self._blocks[at]
        position = number - self._firsts[at]
        if position >= len(flags):
            return None
        return Text(bytes(data[bounds[position] : bounds[position + 1]]), int(flags[position]))


class SetTable:
    """The sets of a segment: which string each argument of an event has."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, Ids]] = []
        self._joined: tuple[Ids, Ids, Ids, Ids] | None = None

    def add(self, first: int, rows: Ids) -> bool:
        """Take a SETS block: string ids of shape (sets, 6). False if its own ids cannot be."""
        if first + len(rows) > MAX_ID + 1:
            return False
        self._blocks.append((first, rows))
        self._joined = None
        return True

    def find(self, numbers: Ids) -> Ids:
        """String ids of each set.

        Args:
            numbers: Set ids, 0 for none; shape (n,).

        Returns:
            int64 of shape (6, n): 0 where an argument has no string, ``LOST`` throughout for a lost set.
        """
        if self._joined is None:
            self._joined = self._join()
        firsts, starts, ends, rows = self._joined
        block = np.searchsorted(firsts, numbers, side="right") - 1
        position = starts[block] + numbers - firsts[block]
        found = (numbers > 0) & (position < ends[block])
        ids: Ids = rows[np.where(found, position, 0)].T.copy()
        ids[:, ~found & (numbers > 0)] = LOST
        return ids

    def _join(self) -> tuple[Ids, Ids, Ids, Ids]:
        """First id, start and end row of each block, and all rows; row 0 is the empty set, of id 0."""
        blocks = [(0, np.zeros((1, 6), np.int64)), *sorted(self._blocks, key=lambda block: block[0])]
        ends = np.cumsum([len(rows) for _, rows in blocks])
        starts = ends - [len(rows) for _, rows in blocks]
        firsts = np.array([first for first, _ in blocks], np.int64)
        return firsts, starts, ends, np.concatenate([rows for _, rows in blocks])


def escape(data: bytes, quote: str = "") -> str:
    r"""Guest bytes as printable text, reversibly.

    Printable characters of valid UTF-8 stay; a backslash and ``quote`` get a backslash before them; the bytes
    of all else (controls, invalid UTF-8, separators, invisible and direction-changing characters) become
    ``\xNN``.

    Args:
        data: Any bytes.
        quote: The character that will enclose the text, or empty.
    """
    text = data.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text and not (quote and quote in text):
        return text
    return "".join(_shown(character, quote) for character in text)


def _shown(character: str, quote: str) -> str:
    if character in ("\\", quote):
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def elements(text: Text) -> list[bytes]:
    """The strings of a list. What a truncated list's last, unended string has is kept."""
    parts = text.data.split(b"\0")
    return parts[:-1] if not parts[-1] else parts


def show(text: Text | None) -> str:
    """A string or list as the reprs have it, without the address before it; None is a lost one."""
    if text is None:
        return "([lost])"
    rest = "[unreadable]" if text.flags & StringFlag.UNREADABLE else ""
    rest = rest or ("..." if text.flags & StringFlag.TRUNCATED else "")
    if rest == "[unreadable]" and not text.data:
        return "([unreadable])"
    if text.flags & StringFlag.LIST:
        shown = [f"'{escape(element, _SINGLE)}'" for element in elements(text)]
        return f"([{', '.join(shown + ([rest] if rest else []))}])"
    return f'("{escape(text.data, _DOUBLE)}"{rest})'


_SINGLE, _DOUBLE = "'", '"'


def first_element(text: Text | None) -> bytes:
    """argv[0] of a list; empty if there is none."""
    listed: Sequence[bytes] = elements(text) if text is not None else ()
    return listed[0] if listed else b""
