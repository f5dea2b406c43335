"""What the arguments of a call point to, read out of guest memory while it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from capture.calls import Calls, load_socketcall
from capture.memory import GuestMemory
from capture.recorder import String
from capture.segment import StringFlag
from capture.tracer import Args

_UNREADABLE = int(StringFlag.UNREADABLE)
_MAX_STRUCT = 256
"""Bytes of a struct that are kept: the longest sockaddr has 128 (__kernel_sockaddr_storage), clone_args 88."""
_PR_SET_NAME = 15  # include/uapi/linux/prctl.h
_MAX_NAME = 15
"""Bytes of a task's name that the kernel takes (TASK_COMM_LEN - 1)."""
_MAX_RIGHTS = 4096
"""Bytes of control messages that are looked through."""
_SOL_SOCKET_SCM_RIGHTS = (1, 1)  # include/linux/socket.h
_LOW = 0xFFFFFFFF


class ArgumentReader:
    """Reads those arguments of a call that the ABI's table names."""

    def __init__(self, memory: GuestMemory, calls: Calls, buffers: bool, word_size: int = 0) -> None:
        """Prepare to read.

        Args:
            memory: The guest's memory.
            calls: The guest's syscalls.
            buffers: Whether the first bytes of what is read and written are recorded.
            word_size: Bytes of a register and of a pointer; 0: the memory's.
        """
        self._memory, self._calls, self._wanted, self._buffers = memory, calls, calls.args, buffers
        self._word_size = word_size or memory.word_size
        self._first_error = (1 << 8 * self._word_size) - 4095  # MAX_ERRNO, include/linux/err.h

    def read(self, cpu: Any, number: int, args: Args, ret: int | None) -> tuple[String, ...]:
        """The strings of a call's arguments; those that it fills only if it has succeeded.

        Args:
            cpu: PANDA's CPU.
            number: Of the syscall.
            args: Its argument registers; of a `wide` call, as `wide` gives them.
            ret: What it returned; all ones if the ABI's error flag was set; None at its entry.
        """
        wanted: Sequence[tuple[int, str]] | None = self._wanted.get(number)
        if wanted is None:
            return ()
        if number in self._calls.wide:
            if self._calls.files.get(number) == "socketcall":
                sub = load_socketcall().get(args[0] & _LOW)
                wanted = sub.args if sub else ()
            args = tuple(arg >> 32 for arg in args)  # type: ignore[assignment]  # still six
        found: list[String] = []
        done = ret is not None and ret < self._first_error
        for position, kind in wanted:
            address = args[position]
            if not address:
                continue
            if kind == "string":
                found.append((position, *self._memory.string(cpu, address)))
            elif kind == "strings":
                found.append((position, *self._memory.vector(cpu, address)))
            elif kind == "in_buffer":
                if self._buffers:
                    found.append((position, *self._memory.buffer(cpu, address, args[position + 1])))
            elif kind == "in_struct":
                found += self._struct(cpu, position, address, args[position + 1])
            elif kind == "task_name":
                if args[0] & _LOW == _PR_SET_NAME:
                    found.append(self._name(cpu, position, address))
            elif ret is None or not done:
                continue  # it has come back with an error, or not at all: nothing was written
            elif kind == "out_string":
                found.append((position, *self._memory.string(cpu, address)))
            elif kind == "out_fds":
                found += self._struct(cpu, position, address, 8)
            elif kind == "out_struct":
                at = args[position + 1]
                length = self._memory.word(cpu, at, 4) if 0 < at < self._memory.user_limit else None
                found += self._struct(cpu, position, address, length or 0)
            elif kind == "out_buffer" and self._buffers:
                found.append((position, *self._memory.buffer(cpu, address, ret)))
        return tuple(found)

    def wide(self, cpu: Any, number: int, args: Args) -> Args:
        """The arguments of a call of ``Calls.wide``: its registers, and in their upper halves the words in memory.

        The registers alone if the words cannot be read.
        """
        for position, kind in self._wanted.get(number, ()):
            name, _, words = kind.partition(":")
            if name == "words":
                count = int(words)
            elif kind == "socketcall":
                sub = load_socketcall().get(args[0] & _LOW)
                count = sub.words if sub else 0
            else:
                continue
            address, size, found = args[position] & _LOW, self._word_size, list(args)
            if address + count * size > self._memory.user_limit:
                return args
            for i in range(min(count, len(found))):
                word = self._memory.word(cpu, address + i * size, size)
                if word is None:
                    return args
                found[i] = found[i] & _LOW | (word & _LOW) << 32
            args = tuple(found)  # type: ignore[assignment]  # six as before
        return args

    def rights(self, cpu: Any, message: int) -> list[int]:
        """The descriptors that a struct msghdr has brought, after recvmsg (include/linux/socket.h)."""
        memory, size, found = self._memory, self._word_size, list[int]()
        # name, namelen and padding, iov, iovlen, control, controllen: a word each
        words = [memory.word(cpu, message + i * size, size) for i in (4, 5)] if message < memory.user_limit else []
        if not words or not words[0] or not words[1]:
            return found
        at, end = words[0], words[0] + min(words[1], _MAX_RIGHTS)
        while at + size + 8 <= end <= memory.user_limit:
            length = memory.word(cpu, at, size)
            kind = memory.word(cpu, at + size, 4), memory.word(cpu, at + size + 4, 4)
            if length is None or not size + 8 <= length <= end - at:
                break
            if kind == _SOL_SOCKET_SCM_RIGHTS:
                fds = (memory.word(cpu, place, 4) for place in range(at + size + 8, at + length - 3, 4))
                found += [fd for fd in fds if fd is not None]
            at += -(-length // size) * size
        return found

    def _struct(self, cpu: Any, position: int, address: int, length: int) -> list[String]:
        """Bytes of a struct; nothing for an empty one."""
        length &= _LOW
        return [(position, *self._memory.buffer(cpu, address, length, _MAX_STRUCT))] if length else []

    def _name(self, cpu: Any, position: int, address: int) -> String:
        """A task's name, as long as the kernel takes it."""
        text, flags = self._memory.string(cpu, address)
        return position, text[:_MAX_NAME], 0 if len(text) >= _MAX_NAME else flags
