"""Texts, one after the other in memory: kernels_texts.c."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from process.library import at, integer, load
from process.text_array import TextArray

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

_library = load(("size_texts",), ("write_texts", "enclose", "take_texts", "look_at_paths"))


def texts(
    values: Words, prefixes: Codes, nulls: Mask, suffixes: Codes, of_prefixes: TextArray, of_suffixes: TextArray
) -> TextArray:
    """Texts: a prefix, then `[NULL]`, or a value in hexadecimal (`0x7ffe10`) and a suffix.

    Args:
        values: uint64.
        prefixes: Of each value, the index of its prefix.
        nulls: Of each, whether it is shown as null.
        suffixes: Of each, the index of its suffix.
        of_prefixes: The prefixes.
        of_suffixes: The suffixes.
    """
    values, nulls = np.ascontiguousarray(values), np.ascontiguousarray(nulls, np.bool_)
    prefixes, suffixes = np.ascontiguousarray(prefixes, np.uint32), np.ascontiguousarray(suffixes, np.uint32)
    count, offsets = integer(len(values)), np.empty(len(values) + 1, np.int64)
    given = count, at(values), at(prefixes), at(nulls), at(suffixes), at(of_prefixes.offsets)
    made = np.empty(_library.size_texts(*given, at(of_suffixes.offsets), at(offsets)), np.uint8)
    _library.write_texts(*given, at(of_prefixes.data), at(of_suffixes.offsets), at(of_suffixes.data), at(made))
    return TextArray(offsets, made)


def enclose(data: Bytes, starts: Numbers, ends: Numbers, before: str, after: Codes, of_after: TextArray) -> TextArray:
    """Stretches of bytes, each with a text before it, the same for all, and one behind it.

    Args:
        data: uint8, UTF-8 where stretches are.
        starts: Where each begins.
        ends: Where it ends.
        before: The text before.
        after: Of each, the index of the text behind it.
        of_after: These texts.
    """
    first, after = TextArray.of((before,)).data, np.ascontiguousarray(after, np.uint32)
    starts, ends = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(ends, np.int64)
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(ends - starts + len(first) + np.diff(of_after.offsets)[after], out=offsets[1:])
    made = np.empty(offsets[-1], np.uint8)
    _library.enclose(
        integer(len(starts)), at(starts), at(ends), at(data), at(first), integer(len(first)), at(after),
        at(of_after.offsets), at(of_after.data), at(made),
    )  # fmt: skip
    return TextArray(offsets, made)


def take_texts(texts: TextArray, which: Numbers) -> TextArray:
    """Some texts by their indices."""
    which = np.ascontiguousarray(which, np.int64)
    offsets = np.zeros(len(which) + 1, np.int64)
    np.cumsum(np.diff(texts.offsets)[which], out=offsets[1:])
    made = np.empty(offsets[-1], np.uint8)
    _library.take_texts(integer(len(which)), at(which), at(texts.offsets), at(texts.data), at(made))
    return TextArray(offsets, made)


def look_at_paths(paths: TextArray) -> tuple[Mask, Mask, Mask]:
    """Which paths are absolute; which have no empty name, `.` or `..`, nor end in a slash; which are of /proc, /dev."""
    found = np.empty(len(paths), np.uint8)
    _library.look_at_paths(integer(len(paths)), at(paths.offsets), at(paths.data), at(found))
    return found & 1 != 0, found & 2 != 0, found & 4 != 0
