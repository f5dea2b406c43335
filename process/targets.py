"""What a syscall number stands for: name, arguments, and in which words of an event each of them lies.

Some calls are only ways to others: `socketcall` and `ipc` by a number of their own, `syscall` by the number of the
real call. They are shown as the call that they lead to. `old_mmap` and `old_select` have an array for arguments, and
are shown with those.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from errno_tables.tsv import TableError
from process import prototypes
from process.abis import ABIS, Abi, Pairs
from process.indirect import IPC_NAMES, load_ipc, load_socketcall, load_words
from process.prototypes import WIDE_TYPES, Argument, Prototype
from process.schema import ARGS

VALUES = frozenset({"value", "fd"})
"""Kinds of argument that are no address."""

_UNKNOWN_ARGS = tuple(Argument("unsigned long", f"arg{k}", "value") for k in range(ARGS))
_SILENT = frozenset({"sys_rt_sigreturn", "sys_sigreturn", "sys_reboot"})
"""Calls that come back only when they fail."""
_X32_BIT = 1 << 30
"""In the numbers of x32, in its table, too (__X32_SYSCALL_BIT, arch/x86/include/uapi/asm/unistd.h, Linux 6.1)."""
_OABI_BASE = 0x900000
"""In the numbers of arm-oabi, but not in its table (arch/arm/include/asm/unistd.h, Linux 6.1)."""


class Way(Enum):
    """How a call leads to another."""

    SOCKETCALL = 1
    """Argument 0 says which; its arguments are an array of words, kept in the upper halves of the registers."""
    IPC = 2
    """Argument 0 says which; its arguments are others of `ipc`, or in memory that is not kept."""
    SYSCALL = 3
    """Argument 0 is its number; its arguments follow."""
    WORDS = 4
    """To itself; its arguments are an array of words, kept as those of `socketcall`."""


class Place(NamedTuple):
    """Where an argument lies.

    Attributes:
        word: Index of the word that holds it, or its lower half: 0 to 5 the registers, 6 to 11 their upper halves.
            None: it was not recorded.
        high: Index of the word that holds its upper half, None if it lies in one word.
        size: Bytes: 4 or 8.
        signed: Whether 4 bytes are extended with their sign.
        string: Its position in the event's set of strings, None if there is no such.
    """

    word: int | None
    high: int | None
    size: int
    signed: bool
    string: int | None


class Target(NamedTuple):
    """What a number stands for.

    Attributes:
        abi: Its ABI.
        number: As recorded.
        name: Of the call, `sys_unknown_N` if no table has the number.
        args: Its arguments.
        places: Where each of them lies.
        gives_pointer: Whether it returns an address.
        may_end: Whether it is no surprise that it does not come back.
        is_known: Whether a table has the number.
        way: How it leads to another call, None if it does not.
    """

    abi: Abi
    number: int
    name: str
    args: tuple[Argument, ...]
    places: tuple[Place, ...]
    gives_pointer: bool = False
    may_end: bool = False
    is_known: bool = True
    way: Way | None = None


@lru_cache(1 << 14)
def target(abi: Abi, number: int, big_endian: bool) -> Target:
    """What a number stands for, ways to other calls not followed.

    Args:
        abi: Of the event. Numbers of x86_64 that are x32's give that ABI.
        number: As recorded.
        big_endian: Whether the guest is.
    """
    if abi is ABIS["x86_64"] and number >> 30 == 1:
        abi = ABIS["x32"]
    prototype = _prototype(abi, number)
    if prototype is None:
        places = lay_out(abi, _UNKNOWN_ARGS, big_endian)
        return Target(abi, number, f"sys_unknown_{number}", _UNKNOWN_ARGS, places, is_known=False)
    return _of(abi, number, prototype, big_endian)._replace(way=_way(abi, prototype.name))


@lru_cache(1 << 14)
def reached(through: Target, real: int, big_endian: bool) -> Target:
    """The call that a way leads to.

    Args:
        through: A target with a way.
        real: One of `numbers` of it.
        big_endian: Whether the guest is.
    """
    abi, number, way = through.abi, through.number, through.way
    if way is Way.SYSCALL and (prototype := _prototype(abi, real)) is not None:
        return _of(abi, number, prototype, big_endian, first=1)
    if way is Way.WORDS:
        args = load_words()[through.name]
        return through._replace(args=args, places=lay_out(abi, args, big_endian, first=ARGS))
    if way is Way.SOCKETCALL:
        found = load_socketcall()[real]
        return Target(abi, number, found.name, found.args, lay_out(abi, found.args, big_endian, first=ARGS))
    if way is Way.IPC:
        found = load_ipc(abi.name)[real]
        places = (_place(abi, one, word, None) for one, word in zip(found.args, found.feeds, strict=True))
        return Target(abi, number, found.name, found.args, tuple(place._replace(string=None) for place in places))
    return through


@lru_cache(1 << 8)
def numbers(through: Target) -> frozenset[int]:
    """The values of argument 0 for which a way leads anywhere; 0 alone if argument 0 has no such meaning."""
    if through.way is Way.SOCKETCALL:
        return frozenset(load_socketcall())
    if through.way is Way.IPC:
        return frozenset(load_ipc(through.abi.name))
    if through.way is Way.SYSCALL:
        known = frozenset(prototypes.load(through.abi.name).by_number) - {through.number}
        return known | {number | _OABI_BASE for number in known} if through.abi is ABIS["arm-oabi"] else known
    return frozenset({0})


@lru_cache(1 << 12)
def lay_out(abi: Abi, args: tuple[Argument, ...], big_endian: bool, first: int = 0) -> tuple[Place, ...]:
    """Where the arguments of a call lie.

    Args:
        abi: Says how wide a word is, and how arguments of two words lie.
        args: The arguments.
        big_endian: Whether the upper half of two words comes first.
        first: Index of the word that is the call's first.
    """
    places, at = [], 0
    for argument in args:
        if abi.word == 4 and argument.ctype in WIDE_TYPES:
            at += at % 2 if abi.pairs is Pairs.EVEN else 0
            pair = (first + at + 1, first + at) if big_endian else (first + at, first + at + 1)
            places.append(_place(abi, argument, *pair))
            at += 2
        else:
            places.append(_place(abi, argument, first + at, None))
            at += 1
    end = 2 * ARGS if first == ARGS else abi.words
    return tuple(_kept(place, first, end) for place in places)


def _place(abi: Abi, argument: Argument, word: int | None, high: int | None) -> Place:
    is_value = argument.kind in VALUES
    size = 8 if high is not None else abi.word if is_value else abi.pointer
    return Place(word, high, size, size == 4 and is_value, word)


def _kept(place: Place, first: int, end: int) -> Place:
    """A place that no segment has words for is none. Strings are kept by the words of the real call."""
    if max(place.word or 0, place.high or 0) >= end:
        return Place(None, None, place.size, place.signed, None)
    string = place.word - first if place.word is not None and place.high is None else None
    return place._replace(string=string if string is not None and string < ARGS else None)


def _of(abi: Abi, number: int, prototype: Prototype, big_endian: bool, first: int = 0) -> Target:
    args = prototype.args if prototype.known else _UNKNOWN_ARGS
    may_end = prototype.noreturn or prototype.name in _SILENT
    places = lay_out(abi, args, big_endian, first)
    return Target(abi, number, prototype.name, args, places, prototype.returns == "pointer", may_end)


def _way(abi: Abi, name: str) -> Way | None:
    if name in IPC_NAMES:
        return Way.IPC
    if abi.word == 4 and name == "sys_socketcall":
        return Way.SOCKETCALL
    if abi.word == 4 and name in load_words():
        return Way.WORDS
    return Way.SYSCALL if name == "sys_syscall" else None


def _prototype(abi: Abi, number: int) -> Prototype | None:
    """The prototype of a number, None if no table has it."""
    if abi is ABIS["x32"]:
        number |= _X32_BIT
    elif abi is ABIS["arm-oabi"]:
        number &= ~_OABI_BASE
    try:
        return prototypes.load(abi.name).by_number.get(number) if abi.is_known else None
    except TableError:
        return None
