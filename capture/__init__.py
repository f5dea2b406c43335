"""Stage one: record a guest's syscalls inside the emulator. Importing it needs neither pandare nor polars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capture.plugin import SyscallCapture

__all__ = ["SyscallCapture"]


def __getattr__(name: str) -> Any:
    """Import what needs pandare only when it is asked for."""
    if name == "SyscallCapture":
        from capture.plugin import SyscallCapture

        return SyscallCapture
    raise AttributeError(f"module 'capture' has no attribute {name!r}")
