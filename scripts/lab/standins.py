"""Stand-ins for the libraries that libpanda wants and this system has not.

pandare 0.1.1.5 carries libpanda as built on Ubuntu 20.04, linked BIND_NOW: every symbol of every library must
be there before a line of it runs. Most libraries come from Debian. Some that Debian 12 has no longer in that
version (Xen, brlapi, libjpeg 8, nettle 7, protobuf 17, LLVM 11) are never called in a headless run without
LLVM or pandalog: for those, one library of functions that return 0 and of zeroed objects will do, under the
names that the loader asks for.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.store import LabError

# What a headless guest never reaches. Anything else that is missing is an error: with an empty glib in place
# of the real one PANDA would load, and crash later.
NEVER_CALLED = re.compile(
    r"lib(xen\w+|brlapi|jpeg|nettle|protobuf|LLVM-\d+|iscsi|rbd|rados|rdmacm|ibverbs|cacard|usb-1\.0"
    r"|usbredirparser|spice-server|virglrenderer|vdeplug|SDL2\S*|sasl2|curl-gnutls)\.so\b"
)
# typeinfo, its name, and vtables are data even where the importing library does not say so.
DATA_SYMBOL = re.compile(r"_ZT[ISV]")
DATA_SIZE = 2048  # bytes for each object; generous: their sizes are nowhere in libpanda


@dataclass(frozen=True)
class Symbol:
    """One row of a library's dynamic symbol table."""

    name: str
    version: str
    kind: str
    binding: str
    defined: bool


def make(libpanda: Path, into: Path) -> list[str]:
    """Make stand-ins in the folder `into` for what `libpanda` misses on this system, and return their names.

    Raises:
        LabError: a library is missing for which an empty one will not do, or the assembler fails.
    """
    missing, present = _libraries(libpanda)
    needed = [name for name in missing if not NEVER_CALLED.match(name)]
    if needed:
        names = ", ".join(needed)
        raise LabError(f"libpanda needs {names}, which no package here has; use Debian 12")
    source = into / "standin.s"
    source.write_text(_assembly(_wanted(libpanda, missing, present)))
    _link(into / "libstandin.so", [str(source)])
    source.unlink()
    for name in missing:
        # An empty library under the name that is asked for, which draws in the one with the symbols.
        _link(into / name, ["-Wl,--no-as-needed", f"-L{into}", "-lstandin", "-Wl,-rpath,$ORIGIN"])
    return missing


def _libraries(libpanda: Path) -> tuple[list[str], list[Path]]:
    """The libraries that the loader does not find for `libpanda`, and the files of those that it does."""
    missing, present = [], []
    for line in _output("ldd", str(libpanda)).splitlines():
        name, arrow, place = line.strip().partition(" => ")
        if arrow and place.startswith("not found"):
            missing.append(name)
        elif arrow and place.startswith("/"):
            present.append(Path(place.split(" (")[0]))
    return missing, present


def _wanted(libpanda: Path, missing: list[str], present: list[Path]) -> dict[str, bool]:
    """The symbols to stand in for: name to whether it is data.

    A symbol with a version belongs to the library that the version table names; one without could be in any.
    """
    supplied = {symbol.name for path in present for symbol in _symbols(path) if symbol.defined}
    versions = _version_owners(libpanda)
    wanted = {}
    for symbol in _symbols(libpanda):
        if symbol.defined or symbol.binding == "WEAK":
            continue
        if versions[symbol.version] & set(missing) or symbol.name not in supplied:
            wanted[symbol.name] = symbol.kind == "OBJECT" or DATA_SYMBOL.match(symbol.name) is not None
    return wanted


def _symbols(library: Path) -> list[Symbol]:
    found = []
    for line in _output("readelf", "-W", "--dyn-syms", str(library)).splitlines():
        fields = line.split()  # number, value, size, type, binding, visibility, section, name
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit():
            name, _, version = fields[7].partition("@")
            found.append(Symbol(name, version.lstrip("@"), fields[3], fields[4], fields[6] != "UND"))
    return found


def _version_owners(library: Path) -> Mapping[str, set[str]]:
    """Symbol version (GLIBC_2.17) to the libraries that are to have it."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    owner = ""
    for line in _output("readelf", "-W", "-V", str(library)).splitlines():
        if match := re.search(r"Version: 1  File: (\S+)", line):
            owner = match[1]
        elif owner and (match := re.search(r"Name: (\S+)\s+Flags", line)):
            owners[match[1]].add(owner)
    return owners


def _assembly(wanted: Mapping[str, bool]) -> str:
    lines = ['.section .note.GNU-stack,"",@progbits', ".text"]
    lines += [f'.globl "{n}"\n.type "{n}",@function\n"{n}":' for n, data in wanted.items() if not data]
    lines += ["xor %eax,%eax", "ret"]  # all those names label this one function
    lines += [".data", ".balign 64"]
    zeros = f".zero {DATA_SIZE}"
    lines += [f'.globl "{n}"\n.type "{n}",@object\n"{n}": {zeros}' for n, data in wanted.items() if data]
    return "\n".join([*lines, ""])


def _link(library: Path, words: list[str]) -> None:
    command = ["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{library.name}", "-o", str(library), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.splitlines() or ["no reason given"])[-1]
        raise LabError(f"gcc cannot make {library.name}: {reason}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
