"""Clients of the logger that sysreel replaces read its output unchanged."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from conftest import RECORDED, command


class Base(DeclarativeBase):
    pass


class Event(Base):
    """The old base table, as its client maps it."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    procname: Mapped[str]
    proc_id: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "event", "polymorphic_on": "type"}  # noqa: RUF012  # SQLAlchemy's form


class Syscall(Event):
    """The old joined table."""

    __tablename__ = "syscall"
    id: Mapped[int] = mapped_column(ForeignKey("event.id"), primary_key=True)
    name: Mapped[str]
    retno: Mapped[int | None]
    retno_repr: Mapped[str | None]
    arg0: Mapped[int | None]
    arg0_repr: Mapped[str | None]
    arg1: Mapped[int | None]
    arg1_repr: Mapped[str | None]
    arg5: Mapped[int | None]
    arg5_repr: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "syscall"}  # noqa: RUF012  # as above


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "demo.sqlite"
    done = command("process", RECORDED, "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def test_the_joined_inheritance_model_finds_calls_with_their_processes(decoded: Path) -> None:
    engine = create_engine(f"sqlite:///{decoded}")
    with Session(engine) as session:
        query = select(Syscall).where(Syscall.name == "sys_openat", Syscall.retno_repr.like("ENOENT%"))
        found = session.scalars(query.order_by(Syscall.id)).all()
        assert found and all(isinstance(call, Syscall) and call.procname and call.proc_id for call in found)
        assert all(call.retno == -2 and str(call.arg1_repr).startswith("filename=0x") for call in found)
        events = session.scalar(select(func.count()).select_from(Event))
        assert events == session.scalar(select(func.count(Syscall.id)))
    engine.dispose()


def test_the_old_views_have_the_old_columns(decoded: Path) -> None:
    with sqlite3.connect(decoded) as connection:
        event = [row[1] for row in connection.execute("pragma table_info(event)")]
        syscall = [row[1] for row in connection.execute("pragma table_info(syscall)")]
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()
    assert event == ["id", "type", "procname", "proc_id"]
    pairs = [name for i in range(6) for name in (f"arg{i}", f"arg{i}_repr")]
    assert syscall == ["id", "name", "retno", "retno_repr", *pairs]


def test_the_sqlite3_shell_and_polars_read_the_outputs(decoded: Path, tmp_path: Path) -> None:
    sql = "select name, count(*) from syscall group by 1"
    done = subprocess.run(["sqlite3", decoded, sql], capture_output=True, text=True, check=True)
    by_name = dict(line.split("|") for line in done.stdout.splitlines())
    assert command("process", RECORDED, "-o", tmp_path / "demo.parquet").returncode == 0
    rows = pl.scan_parquet(f"{tmp_path}/demo.parquet/**/*.parquet").collect()
    counted = rows.group_by("name").len().rows()
    assert {str(name): str(number) for name, number in counted} == by_name
