"""Calls whose arguments are not in registers, or not theirs: `indirect.tsv`, `words.tsv` and the prototypes.

Socketcall and ipc are one syscall for many; a few old calls take all arguments from memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tables import syscalls
from tables.headers import HeaderError
from tables.syscalls import Prototypes, Syscall


class Indirect(NamedTuple):
    """One real call.

    Attributes:
        number: First argument of the call that it is reached through.
        abi: `*`, or the names of the only ABIs that it is for.
        call: The real call; its number is the same as `number`.
        feeds: What feeds its arguments, as in `indirect.tsv`.
        role: Its role besides `state`, `-` for none.
    """

    number: int
    abi: str
    call: Syscall
    feeds: str
    role: str


def read(table: str, known: Prototypes, roles: Mapping[str, str]) -> Iterator[Indirect]:
    """Yields the rows of `socketcall` or `ipc` in order.

    Args:
        table: Which of the two.
        known: Prototypes of an ABI that has all of these calls.
        roles: Roles by name of the syscall.

    Raises:
        HeaderError: As many arguments are not fed as the real call has.
    """
    for row in syscalls.hand_table("indirect.tsv"):
        if row["table"] != table:
            continue
        call = known.call(row["syscall"], int(row["number"]))
        fed = int(row["args"]) if table == "socketcall" else len(row["args"].split())
        if fed != len(call.args or ()):
            raise HeaderError(f"indirect.tsv: {call.name} has {len(call.args or ())} arguments, {fed} are fed")
        role = " ".join(word for word in roles.get(call.name, "").split() if word != "state")
        if " " in role:
            raise HeaderError(f"roles.tsv: capture knows no two roles but `state` in {call.name} through {table}")
        yield Indirect(call.number, row["abi"], call, row["args"], role or "-")


def words(known: Prototypes, reads: Mapping[tuple[str, str], str]) -> Iterator[Syscall]:
    """Yields the calls that take all arguments from memory, with those arguments; their number is -1.

    Raises:
        HeaderError: Capture reads another number of words.
    """
    for row in syscalls.hand_table("words.tsv"):
        call = known.with_arguments(row["entry"], row["args"], row["source"])
        if reads.get((call.name, "arg")) != f"words:{len(call.args or ())}":
            raise HeaderError(f"words.tsv: {call.name} has {len(call.args or ())} arguments, reads.tsv says otherwise")
        yield call
