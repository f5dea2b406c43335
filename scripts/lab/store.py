"""The lab's cache folder: where it is, who may write to it, how a result appears in it whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class LabError(Exception):
    """The lab cannot be prepared. The text is one line: what is wrong, and what to do."""


def cache() -> Path:
    """The cache folder: `$SYSREEL_CACHE`, else `.cache/lab` under the repository's root."""
    return Path(os.environ.get("SYSREEL_CACHE") or ROOT / ".cache" / "lab").absolute()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name`; another process that wants it waits. The kernel lets go of it if we die."""
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """An empty scratch folder that becomes `target` when the block ends well, and vanishes when it does not.

    A folder cannot be renamed over one with files in it, so an old `target` is taken away first: between the
    two steps there is no target, never half of one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        scratch.chmod(0o755)  # mkdtemp makes it 0700
        yield scratch
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put(target: Path, data: bytes) -> None:
    """Write `data` to the file `target`, which appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    scratch = Path(name)
    try:
        with open(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        scratch.chmod(0o644)
        scratch.rename(target)
    finally:
        scratch.unlink(missing_ok=True)
