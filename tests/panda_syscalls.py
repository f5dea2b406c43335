"""PANDA's own list of syscalls, read out of the pandare wheel without loading PANDA."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = "data/x86_64-softmmu/panda/plugins"
ABIS = {"x64": "x86_64", "x86": "i386", "arm": "arm", "arm64": "aarch64", "mips": "mips-o32"}
"""PANDA's lists, and what we call the ABI of each."""


class _Info(ctypes.Structure):
    """syscall_info_t of PANDA's syscalls2 (pandare 0.1.1.5, syscalls2_info.h)."""

    _fields_ = (
        ("no", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("nargs", ctypes.c_int),
        ("argt", ctypes.c_void_p),
        ("argsz", ctypes.c_void_p),
        ("argn", ctypes.POINTER(ctypes.c_char_p)),
        ("argtn", ctypes.c_void_p),
        ("noreturn", ctypes.c_bool),
    )


class PandaSyscall(NamedTuple):
    """A syscall as PANDA has it; an argument its header left nameless is `arg0`..."""

    number: int
    name: str
    args: tuple[str, ...]


def library(name: str) -> Path | None:
    """Returns the library with one of PANDA's lists; None when pandare is not installed or lacks it."""
    spec = importlib.util.find_spec("pandare")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / FOLDER / f"syscalls2_dso_info_linux_{name}.so"
    return path if path.exists() else None


def syscalls(path: Path) -> Iterator[PandaSyscall]:
    """Yields the named syscalls of the list."""
    dso = ctypes.CDLL(str(path))
    # The list ends at the generic calls; arm's highest number, the first word here, is beyond them and not in it.
    highest = (ctypes.c_uint32 * 2).in_dll(dso, "__syscall_meta")[1]
    infos = (_Info * (highest + 1)).in_dll(dso, "__syscall_info_a")
    for info in infos:
        if info.name:
            args = tuple((info.argn[position] or b"").decode() for position in range(info.nargs))
            yield PandaSyscall(info.no, info.name.decode(), args)
