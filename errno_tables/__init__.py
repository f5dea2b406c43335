"""Errno names and texts, one table per ABI.

The numbers differ between ABIs (mips, sparc, alpha and parisc number most of
them their own way), so a table is always asked for by ABI. The data are made
by `scripts/make_tables.py` from the kernel's headers; texts are the comments
found there, not those of a libc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from errno_tables import tsv

COLUMNS = ("number", "name", "text", "kind")
KINDS = frozenset({"uapi", "kernel"})


class Errno(NamedTuple):
    """One error.

    Attributes:
        name: Canonical name: EAGAIN, never its alias EWOULDBLOCK.
        text: The kernel header's comment.
        kind: `uapi`, which user space can see, or `kernel`, such as ERESTARTSYS:
            internal codes that a tracer sees before they are turned into a
            restart or into EINTR (include/linux/errno.h).
    """

    name: str
    text: str
    kind: str


@dataclass(frozen=True)
class ErrnoTable:
    """The errors of one ABI.

    Attributes:
        header: The table's header: abi, packages, headers...
        by_number: Error by its positive number.
    """

    header: Mapping[str, str]
    by_number: Mapping[int, Errno]


@cache
def load(abi: str) -> ErrnoTable:
    """Returns an ABI's table, read once per process.

    Raises:
        tsv.TableError: There is no such table, or it is malformed.
    """
    return parse(tsv.text(__name__, ".", abi), f"errno_tables/{abi}.tsv")


def parse(text: str, where: str) -> ErrnoTable:
    """Interprets a table's text; `where` names it in messages.

    Raises:
        tsv.TableError: The table is malformed.
    """
    table = tsv.parse(text, where, COLUMNS)
    by_number = {}
    for line, number, (name, meaning, kind) in table.numbered():
        if kind not in KINDS:
            table.fail(line, f"unknown kind {kind!r}")
        by_number[number] = Errno(name, meaning, kind)
    return ErrnoTable(table.header, MappingProxyType(by_number))
