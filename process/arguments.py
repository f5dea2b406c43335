"""The reprs of the arguments of many events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from process.calls import Events
from process.events import Words
from process.grouping import Indices, group
from process.kernels_distinct import KIND, group_texts, number_texts_of
from process.kernels_texts import enclose, take_texts, texts
from process.prototypes import Argument
from process.schema import ARGS
from process.strings import LOST, StringTable
from process.targets import VALUES
from process.text_array import TextArray
from process.values import Texts

Ids = npt.NDArray[np.int64]

_CAPTURED = frozenset({"string", "strings", "out_string", "buffer"})
"""Kinds of argument whose bytes, if they were recorded, are shown."""
_AWAITED = frozenset({"string", "strings", "out_string"})
"""Kinds that have a string unless it was lost."""


NO_FILE = -3
"""Code of the name of a negative number."""
_NOT_NAMED = TextArray.of(("", *("([???])",) * (-NO_FILE - 1)))
"""What is shown for the negative codes, the lowest first."""


@dataclass(frozen=True)
class FileNames:
    """What the descriptors of a slice's calls are.

    Attributes:
        names: Texts by their codes.
        codes: Of each descriptor; `NO_FILE`, or a negative one above it for what is not known.
        counts: For each argument that is a descriptor, by the call's index in the slice and the position, in the order
            of the codes: how many events the call has.
    """

    names: TextArray
    codes: Ids
    counts: dict[tuple[int, int], int]


NO_FILES = FileNames(TextArray.of(()), np.zeros(0, np.int64), {})
_CLOSING = TextArray.of((")",))


class Arguments:
    """The reprs of a slice's arguments.

    Attributes:
        lost: Arguments whose string is lost, once `made` has been called.
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
        self.lost = 0
        self._events, self._positions = events, tuple(positions)
        self._prefixes: dict[str, int] = {}
        self._plain: dict[str, int] = {}
        captured = self._captured(string_ids)
        numbers, which = group(np.concatenate([np.zeros(1, np.int64), *captured.values()]))
        ends = np.cumsum([1, *(len(ids) for ids in captured.values())])
        self._which = dict(zip(captured, np.split(which, ends)[1:], strict=False))
        self._none = int(which[0])
        self._shown, self._is_lost = strings.show(numbers)
        self._is_lost[self._none] = False
        self._named, self._names = self._files(files)

    def made(self) -> dict[int, Texts]:
        """The texts of each position that is wanted: what its distinct values are made of, then these."""
        kinds = {position: self._kinds(position) for position in self._positions}
        suffixes = TextArray.joined([self._shown, self._names, TextArray.of(tuple(self._plain))])
        firsts, once = group_texts(suffixes)  # equal ones must not be told apart
        prefixes, suffixes = TextArray.of(tuple(self._prefixes)), take_texts(suffixes, firsts)
        found = {}
        for position, (values, of_calls) in kinds.items():
            of_calls["suffix"] = once[of_calls["suffix"]]
            own = self._own_suffixes(position, values, once)
            one = number_texts_of(values, self._events.call_of, of_calls, own)
            shown = texts(one.values, one.prefixes, one.nulls, one.suffixes, prefixes, suffixes)
            found[position] = Texts(one.codes, shown, is_unique=True)
        return found

    def _kinds(self, position: int) -> tuple[Words, npt.NDArray[np.void]]:
        """The argument of each row, and for each call what texts it has; suffixes are those of its prototype."""
        values, has = self._events.patterns(position)
        kinds = np.zeros(len(has), KIND)
        kinds["prefix"] = -1
        first = len(self._shown) + len(self._names)
        for index in np.flatnonzero(has).tolist():
            argument = self._events.calls[index].args[position]
            prefix = self._prefixes.setdefault(f"{argument.name}=", len(self._prefixes))
            suffix = first + self._plain.setdefault(suffix_of(argument), len(self._plain))
            kinds[index] = prefix, suffix, argument.kind not in VALUES
        return values, kinds

    def _own_suffixes(self, position: int, values: Words, once: Ids) -> npt.NDArray[np.int32] | None:
        """The suffix of each row whose argument has a string, or is a descriptor with a name; -1 for the others."""
        own: npt.NDArray[np.int32] | None = None
        for index, call in enumerate(self._events.calls):
            key = index, position
            named, which = self._named.get(key), self._which.get(key)
            if named is None and which is None:
                continue
            if own is None:
                own = np.full(len(values), -1, np.int32)
            if named is not None:
                own[call.rows] = once[named]
            elif which is not None:
                own[call.rows] = np.where(which == self._none, -1, once[which])
                if self._is_lost.any():
                    self.lost += int((self._is_lost[which] & (values[call.rows] != 0)).sum())
        return own

    def _captured(self, string_ids: Callable[[int, Indices], Ids]) -> dict[tuple[int, int], Ids]:
        """The strings of each argument that has any, by the call's index and the position."""
        found = {}
        for index, call in enumerate(self._events.calls):
            for position in self._positions:
                if position >= len(call.args):
                    continue
                kind, place = call.args[position].kind, call.target.places[position]
                if kind in _CAPTURED and place.string is not None:
                    ids = string_ids(place.string, call.rows)
                    if kind not in _AWAITED:
                        ids = np.where(ids == LOST, 0, ids)
                    if ids.any():
                        found[index, position] = ids
        return found

    def _files(self, files: FileNames) -> tuple[dict[tuple[int, int], Indices], TextArray]:
        """For each descriptor an index of a suffix, and the distinct names that are suffixes."""
        codes = files.codes - NO_FILE
        used = np.zeros(len(files.names) - NO_FILE, np.bool_)
        used[:-NO_FILE] = True
        used[codes] = True
        which = (np.cumsum(used) + (len(self._shown) - 1))[codes]
        ends = np.cumsum(list(files.counts.values()))
        named, offsets = np.flatnonzero(used[-NO_FILE:]), files.names.offsets
        none = np.zeros(len(named), np.uint32)
        names = enclose(files.names.data, offsets[named], offsets[named + 1], "(", none, _CLOSING)
        return dict(zip(files.counts, np.split(which, ends), strict=False)), TextArray.joined([_NOT_NAMED, names])


def suffix_of(argument: Argument) -> str:
    """What follows an argument's value in its repr, as far as its prototype tells."""
    if argument.name == "fd":
        return "([???])"
    if argument.kind in VALUES:
        return ""
    tag = re.search(r"\b(?:struct|union)\s+\w+", argument.ctype)
    return f"({' '.join(tag[0].split())})" if tag else "(ptr)"
