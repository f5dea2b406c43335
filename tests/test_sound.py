"""Small segments read all at once give what reading them one by one does; what is unusual is read one by one."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capture import recorder
from capture.chunk import Room
from capture.segment import (
    BLOCK,
    BLOCK_HEADER_SIZE,
    FILE_HEADER_SIZE,
    BlockType,
    Encoding,
    Header,
    SegmentError,
    inflate,
)
from decoding import rows_of
from mutations import EDGES, Piece, seeds
from process import merge, sound
from process.batch import Batch, batches
from process.discover import Part, Parts, discover
from process.events import WORDS
from process.merge import Loaded, load_batch
from process.sound import read_sound
from synthetic import generate

SMALL = Room(events=50, strings=256, string_bytes=1 << 16, sets=256, tasks=128, marks=64, files=64)


def batch_of(folder: Path) -> Batch:
    (found,) = batches(discover([folder]).parts)
    return found


def one_by_one(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    with monkeypatch.context() as patch:
        patch.setattr(merge, "read_sound", lambda parts: None)
        return load_batch(batch)


def assert_same(one: Loaded, other: Loaded) -> None:
    for name in ("parts", "damage"):
        assert getattr(one.members, name) == getattr(other.members, name)
    for name in ("firsts", "ends", "events", "sizes", "sealed", "counters", "kept_from"):
        np.testing.assert_array_equal(getattr(one.members, name), getattr(other.members, name))
    assert one.failed == other.failed
    mine, theirs = one.contents, other.contents
    for name in ("tasks", "marks", "files"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    for name in ("header", "name", "damage", "is_sealed", "counters", "size", "kept_from", "breaks"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert [(block.first, block.file) for block in mine.events] == [
        (block.first, block.file) for block in theirs.events
    ]
    for block, same in zip(mine.events, theirs.events, strict=True):
        assert block.words().shape == (WORDS, block.count)
        np.testing.assert_array_equal(block.words(), same.words())
    ids = np.arange(5000)
    assert mine.strings.several(ids) == theirs.strings.several(ids) == [theirs.strings.get(k) for k in range(5000)]
    np.testing.assert_array_equal(mine.sets.find(ids), theirs.sets.find(ids))


def pieces_of(data: bytes) -> list[Piece]:
    """All blocks of a sound file, META and END too."""
    found, at = [], FILE_HEADER_SIZE
    while at < len(data):
        _, kind, encoding, _, index, count, raw, length, first, *_ = BLOCK.unpack_from(data, at)
        at += BLOCK_HEADER_SIZE
        stored = memoryview(data)[at : at + length]
        payload = stored if encoding == Encoding.RAW else inflate(stored, raw, at)
        found.append(Piece(kind, encoding, index, count, first, bytearray(payload)))
        at += length
    return found


def packed(header: Header, pieces: list[Piece]) -> bytes:
    return header.pack() + b"".join(piece.pack(header) for piece in pieces)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_RESERVE_BYTES", 4096)


def generated(folder: Path, events: int = 2000) -> list[Path]:
    generate(folder, events, processes=3, segment_size=1, room=SMALL)
    return sorted(folder.iterdir())


def test_ordinary_segments_are_read_at_once_and_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(generated(tmp_path)) > 30
    batch = batch_of(tmp_path)
    files = read_sound(batch.parts)
    assert files is not None and len(files.counters) == len(batch.parts)
    assert files.records.string_counts.sum() > 500 and files.records.rows[BlockType.EVENTS].counts.sum() == 2000
    loaded = load_batch(batch)
    assert_same(loaded, one_by_one(batch, monkeypatch))
    assert loaded.contents.strings.get(1) and loaded.contents.tasks.shape[1] > 30


def test_all_kinds_of_records_are_read_at_once_and_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds(tmp_path, 1)
    for name in ("0", "1", "2", "3"):
        batch = batch_of(tmp_path / name)
        assert len(batch.parts) > 1 and read_sound(batch.parts) is not None
        loaded = load_batch(batch)
        assert loaded.contents.files.size and loaded.contents.marks.size and loaded.contents.tasks.size
        assert_same(loaded, one_by_one(batch, monkeypatch))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _flip(offset: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[offset] ^= 4
        path.write_bytes(data)

    return flip


def _without(kind: BlockType) -> Callable[[Path], None]:
    def drop(path: Path) -> None:
        data = path.read_bytes()
        header, pieces = Header.unpack(data, ""), pieces_of(data)
        path.write_bytes(packed(header, [piece for piece in pieces if piece.kind != kind]))

    return drop


@pytest.mark.parametrize(
    "spoil",
    [_cut, _grown, Path.unlink, _flip(3), _flip(18), _flip(70), _flip(FILE_HEADER_SIZE), _flip(FILE_HEADER_SIZE + 9),
     _flip(FILE_HEADER_SIZE + 34), _flip(FILE_HEADER_SIZE + 60), _flip(-1), _flip(-70), _without(BlockType.END),
     _without(BlockType.STRINGS), _without(BlockType.EVENTS)],
)  # fmt: skip
def test_what_is_unusual_is_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    paths = generated(tmp_path, 400)
    batch = batch_of(tmp_path)
    spoil(paths[3])
    assert read_sound(batch.parts) is None
    assert_same(load_batch(batch), one_by_one(batch, monkeypatch))


def test_files_that_are_not_there_or_not_sealed_are_read_one_by_one(tmp_path: Path) -> None:
    generated(tmp_path, 400)
    parts = batch_of(tmp_path).parts
    assert read_sound(parts) is not None
    assert read_sound(Parts.of((*parts[:2], replace(parts[2], sealed=None)))) is None
    assert read_sound(Parts.of((*parts[:2], replace(parts[2], live=(tmp_path / "x.live",))))) is None
    other: Part = replace(parts[2], header=replace(parts[2].header, segment=99))
    assert read_sound(Parts.of((*parts[:2], other))) is None


def test_forged_claims_are_read_one_by_one_or_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks with sound checksums that claim what is not so, or hold what cannot be."""
    source, taken, left = random.Random(5), 0, 0
    seeds(tmp_path, 1)
    for folder in (tmp_path / "0", tmp_path / "2"):
        batch = batch_of(folder)
        for turn in range(250):
            path = source.choice([part.files[0] for part in batch.parts])
            kept = path.read_bytes()
            header, pieces = Header.unpack(kept, ""), pieces_of(kept)
            piece = source.choice(pieces)
            match turn % 5:
                case 0:
                    piece.payload[source.randrange(len(piece.payload))] = source.choice((0, 1, 255))
                case 1:
                    piece.first = source.choice((*EDGES, piece.first + 1))
                case 2:
                    piece.count = source.choice((0, 1, piece.count + 1, piece.count * 2))
                case 3:
                    piece.raw = source.choice((len(piece.payload) + 1, len(piece.payload) - 1, 1 << 31))
                case _:
                    piece.encoding = source.choice(tuple(Encoding))
            path.write_bytes(packed(header, pieces))
            changed = batch_of(folder)
            if read_sound(changed.parts) is None:
                left += 1
            else:
                taken += 1
                try:
                    expected: Loaded | str = one_by_one(changed, monkeypatch)
                except SegmentError as error:
                    expected = str(error)
                if isinstance(expected, Loaded):
                    assert_same(load_batch(changed), expected)
                else:
                    with pytest.raises(SegmentError, match=expected[:20]):
                        load_batch(changed)
            path.write_bytes(kept)
    assert taken > 50 and left > 100


def test_what_claims_the_events_or_strings_of_others_is_read_one_by_one(tmp_path: Path) -> None:
    """Where nothing else is wrong."""
    path = generated(tmp_path, 400)[3]
    data = path.read_bytes()
    for kind, first in ((BlockType.EVENTS, 0), (BlockType.STRINGS, 2), (BlockType.SETS, 0)):
        header, pieces = Header.unpack(data, ""), pieces_of(data)
        path.write_bytes(packed(header, pieces))
        assert read_sound(batch_of(tmp_path).parts) is not None
        next(piece for piece in pieces if piece.kind == kind).first = first
        path.write_bytes(packed(header, pieces))
        assert read_sound(batch_of(tmp_path).parts) is None


def test_what_unpacks_to_too_much_together_is_read_segment_by_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated(tmp_path, 400)
    batch, whole = batch_of(tmp_path), rows_of(tmp_path)
    for module in (merge, sound):
        monkeypatch.setattr(module, "MAX_TOGETHER", 20_000)
    assert read_sound(batch.parts) is None
    with pytest.raises(SegmentError, match="unpack to more than 20000 bytes together"):
        load_batch(batch)
    assert rows_of(tmp_path) == whole
