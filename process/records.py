"""The raw records of a segment, one at a time, as objects for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from capture.segment import EVENT_ROW, FILE_ROW, MARK_ROW, SET_ROW, TASK_ROW, Block, BlockType, SegmentError
from process.discover import Part
from process.events import Damage, damage_of, words
from process.read import join
from process.strings import StringTable, escape
from process.text import printable

Record = dict[str, Any]


def records(part: Part) -> Iterator[Record]:
    """Yield everything in a segment, in file order: integers as stored, guest bytes escaped.

    A file that cannot be used at all is one record of damage.
    """
    try:
        contents, blocks = join(part)
    except (SegmentError, OSError) as error:
        yield {"type": "damage", "file": printable(part.name), "reason": printable(str(error))}
        return
    header = asdict(part.header) | {
        "capture": str(part.header.capture),
        "abi": escape(part.header.abi.encode()),
    }
    yield {"type": "segment", "file": printable(part.name), **header, "tool": escape(part.header.tool.encode())}
    for damage in contents.damage:
        yield _damage(damage)
    for file, block in blocks:
        try:
            yield from _READERS[block.type](block)
        except SegmentError as error:
            yield _damage(damage_of(file, block, str(error)))
    yield {"type": "totals", "sealed": contents.is_sealed, **contents.counters}


def _damage(damage: Damage) -> Record:
    return {"type": "damage", **damage._asdict(), "file": printable(damage.file)}


def _rows(block: Block) -> Iterator[bytes]:
    """The records of a block as they are in a file, whatever its encoding."""
    for column in words(block).T:
        yield column.astype("<u8").tobytes()


def _strings(block: Block) -> Iterator[Record]:
    table = StringTable()
    if not table.add(block.first, block.count, block.payload()):
        raise SegmentError("its records contradict its header")
    for number in range(block.first, block.first + block.count):
        text = table.get(number)
        if text is not None:
            yield {"type": "string", "id": number, "flags": text.flags, "text": escape(text.data)}


def _sets(block: Block) -> Iterator[Record]:
    for number, row in enumerate(_rows(block), block.first):
        yield {"type": "set", "id": number, "strings": list(SET_ROW.unpack(row))}


def _tasks(block: Block) -> Iterator[Record]:
    names = ("seq", "task", "asid", "pid", "tid", "ppid", "flags", "start_ns", "comm", "argv", "table")
    for row in _rows(block):
        yield {"type": "task", **dict(zip(names, TASK_ROW.unpack(row), strict=True))}


def _marks(block: Block) -> Iterator[Record]:
    for row in _rows(block):
        seq, text, _ = MARK_ROW.unpack(row)
        yield {"type": "mark", "seq": seq, "text": text}


def _files(block: Block) -> Iterator[Record]:
    for row in _rows(block):
        yield {"type": "file", **dict(zip(("seq", "owner", "fd", "path", "flags"), FILE_ROW.unpack(row), strict=False))}


def _events(block: Block) -> Iterator[Record]:
    names = ("ret", "nr", "strings", "flags", "entry")
    for seq, row in enumerate(_rows(block), block.first):
        time_ns, duration_ns, task, *rest = EVENT_ROW.unpack(row)
        yield {
            "type": "event", "seq": seq, "time_ns": time_ns, "duration_ns": duration_ns, "task": task,
            "args": rest[:6], **dict(zip(names, rest[6:], strict=True)),
        }  # fmt: skip


_READERS: dict[int, Callable[[Block], Iterator[Record]]] = {
    BlockType.STRINGS: _strings,
    BlockType.SETS: _sets,
    BlockType.TASKS: _tasks,
    BlockType.MARKS: _marks,
    BlockType.FILES: _files,
    BlockType.EVENTS: _events,
}
