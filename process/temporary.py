"""Temporary folders that a killed run cannot leave behind for good: the next run removes them.

A folder is locked (flock) for as long as its owner lives; the kernel takes the lock away with the process, however it
ends. So a folder that can be locked is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = ".sysreel-"
SUFFIX: Final = ".tmp"
REPLACED: Final = "replaced"
"""In a folder: an output that was moved aside and may be the only one. A folder that holds one is not removed."""


class Temporary:
    """A new folder, mode 0700, locked. Those that killed runs of this user have left beside it are removed first.

    Attributes:
        path: Where it is.
    """

    def __init__(self, parent: Path) -> None:
        """Make it.

        Raises:
            OSError: It cannot be made.
        """
        remove_stale(parent)
        self.path = parent / f"{PREFIX}{os.urandom(8).hex()}{SUFFIX}"
        self._lock = -1
        while self._lock < 0:
            self.path.mkdir(mode=0o700)
            self._lock = _locked(self.path, wait=True)  # another run may have taken it for a stale one, just now

    def remove(self) -> None:
        """Remove it with all that is in it; what cannot be removed stays."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def temporary(parent: Path) -> Iterator[Path]:
    """A folder for the time of a block.

    Raises:
        OSError: It cannot be made.
    """
    folder = Temporary(parent)
    try:
        yield folder.path
    finally:
        folder.remove()


def remove_stale(parent: Path) -> None:
    """Remove what killed runs of this user have left in a folder. On a disk without locks nothing is."""
    with suppress(OSError):
        for path in parent.glob(f"{PREFIX}*{SUFFIX}"):
            with suppress(OSError):
                if path.lstat().st_uid != os.geteuid() or (path / REPLACED).exists():
                    continue
                lock = _locked(path, wait=False)
                if lock >= 0:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)


def _locked(path: Path, *, wait: bool) -> int:
    """A descriptor that locks a folder; -1 if it is another's, or is not there any more.

    On a disk that knows no locks it is one without a lock if ``wait``, since nobody can take the folder there.

    Raises:
        OSError: The folder cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if wait:
            return descriptor
        os.close(descriptor)
        return -1
    with suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    os.close(descriptor)
    return -1
