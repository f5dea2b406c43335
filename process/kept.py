"""A folder of results that workers made, each under a key, whole and with its own checksum or not at all.

A result is a file `KEY.entry`: a line of JSON with the hashes, then what `packing.pack` gave, compressed. Files that
belong to it lie beside it as `KEY.*`. The manifest says for people what they were made with, and for the next run which
output is theirs. Nothing in the folder is needed to read the output: it may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zstandard

from process.errors import ProcessError
from process.output import unwritable
from process.packing import Unreadable
from process.repair import open_segment

MANIFEST: Final = "resume.json"
_ENTRY: Final = ".entry"
_TEMPORARY: Final = ".tmp"
_OURS: Final = re.compile(r"[0-9a-f]{64}(\.[a-z]+)?(\.[0-9a-f]+\.tmp)?")
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Kept:
    """A result as it is kept.

    Attributes:
        packed: What `packing.pack` gave.
        files: Suffixes of the files that belong to it.
    """

    packed: bytes
    files: tuple[str, ...]


def save(folder: Path, key: str, packed: bytes, files: Collection[Path]) -> None:
    """Keep a result; its files are moved, and named as the key with their suffixes.

    Raises:
        OSError: The folder cannot be written.
    """
    listed = []
    for path in files:
        hashed = file_hash(path)
        shutil.move(path, folder / f"{key}{path.suffix}")
        listed.append([path.suffix, hashed])
    head = {"key": key, "sha256": hashlib.sha256(packed).hexdigest(), "files": listed}
    path = folder / f"{key}{_ENTRY}"
    _write(path, json.dumps(head).encode() + b"\n" + zstandard.compress(packed, 1))


def load(folder: Path, key: str) -> Kept | None:
    """A result; None if there is none.

    Raises:
        Unreadable: It is damaged, or one of its files is.
    """
    try:
        head, _, body = (folder / f"{key}{_ENTRY}").read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(str(error)) from None
    try:
        told = json.loads(head)
        packed = zstandard.decompress(body)
        files = tuple(suffix for suffix, _ in told["files"])
        sound = (told["key"], told["sha256"]) == (key, hashlib.sha256(packed).hexdigest())
        sound = sound and all(file_hash(folder / f"{key}{suffix}") == hashed for suffix, hashed in told["files"])
    except (ValueError, KeyError, TypeError, OSError, zstandard.ZstdError) as error:
        raise Unreadable(str(error)) from None
    if not sound:
        raise Unreadable("a checksum is wrong")
    return Kept(packed, files)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    found = hashlib.sha256()
    with open(open_segment(path), "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def stretches_hash(path: Path, extents: Callable[[int], Iterable[tuple[int, int]]]) -> str:
    """SHA-256 of some stretches of a file, as 64 hexadecimal digits.

    Args:
        path: The file.
        extents: Gives offset and length of each, of the open file.

    Raises:
        OSError: It cannot be read.
    """
    found = hashlib.sha256()
    file = open_segment(path)
    try:
        for offset, length in extents(file):
            for at in range(offset, offset + length, _PIECE):
                found.update(os.pread(file, min(_PIECE, offset + length - at), at))
    finally:
        os.close(file)
    return found.hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, but for a power failure: then its checksum is wrong."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    temporary.write_bytes(data)
    temporary.replace(path)


class Folder:
    """The folder of one output, held by one run at a time.

    Attributes:
        path: Where it is.
        notes: What a user should know of it, a line each.
    """

    def __init__(self, path: Path, made_with: dict[str, Any]) -> None:
        """Make it, or take what is there.

        Args:
            path: Where.
            made_with: What results depend on besides their input, as plain values, for people.

        Raises:
            ProcessError: Another run has it, it is not ours, or it cannot be made.
        """
        self.path = path
        self.notes: list[str] = []
        self._made_with = made_with
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            self._begin()
        except BaseException:
            os.close(self._lock)
            raise

    def _begin(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProcessError(f"{self.path}: another run with --resume is at work here; wait for it") from None
        except OSError:  # a disk without locks
            pass
        manifest = read_manifest(self.path)
        if manifest is None:
            if any(self.path.iterdir()):
                raise ProcessError(f"{self.path}: holds files that process did not write; choose another -o")
            manifest = {"outputs": []}
        elif not manifest:
            self.notes.append(f"{self.path / MANIFEST}: damaged; each result is checked by its own checksum")
        elif manifest["made_with"] != self._made_with:
            before = manifest["made_with"]
            changed = ", ".join(name for name, value in self._made_with.items() if before.get(name) != value)
            self.notes.append(f"{self.path}: made by another decoder or with other options ({changed}): decoded again")
        self._outputs = manifest.get("outputs", [])
        self._tell()

    def _tell(self) -> None:
        """Write the manifest."""
        try:
            text = json.dumps({"made_with": self._made_with, "outputs": self._outputs}, indent=1)
            _write(self.path / MANIFEST, text.encode() + b"\n")
        except OSError as error:
            raise unwritable(self.path, error) from None

    def announce(self, made: Path) -> None:
        """Say that a finished output is ours, before it gets its name."""
        self._outputs = [*self._outputs[-1:], stamp(made)]
        self._tell()

    def settle(self, out: Path, used: Collection[str]) -> None:
        """The output has its name: remove what it did not need, and what killed runs have left."""
        self._outputs = [stamp(out)]
        self._tell()
        for path in self.path.iterdir():
            if _OURS.fullmatch(path.name) and path.name.partition(".")[0] not in used:
                with suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Let others have it; it goes if nothing is kept in it."""
        with suppress(OSError):
            if {path.name for path in self.path.iterdir()} <= {MANIFEST}:
                shutil.rmtree(self.path)
        os.close(self._lock)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What a folder says of itself; nothing if that is damaged, None if there is no manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        outputs, made_with = manifest["outputs"], manifest["made_with"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return manifest if isinstance(outputs, list) and isinstance(made_with, dict) else {}


def is_output_of(folder: Path, out: Path) -> bool:
    """Whether an output is what a run with this folder made, and nobody has changed it."""
    manifest = read_manifest(folder)
    return manifest is not None and stamp(out) in manifest.get("outputs", [stamp(out)])


def stamp(out: Path) -> int:
    """When an output was last changed, ns: it stays when it is renamed, and a copy may keep it; 0 if there is none."""
    with suppress(OSError):
        return out.lstat().st_mtime_ns
    return 0
