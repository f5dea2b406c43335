"""What scripts print that start processes: pytest's own has threads, and is no main module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def printed_by(code: str) -> str:
    """What a script prints that starts workers, in a process of its own."""
    root = Path(__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
        env={"PYTHONPATH": ":".join(str(root / folder) for folder in (".", "tests", "scripts"))},
    ).stdout  # fmt: skip
