"""The reprs of the arguments of many events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from process.calls import Call, Events
from process.grouping import Indices, group, group_roughly
from process.prototypes import Argument
from process.read import Words
from process.render import Codes, Column, Suffixes
from process.schema import ARGS
from process.strings import LOST, StringTable
from process.targets import VALUES
from process.text_array import TextArray

Ids = npt.NDArray[np.int64]

_CAPTURED = frozenset({"string", "strings", "out_string", "buffer"})
"""Kinds of argument whose bytes, if they were recorded, are shown."""
_AWAITED = frozenset({"string", "strings", "out_string"})
"""Kinds that have a string unless it was lost."""


NO_FILE = -3
"""Code of the name of a negative number."""
_NOT_NAMED = {NO_FILE: ""}
_INDEX_BITS = 32
"""Room for the index of a suffix."""


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
        columns: One for each position that is wanted.
        prefixes: What their texts begin with.
        lost: Arguments whose string is lost.
    """

    def __init__(
        self,
        events: Events,
        string_ids: Callable[[int, Indices], Ids],
        strings: StringTable,
        files: FileNames,
        positions: Iterable[int] = range(ARGS),
    ) -> None:
        """Prepare.

        Args:
            events: A slice.
            string_ids: Gives the strings of the argument at a position in an event's set, of some events.
            strings: Of the segment.
            files: What descriptors are.
            positions: Those that are wanted.
        """
        self.columns = {position: Column(np.full(len(events.call_of), -1, np.int32)) for position in positions}
        self.prefixes: list[str] = []
        self.lost = 0
        self._plain: list[str] = []
        self._known: dict[str, int] = {}
        self._events = events
        captured = self._captured(string_ids)
        numbers, which = group(np.concatenate([np.zeros(1, np.int64), *captured.values()]))
        ends = np.cumsum([1, *(len(ids) for ids in captured.values())])
        self._which = dict(zip(captured, np.split(which, ends)[1:], strict=False))
        self._none = int(which[0])
        self._shown, self._is_lost = strings.show(numbers)
        self._is_lost[self._none] = False
        self._named, self._names = self._files(files)

    def suffixes(self) -> Suffixes:
        """What texts end with: the strings of the slice, the names of its files, then what a prototype tells."""
        parts = self._shown, TextArray.of(self._names), TextArray.of(self._plain)
        return Suffixes.of(TextArray.joined(parts))

    def add(self) -> None:
        """Find the distinct values of each call's arguments."""
        for index, position, call in self._wanted():
            values = self._events.pattern(call, position)
            if values is None:
                continue
            key = index, position
            if key in self._named:
                self._add_fd(call, position, values, self._named[key])
            else:
                self._add(call, position, values, self._which.get(key))

    def _wanted(self) -> Iterator[tuple[int, int, Call]]:
        """The arguments that are wanted: index of the call, position, call."""
        for index, call in enumerate(self._events.calls):
            for position in range(len(call.args)):
                if position in self.columns:
                    yield index, position, call

    def _captured(self, string_ids: Callable[[int, Indices], Ids]) -> dict[tuple[int, int], Ids]:
        """The strings of each argument that has any, by the call's index and the position."""
        found = {}
        for index, position, call in self._wanted():
            kind, place = call.args[position].kind, call.target.places[position]
            if kind in _CAPTURED and place.string is not None:
                ids = string_ids(place.string, call.rows)
                if kind not in _AWAITED:
                    ids = np.where(ids == LOST, 0, ids)
                if ids.any():
                    found[index, position] = ids
        return found

    def _files(self, files: FileNames) -> tuple[dict[tuple[int, int], Indices], list[str]]:
        """The distinct names of descriptors, and for each descriptor an index of a suffix."""
        codes, which = group(np.concatenate([np.zeros(0, np.int64), *files.codes.values()]))
        which += len(self._shown)
        ends = np.cumsum([len(one) for one in files.codes.values()])
        names = [f"({files.names[code]})" if code >= 0 else _NOT_NAMED.get(code, "([???])") for code in codes.tolist()]
        return dict(zip(files.codes, np.split(which, ends), strict=False)), names

    def _add_fd(self, call: Call, position: int, values: Words, which: Indices) -> None:
        """Show descriptors with their names: distinct pairs of a value and a name."""
        distinct, inverse = group(values)
        pairs, inverse = group(inverse << _INDEX_BITS | which)
        suffixes = (pairs & (1 << _INDEX_BITS) - 1).astype(np.uint32)
        prefix = len(self.prefixes)
        self.prefixes.append(f"{call.args[position].name}=")
        self.columns[position].put(call.rows, inverse, distinct, prefix, pairs >> _INDEX_BITS, suffixes, False)

    def _add(self, call: Call, position: int, values: Words, which: Indices | None) -> None:
        argument = call.args[position]
        is_pointer = argument.kind not in VALUES
        plain = self._suffix(suffix_of(argument))
        if which is None:
            distinct, inverse = group_roughly(values) if is_pointer else group(values)
            heads, suffixes = None, np.full(len(distinct), plain, np.uint32)
        else:
            distinct, inverse, heads, suffixes = self._with_strings(values, which, plain)
        prefix = len(self.prefixes)
        self.prefixes.append(f"{argument.name}=")
        self.columns[position].put(call.rows, inverse, distinct, prefix, heads, suffixes, is_pointer)

    def _with_strings(self, values: Words, which: Indices, plain: int) -> tuple[Words, Indices, Indices | None, Codes]:
        """Distinct pairs of an address and the string that was there, given as an index into those of the slice.

        Returns:
            The addresses; for each value its pair; for each pair its address; for each pair its suffix.
        """
        distinct, inverse = group_roughly(values)
        heads = None
        if len(distinct) == len(values):
            distinct, inverse = values, np.arange(len(values))
        else:
            pairs, inverse = group_roughly(inverse * len(self._is_lost) + which)
            heads, which = np.divmod(pairs, len(self._is_lost))
        if self._is_lost.any():
            there = distinct != 0 if heads is None else distinct[heads] != 0
            self.lost += int((self._is_lost[which] & there)[inverse].sum())
        return distinct, inverse, heads, np.where(which == self._none, plain, which).astype(np.uint32)

    def _suffix(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = len(self._shown) + len(self._names) + len(self._plain)
            self._plain.append(text)
        return self._known[text]


def suffix_of(argument: Argument) -> str:
    """What follows an argument's value in its repr, as far as its prototype tells."""
    if argument.name == "fd":
        return "([???])"
    if argument.kind in VALUES:
        return ""
    tag = re.search(r"\b(?:struct|union)\s+\w+", argument.ctype)
    return f"({' '.join(tag[0].split())})" if tag else "(ptr)"
