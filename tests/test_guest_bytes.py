"""Bytes that break terminals, spreadsheets, SQL and file names: from the recorder to every output and back."""

from __future__ import annotations

import json
import os
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from capture.recorder import Recorder
from capture.segment import EventFlag, StringFlag
from figures import Figure
from process.app import app
from process.schema import SCHEMA
from test_escape import unescape

OPENAT, GETPID, BUFFER = 257, 39, int(StringFlag.BUFFER)
HOSTILE = [
    b"\x00\x01", b"\xff\xfe\x80", b"\xed\xa0\x80", b"\x1b[31m\x1b]0;t\x07\x9b2J", "\u202e\u2066x\u200b".encode(),
    b"a\r\nb\x0b\x0c\xe2\x80\xa8\xe2\x80\xa9", b"'); DROP TABLE syscalls;--", b"=cmd|' /C calc'!A1", b"n" * 4096,
    b'\\x41"\\', b"{0}%s{{", bytes(range(256)), "\U000e0041\ufeff".encode(),
]  # fmt: skip
NAMES = [b"\xff\xfe\x1b[31m\n\xe2\x80\xae'); DROP TABLE syscalls.seg", b"=cmd|' /C calc'!A1\x07.seg", b"-rf --out.seg"]
LOSS = 3


def run(*words: object) -> tuple[int, str]:
    """The command: its exit status and all that it says, which a terminal may be shown as it is."""
    done = CliRunner().invoke(app(), [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    raw = {one for one in done.output if unicodedata.category(one)[0] == "C" or one in "\u2028\u2029"} - {"\n"}
    assert not raw, (words, raw)
    return done.exit_code, done.output


@pytest.fixture
def caps(tmp_path: Path) -> Path:
    """A capture by the real recorder: each hostile text as a name, an argument, a path, what is read and a mark."""
    folder = tmp_path / "caps"
    recorder = Recorder(folder, "x86_64", segment_size=1, wait=True)
    recorder.event(0, 10, 1 << 32 | 1, 0, 0, 0, 0, 0, 0, 1, GETPID, 0, int(EventFlag.RETURNED))
    for k, data in enumerate(HOSTILE):
        pid = 100 + k
        task, argv = pid << 32 | pid, data.replace(b"\0", b"\x01") + b"\0-x\0"
        recorder.mark(data.decode("utf-8", "surrogateescape"))
        recorder.identity(task, pid << 12, pid, pid, 1, 15, 7, data[:15].replace(b"\0", b"\x01"), argv, 0, table=pid)
        recorder.files(pid, [(3, data.replace(b"\0", b"\x01"), 0)], snapshot=True)
        strings = recorder.strings(((1, data, BUFFER),))
        recorder.event(
            1000 + k * 100, 10, task, 3, 0x10, 0, 0, 0, 0, 0, OPENAT, strings, int(EventFlag.RETURNED),
        )  # fmt: skip
    recorder.close()
    for path, name in zip(sorted(folder.iterdir()), NAMES, strict=False):
        os.rename(os.fsencode(path), os.fsencode(folder) + b"/" + name)
    return folder


def texts(values: list[str]) -> list[bytes]:
    """What stands between the outermost double quotes of shown arguments."""
    return [unescape(text[text.index('"') + 1 : text.rindex('"')]) for text in values]


def test_guest_bytes_go_from_the_recorder_to_every_output_and_back(tmp_path: Path, caps: Path, figure: Figure) -> None:
    names = ["arg1_repr", "procname", "mark", "arg0_repr"]
    frames = []
    for out in ("a.sqlite", "a.parquet"):
        status, text = run("decode", caps, "-o", tmp_path / out, "-j", 1)
        assert status == 0, text
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as base:
        rows = base.execute(f"SELECT {', '.join(names)} FROM syscalls ORDER BY id").fetchall()
        columns = [row[1] for row in base.execute("PRAGMA table_xinfo(syscalls)")]
        frames.append(pl.DataFrame(rows, names, orient="row"))
    parquet = pl.read_parquet(tmp_path / "a.parquet" / "*.parquet").sort("id")
    assert columns == parquet.columns == list(SCHEMA)
    frames.append(parquet.select(names))
    assert frames[0].equals(frames[1].cast(frames[0].schema)) and len(frames[0]) == 1 + len(HOSTILE)
    frame = frames[0][1:]
    assert texts(frame["arg1_repr"].to_list()) == HOSTILE
    without = [data.replace(b"\0", b"\x01") for data in HOSTILE]
    assert [unescape(name) for name in frame["procname"]] == without
    assert [unescape(mark) for mark in frame["mark"]] == HOSTILE
    assert [unescape(text[text.index("(") + 1 : -1]) for text in frame["arg0_repr"]] == without
    status, text = run("dump", caps)
    strings = {unescape(line["text"]) for line in map(json.loads, text.splitlines()) if line["type"] == "string"}
    assert status == 0 and set(HOSTILE) <= strings
    figure("guest bytes that came back, of five kinds", f"{5 * sum(map(len, HOSTILE)):,} of as many")
    for source in (caps, tmp_path / "a.sqlite", tmp_path / "a.parquet"):
        for verb in ("info", "show"):
            status, text = run(verb, source)
            assert status == 0 and "DROP TABLE" in text
    figure("raw control characters in what the verbs print", 0)


def test_hostile_names_of_files_are_shown_escaped(tmp_path: Path, caps: Path) -> None:
    target = next(path for path in caps.iterdir() if "DROP" in path.name)
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    (caps / "\x1b]0;x\x07\udcff.seg").write_bytes(b"no segment")
    (caps / "\u202e.seg").symlink_to("/dev/zero")
    told = {}
    for out in ("a.sqlite", "a.parquet"):
        status, told[out] = run("decode", caps, "-o", tmp_path / out, "-j", 1)
        assert status == LOSS
        status, told[out + " again"] = run("info", tmp_path / out)
        assert status == LOSS
    for verb in ("info", "show", "dump", "verify"):
        status, told[verb] = run(verb, caps)
        assert status == LOSS, told[verb]
    status, told["recover"] = run("recover", caps, "-o", tmp_path / "clean")
    assert status == LOSS
    told["dump"] = told["dump"].replace("\\\\", "\\")  # JSON's own
    for who, text in told.items():
        assert "\\x1b]0;x\\x07\\udcff.seg" in text and "\\udcff\\udcfe\\x1b[31m\\n\\u202e');" in text, (who, text)
    status, text = run("show", caps / "\x1b[1mnone.seg")
    assert status == 1 and "\\x1b[1mnone.seg: no such file" in text
