"""Renames that Python does not have: one that replaces nothing, and one that exchanges two names."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EOPNOTSUPP)
"""What systems and disks say that do not know it: glibc before 2.28, NFS, old kernels."""


class Rename(IntEnum):
    """Flags of renameat2(2)."""

    NO_REPLACE = 1
    EXCHANGE = 2


def rename(source: Path, target: Path, how: Rename, aside: Path | None = None) -> None:
    """Rename, atomically wherever the system and the disk can.

    Elsewhere ``NO_REPLACE`` looks first and renames then, and ``EXCHANGE`` moves the target aside first: a process
    that is killed between the two leaves it there.

    Args:
        source: What is to be renamed.
        target: Its new name.
        how: Fail if the target exists, or have both change names.
        aside: For ``EXCHANGE``: the old target's name where it cannot be done at once.

    Raises:
        OSError: It cannot be renamed. FileExistsError: the target exists (``NO_REPLACE``).
    """
    call = _renameat2()
    if call is not None:
        if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), int(how)) == 0:
            return
        number = ctypes.get_errno()
        if number not in _UNKNOWN:
            raise OSError(number, os.strerror(number), str(source), None, str(target))
    if how is Rename.NO_REPLACE:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        os.rename(source, target)
    elif aside is not None:
        os.rename(target, aside)
        try:
            os.rename(source, target)
        except OSError:
            with suppress(OSError):
                os.rename(aside, target)
            raise


@cache
def _renameat2() -> Any:
    """The C library's function; None if it has none."""
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
