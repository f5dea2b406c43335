"""Programs of Debian packages for an initramfs: each with the shared libraries and the loader that it asks for.

The packages are unpacked, never installed, so they may be of any architecture. The loader stays where the program
wants it; libraries go into /lib, where every loader looks.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import cpio, debian, store
from lab.store import LabError


@dataclass(frozen=True)
class Tool:
    """A program and where it comes from.

    Attributes:
        name: Of the program, which goes into /bin.
        packages: Debian's packages with the program and its libraries; regular expressions.
    """

    name: str
    packages: tuple[str, ...]


STRACE = Tool("strace", ("strace", "libc6", "libunwind8", "liblzma5"))


def fetch(tool: Tool, architecture: str, into: Path) -> None:
    """Make the folder ``into``: the program and what it needs, at the paths that they have in the guest.

    Raises:
        LabError: a package cannot be had, or none has a library that is asked for.
    """
    if into.exists():
        return
    with tempfile.TemporaryDirectory(dir=store.cache()) as scratch, store.staged(into) as target:
        tree = Path(scratch, "tree")
        for number, pattern in enumerate(tool.packages):
            folder = Path(scratch, str(number))
            folder.mkdir()
            debian.unpack(debian.download(pattern, architecture, folder), tree)
        program = _find(tree, tool.name)
        _copy(program, target / "bin" / tool.name)
        interpreter, wanted = _asks_for(program)
        _copy(_find(tree, Path(interpreter).name), target / interpreter.lstrip("/"))
        found = {Path(interpreter).name}
        while wanted:
            name = wanted.pop()
            if name not in found:
                found.add(name)
                library = _find(tree, name)
                _copy(library, target / "lib" / name)
                wanted += _asks_for(library)[1]


def members(folder: Path) -> Iterator[cpio.Entry]:
    """What `fetch` made, for an initramfs."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield cpio.file(str(path.relative_to(folder)), path.read_bytes(), 0o755)


def _find(tree: Path, name: str) -> Path:
    """The file that ``name`` leads to in ``tree``. Links are followed by name: absolute ones would leave the tree."""
    for path in sorted(tree.rglob(name)):
        if path.is_symlink():
            return _find(tree, path.readlink().name) if path.readlink().name != name else path.resolve()
        if path.is_file():
            return path
    raise LabError(f"none of the packages has {name}")


def _asks_for(binary: Path) -> tuple[str, list[str]]:
    """A binary's loader (empty for a library) and the libraries that it names."""
    command = ["readelf", "-W", "-l", "-d", str(binary)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loader = re.search(r"Requesting program interpreter: ([^\]]+)\]", listing)
    return (loader[1] if loader else ""), re.findall(r"\(NEEDED\).*\[([^\]]+)\]", listing)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
