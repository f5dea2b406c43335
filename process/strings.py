"""The strings of a segment: found by id, and shown so that no guest byte reaches a terminal raw."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from capture.segment import STRING_INDEX, StringFlag
from process.grouping import distinct, group
from process.kernels_distinct import group_bytes
from process.kernels_texts import enclose, take_texts
from process.text_array import TextArray

Ids = npt.NDArray[np.int64]

MAX_ID = (1 << 32) - 1
LOST = -1
"""Stands for the id of a string whose set is lost."""
LOST_TEXT = "([lost])"
"""How a lost string is shown, and no other."""


class Text(NamedTuple):
    """One recorded string: its bytes and its ``StringFlag`` bits."""

    data: bytes
    flags: int


_ENDS = TextArray.of(('")', '"...)'))
"""What is behind a string that is whole, and behind one that was cut."""
_IS_ODD = np.array([not 0x20 <= byte < 0x7F or byte in b'\\"' for byte in range(256)])
"""Bytes that cannot be shown between double quotes as they are, or are part of a longer character."""


class _Block:
    """The strings of one block.

    Attributes:
        bounds: Where each begins in ``data``, and the end of the last: int64 of shape (n + 1,).
        flags: ``StringFlag`` bits of each: uint32.
        data: Their bytes.
    """

    def __init__(self, bounds: Ids, flags: npt.NDArray[np.uint32], data: bytes | memoryview) -> None:
        self.bounds, self.flags, self.data = bounds, flags, data

    @classmethod
    def of(cls, count: int, payload: bytes | memoryview) -> _Block | None:
        """Of a payload; None if that contradicts itself."""
        index_size = STRING_INDEX.size * count
        if index_size > len(payload):
            return None
        index = np.frombuffer(payload, "<u4", 2 * count).reshape(count, 2)
        bounds = np.zeros(count + 1, np.int64)
        bounds[1:] = index[:, 0]
        if (bounds[1:] < bounds[:-1]).any() or bounds[-1] != len(payload) - index_size:
            return None
        return cls(bounds, index[:, 1], memoryview(payload)[index_size:])

    def __reduce__(self) -> tuple[type[_Block], tuple[Ids, npt.NDArray[np.uint32], bytes]]:
        """For pickle, which takes no memoryview."""
        return _Block, (self.bounds, self.flags, bytes(self.data))

    @cached_property
    def is_plain(self) -> npt.NDArray[np.bool_]:
        """Which strings are shown byte by byte: printable ASCII with nothing to escape, and no list."""
        plain: npt.NDArray[np.bool_] = self.flags & (StringFlag.LIST | StringFlag.UNREADABLE) == 0
        filled = np.flatnonzero(np.diff(self.bounds))
        if len(filled):
            odd = _IS_ODD[np.frombuffer(self.data, np.uint8, self.bounds[-1])]
            plain[filled] &= ~np.logical_or.reduceat(odd, self.bounds[filled])
        return plain

    def plain(self, positions: Ids) -> TextArray:
        """The text of some plain strings."""
        return take_texts(TextArray(self.bounds, np.frombuffer(self.data, np.uint8)), positions)

    def show_plain(self, positions: Ids) -> TextArray:
        """What `show` gives for some plain strings."""
        rest = (self.flags[positions] & StringFlag.TRUNCATED != 0).astype(np.uint32)
        data = np.frombuffer(self.data, np.uint8)
        return enclose(data, self.bounds[positions], self.bounds[positions + 1], '("', rest, _ENDS)


class _Later:
    """A block of strings that nobody has asked for yet."""

    def __init__(self, count: int, read: Callable[[], bytes | memoryview | None]) -> None:
        self._count, self._read = count, read

    def block(self) -> _Block:
        """Read it; without strings if it is damaged."""
        payload = self._read()
        read = None if payload is None else _Block.of(self._count, payload)
        return read or _Block(np.zeros(1, np.int64), np.zeros(0, np.uint32), b"")


class StringTable:
    """The strings of a segment by id, as far as their blocks are there."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._blocks: list[_Block | _Later] = []

    def add(self, first: int, count: int, payload: bytes | memoryview) -> bool:
        """Take a STRINGS block's payload. False if it contradicts itself and was not taken."""
        block = _Block.of(count, payload) if first + count <= MAX_ID + 1 else None
        if block is not None:
            self._insert(first, block)
        return block is not None

    def add_later(self, first: int, count: int, read: Callable[[], bytes | memoryview | None]) -> None:
        """Take a STRINGS block that is read when one of its strings is asked for.

        Args:
            first: Id of its first string; no other block may have any of its ids.
            count: Strings in it.
            read: Gives its payload; None if it is damaged, and its strings are lost.
        """
        self._insert(first, _Later(count, read))

    def _insert(self, first: int, block: _Block | _Later) -> None:
        at = bisect_right(self._firsts, first)
        self._firsts.insert(at, first)
        self._blocks.insert(at, block)

    def _block(self, at: int) -> _Block:
        """A block, which is read by now."""
        found = self._blocks[at]
        if isinstance(found, _Later):
            found = self._blocks[at] = found.block()
        return found

    def _read(self) -> list[_Block]:
        """All blocks."""
        return [self._block(at) for at in range(len(self._blocks))]

    def add_run(self, first: int, counts: Ids, payloads: Sequence[bytes | memoryview]) -> bool:
        """Take the payloads of STRINGS blocks whose ids follow each other, as one; False if one contradicts itself.

        Args:
            first: Id of the first string.
            counts: Strings of each block, none without: int64.
            payloads: Of each block.
        """
        middles = (STRING_INDEX.size * counts).tolist()
        lengths = np.array([len(payload) for payload in payloads]) - middles
        if (lengths < 0).any() or first + counts.sum() > MAX_ID + 1:
            return False
        pieces = [payload[:middle] for payload, middle in zip(payloads, middles, strict=True)]
        index = np.frombuffer(b"".join(pieces), "<u4").reshape(-1, 2)
        bounds = np.zeros(len(index) + 1, np.int64)
        bounds[1:] = index[:, 0] + np.repeat(np.cumsum(lengths) - lengths, counts)
        if (bounds[1:] < bounds[:-1]).any() or (bounds[np.cumsum(counts)] != np.cumsum(lengths)).any():
            return False
        data = b"".join([payload[middle:] for payload, middle in zip(payloads, middles, strict=True)])
        self._insert(first, _Block(bounds, index[:, 1], data))
        return True

    def join(self) -> None:
        """Make one block of those whose ids follow each other: of thousands each would cost as much as a large one."""
        firsts, joined = self._firsts, self._read()
        self._firsts, self._blocks = [], []
        run, end = list[_Block](), 0
        for first, block in zip(firsts, joined, strict=True):
            if not run or first != end:
                self._add_run(run)
                self._firsts.append(first)
                run, end = [], first
            run.append(block)
            end += len(block.flags)
        self._add_run(run)

    def _add_run(self, run: list[_Block]) -> None:
        """Take blocks as one."""
        if run:
            ends = np.cumsum([block.bounds[-1] for block in run])
            bounds = [block.bounds[1:] + before for block, before in zip(run, (0, *ends.tolist()), strict=False)]
            data = b"".join(block.data[: block.bounds[-1]] for block in run)
            flags = np.concatenate([block.flags for block in run])
            self._blocks.append(_Block(np.concatenate(([0], *bounds)), flags, data))

    def unite(self, count: int) -> Ids | None:
        """Keep strings that are alike once, if there are all from 1 to ``count``: each segment has those of its own.

        Returns:
            The new id of each old one, from 0 on, which stays; None if nothing was done.
        """
        if self._firsts != [1] or len(self._block(0).flags) != count:
            return None
        block = self._block(0)
        texts = TextArray(block.bounds, np.frombuffer(block.data, np.uint8))
        found = group_bytes(texts)
        if found is None:
            return None
        kinds, number = group(found[1] << 32 | block.flags)
        firsts = np.empty(len(kinds), np.int64)
        firsts[number[::-1]] = np.arange(count)[::-1]
        united = take_texts(texts, firsts)
        self._blocks = [_Block(united.offsets, block.flags[firsts], united.data.tobytes())]
        return np.concatenate(([0], number + 1))

    def get(self, number: int) -> Text | None:
        """The string with an id, None if its block is lost."""
        at = bisect_right(self._firsts, number) - 1
        if at < 0 or number < 1:
            return None
        block, position = self._block(at), number - self._firsts[at]
        if position >= len(block.flags):
            return None
        start, end = block.bounds.item(position), block.bounds.item(position + 1)
        return Text(bytes(block.data[start:end]), block.flags.item(position))

    def several(self, numbers: Ids) -> list[Text | None]:
        """What `get` gives for each of some ids."""
        found: list[Text | None] = [None] * len(numbers)
        blocks = np.searchsorted(self._firsts, numbers, side="right") - 1
        for at in distinct(blocks[(blocks >= 0) & (numbers > 0)]).tolist():
            block, mine = self._block(at), np.flatnonzero(blocks == at)
            positions = numbers[mine] - self._firsts[at]
            mine, positions = mine[positions < len(block.flags)], positions[positions < len(block.flags)]
            bounds = block.bounds[positions].tolist(), block.bounds[positions + 1].tolist()
            for row, start, end, flags in zip(mine.tolist(), *bounds, block.flags[positions].tolist(), strict=True):
                found[row] = Text(bytes(block.data[start:end]), flags)
        return found

    def holds(self, numbers: Ids) -> npt.NDArray[np.bool_]:
        """Whether each id is 0, which is no string, or of a string that is there."""
        firsts = np.array([0, *self._firsts], np.int64)
        ends = np.array([1, *(first + len(one.flags) for first, one in zip(self._firsts, self._read(), strict=True))])
        at = np.searchsorted(firsts, numbers, side="right") - 1
        there: npt.NDArray[np.bool_] = (at >= 0) & (numbers < ends[at])
        return there

    def plain(self, numbers: Ids) -> tuple[npt.NDArray[np.bool_], TextArray]:
        """Which of some strings are whole, and printable ASCII with nothing to escape; and these, in their order."""
        blocks = np.searchsorted(self._firsts, numbers, side="right") - 1
        found, pieces, rows = np.zeros(len(numbers), np.bool_), [], []
        for at in distinct(blocks[blocks >= 0]).tolist():
            block = self._block(at)
            mine = np.flatnonzero(blocks == at)
            positions = numbers[mine] - self._firsts[at]
            there = positions < len(block.flags)
            there[there] = block.is_plain[positions[there]] & (block.flags[positions[there]] == 0)
            pieces.append(block.plain(positions[there]))
            rows.append(mine[there])
        if not rows:
            return found, TextArray.of(())
        order = np.concatenate(rows)
        found[order] = True
        return found, take_texts(TextArray.joined(pieces), np.argsort(order))

    def show(self, numbers: Ids) -> tuple[TextArray, npt.NDArray[np.bool_]]:
        """What `show` gives for each of some ids, and which are lost; most are made all at once.

        Args:
            numbers: Distinct ids of strings; one that is lost, or ``LOST``, is shown as `([lost])`.
        """
        blocks = np.searchsorted(self._firsts, numbers, side="right") - 1
        pieces, rows, rest = [], [], np.ones(len(numbers), np.bool_)
        for at in distinct(blocks[blocks >= 0]).tolist():
            block = self._block(at)
            mine = np.flatnonzero(blocks == at)
            positions = numbers[mine] - self._firsts[at]
            there = positions < len(block.flags)
            there[there] = block.is_plain[positions[there]]
            pieces.append(block.show_plain(positions[there]))
            rows.append(mine[there])
            rest[mine[there]] = False
        others = np.flatnonzero(rest)
        found = [self.get(number) for number in numbers[others].tolist()]
        pieces.append(TextArray.of([show(text) for text in found]))
        lost = np.zeros(len(numbers), np.bool_)
        lost[others] = [text is None for text in found]
        place = np.empty(len(numbers), np.int64)
        place[np.concatenate([*rows, others])] = np.arange(len(numbers))
        return take_texts(TextArray.joined(pieces), place), lost


