#!/usr/bin/env python3
"""Writes docs/ABIS.md: what the tables know of each ABI, and every exception with its reason."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import errno_tables  # noqa: E402  # the tree itself need not be installed
from process import prototypes  # noqa: E402
from tables import abis  # noqa: E402

HEAD = """\
# ABIs

Made by `scripts/abi_coverage.py` from the tables; a test compares. The tables are made by `scripts/make_tables.py`:
numbers and errnos from Debian's packages of each architecture's headers, prototypes from the kernel's own
`include/linux/syscalls.h`, entry points from each architecture's `syscall.tbl` (kept in `scripts/tables/entries.tsv`)
or from `asm-generic/unistd.h`, the rest from `scripts/tables/supplement.tsv` with a source beside each line. The
headers are Linux 6.1's: calls of a later kernel are shown by number.

A name is the kernel's entry point. Where a 32-bit kernel or a 64-bit kernel's compat layer puts 64-bit arguments
together itself (`sys_ia32_pread64`, `compat_sys_s390_truncate64`), the table has the call that it stands for, with
one argument of 64 bits (`process.prototypes.WIDE_TYPES`): so one table serves a native 32-bit kernel and a 64-bit
one. Byte order changes no number: there is one table for both.

Which registers hold the arguments is in `capture/abi.py`; how they become arguments (pairs, holes, words on the stack
or in memory) is the process stage's, see [ARCHITECTURE.md](ARCHITECTURE.md) and [FORMAT.md](FORMAT.md).

## What is known

*numbers*: those that the headers have. *not implemented*: of these, what the kernel answers with ENOSYS.
*prototypes*: calls whose arguments are known. *arguments*: those of these calls, and how many have a type and a name.
*errnos*: those that user space sees, and the kernel's own that a tracer sees besides (512 and up).

| ABI | numbers from | numbers | not implemented | prototypes | arguments | errnos |
|---|---|---|---|---|---|---|
"""

NOTES = """
- `x32`: the numbers have bit 30 set, as they have in the register.
- `arm`, `arm-oabi`: both with the calls of `arch/arm/kernel/traps.c` (0xf0001 ...). The numbers of `arm-oabi` are those
  in the `swi` instruction without its base 0x900000, as the kernel takes them.
- `mips-*`: the numbers start at 4000 (o32), 5000 (n64) and 6000 (n32), as in the register.
- `loongarch64`: Debian 12 has no package of its headers. The table is `asm-generic/unistd.h` of another package with
  what `arch/loongarch/include/uapi/asm/unistd.h` (Linux 6.1.192) defines for it.
- `riscv32`: the same headers as `riscv64`, read with its word size.
- `s390`, `sparc`: 32-bit programs; the headers are those of the 64-bit packages.
"""


def page() -> str:
    """Returns the whole page."""
    return "".join([HEAD, *_rows(), NOTES, *_exceptions()])


def _rows() -> Iterator[str]:
    for abi in abis.ROWS:
        calls = prototypes.load(abi.name).by_number.values()
        missing = sum(call.kind == "unimplemented" for call in calls)
        known = [call for call in calls if call.known]
        args = [arg for call in known for arg in call.args]
        named = sum(bool(arg.ctype and arg.name) for arg in args)
        errnos = [error.kind for error in errno_tables.load(abi.name).by_number.values()]
        yield (
            f"| {abi.name} | `{abi.package}` | {len(calls)} | {missing} | {len(known)} "
            f"| {len(args)}, {named} named | {errnos.count('uapi')} + {errnos.count('kernel')} |\n"
        )


def _exceptions() -> Iterator[str]:
    """Yields the calls that the kernel does not implement, each with where this is seen."""
    found: dict[bool, dict[tuple[str, str], list[str]]] = {known: defaultdict(list) for known in (False, True)}
    for abi in abis.ROWS:
        for call in prototypes.load(abi.name).by_number.values():
            if call.kind == "unimplemented":
                found[call.known][call.name, call.source].append(abi.name)
    yield "\n## Arguments unknown\n\nAll of these have a number and no implementation (`sys_ni_syscall`).\n\n"
    yield from _table(found[False], "seen in")
    yield "\n## Arguments known, not implemented\n\nOlder kernels had these calls.\n\n"
    yield from _table(found[True], "arguments from")


def _table(calls: dict[tuple[str, str], list[str]], source: str) -> Iterator[str]:
    yield f"| call | ABIs | {source} |\n|---|---|---|\n"
    for (name, where), names in sorted(calls.items()):
        yield f"| `{name}` | {' '.join(names)} | `{where}` |\n"


if __name__ == "__main__":
    (ROOT / "docs/ABIS.md").write_text(page(), encoding="ascii", newline="\n")
