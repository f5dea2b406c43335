"""Runs the command with each segment a step of its own, which tells when it begins; for `kill_processes.py`.

A step is a segment's survey or its rows. Workers import this module, too, since what they are to do is in it. With
``--resume`` each step that begins adds a byte to the file that the environment's STEPS names.
"""

from __future__ import annotations

import os
from typing import Any, Final

import process.batch
import process.resume as resume

_do: Final = resume._do
_SMALL: Final = 0
"""Bytes up to which segments share a step: none does."""


def told(item: Any, **given: Any) -> Any:
    """Say that a step begins, and do it."""
    descriptor = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    os.write(descriptor, b".")
    os.close(descriptor)
    return _do(item, **given)


def main() -> None:
    """The command."""
    process.batch.SMALL = _SMALL
    setattr(resume, "_do", told)  # noqa: B010
    from process.cli import main as command

    command()
