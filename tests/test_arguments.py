"""What arguments point to: structs, descriptors, names, and arguments that lie in memory."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from capture import calls
from capture.arguments import ArgumentReader
from capture.recorder import String
from capture.segment import StringFlag
from capture.tracer import Args

LIMIT = 1 << 31
BUFFER, UNREADABLE, TRUNCATED = StringFlag.BUFFER, StringFlag.UNREADABLE, StringFlag.TRUNCATED
FAILED = (1 << 64) - 2


class Memory:
    """A program's memory, by address."""

    word_size, user_limit = 8, LIMIT

    def __init__(self, **pieces: bytes) -> None:
        self.pieces = {int(at.removeprefix("at_"), 16): data for at, data in pieces.items()}

    def bytes_at(self, address: int, size: int) -> bytes | None:
        for at, data in self.pieces.items():
            if at <= address and address + size <= at + len(data):
                return data[address - at : address - at + size]
        return None

    def word(self, cpu: Any, address: int, size: int = 0) -> int | None:
        data = self.bytes_at(address, size or self.word_size)
        return None if data is None else int.from_bytes(data, "little")

    def buffer(self, cpu: Any, address: int, length: int, most: int | None = None) -> tuple[bytes, int]:
        size = min(length, 32 if most is None else most)
        data = self.bytes_at(address, size)
        flags = BUFFER | (TRUNCATED if length > size else 0)
        return (b"", BUFFER | UNREADABLE) if data is None else (data, flags)

    def string(self, cpu: Any, address: int) -> tuple[bytes, int]:
        for at, data in self.pieces.items():
            if at <= address < at + len(data):
                text, end, _ = data[address - at :].partition(b"\0")
                return text, 0 if end else UNREADABLE
        return b"", UNREADABLE


def reader(memory: Memory, abi: str = "x86_64") -> ArgumentReader:
    return ArgumentReader(memory, calls.load(abi), False, 4 if abi == "i386" else 8)  # type: ignore[arg-type]


def read(memory: Memory, number: int, args: tuple[int, ...], ret: int | None = 0) -> tuple[String, ...]:
    padded: Args = (*args, 0, 0, 0, 0, 0, 0)[:6]  # type: ignore[assignment]
    return reader(memory).read(None, number, padded, ret)


CONNECT, ACCEPT, SOCKETPAIR, PIPE2, PRCTL, CLONE3, OPENAT2, SENDTO, RECVFROM = 42, 43, 53, 293, 157, 435, 437, 44, 45
NAME = b"\1\0/tmp/socket\0"


def test_a_struct_that_goes_in_is_as_long_as_the_call_says_whether_it_fails_or_not() -> None:
    memory = Memory(at_1000=NAME + b"what follows")
    for ret in (0, FAILED, None):
        assert read(memory, CONNECT, (3, 0x1000, len(NAME)), ret) == ((1, NAME, BUFFER),)
        assert read(memory, SENDTO, (3, 0, 0, 0, 0x1000, len(NAME)), ret) == ((4, NAME, BUFFER),)
    assert read(memory, CONNECT, (3, 0x1000, 0)) == ()
    assert read(memory, CONNECT, (3, 0, 16)) == ()
    assert read(memory, CONNECT, (3, 0x5000, 16)) == ((1, b"", BUFFER | UNREADABLE),)


@pytest.mark.parametrize(("number", "position", "size_at"), [(CLONE3, 0, 1), (OPENAT2, 2, 3)])
def test_at_the_most_256_bytes_of_a_struct_are_kept(number: int, position: int, size_at: int) -> None:
    memory = Memory(at_1000=bytes(range(256)) * 2, at_3000=b"path\0")
    args = [0, 0, 0, 0]
    args[position], args[size_at] = 0x1000, 300
    found = {where: (data, flags) for where, data, flags in read(memory, number, tuple(args))}
    assert found[position] == (bytes(range(256)), BUFFER | TRUNCATED)


def test_a_struct_that_comes_out_is_as_long_as_the_kernel_has_said() -> None:
    memory = Memory(at_1000=NAME, at_2000=struct.pack("<I", len(NAME)))
    assert read(memory, ACCEPT, (3, 0x1000, 0x2000), 4) == ((1, NAME, BUFFER),)
    assert read(memory, RECVFROM, (3, 0, 0, 0, 0x1000, 0x2000), 4) == ((4, NAME, BUFFER),)
    assert read(memory, ACCEPT, (3, 0x1000, 0x2000), FAILED) == ()
    assert read(memory, ACCEPT, (3, 0x1000, 0x2000), None) == ()
    assert read(memory, ACCEPT, (3, 0x1000, 0x6000), 4) == ()


