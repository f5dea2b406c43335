"""The arguments of many events: which call they belong to, their values and reprs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from process.prototypes import Argument, PrototypeTable
from process.read import ARG0, LOW, NR_STRINGS, Words
from process.render import Codes, Column, to_unsigned
from process.schema import ARGS
from process.strings import LOST, StringTable, show

Rows = npt.NDArray[np.intp]
Ids = npt.NDArray[np.int64]

_VALUES = frozenset({"value", "fd"})
_CAPTURED = frozenset({"string", "strings", "out_string", "buffer"})
"""Kinds of argument whose bytes, if they were recorded, are shown."""
_AWAITED = frozenset({"string", "strings", "out_string"})
"""Kinds that have a string unless it was lost."""
_UNKNOWN_ARGS = tuple(Argument("unsigned long", f"arg{k}", "value") for k in range(ARGS))
_SILENT = frozenset({"sys_rt_sigreturn", "sys_sigreturn", "sys_reboot"})
"""Calls that come back only when they fail."""


NO_FILE = -3
"""Code of the name of a negative number."""


@dataclass(frozen=True)
class FileNames:
    """What the descriptors of a slice's calls are.

    Attributes:
        names: Texts by their codes.
        codes: For each argument that is a descriptor, by (ABI, number of the syscall, position): a code for each of
            the call's events; `NO_FILE`, or another negative one for what is not known.
    """

    names: Sequence[str]
    codes: dict[tuple[int, int, int], Ids]


@dataclass(frozen=True)
class Call:
    """The events of one syscall number in a slice.

    Attributes:
        abi: Number of the ABI, 0 for the segment's own.
        number: Of the syscall.
        name: Of the syscall.
        args: Its arguments.
        may_end: Whether it is no surprise that it did not come back.
        is_known: Whether the table has it.
        rows: Indices of its events, ascending.
    """

    abi: int
    number: int
    name: str
    args: tuple[Argument, ...]
    may_end: bool
    is_known: bool
    rows: Rows


def group(table: PrototypeTable | None, abis: Ids, words: Words) -> tuple[list[Call], npt.NDArray[np.intp]]:
    """Sort events by syscall.

    Args:
        table: Of the segment's own ABI, None if there is none.
        abis: ABI number of each event.
        words: The events.

    Returns:
        The calls, and for each event an index into them.
    """
    keys = abis << 32 | (words[NR_STRINGS] & LOW).astype(np.int64)
    distinct = np.unique(keys)
    codes = np.searchsorted(distinct, keys)
    narrow = codes.astype(np.uint16) if len(distinct) <= 1 << 16 else codes  # numpy sorts 16 bits by radix
    order = np.argsort(narrow, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(distinct)))
    rows = np.split(order, ends[:-1])
    pairs = zip(distinct.tolist(), rows, strict=False)
    return [_call(table, key >> 32, key & 0xFFFFFFFF, mine) for key, mine in pairs], codes


def _call(table: PrototypeTable | None, abi: int, number: int, rows: Rows) -> Call:
    prototype = table.by_number.get(number) if table is not None and abi == 0 else None
    if prototype is None:
        return Call(abi, number, f"sys_unknown_{number}", _UNKNOWN_ARGS, False, False, rows)
    args = prototype.args if prototype.known else _UNKNOWN_ARGS
    may_end = prototype.noreturn or prototype.name in _SILENT
    return Call(abi, number, prototype.name, args, may_end, True, rows)


class Arguments:
    """The reprs of a slice's arguments.

    Attributes:
        columns: One for each position.
        prefixes: What their texts begin with.
        suffixes: What their texts end with.
        lost: Arguments whose string is lost.
    """

    def __init__(
        self, words: Words, word_size: int, string_ids: Ids, strings: StringTable, files: FileNames | None = None
    ) -> None:
        """Prepare.

        Args:
            words: The events, uint64 of shape (12, n).
            word_size: Bytes of a register.
            string_ids: String of each argument of each event, as `SetTable.find` gives it: int64 (6, n).
            strings: Of the segment.
            files: What descriptors are; without it, nothing is known of any.
        """
        self.columns = [Column(np.zeros(words.shape[1], np.uint32)) for _ in range(ARGS)]
        self.prefixes: list[str] = []
        self.suffixes: list[str] = []
        self.lost = 0
        self._known: dict[str | int, int] = {}
        self._words, self._word_size, self._strings = words, word_size, strings
        self._ids, self._files = string_ids, files

    def add(self, calls: Sequence[Call]) -> None:
        """Find the distinct values of each call's arguments."""
        for call in calls:
            for position, argument in enumerate(call.args):
                if argument.kind == "fd" and self._files is not None:
                    self._add_fd(position, argument, call.rows, self._files.codes[call.abi, call.number, position])
                else:
                    self._add(position, argument, call.rows)

    def _add_fd(self, position: int, argument: Argument, rows: Rows, codes: Ids) -> None:
        """Show descriptors with their names: distinct pairs of a value and a name."""
        values = to_unsigned(self._words[ARG0 + position][rows], self._word_size)
        distinct, which = np.unique(values, return_inverse=True)
        names, of_name = np.unique(codes, return_inverse=True)
        pairs, inverse = np.unique(which * len(names) + of_name, return_inverse=True)
        shown = np.array([self._suffix(self._files_text(code)) for code in names.tolist()], np.uint32)
        self.prefixes.append(f"{argument.name}=")
        self.columns[position].put(
            rows, inverse, distinct[pairs // len(names)], len(self.prefixes) - 1, shown[pairs % len(names)], False
        )

    def _files_text(self, code: int) -> str:
        if code == NO_FILE:
            return ""
        return f"({self._files.names[code]})" if code >= 0 and self._files is not None else "([???])"

    def _add(self, position: int, argument: Argument, rows: Rows) -> None:
        values = to_unsigned(self._words[ARG0 + position][rows], self._word_size)
        distinct, inverse = np.unique(values, return_inverse=True)
        is_pointer = argument.kind not in _VALUES
        suffix = self._suffix(suffix_of(argument))
        suffixes = np.full(len(distinct), suffix, np.uint32)
        if argument.kind in _CAPTURED:
            ids = self._ids[position][rows]
            if argument.kind not in _AWAITED:
                ids = np.where(ids == LOST, 0, ids)
            if ids.any():
                distinct, inverse, suffixes = self._with_strings(distinct, inverse, ids, suffix)
        prefix = len(self.prefixes)
        self.prefixes.append(f"{argument.name}=")
        self.columns[position].put(rows, inverse, distinct, prefix, suffixes, is_pointer)

    def _with_strings(
        self, distinct: Words, inverse: npt.NDArray[np.intp], ids: Ids, plain: int
    ) -> tuple[Words, npt.NDArray[np.intp], Codes]:
        """Split distinct addresses into distinct pairs of an address and the string that was there."""
        strings, which = np.unique(ids, return_inverse=True)
        pairs, inverse = np.unique(inverse * len(strings) + which, return_inverse=True)
        values, which = distinct[pairs // len(strings)], pairs % len(strings)
        suffixes = np.array([self._string(number) if number else plain for number in strings.tolist()], np.uint32)
        lost = np.array([suffix == self._known.get("([lost])") for suffix in suffixes.tolist()])
        if lost.any():
            self.lost += int((lost[which] & (values != 0))[inverse].sum())
        return values, inverse, suffixes[which]

    def _string(self, number: int) -> int:
        """The suffix that shows a string; each is formatted once."""
        if number not in self._known:
            text = self._strings.get(number)
            self._known[number] = self._suffix("([lost])") if text is None else self._new(show(text))
        return self._known[number]

    def _suffix(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self._new(text)
        return self._known[text]

    def _new(self, text: str) -> int:
        self.suffixes.append(text)
        return len(self.suffixes) - 1


def suffix_of(argument: Argument) -> str:
    """What follows an argument's value in its repr, as far as its prototype tells."""
    if argument.name == "fd":
        return "([???])"
    if argument.kind in _VALUES:
        return ""
    tag = re.search(r"\b(?:struct|union)\s+\w+", argument.ctype)
    return f"({' '.join(tag[0].split())})" if tag else "(ptr)"
