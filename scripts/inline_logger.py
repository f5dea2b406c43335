"""The baseline of scripts/bench: what a logger costs that formats each call in Python and inserts it with SQLAlchemy.

Our own equivalent of the inline way, in its best form: batches of rows into a base table ``event`` and a table
``syscall`` joined to it. It reads its events from a capture, which costs little beside the rest, and asks nothing of
a guest: the real thing is slower.
"""

from __future__ import annotations

import struct
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String, Table, create_engine, insert

import errno_tables
from capture.segment import SET_ROW, STRING_INDEX, BlockType, read_segment
from process import prototypes

BATCH = 10_000
EMPTY = {"type": "syscall", "procname": "worker"} | {f"arg{i}{end}": None for i in range(6) for end in ("", "_repr")}


METADATA = MetaData()
EVENT = Table(
    "event",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("type", String),
    Column("procname", String),
    Column("proc_id", Integer),
)
SYSCALL = Table(
    "syscall",
    METADATA,
    Column("id", ForeignKey("event.id"), primary_key=True),
    Column("name", String),
    Column("retno", BigInteger),
    Column("retno_repr", String),
    *(Column(f"arg{position}", BigInteger) for position in range(6)),
    *(Column(f"arg{position}_repr", String) for position in range(6)),
)


def log_inline(segments: Path, output: Path) -> int:
    """Format every event of a capture, one by one, and insert them batch by batch; gives their number."""
    output.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{output}")
    METADATA.create_all(engine)
    done = 0
    with engine.connect() as connection:
        rows = (row for path in sorted(segments.glob("*.seg")) for row in _rows(path))
        while batch := list(islice(rows, BATCH)):
            for row in batch:
                done += 1
                row["id"] = done
            connection.execute(insert(EVENT), batch)
            connection.execute(insert(SYSCALL), batch)
            connection.commit()
    engine.dispose()
    return done


def _rows(path: Path) -> Any:
    """The events of a segment as the logger's rows."""
    table, errnos = prototypes.load("x86_64").by_number, errno_tables.load("x86_64").by_number
    strings: dict[int, str] = {}
    sets: dict[int, tuple[int, ...]] = {}
    for block in read_segment(path).blocks:
        data = bytes(block.payload())
        if block.type == BlockType.STRINGS:
            blob, start = data[STRING_INDEX.size * block.count :], 0
            for i in range(block.count):
                end, _ = STRING_INDEX.unpack_from(data, i * STRING_INDEX.size)
                strings[block.first + i] = blob[start:end].decode("latin-1")
                start = end
        elif block.type == BlockType.SETS:
            for i in range(block.count):
                sets[block.first + i] = SET_ROW.unpack_from(data, i * SET_ROW.size)
        elif block.type == BlockType.EVENTS:
            words = struct.unpack(f"<{12 * block.count}Q", data)
            for i in range(block.count):
                yield _row(words[i :: block.count], table, errnos, strings, sets)


def _row(event: Any, table: Any, errnos: Any, strings: dict[int, str], sets: dict[int, tuple[int, ...]]) -> Any:
    """One event, formatted."""
    prototype, found = table[event[10] & 0xFFFFFFFF], sets.get(event[10] >> 32)
    row: dict[str, Any] = dict(EMPTY, name=prototype.name, proc_id=event[2] >> 32)
    for i, argument in enumerate(prototype.args):
        value = event[3 + i]
        if value == 0 and "*" in argument.ctype:
            text = "[NULL]"
        elif found and found[i]:
            text = f'{value:#x}("{strings[found[i]]}")'
        elif argument.name == "fd":
            text = f"{value:#x}([???])"
        elif "*" in argument.ctype:
            text = f"{value:#x}({argument.ctype.replace('*', '').strip() if 'struct' in argument.ctype else 'ptr'})"
        else:
            text = f"{value:#x}"
        row[f"arg{i}"] = value - (value >> 63 << 64)
        row[f"arg{i}_repr"] = f"{argument.name}={text}"
    retno = event[9] - (event[9] >> 63 << 64)
    known = errnos.get(-retno)
    row["retno"], row["retno_repr"] = retno, f"{known.name}({known.text})" if known else f"{retno:#x}"
    return row