def test_the_two_descriptors_of_a_pipe_are_read_if_there_are_any() -> None:
    memory = Memory(at_1000=struct.pack("<2i", 3, 4))
    assert read(memory, PIPE2, (0x1000,)) == ((0, struct.pack("<2i", 3, 4), BUFFER),)
    assert read(memory, SOCKETPAIR, (1, 1, 0, 0x1000)) == ((3, struct.pack("<2i", 3, 4), BUFFER),)
    assert read(memory, PIPE2, (0x1000,), FAILED) == ()


def test_a_tasks_name_is_read_when_it_is_set_and_as_far_as_the_kernel_takes_it() -> None:
    memory = Memory(at_1000=b"a name\0", at_2000=b"sixteen bytes or more\0", at_3000=b"sixteen bytes or")
    assert read(memory, PRCTL, (15, 0x1000)) == ((1, b"a name", 0),)
    assert read(memory, PRCTL, (15, 0x2000)) == ((1, b"sixteen bytes o", 0),)
    assert read(memory, PRCTL, (15, 0x3000)) == ((1, b"sixteen bytes o", 0),)
    assert read(memory, PRCTL, (16, 0x1000)) == ()


SOCKETCALL, OLD_MMAP = 102, 90


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def test_the_words_behind_socketcall_are_in_the_upper_halves_and_are_its_arguments() -> None:
    memory = Memory(at_1000=words(3, 0x2000, len(NAME)), at_2000=NAME)
    i386 = reader(memory, "i386")
    args = i386.wide(None, SOCKETCALL, (3, 0x1000, 77, 88, 99, 11))
    assert args == (3 << 32 | 3, 0x2000 << 32 | 0x1000, len(NAME) << 32 | 77, 88, 99, 11)
    assert i386.read(None, SOCKETCALL, args, 0) == ((1, NAME, BUFFER),)


def test_words_that_cannot_be_read_leave_the_registers() -> None:
    i386 = reader(Memory(at_1000=words(3, 0x2000)), "i386")
    registers: Args = (3, 0x1000, 0, 0, 0, 0)
    assert i386.wide(None, SOCKETCALL, registers) == registers
    assert i386.wide(None, SOCKETCALL, (99, 0x1000, 0, 0, 0, 0)) == (99, 0x1000, 0, 0, 0, 0)
    assert i386.read(None, SOCKETCALL, registers, 0) == ()


def test_a_call_that_takes_its_arguments_from_memory_has_them_in_the_upper_halves() -> None:
    i386 = reader(Memory(at_1000=words(1, 2, 3, 4, 5, 6)), "i386")
    assert i386.wide(None, OLD_MMAP, (0x1000, 0, 0, 0, 0, 9)) == tuple(
        i << 32 | low for i, low in zip(range(1, 7), (0x1000, 0, 0, 0, 0, 9), strict=True)
    )


def message(*controls: tuple[int, int, bytes], length: int | None = None) -> Memory:
    """A msghdr at 1000 and its control messages (level, type, data) at 2000."""
    data = b""
    for level, kind, content in controls:
        data += struct.pack("<QII", 16 + len(content), level, kind) + content
        data += bytes(-len(data) % 8)
    header = struct.pack("<QI4xQQQQI4x", 0, 0, 0, 0, 0x2000, len(data) if length is None else length, 0)
    return Memory(at_1000=header, at_2000=data)


def test_the_descriptors_that_a_message_brings_are_found_among_its_controls() -> None:
    memory = message((1, 2, bytes(12)), (1, 1, words(7, 8, 9)), (0, 8, bytes(4)), (1, 1, words(5)))
    assert reader(memory).rights(None, 0x1000) == [7, 8, 9, 5]


@pytest.mark.parametrize("length", [0, 15, 17, 1 << 20])
def test_control_messages_that_lie_bring_nothing(length: int) -> None:
    assert reader(message((1, 1, words(7)), length=length)).rights(None, 0x1000) in ([], [7])
    memory = message((1, 1, words(7)))
    memory.pieces[0x2000] = struct.pack("<Q", length) + memory.pieces[0x2000][8:]
    assert reader(memory).rights(None, 0x1000) == []
    assert reader(memory).rights(None, LIMIT) == [] == reader(memory).rights(None, 0x9000)
