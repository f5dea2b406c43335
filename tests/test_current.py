"""The current task's place is read out of instructions; live guests prove it for every architecture.

Here: the forms that those guests do not have.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from capture.current import candidates

HANDLER, TASK = 0x80101000, 0x81504980


class Memory:
    """Words at addresses, in one byte order."""

    def __init__(self, order: str, word: int) -> None:
        self.order, self.word_size = order, word
        self.data: dict[int, bytes] = {}

    def put(self, address: int, *words: int, size: int = 4) -> None:
        for n, word in enumerate(words):
            data = word.to_bytes(size, "big" if self.order == ">" else "little")
            self.data.update((address + n * size + i, data[i : i + 1]) for i in range(size))

    def block(self, cpu: Any, address: int, size: int) -> bytes | None:
        found = [self.data.get(address + i) for i in range(size)]
        return b"".join(byte for byte in found if byte is not None) if None not in found else None

    def word(self, cpu: Any, address: int, size: int = 0) -> int | None:
        data = self.block(cpu, address, size or self.word_size)
        return None if data is None else int.from_bytes(data, "big" if self.order == ">" else "little")


def nops(*words: int) -> tuple[int, ...]:
    return (*words, *[0] * (64 - len(words)))


@pytest.mark.parametrize(("arch", "order"), [("mipsel", "<"), ("mips", ">")])
@pytest.mark.parametrize(
    "code",
    [
        (0x3C1B8150, 0x8F7D8064),  # one CPU: lui k1, %hi(kernelsp); lw sp, %lo(kernelsp)(k1), which is negative
        (0x3C1B8150, 0x001AD5C2, 0x037AD821, 0x03A0D025, 0x8F7D8064),  # several: k1 is the array's element
    ],
)
def test_mips_finds_the_task_under_the_stack(arch: str, order: str, code: tuple[int, ...]) -> None:
    memory = Memory(order, 4)
    memory.put(HANDLER, *nops(0x401A6000, *code))
    memory.put(0x814F8064, 0x8247FFE0 - 0x2000)
    memory.put(0x8247C000, TASK)
    assert struct.unpack(f"{order}I", memory.block(None, HANDLER, 4) or b"") == (0x401A6000,)
    found = [find(None) for find in candidates(None, None, memory, arch, {"handle_sys": HANDLER}, 0)]
    assert TASK in found and len(found) == 5


def test_mips64_loads_a_doubleword() -> None:
    memory = Memory(">", 8)
    memory.put(HANDLER, *nops(0x3C1B8150, 0xDF7D8064))
    memory.put(0xFFFFFFFF814F8064, 0xA80000000247FFE0, size=8)
    memory.put(0xA80000000247C000, 0xA800000001504980, size=8)
    found = [find(None) for find in candidates(None, None, memory, "mips64", {"handle_sys64": HANDLER}, 0)]
    assert 0xA800000001504980 in found


def test_a_function_that_cannot_be_read_or_shows_nothing_gives_nothing() -> None:
    memory = Memory("<", 4)
    assert list(candidates(None, None, memory, "mipsel", {"handle_sys": HANDLER}, 0)) == []
    assert list(candidates(None, None, memory, "mipsel", {}, 0)) == []
    memory.put(HANDLER, *nops(0x3C1B8150))
    assert list(candidates(None, None, memory, "mipsel", {"handle_sys": HANDLER}, 0)) == []