ReadSets = Callable[[], Ids | None]
"""Reads a block of sets; gives None if it is damaged."""


class SetTable:
    """The sets of a segment: which string each argument of an event has."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, int, Ids | ReadSets]] = []
        self._joined: _Sets | None = None

    def __getstate__(self) -> dict[str, object]:
        """For pickle, without what follows from the rest."""
        return {"_blocks": self._blocks, "_joined": None}

    def add(self, first: int, rows: Ids) -> bool:
        """Take a SETS block: string ids of shape (sets, 6). False if its own ids cannot be."""
        if first + len(rows) > MAX_ID + 1:
            return False
        self._blocks.append((first, len(rows), rows))
        self._joined = None
        return True

    def add_later(self, first: int, count: int, read: ReadSets) -> None:
        """Take a SETS block that is read when one of its sets is asked for.

        Args:
            first: Id of its first set; no other block may have any of its ids.
            count: Sets in it.
            read: Gives what `add` takes; None if it is damaged, and its sets are lost.
        """
        self._blocks.append((first, count, read))
        self._joined = None

    def holds(self, numbers: Ids) -> npt.NDArray[np.bool_]:
        """Whether each id is 0, which is no set, or of a set that is there."""
        there: npt.NDArray[np.bool_] = self.find(numbers)[0] != LOST
        return there

    def find(self, numbers: Ids) -> Ids:
        """String ids of each set.

        Args:
            numbers: Set ids, 0 for none; shape (n,).

        Returns:
            int64 of shape (6, n): 0 where an argument has no string, ``LOST`` throughout for a lost set.
        """
        found, position, rows = self._places(numbers)
        ids: Ids = rows.take(np.where(found, position, 0), axis=1)
        ids[:, ~found & (numbers > 0)] = LOST
        return ids

    def of_argument(self, numbers: Ids, position: int) -> Ids:
        """Likewise, of one argument alone: int64 of shape (n,)."""
        found, at, rows = self._places(numbers)
        ids: Ids = rows[position].take(np.where(found, at, 0))
        ids[~found & (numbers > 0)] = LOST
        return ids

    def _places(self, numbers: Ids) -> tuple[npt.NDArray[np.bool_], Ids, Ids]:
        """Whether each set is there, and where among all rows, which come third: of shape (6, n)."""
        if self._joined is None:
            self._joined = _Sets(self._blocks)
        return (*self._joined.places(numbers), self._joined.rows)


class _Sets:
    """Blocks of sets as one.

    Attributes:
        rows: String ids: int64 of shape (6, n). The first is the empty set's; those of a block that has not been read
            are anything.
    """

    def __init__(self, blocks: Sequence[tuple[int, int, Ids | ReadSets]]) -> None:
        """Join blocks: the first id of each, how many sets it has, and they, or what reads them."""
        some = sorted(blocks, key=lambda block: block[0])
        firsts = np.array([0, *(first for first, _, _ in some)], np.int64)
        ends = np.cumsum([1, *(count for _, count, _ in some)])
        starts = np.concatenate(([0], ends[:-1]))
        heads = np.flatnonzero(np.append(True, np.diff(firsts) != np.diff(starts)))  # mostly all follow each other
        self._firsts, self._starts = firsts[heads], starts[heads]
        self._ends = ends[np.append(heads[1:], len(firsts)) - 1]
        self.rows = np.empty((6, ends[-1]), np.int64)
        self.rows[:, 0] = 0
        self._later: dict[int, ReadSets] = {}
        has_later = any(callable(block) for _, _, block in some)
        self._missing = np.zeros(ends[-1] if has_later else 0, np.bool_)
        """Of rows, whether they have not been read, or are lost."""
        for start, end, (_, _, block) in zip(starts[1:].tolist(), ends[1:].tolist(), some, strict=True):
            if callable(block):
                self._later[start] = block
                self._missing[start:end] = True
            else:
                self.rows[:, start:end] = block.T
        self._begins = np.array(list(self._later), np.int64)

    def places(self, numbers: Ids) -> tuple[npt.NDArray[np.bool_], Ids]:
        """Whether each set is there, and its row."""
        if len(self._firsts) == 1:
            found, position = (numbers > 0) & (numbers < self._ends[0]), numbers
        else:
            run = np.searchsorted(self._firsts, numbers, side="right") - 1
            position = self._starts[run] + numbers - self._firsts[run]
            found = (numbers > 0) & (position < self._ends[run])
        if len(self._missing):
            missing = self._missing.take(position, mode="clip") & found
            if missing.any():
                self._read(position[missing])
                found = found & ~self._missing.take(position, mode="clip")
        return found, position

    def _read(self, rows: Ids) -> None:
        """Read the blocks that some rows are in, if that has not been tried."""
        for start in self._begins[distinct(np.searchsorted(self._begins, rows, side="right") - 1)].tolist():
            read = self._later.pop(start, None)
            block = read() if read is not None else None
            if block is not None:
                self.rows[:, start : start + len(block)] = block.T
                self._missing[start : start + len(block)] = False


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
        return LOST_TEXT
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
