"""Stage two: decode recorded syscalls, anywhere and as often as wanted. Importing it loads nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from process.scanning import scan

__all__ = ["scan"]


def __getattr__(name: str) -> Any:
    """Import Polars only when something needs it."""
    if name == "scan":
        from process.scanning import scan

        return scan
    raise AttributeError(f"module 'process' has no attribute {name!r}")
