"""Figures that tests have measured, and the scripts of scripts/ that measure some of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import source

Figure = Callable[[str, object], None]
"""The fixture ``figure``: a name and what was measured."""
SCRIPTS = Path(source.__file__).parent


def run_script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own: it forks, and Polars must not be there then."""
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *words], capture_output=True, text=True, timeout=600,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )  # fmt: skip


def show_figures(figure: Figure, title: str, done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What a script has counted, as figures: lines of a name, a colon and a value."""
    found = dict(text.rsplit(": ", 1) for text in done.stdout.splitlines())
    for name, value in found.items():
        figure(f"{title}, {name}", value)
    return found


def count_figures(figure: Figure, title: str, done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """`show_figures` of a script that prints whole numbers alone."""
    return {name: int(value) for name, value in show_figures(figure, title, done).items()}
