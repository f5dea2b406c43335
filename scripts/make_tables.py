#!/usr/bin/env python3
"""Makes the errno, prototype and capture tables from Debian's kernel packages.

The packages are downloaded and unpacked in a cache folder, not installed. The
parts are in `tables/`: the ABIs in `abis.py`, one row each; the rules by which
syscalls get their names and arguments in `syscalls.py` and `kinds.py`; what the
headers do not say in `supplement.tsv`, `argument_kinds.tsv` and `roles.tsv`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tables import abis, headers, indirect, syscalls
from tables.abis import Abi
from tables.headers import HeaderError
from tables.kinds import Argument
from tables.packages import Package, PackageError, fetch, newest_headers
from tables.syscalls import Prototypes, Syscall

VERSION = 1
ROOT = Path(__file__).resolve().parent.parent
CACHE = Path.home() / ".cache/sysreel/packages"
ERRNO_H = "include/linux/errno.h"
WIDE_TYPES = ("loff_t", "u64")  # of process/prototypes.py those that the headers have here
STRING_KINDS = ("string", "strings", "out_string")

# include/linux/errno.h has no comment on these two; handle_signal() in
# arch/x86/kernel/signal.c (Linux 6.1) shows when each restarts the call.
KERNEL_TEXTS = {
    "ERESTARTSYS": "restart if the handler has SA_RESTART, else EINTR",
    "ERESTARTNOINTR": "restart always",
}


def errno_lines(abi: Abi, include: list[Path], kernel: Path) -> list[str]:
    """Returns the errno table: the ABI's own codes, then the kernel-internal ones.

    Raises:
        HeaderError: A code has no text.
    """
    found = [(code, "uapi") for code in headers.errnos(headers.find(abi.errno, include), include, abi.defines)]
    found += [(code, "kernel") for code in headers.errnos(kernel / ERRNO_H, [], {})]
    lines = ["# columns: number name text kind"]
    for (number, name, comment), kind in sorted(found):
        text = comment or KERNEL_TEXTS.get(name)
        if not text:
            raise HeaderError(f"{name} has no comment to take its text from: add it to KERNEL_TEXTS")
        lines.append(f"{number}\t{name}\t{text}\t{kind}")
    return lines


def prototype_lines(calls: Iterable[Syscall]) -> list[str]:
    """Returns the prototype table."""
    lines = ["# columns: number name kind returns source args"]
    for call in calls:
        number, name, kind, returns, source, _ = call
        lines.append(f"{number}\t{name}\t{kind}\t{returns}\t{source}\t{prototype(call)}")
    return lines


def prototype(call: Syscall) -> str:
    """Returns a call's arguments as the tables write them."""
    declared = (f"{arg.kind}:{arg.ctype} {arg.name}".replace("* ", "*") for arg in call.args or ())
    return "-" if call.args is None else "; ".join(declared) or "void"


def _read_as(syscall: str, arg: Argument, decided: Mapping[tuple[str, str], str]) -> str:
    """Returns how capture reads an argument; empty if it does not."""
    if (syscall, arg.name) in decided:
        return decided[syscall, arg.name].removeprefix("-")
    if arg.kind == "buffer":  # a const one goes in, as long as the next argument says; another comes out
        return "in_buffer" if arg.ctype.startswith("const ") else "out_buffer"
    return arg.kind if arg.kind in STRING_KINDS else ""


def _read(call: Syscall, decided: Mapping[tuple[str, str], str], narrow: bool) -> str:
    """Returns the cell that says how capture reads a call's arguments; empty if it reads none.

    The positions are those of registers: with `narrow` ones, of 4 bytes, a 64-bit argument takes two.

    Raises:
        HeaderError: The position depends on whether pairs of registers must start at an even one.
    """
    cell, position, is_odd = [], 0, False
    for arg in call.args or ():
        if kind := _read_as(call.name, arg, decided):
            if is_odd:
                raise HeaderError(f"{call.name}: ABIs differ in where {arg.name} is")
            if narrow or not kind.startswith("words:"):  # an event has no room for more words of 8 bytes
                cell.append(f"{position}:{kind}")
        is_wide = narrow and arg.ctype in WIDE_TYPES
        is_odd |= is_wide and position % 2 == 1
        position += 1 + is_wide
    return " ".join(cell)


def capture_lines(calls: Iterable[Syscall], narrow: bool) -> list[str]:
    """Returns the table of what capture looks at: arguments to read, and roles."""
    lines = ["# columns: number name roles args"]
    roles, decided = syscalls.roles(), syscalls.reads()
    for call in calls:
        read = _read(call, decided, narrow)
        if read or call.name in roles:
            lines.append(f"{call.number}\t{call.name}\t{roles.get(call.name, '-')}\t{read or '-'}")
    return lines


