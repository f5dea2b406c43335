"""Guests that mean harm, at the moment of capture: no exception gets out, reads end, flags say what is missing."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cffi
import pytest

from capture import calls
from capture.arguments import ArgumentReader
from capture.memory import GuestMemory
from capture.recorder import MAX_STRING, Recorder
from capture.segment import StringFlag
from capture.syscalls2 import Syscalls2
from conftest import command
from figures import Figure
from test_live import unescape

PAGE = 4096
TOP = 1 << 47
UNREADABLE, TRUNCATED, LIST = StringFlag.UNREADABLE, StringFlag.TRUNCATED, StringFlag.LIST
MOST, VECTOR, BUFFER = 4096, 16, 64


class Guest:
    """A CPU's view of memory: pages that are mapped, each with its bytes; the rest is not. Counts what is read."""

    def __init__(self, pages: dict[int, bytes], endless: bytes = b"") -> None:
        self.pages, self.endless, self.read = pages, endless, 0
        self.ffi = cffi.FFI()
        self.libpanda = SimpleNamespace(panda_virtual_memory_read_external=self._read)

    def byte_pages(self, number: int) -> bytes | None:
        return self.pages.get(number, self.endless or None)

    def _read(self, cpu: Any, address: int, into: Any, size: int) -> int:
        assert 0 <= address < 1 << 64 and 0 < size <= PAGE
        self.read += size
        data = b""
        while len(data) < size:
            page = self.byte_pages((address + len(data)) // PAGE)
            if page is None:
                return -1
            data += page[(address + len(data)) % PAGE :][: size - len(data)]
        self.ffi.memmove(into, data, size)
        return 0

    def memory(self) -> GuestMemory:
        return GuestMemory(self, 8, False, TOP, MOST, BUFFER, VECTOR)

    def string_at(self, address: int) -> tuple[bytes, int]:
        """What a string there is, byte by byte: the truth."""
        found = bytearray()
        while True:
            page = self.byte_pages(address // PAGE) if address < TOP else None
            if page is None:
                return bytes(found), int(UNREADABLE)
            if not page[address % PAGE]:
                return bytes(found), 0
            found.append(page[address % PAGE])
            if len(found) > MOST:
                return bytes(found[:MOST]), int(TRUNCATED)
            address += 1


def some_guest(source: random.Random) -> Guest:
    """Some pages in a row, holes between them, at the end of the address space too; NULs are rare or frequent."""
    values = (
        bytes(range(256)) if source.random() < 0.5 else b"\xff\xfe\x80\x1b[31m\0" if source.random() < 0.5 else b"A"
    )
    bases = (1, TOP // PAGE - 3, (1 << 64) // PAGE - 2)
    return Guest({
        base + k: bytes(source.choices(values, k=64)) * 64 for base in bases for k in range(3) if source.random() < 0.7
    })  # fmt: skip


def some_address(source: random.Random) -> int:
    base = source.choice((PAGE, 2 * PAGE, TOP - PAGE, TOP, (1 << 64) - PAGE, (1 << 64) - 1, 0))
    return max(0, min((1 << 64) - 1, base + source.choice((-9, -8, -1, 0, 1, 7, 4088, 4095, source.randrange(PAGE)))))


def test_strings_of_any_memory_are_what_is_there_or_flagged(figure: Figure) -> None:
    source, checked, flagged = random.Random(7), 0, 0
    for _ in range(150):
        guest = some_guest(source)
        memory = guest.memory()
        for _ in range(20):
            address = some_address(source)
            text, flags = memory.string(None, address)
            assert (text, flags) == guest.string_at(address), hex(address)
            checked, flagged = checked + 1, flagged + bool(flags)
    assert flagged > 500
    figure("hostile strings at capture, read / flagged / wrong", f"{checked} / {flagged} / 0")


@pytest.mark.parametrize("abi", ["x86_64", "aarch64", "i386", "arm", "mips-o32"])
def test_no_call_with_any_arguments_raises_or_reads_without_end(abi: str, figure: Figure) -> None:
    source, made, most = random.Random(abi), 0, 0
    table = calls.load(abi)
    for number in [*table.args, *table.wide]:
        guest = some_guest(source)
        word_size = 8 if abi in ("x86_64", "aarch64") else 4
        memory = GuestMemory(guest, word_size, False, TOP if word_size == 8 else 0xC0000000, MOST, BUFFER, VECTOR)
        reader = ArgumentReader(memory, table, True, word_size)
        for ret in (None, 0, 5, 1 << 40, (1 << 64) - 14, (1 << 64) - 1):
            args: Any = tuple(some_address(source) for _ in range(6))
            if number in table.wide:
                args = reader.wide(None, number, args)
            guest.read = 0
            for _, text, flags in reader.read(None, number, args, ret):
                assert isinstance(text, bytes) and 0 <= flags < 16 and len(text) <= 20 * MOST
            reader.rights(None, args[1])
            made, most = made + 1, max(most, guest.read)
    figure(f"hostile arguments of {abi}, calls / exceptions / most bytes read", f"{made} / 0 / {most}")
    assert made > 100 and most < 1 << 20


def test_strings_and_vectors_without_an_end_are_cut(figure: Figure) -> None:
    """Memory that repeats itself for ever: a string of more than 1 GiB, an argv whose pointers point at itself."""
    endless = Guest({}, endless=b"A" * PAGE)
    assert endless.memory().string(None, PAGE) == (b"A" * MOST, TRUNCATED)
    assert endless.read <= MOST + PAGE
    loop = Guest({}, endless=PAGE.to_bytes(8, "little") * (PAGE // 8))
    text, flags = loop.memory().vector(None, PAGE)
    assert text == bytes(VECTOR) and flags == LIST | TRUNCATED
    long = Guest({1: (2 * PAGE).to_bytes(8, "little") * 512}, endless=b"B" * PAGE)
    text, flags = long.memory().vector(None, PAGE)
    assert len(text) <= VECTOR * 64 and flags == LIST | TRUNCATED
    assert loop.read + long.read < 1 << 20
    figure("endless string and argv loops, bytes read", endless.read + loop.read + long.read)


def test_an_exception_in_a_callback_is_counted_and_goes_no_further(tmp_path: Path, figure: Figure) -> None:
    back_end: Any = Syscalls2.__new__(Syscalls2)
    back_end.recorder = Recorder(tmp_path, "x86_64", wait=True)
    back_end.enabled, back_end.trouble, back_end._cpu = True, None, None
    back_end._start = lambda cpu: 1 // 0
    for _ in range(100):
        back_end._entered(None, 0, None, SimpleNamespace(retaddr=2))
    back_end._compat_entered(None, 0, 1, (0,) * 6)
    assert back_end.recorder.counts["errors"] == 101
    assert back_end.trouble.startswith("ZeroDivisionError: ")
    back_end.recorder.close()
    figure("exceptions inside callbacks, raised / reached the emulator / counted", "101 / 0 / 101")


NASTY = [
    b"", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f", b"\x1b[2J\x1b]0;owned\x07", "\u202egnp.exe".encode(), b"a\nb\r\tc",
    b"'); DROP TABLE syscalls;--", b"=cmd|'/c calc'!A1", b'"quoted"\\', b"x" * 4096, b"\x7f\x80\x9b31m", b"%s%n{}${x}",
    b"\\x00", b"../../../etc/passwd", bytes(range(1, 256)),
]  # fmt: skip


def test_bytes_of_a_guest_come_through_exactly_and_never_as_they_are(tmp_path: Path, figure: Figure) -> None:
    """As paths, names and marks, through recorder, segment and database."""
    source = random.Random(3)
    texts = NASTY + [bytes(source.choices(range(1, 256), k=source.randrange(80))) for _ in range(300)]
    recorder = Recorder(tmp_path / "caps", "x86_64", wait=True)
    for number, text in enumerate(texts, 1):
        task = number << 32 | number
        recorder.identity(task, 1, number, number, 1, 15, 0, text[:15], text + b"\0", 0)
        recorder.mark(text.decode("utf-8", "surrogateescape"))
        strings = recorder.strings(((1, text, 0),))
        recorder.event(number, 1, task, 3, 0x1000, 0, 0, 0, 0, 0, 257, strings)
    recorder.close()
    done = command("process", tmp_path / "caps", "-o", tmp_path / "rows.sqlite")
    assert done.returncode == 0, done.stderr
    shown = command("process", "show", tmp_path / "rows.sqlite").stdout
    plain = sqlite3.connect(tmp_path / "rows.sqlite")
    rows = plain.execute("select arg1_repr, procname, mark from syscalls order by id").fetchall()
    columns = [row[1] for row in plain.execute("pragma table_info(syscalls)")]
    plain.close()
    assert len(rows) == len(texts) and columns[:3] == ["id", "name", "procname"]
    for text, (path, name, mark) in zip(texts, rows, strict=True):
        assert unescape(path.removeprefix('filename=0x1000("').removesuffix('")')) == text
        assert unescape(name) == (text or b"[none]")
        assert unescape(mark or "") == text
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    figure(
        "hostile bytes through both stages, texts / not the same / raw control characters shown",
        f"{len(texts)} / 0 / 0",
    )


def test_a_string_longer_than_any_is_cut_by_the_recorder(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "x86_64", wait=True)
    number = recorder.string(bytes(1 << 30 >> 6))
    assert number == 1 and recorder.totals()["string_bytes"] == MAX_STRING
    recorder.close()
