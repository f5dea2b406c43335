"""The compiled library, which the build makes beside this file (hatch_build.py), and what is passed to it.

numpy makes a pass over memory for each step of a calculation; where one pass could take many steps, or the next step
depends on the last, such a loop is there. A module of the name of each C file binds it (`kernels_*.py` and those of the
outputs), and says what of numpy's a function stands for. Arguments are checked by the callers' types; lengths are
theirs to get right, and made contiguous by the bindings.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PATH = Path(__file__).with_name("libkernels.so")
"""Loaded by path, whatever the system calls its libraries."""

OUT_OF_MEMORY: Final = -1
UNSUITED: Final = -2
"""What a loop gives in place of a count (kernels.h)."""
SEED: Final = int.from_bytes(os.urandom(8), "little")
"""A guest that chooses values to collide in a table would have to know it. No result depends on it."""


def load(numbers: Sequence[str], nothing: Sequence[str] = ()) -> ctypes.CDLL:
    """The library, with its functions by what they return: an int64, or nothing.

    Raises:
        ImportError: It is not there, or not for this machine. The text is one line.
    """
    try:
        library = ctypes.CDLL(str(_PATH))
    except OSError as error:
        raise ImportError(f"{_PATH}: cannot be loaded ({error}); install sysreel anew: pip install .") from None
    for names, returned in ((numbers, ctypes.c_int64), (nothing, None)):
        for name in names:
            getattr(library, name).restype = returned
    return library


def at(array: npt.NDArray[Any]) -> object:
    """The address of an array's first element, for a call; the array must outlive it."""
    try:
        return ctypes.byref(ctypes.c_char.from_buffer(array.data))  # in a quarter of the time
    except (TypeError, ValueError):  # it must not be written to, or has gaps, or no element
        return ctypes.c_void_p(array.ctypes.data)


def integer(number: int | np.integer[Any]) -> ctypes.c_int64:
    """A number as an int64, or the same bits as a uint64."""
    return ctypes.c_int64(int(number))
