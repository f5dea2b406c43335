"""What the arguments of a call point to, read out of guest memory while it is there."""

from __future__ import annotations

from typing import Any

from capture.calls import Calls
from capture.memory import GuestMemory
from capture.recorder import String
from capture.tracer import Args

_MAX_ERRNO = 4095  # include/linux/err.h


class ArgumentReader:
    """Reads those arguments of a call that the ABI's table names."""

    def __init__(self, memory: GuestMemory, calls: Calls, buffers: bool, word_size: int = 8) -> None:
        """Prepare to read.

        Args:
            memory: The guest's memory.
            calls: The guest's syscalls.
            buffers: Whether the first bytes of what is read and written are recorded.
            word_size: Bytes of a register.
        """
        self._memory, self._wanted, self._buffers = memory, calls.args, buffers
        self._failed = (1 << 8 * word_size) - _MAX_ERRNO

    def read(self, cpu: Any, number: int, args: Args, ret: int | None) -> tuple[String, ...]:
        """The strings of a call's arguments; those that it fills only if it has succeeded.

        Args:
            cpu: PANDA's CPU.
            number: Of the syscall.
            args: Its argument registers.
            ret: What it returned, all ones if the ABI's error flag was set; None at its entry.
        """
        wanted = self._wanted.get(number)
        if wanted is None:
            return ()
        found, memory = [], self._memory
        for position, kind in wanted:
            address = args[position]
            if not address:
                continue
            if kind == "string":
                found.append((position, *memory.string(cpu, address)))
            elif kind == "strings":
                found.append((position, *memory.vector(cpu, address)))
            elif kind == "in_buffer":
                if self._buffers:
                    found.append((position, *memory.buffer(cpu, address, args[position + 1])))
            elif ret is None or ret >= self._failed:
                continue  # it has come back with an error, or not at all: nothing was written
            elif kind == "out_string":
                found.append((position, *memory.string(cpu, address)))
            elif self._buffers:
                found.append((position, *memory.buffer(cpu, address, ret)))
        return tuple(found)
