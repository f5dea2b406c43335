"""A disk that fails: the library that makes calls on a folder fail (failing_disk.c), and how to run below it."""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
FOREVER = 1 << 40
"""More calls than any run makes."""


class Disk:
    """The library, in a process that runs below it."""

    def __init__(self) -> None:
        self._shim = ctypes.CDLL(None)
        self._shim.failing_disk_count.restype = ctypes.c_long

    def fail(self, folder: Path, first: int, calls: int, error: str) -> None:
        """From now on the calls on a folder are counted, and some of them fail: ``calls`` from the ``first`` on."""
        last = ctypes.c_long(first + calls - 1)
        self._shim.failing_disk_set(os.fsencode(folder), ctypes.c_long(first), last, getattr(errno, error))

    def calls(self) -> int:
        """How many calls there were on the folder."""
        return int(self._shim.failing_disk_count())

    def heal(self) -> int:
        """Let all calls be; gives how many there were."""
        calls = self.calls()
        self._shim.failing_disk_set(b"", ctypes.c_long(1), ctypes.c_long(0), 0)
        return calls


def asked(about: str | None, example: str, long: str, words: Sequence[str] | None) -> argparse.Namespace:
    """The options of a script that runs itself below the library: `long`, and `work`, the folder of that run."""
    parser = argparse.ArgumentParser(
        description=about, epilog=f"example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--long", action="store_true", help=long)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def run_below(scratch: Path, words: Sequence[str | Path]) -> str:
    """What a script of Python's prints, run below the library, which is compiled into a folder.

    Raises:
        subprocess.CalledProcessError: The script failed, or there is no gcc.
    """
    library = scratch / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, "LD_PRELOAD": str(library), "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout
