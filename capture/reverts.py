"""When the machine is put into another state: a snapshot is loaded, a replay begins, the machine reboots.

QEMU calls its reset handlers for each of these, before the state is there and while no CPU runs. (PANDA's own callback
after loadvm leaves out the reboot.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Reverts:
    """Calls a function whenever a machine is put into another state, until it is closed."""

    def __init__(self, panda: Any, happened: Callable[[], None]) -> None:
        """Register.

        Args:
            panda: A ``pandare.Panda``.
            happened: Must not raise. It is called from PANDA's main thread.
        """
        self._library = ctypes.CDLL(panda.libpanda_path)
        self._handler = _HANDLER(lambda _: happened())
        self._library.qemu_register_reset(self._handler, None)

    def close(self) -> None:
        """Call no more."""
        self._library.qemu_unregister_reset(self._handler, None)
