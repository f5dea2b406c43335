"""Where the output goes, and that it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path

from process.errors import ProcessError
from process.rename import Rename, rename
from process.stopping import held
from process.temporary import REPLACED, Temporary

USAGE = 2


class Format(str, Enum):
    """What an output is."""

    SQLITE = "sqlite"
    PARQUET = "parquet"


_SUFFIXES = {".sqlite": Format.SQLITE, ".db": Format.SQLITE, ".parquet": Format.PARQUET}
_DATASET = ("part-*.parquet", "fd-*.pq", "*.json")
"""The files of a Parquet output; a folder with others in it is not ours to replace."""


def choose(paths: Sequence[Path], out: Path | None, wanted: Format | None) -> tuple[Path, Format]:
    """Name and format of the output.

    The suffix picks the format unless ``wanted`` does; a folder, or a name without a suffix, is Parquet. Left
    out, the name is that of the first input's folder, in the current folder.

    Raises:
        ProcessError: The suffix tells nothing, or contradicts ``wanted``.
    """
    if out is None:
        first = paths[0].absolute()
        folder = first if first.is_dir() or not first.is_file() else first.parent
        format_ = wanted or Format.SQLITE
        return Path(f"{folder.resolve().name or 'sysreel'}.{format_.value}"), format_
    by_suffix = _SUFFIXES.get(out.suffix.lower())
    if wanted and by_suffix and wanted is not by_suffix:
        raise ProcessError(f"{out}: the suffix says {by_suffix.value}, --format says {wanted.value}", USAGE)
    if wanted or by_suffix:
        return out, wanted or by_suffix or Format.SQLITE
    if out.is_dir() or not out.suffix:
        return out, Format.PARQUET
    raise ProcessError(f"{out}: unknown suffix; use .sqlite, .db or .parquet, or give --format", USAGE)


def check(out: Path, format_: Format, force: bool, inputs: Sequence[Path]) -> None:
    """Refuse an output that must not or cannot be written, before any work is done.

    Raises:
        ProcessError: It exists, it is an input, or its folder cannot be written.
    """
    if any(out.resolve() in (path.resolve(), *path.resolve().parents) for path in inputs):
        raise ProcessError(f"{out}: the output would replace an input; choose another with -o", USAGE)
    if out.exists() or out.is_symlink():
        if not force:
            raise ProcessError(f"{out}: exists; give --force to replace it, or another name with -o")
        if out.is_dir() != (format_ is Format.PARQUET):
            kind = "folder" if out.is_dir() else "file"
            raise ProcessError(f"{out}: is a {kind}, which {format_.value} output does not replace; remove it first")
        if out.is_dir() and not _is_dataset(out):
            raise ProcessError(f"{out}: holds files that process did not write; not replaced, choose another with -o")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise ProcessError(f"{parent}: no such folder for the output; make it, or choose another with -o")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ProcessError(f"{parent}: cannot be written; choose another place with -o")


def _is_dataset(folder: Path) -> bool:
    ours = {path for pattern in _DATASET for path in folder.glob(pattern)}
    return all(child in ours for child in folder.iterdir())


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A temporary folder beside the output, removed at the end whatever happens.

    Raises:
        ProcessError: It cannot be made.
    """
    with ExitStack() as stack:
        with held():  # a signal finds it made and entered, or not begun
            try:
                folder = Temporary(out.absolute().parent)
            except OSError as error:
                raise unwritable(out, error) from None
            stack.callback(_cleared, folder)
        yield folder.path


def _cleared(folder: Temporary) -> None:
    """Remove a folder; a second signal waits."""
    with held():
        folder.remove()


def settle(made: Path) -> None:
    """Give a finished output its mode, and put it on the disk.

    Raises:
        OSError: The disk failed.
    """
    made.chmod(0o777 & ~_umask() if made.is_dir() else 0o666 & ~_umask())
    sync(made)


def publish(made: Path, out: Path, workshop: Path, *, force: bool) -> None:
    """Give a settled output its name, at once: whoever looks sees what was there before, or all of it.

    Args:
        made: The file or folder, within the workshop.
        out: Its name from now on.
        workshop: Takes what had that name.
        force: Replace what has that name; another run may have come first.

    Raises:
        ProcessError: Something has that name, and ``force`` does not hold.
        OSError: The disk failed.
    """
    try:
        rename(made, out, Rename.NO_REPLACE)
    except FileExistsError:
        if not force:
            raise ProcessError(f"{out}: has come to exist meanwhile, and is kept; give --force to replace it") from None
        if out.is_dir() or made.is_dir():
            rename(made, out, Rename.EXCHANGE, aside=workshop / REPLACED)
        else:
            os.replace(made, out)
    sync(out.absolute().parent)


def unwritable(path: Path, error: Exception) -> ProcessError:
    """What to raise when a file cannot be written; ``error`` is of Polars, SQLite or the system."""
    number = error.errno if isinstance(error, OSError) else None  # the text would say it twice
    reason = os.strerror(number) if number else " ".join(str(error).split())
    return ProcessError(f"{path}: cannot be written: {reason}; choose another place with -o")


def _umask() -> int:
    """The process's umask; Python can only read it by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def link(part: Path, name: Path) -> Path:
    """Give a file that is kept another name, in an output; it takes no room where the disk has hard links.

    Returns:
        That name.

    Raises:
        OSError: The disk failed.
    """
    try:
        os.link(part, name)
    except OSError:
        shutil.copyfile(part, name)
    return name


def sync(path: Path) -> None:
    """Put a file, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
