"""The baseline of scripts/bench: what a logger costs that formats each call in Python and inserts it with SQLAlchemy.

Our own equivalent of the inline way: each call becomes one row of a base table ``event`` and one of a table
``syscall`` joined to it, put in ten thousand at a time. It has two forms. ``CORE`` hands SQLAlchemy plain rows, which
is the least that it can cost and what the ratios are taken of. ``ORM`` makes an object of each call, adds them to a
session and commits, as loggers of this kind do.

It reads its events from a generated capture of x86_64, which costs little beside the rest, and asks nothing of a
guest, neither names of processes nor of descriptors: the real thing is slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, ForeignKey, Integer, String, Table, create_engine, insert
from sqlalchemy.orm import DeclarativeBase, Session

import errno_tables
from capture.reader import read_segment
from capture.segment import SET_ROW, STRING_INDEX, BlockType
from process import prototypes
from process.events import ARG0, NR_STRINGS, RET, TASK, words

BATCH = 10_000
"""Calls that are put in at a time."""
ARGS = 6
_NO_ARGUMENTS = {f"arg{i}{end}": None for i in range(ARGS) for end in ("", "_repr")}
EMPTY = {"type": "syscall", "procname": "worker", **_NO_ARGUMENTS}


class Way(str, Enum):
    """How rows are given to SQLAlchemy."""

    CORE = "core"
    ORM = "orm"


class Base(DeclarativeBase):
    """Of the mapped classes."""


EVENT = Table(
    "event",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("type", String),
    Column("procname", String),
    Column("proc_id", Integer),
)
SYSCALL = Table(
    "syscall",
    Base.metadata,
    Column("id", ForeignKey("event.id"), primary_key=True),
    Column("name", String),
    Column("retno", BigInteger),
    Column("retno_repr", String),
    *(Column(f"arg{position}", BigInteger) for position in range(ARGS)),
    *(Column(f"arg{position}_repr", String) for position in range(ARGS)),
)


class Event(Base):
    """Of whatever kind."""

    __table__ = EVENT
    __mapper_args__ = {"polymorphic_on": EVENT.c.type, "polymorphic_identity": "event"}  # noqa: RUF012


class Syscall(Event):
    """A call: the two tables joined."""

    __table__ = SYSCALL
    __mapper_args__ = {"polymorphic_identity": "syscall"}  # noqa: RUF012


def log_inline(segments: Path, output: Path, way: Way = Way.CORE) -> int:
    """Format every event of a capture, one by one, and insert them batch by batch; gives their number."""
    output.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{output}")
    Base.metadata.create_all(engine)
    rows = chain.from_iterable(map(_rows, sorted(segments.glob("*.seg"))))
    done = 0
    with engine.connect() as connection:
        while batch := list(islice(rows, BATCH)):
            if way is Way.CORE:
                _insert(connection, batch, done)
            else:
                with Session(engine) as session:
                    session.add_all([Syscall(**row) for row in batch])
                    session.commit()
            done += len(batch)
    engine.dispose()
    return done


def _insert(connection: Connection, batch: list[dict[str, Any]], done: int) -> None:
    """A batch into both tables, each by one statement."""
    for number, row in enumerate(batch, done + 1):
        row["id"] = number
    connection.execute(insert(EVENT), batch)
    connection.execute(insert(SYSCALL), batch)
    connection.commit()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a segment as the logger's rows."""
    table, errnos = prototypes.load("x86_64").by_number, errno_tables.load("x86_64").by_number
    strings: dict[int, str] = {}
    sets: dict[int, tuple[int, ...]] = {}
    for block in read_segment(path).blocks:
        if block.type == BlockType.STRINGS:
            data = bytes(block.payload())
            blob, start = data[STRING_INDEX.size * block.count :], 0
            for i in range(block.count):
                end, _ = STRING_INDEX.unpack_from(data, i * STRING_INDEX.size)
                strings[block.first + i] = blob[start:end].decode("latin-1")
                start = end
        elif block.type == BlockType.SETS:
            rows = words(block).T.copy().tobytes()
            sets.update(enumerate(SET_ROW.iter_unpack(rows), block.first))
        elif block.type == BlockType.EVENTS:
            for event in words(block).T.tolist():
                yield _row(event, table, errnos, strings, sets)


def _row(
    event: Sequence[int], table: Any, errnos: Any, strings: dict[int, str], sets: dict[int, tuple[int, ...]]
) -> dict[str, Any]:
    """One event, formatted."""
    prototype, found = table[event[NR_STRINGS] & 0xFFFFFFFF], sets.get(event[NR_STRINGS] >> 32)
    row: dict[str, Any] = dict(EMPTY, name=prototype.name, proc_id=event[TASK] >> 32)
    for i, argument in enumerate(prototype.args):
        value = event[ARG0 + i]
        if value == 0 and "*" in argument.ctype:
            text = "[NULL]"
        elif found and found[i]:
            text = f'{value:#x}("{strings[found[i]]}")'
        elif argument.kind == "fd":
            text = f"{value:#x}([???])"
        elif "struct" in argument.ctype:
            text = f"{value:#x}({argument.ctype.replace('*', '').replace('const ', '').strip()})"
        elif "*" in argument.ctype:
            text = f"{value:#x}(ptr)"
        else:
            text = f"{value:#x}"
        row[f"arg{i}"] = value - (value >> 63 << 64)
        row[f"arg{i}_repr"] = f"{argument.name}={text}"
    retno = event[RET] - (event[RET] >> 63 << 64)
    known = errnos.get(-retno)
    row["retno"], row["retno_repr"] = retno, f"{known.name}({known.text})" if known else f"{retno:#x}"
    return row