def indirect_tables(known: Prototypes) -> Iterator[tuple[str, str, list[str]]]:
    """Yields folder, name and lines of the tables of calls behind other calls."""
    roles, decided = syscalls.roles(), syscalls.reads()
    rows = list(indirect.read("socketcall", known, roles))
    lines = [f"{row.number}\t{row.call.name}\t{row.feeds}\t{prototype(row.call)}" for row in rows]
    yield "process/tables", "socketcall", ["# columns: number name words prototype", *lines]
    lines = [
        f"{row.number}\t{row.call.name}\t{row.feeds}\t{row.role}\t{_read(row.call, decided, True) or '-'}"
        for row in rows
    ]
    yield "capture/tables", "socketcall", ["# columns: number name words role args", *lines]
    lines = [
        f"{row.number}\t{row.abi}\t{row.call.name}\t{row.feeds}\t{prototype(row.call)}"
        for row in indirect.read("ipc", known, roles)
    ]
    yield (
        "process/tables",
        "words",
        [
            "# columns: name prototype",
            *(f"{call.name}\t{prototype(call)}" for call in indirect.words(known, decided)),
        ],
    )
    yield "process/tables", "ipc", ["# columns: number abi name args prototype", *lines]


def make(abi: Abi, uapi: Package, common: Package, out: Path) -> None:
    """Writes an ABI's three tables below `out`."""
    include = [uapi.root / folder for folder in abi.include]
    kernel = common.root / "usr/src" / common.name
    calls = syscalls.read(abi, include, kernel)
    syscall_sources = f"{abi.unistd} {syscalls.SYSCALLS_H}"
    tables = (
        ("errno", "errno_tables", f"{abi.errno} {ERRNO_H}", errno_lines(abi, include, kernel)),
        ("prototypes", "process/tables", syscall_sources, prototype_lines(calls)),
        ("capture", "capture/tables", syscall_sources, capture_lines(calls, abi.narrow)),
    )
    for table, folder, sources, lines in tables:
        write(out / folder / f"{abi.name}.tsv", table, abi.name, f"{uapi} {common}", sources, lines)


def make_indirect(abi: Abi, common: Package, out: Path) -> None:
    """Writes the tables of calls behind other calls below `out`."""
    known = Prototypes(abi, common.root / "usr/src" / common.name)
    for folder, name, lines in indirect_tables(known):
        write(out / folder / f"{name}.tsv", name, "*", str(common), syscalls.SYSCALLS_H, lines)


def write(path: Path, table: str, abi: str, packages: str, sources: str, lines: Iterable[str]) -> None:
    """Writes one table with its header."""
    header = (
        f"# table: {table}",
        f"# abi: {abi}",
        f"# version: {VERSION}",
        "# generator: scripts/make_tables.py",
        f"# packages: {packages}",
        f"# headers: {sources}",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((*header, *lines)) + "\n", encoding="ascii", newline="\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        Exit status: 0, 1 when the headers do not fit, EX_UNAVAILABLE (69) when the
        packages cannot be had.
    """
    rows = {abi.name: abi for abi in abis.ROWS}
    parser = argparse.ArgumentParser(
        description="Makes the errno, prototype and capture tables from Debian's kernel packages.",
        epilog="example: scripts/make_tables.py --abi x86_64 && git diff --stat",
    )
    add = parser.add_argument
    add("--abi", action="append", choices=sorted(rows), help="only this ABI; may be repeated")
    add("--kernel", default="6.1", help="kernel series of the prototypes (default: %(default)s)")
    add("--pin", action="append", default=[], metavar="PACKAGE=VERSION", help="not its newest version")
    add("--cache", type=Path, default=CACHE, help="folder for the packages (default: %(default)s)")
    add("--out", type=Path, default=ROOT, help="tree to write the tables into (default: this one)")
    args = parser.parse_args(argv)
    pins = {pin.partition("=")[0]: pin for pin in args.pin}
    try:
        pinned = [pin for name, pin in pins.items() if name.startswith("linux-headers-")]
        common = fetch(pinned[0] if pinned else newest_headers(args.kernel), args.cache)
        for abi in (rows[name] for name in args.abi or rows):
            uapi = fetch(pins.get(abi.package, abi.package), args.cache)
            make(abi, uapi, common, args.out)
            if abi is abis.ROWS[0]:
                make_indirect(abi, common, args.out)
            print(f"{abi.name}: tables made from {uapi} {common}")
    except (PackageError, HeaderError) as error:
        print(f"make_tables: {error}", file=sys.stderr)
        return os.EX_UNAVAILABLE if isinstance(error, PackageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
