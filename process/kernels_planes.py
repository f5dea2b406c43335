"""Records out of byte planes: kernels_planes.c."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from process.library import OUT_OF_MEMORY, at, integer, load

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

_library = load(("places_of", "unplane", "unplane_all", "stored_word"), ("words_at",))


def places_of(keys: npt.NDArray[np.uint16]) -> Codes:
    """Where each record is if they are sorted by keys, and else stay as they are."""
    keys = np.ascontiguousarray(keys)
    places = np.empty(len(keys), np.uint32)
    if _library.places_of(at(keys), integer(len(keys)), at(places)) == OUT_OF_MEMORY:
        raise MemoryError
    return places


def unplane(
    planes: Bytes, places: Codes, rows: Numbers | None, key: int, summed: int, wanted: Iterable[int], out: Words
) -> None:
    """Records out of byte planes, sorted by the low half of one of their words (docs/FORMAT.md, encoding 3).

    Args:
        planes: uint8 of shape (words, 8, records), contiguous.
        places: Where each record is stored.
        rows: Which records, ascending; None for the first ones.
        key: Index of the word by which they are sorted; its own low half is in the order of recording.
        summed: Index of the word that is stored as differences.
        wanted: The words to make.
        out: uint64 of shape (words, n), n at most as many as there are records: the wanted words go to their rows,
            which must be contiguous.
    """
    count, take = planes.shape[2], out.shape[1]
    assert planes.flags.c_contiguous and len(places) == count and take <= count and out.strides[1] == 8
    assert len(planes) == len(out) and (rows is None or len(rows) == take)
    rows = None if rows is None else np.ascontiguousarray(rows, np.int64)
    done = _library.unplane(
        at(planes), integer(count), at(places), None if rows is None else at(rows), integer(take), integer(key),
        integer(summed), integer(sum(1 << word for word in wanted)), at(out[0]), integer(out.strides[0] // 8),
    )  # fmt: skip
    if done == OUT_OF_MEMORY:
        raise MemoryError


def words_at(
    planes: Bytes, rows: Numbers, places: Numbers | slice, key: int | None, wanted: Iterable[int], out: Words
) -> None:
    """Some words of some records, by their indices and by where they are stored; otherwise as `unplane`.

    Args:
        planes: uint8 of shape (words, 8, records), contiguous.
        rows: Which records.
        places: Where they are stored; a slice if one behind the other.
        key: Index of the word by which records are sorted; None if they are as they were recorded.
        wanted: The words to make, none of which is stored as differences.
        out: uint64 of shape (words, n); the wanted words go to their rows, which must be contiguous.
    """
    count, take = planes.shape[2], len(rows)
    start = places.start if isinstance(places, slice) else 0
    assert planes.flags.c_contiguous and out.shape == (len(planes), take)
    assert start + take <= count if isinstance(places, slice) else len(places) == take
    assert take < 2 or out.strides[1] == 8
    rows = np.ascontiguousarray(rows, np.int64)
    where = None if isinstance(places, slice) else np.ascontiguousarray(places, np.int64)
    if take:
        _library.words_at(
            at(planes), integer(count), at(rows), None if where is None else at(where), integer(start), integer(take),
            integer(-1 if key is None else key), integer(sum(1 << word for word in wanted)), at(out[0]),
            integer(out.strides[0] // 8),
        )  # fmt: skip


def unplane_all(data: bytes | memoryview, counts: Numbers, sorts: tuple[int, int] | None, out: Words) -> bool:
    """The records of many blocks, one block after the other, out of byte planes; otherwise as `unplane`.

    Args:
        data: The planes of all blocks.
        counts: Records of each: int64.
        sorts: ``key`` and ``summed``; None if records are as they were recorded.
        out: uint64 of shape (words of a record, records of all).
    """
    key, summed = sorts or (-1, -1)
    counts, planes = np.ascontiguousarray(counts, np.int64), np.frombuffer(data, np.uint8)
    assert (counts >= 0).all() and counts.sum() == out.shape[1] and len(planes) == 8 * out.size
    assert out.flags.c_contiguous
    done = _library.unplane_all(
        at(planes), at(counts), integer(len(counts)), integer(len(out)), integer(key), integer(summed), at(out),
        integer(out.shape[1]),
    )  # fmt: skip
    if done == OUT_OF_MEMORY:
        raise MemoryError
    return bool(done == 0)


def stored_word(planes: Bytes) -> tuple[Words, bool]:
    """A word out of its byte planes, of all records as they are stored, and whether all have the same.

    Args:
        planes: uint8 of shape (8, n), contiguous.
    """
    assert planes.flags.c_contiguous and len(planes) == 8
    found = np.empty(planes.shape[1], np.uint64)
    is_same = _library.stored_word(at(planes), integer(planes.shape[1]), at(found))
    return found, bool(is_same)
