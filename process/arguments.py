"""The reprs of the arguments of many events."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from process.calls import Call, Events
from process.prototypes import Argument
from process.read import Words
from process.render import Codes, Column
from process.schema import ARGS
from process.strings import LOST, StringTable, show
from process.targets import VALUES

Ids = npt.NDArray[np.int64]

_CAPTURED = frozenset({"string", "strings", "out_string", "buffer"})
"""Kinds of argument whose bytes, if they were recorded, are shown."""
_AWAITED = frozenset({"string", "strings", "out_string"})
"""Kinds that have a string unless it was lost."""


NO_FILE = -3
"""Code of the name of a negative number."""


@dataclass(frozen=True)
class FileNames:
    """What the descriptors of a slice's calls are.

    Attributes:
        names: Texts by their codes.
        codes: For each argument that is a descriptor, by the call's index in the slice and the position: a code for
            each of the call's events; `NO_FILE`, or another negative one for what is not known.
    """

    names: Sequence[str]
    codes: dict[tuple[int, int], Ids]


class Arguments:
    """The reprs of a slice's arguments.

    Attributes:
        columns: One for each position.
        prefixes: What their texts begin with.
        suffixes: What their texts end with.
        lost: Arguments whose string is lost.
    """

    def __init__(self, events: Events, string_ids: Ids, strings: StringTable, files: FileNames) -> None:
        """Prepare.

        Args:
            events: A slice.
            string_ids: String of each argument of each event, as `SetTable.find` gives it: int64 (6, n).
            strings: Of the segment.
            files: What descriptors are.
        """
        self.columns = [Column(np.zeros(len(events.call_of), np.uint32)) for _ in range(ARGS)]
        self.prefixes: list[str] = []
        self.suffixes: list[str] = []
        self.lost = 0
        self._known: dict[str | int, int] = {}
        self._events, self._ids, self._strings, self._files = events, string_ids, strings, files

    def add(self) -> None:
        """Find the distinct values of each call's arguments."""
        for index, call in enumerate(self._events.calls):
            for position, argument in enumerate(call.args):
                values = self._events.pattern(call, position)
                if values is None:
                    continue
                codes = self._files.codes.get((index, position))
                if codes is not None:
                    self._add_fd(call, position, argument, values, codes)
                else:
                    self._add(call, position, argument, values)

    def _add_fd(self, call: Call, position: int, argument: Argument, values: Words, codes: Ids) -> None:
        """Show descriptors with their names: distinct pairs of a value and a name."""
        distinct, which = np.unique(values, return_inverse=True)
        names, of_name = np.unique(codes, return_inverse=True)
        pairs, inverse = np.unique(which * len(names) + of_name, return_inverse=True)
        suffixes = np.array([self._suffix(self._file(code)) for code in names.tolist()], np.uint32)
        prefix = len(self.prefixes)
        self.prefixes.append(f"{argument.name}=")
        values, suffixes = distinct[pairs // len(names)], suffixes[pairs % len(names)]
        self.columns[position].put(call.rows, inverse, values, prefix, suffixes, False)

    def _file(self, code: int) -> str:
        """What follows a descriptor."""
        if code >= 0:
            return f"({self._files.names[code]})"
        return "" if code == NO_FILE else "([???])"

    def _add(self, call: Call, position: int, argument: Argument, values: Words) -> None:
        distinct, inverse = np.unique(values, return_inverse=True)
        is_pointer = argument.kind not in VALUES
        suffix = self._suffix(suffix_of(argument))
        suffixes = np.full(len(distinct), suffix, np.uint32)
        string = call.target.places[position].string
        if argument.kind in _CAPTURED and string is not None:
            ids = self._ids[string][call.rows]
            if argument.kind not in _AWAITED:
                ids = np.where(ids == LOST, 0, ids)
            if ids.any():
                distinct, inverse, suffixes = self._with_strings(distinct, inverse, ids, suffix)
        prefix = len(self.prefixes)
        self.prefixes.append(f"{argument.name}=")
        self.columns[position].put(call.rows, inverse, distinct, prefix, suffixes, is_pointer)

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
    if argument.kind in VALUES:
        return ""
    tag = re.search(r"\b(?:struct|union)\s+\w+", argument.ctype)
    return f"({' '.join(tag[0].split())})" if tag else "(ptr)"
