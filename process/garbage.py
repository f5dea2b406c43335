"""How often a process of ours looks for garbage that counting references does not find."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 100_000
"""After so many the youngest are looked through; Python's default is 700."""


def collect_rarely() -> None:
    """Look seldom: hardly any object of ours is part of a cycle, and thousands of small segments are many objects.

    Looking through all of them again and again takes a tenth of the time then.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 50, 100)
