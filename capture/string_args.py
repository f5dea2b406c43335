"""Which syscall arguments capture reads as strings, one table per ABI.

The only thing capture needs to know of prototypes. The data are made by
`scripts/make_tables.py` out of the table in `process/`, which this stage does
not import.
"""

from __future__ import annotations

from functools import cache

from errno_tables import tsv

COLUMNS = ("number", "name", "args")
KINDS = frozenset({"string", "strings", "out_string", "in_buffer", "out_buffer"})
MAX_ARGS = 6

StringArgs = dict[int, tuple[tuple[int, str], ...]]
"""Syscall number to (position from 0, kind); numbers without strings are absent."""


@cache
def load(abi: str) -> StringArgs:
    """Returns an ABI's string arguments, read once per process; not to be changed.

    The kinds: `string`, read at entry up to NUL; `strings`, at entry, a
    NULL-terminated array of pointers to such; `out_string`, read after a
    successful return; `in_buffer`, as long as the next argument says;
    `out_buffer`, as long as the return value says.

    Raises:
        tsv.TableError: There is no such table, or it is malformed.
    """
    return parse(tsv.text("capture", "tables", abi), f"capture/tables/{abi}.tsv")


def parse(text: str, where: str) -> StringArgs:
    """Interprets a table's text; `where` names it in messages.

    Raises:
        tsv.TableError: The table is malformed.
    """
    table = tsv.parse(text, where, COLUMNS)
    by_number: StringArgs = {}
    for line, number, (_name, cell) in table.numbered():
        args = []
        for arg in cell.split(" "):
            position, _, kind = arg.partition(":")
            if kind not in KINDS or position not in map(str, range(MAX_ARGS)):
                table.fail(line, f"{arg!r} is not a string argument (position:kind)")
            args.append((int(position), kind))
        by_number[number] = tuple(args)
    return by_number
