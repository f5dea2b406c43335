"""The baseline of scripts/bench: what a logger costs that formats each call in Python and inserts it with SQLAlchemy.

Our own equivalent of the inline way, of the same shape: a base table ``event`` and a joined table ``syscall``, a batch
of rows a transaction. It reads its events from a capture, which costs little beside the rest, and asks nothing of a
guest: the real thing is slower.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import errno_tables
from capture.segment import SET_ROW, STRING_INDEX, BlockType, read_segment
from process import prototypes

BATCH = 10_000


class Base(DeclarativeBase):
    """The tables' registry."""


class Event(Base):
    """What every kind of event has."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    procname: Mapped[str | None]
    proc_id: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "event", "polymorphic_on": "type"}  # noqa: RUF012  # SQLAlchemy's form


class Syscall(Event):
    """A syscall, joined to its event by id."""

    __tablename__ = "syscall"
    id: Mapped[int] = mapped_column(ForeignKey("event.id"), primary_key=True)
    name: Mapped[str]
    retno: Mapped[int | None] = mapped_column(BigInteger)
    retno_repr: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "syscall"}  # noqa: RUF012  # as above


for _position in range(6):
    setattr(Syscall, f"arg{_position}", mapped_column(f"arg{_position}", BigInteger, nullable=True))
    setattr(Syscall, f"arg{_position}_repr", mapped_column(f"arg{_position}_repr", String, nullable=True))


def log_inline(segments: Path, output: Path) -> int:
    """Format and insert every event of a capture, one by one; gives their number."""
    output.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{output}")
    Base.metadata.create_all(engine)
    done = 0
    with Session(engine) as session:
        for path in sorted(segments.glob("*.seg")):
            for row in _rows(path):
                session.add(Syscall(**row))
                done += 1
                if done % BATCH == 0:
                    session.commit()
                    session.expunge_all()
        session.commit()
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
    row: dict[str, Any] = {"name": prototype.name, "procname": "worker", "proc_id": event[2] >> 32}
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
