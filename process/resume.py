"""``--resume``: what workers have made is kept beside the output, and taken over as long as it would come out the same.

Both steps that workers do are functions of what they are given: a survey of a segment; rows of a plan, which says all
that they depend on besides the segment. So a result is kept under the hash of the decoder (its code and tables), the
step with its options, and what the step was given, with each file by its content. Nothing has to find out what is new,
has changed or has a neighbour now: a result whose hash comes again is taken over, any other is made. A run may end at
any moment: the next one takes over what was done. `kept.py` is the folder.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Generic, TypeVar

import capture
import errno_tables
import process
from process import kept
from process.batch import Batch
from process.discover import Part, Parts, SegmentKey
from process.errors import ProcessError
from process.output import unwritable
from process.packing import Unreadable, digest, pack, unpack
from process.plan import Plan
from process.pool import Failure, Outcome, Workers
from process.splits import Split, extents
from process.survey import Survey

Item = TypeVar("Item")
Result = TypeVar("Result")

SUFFIX: Final = ".resume"
"""The folder has the output's name with this."""
_PRIVATE: Final = ".batch"
"""Of a file that only this run uses (`merge.keep`)."""
_PACKAGES: Final[tuple[ModuleType, ...]] = (capture, errno_tables, process)
_LIBRARIES: Final = ("numpy", "polars", "zstandard")


@dataclass(frozen=True)
class _Done(Generic[Result]):
    """A result.

    Attributes:
        result: What it is.
        key: What it is kept under; None if it is not.
        taken: Whether it was there already.
        damaged: Whether it was, and could not be used.
    """

    result: Result
    key: str | None
    taken: bool = False
    damaged: bool = False


@dataclass(frozen=True)
class Resumed:
    """What of a run earlier ones had done.

    Attributes:
        taken: Segments whose rows were taken over.
        decoded: Segments whose rows were made.
        surveyed: Segments that were surveyed anew; the others' surveys were taken over.
        notes: What a user should know of it, a line each.
    """

    taken: int
    decoded: int
    surveyed: int
    notes: tuple[str, ...]


class Resuming(Workers):
    """Workers that take over what was made before for one output."""

    def __init__(self, jobs: int, out: Path, options: dict[str, Any]) -> None:
        """Begin.

        Args:
            jobs: See `Workers`.
            out: The output.
            options: Those that rows depend on, as plain values.

        Raises:
            ProcessError: Another run is at work on the output, or the folder beside it cannot be used.
        """
        super().__init__(jobs)
        self._taken: dict[tuple[bool, SegmentKey], bool] = {}
        self._folder = kept.Folder(folder_of(out), {"decoder": decoder(), **options})
        self._used: set[str] = set()
        self._damaged = 0

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._folder.close()

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Outcome[Item, Result]]:
        """As `Workers.run`, with results that are there taken over, and others kept."""
        step = partial(_do, function=function, folder=self._folder.path, decoder=decoder())
        for outcome in super().run(step, items):
            done = outcome.result
            if isinstance(done, Failure):
                yield Outcome(outcome.item, done)
                continue
            if done.key is not None:
                self._used.add(done.key)
            for key in _parts(outcome.item).numbers():
                place = isinstance(outcome.item, Plan), key
                self._taken[place] = done.taken and self._taken.get(place, True)
            self._damaged += done.damaged
            yield Outcome(outcome.item, done.result)

    def announce(self, made: Path) -> None:
        """The output is whole, and about to get its name."""
        self._folder.announce(made)

    def settle(self, out: Path) -> None:
        """The output has its name."""
        self._folder.settle(out, self._used)

    def resumed(self) -> Resumed:
        """What was taken over so far."""
        text = f"{self._folder.path}: {self._damaged} results are damaged, and were made again"
        notes = self._folder.notes + ([text] if self._damaged else [])
        counts = Counter((is_plan, taken) for (is_plan, _), taken in self._taken.items())
        return Resumed(counts[True, True], counts[True, False], counts[False, False], tuple(notes))


def folder_of(out: Path) -> Path:
    """Where results for an output are kept."""
    return out.absolute().with_name(out.name + SUFFIX)


def may_replace(out: Path) -> bool:
    """Whether there is an output that an earlier run with ``--resume`` made.

    Raises:
        ProcessError: There is another, or somebody has changed it.
    """
    if not os.path.lexists(out):
        return False
    if not kept.is_output_of(folder_of(out), out):
        text = "exists, and is not as --resume wrote it; give --force to replace it, or another name with -o"
        raise ProcessError(f"{out}: {text}")
    return True


@cache
def decoder() -> str:
    """The hash of all that turns segments into rows: code, tables, libraries."""
    found = hashlib.sha256()
    for library in _LIBRARIES:
        found.update(f"{library} {version(library)}\n".encode())
    for package in _PACKAGES:
        (root,) = package.__path__
        for path in sorted(Path(root).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{package.__name__}/{path.relative_to(root)} {kept.file_hash(path)}\n".encode())
    return found.hexdigest()


def _do(item: Item, *, function: Callable[[Item], Result], folder: Path, decoder: str) -> _Done[Result]:
    """Take a result over or make it. Runs in a worker.

    What is being written is made and not kept: its files must be the same afterwards.
    """
    key = _key(item, function, decoder)
    damaged = False
    if key is not None:
        try:
            found = kept.load(folder, key)
            if found is not None:
                return _Done(unpack(found.packed, partial(_inside, item, folder / key)), key, taken=True)
        except Unreadable:
            damaged = True
    result = function(item)
    if key is None or _key(item, function, decoder) != key:
        return _Done(result, None)
    files: list[Path] = []
    packed = pack(result, partial(_outside, item, files))
    try:
        kept.save(folder, key, packed, files)
    except OSError as error:
        raise unwritable(folder, error) from None
    made = unpack(packed, partial(_inside, item, folder / key))
    if isinstance(result, Survey):
        made.kept = result.kept
    return _Done(made, key, damaged=damaged)


def _key(item: object, function: Callable[..., object], decoder: str) -> str | None:
    """What a result is kept under; None if a file is not there any more.

    Paths do not count: what lies there follows from the segments' content.
    """
    options = function.keywords if isinstance(function, partial) else {}
    given = [decoder, _name(function), {name: value for name, value in options.items() if not isinstance(value, Path)}]
    batch = _batch(item)
    try:
        return digest([*given, item], partial(_content, split=None if batch is None else batch.split))
    except OSError:
        return None


def _content(value: Part | Parts | Path, split: Split | None) -> Any:
    """What a segment is, or a split of it: its files' names and contents."""
    if isinstance(value, Path):
        return None
    if isinstance(value, Parts):
        return [_content(part, split) for part in value]
    if split is not None:
        return [
            [path.name, kept.stretches_hash(path, partial(extents, header=value.header, split=split))]
            for path in value.files
        ]
    return [value.sealed is not None, [[path.name, kept.file_hash(path)] for path in value.files]]


def _outside(item: object, files: list[Path], value: Part | Parts | Path) -> Any:
    """What stands in a result for segments of the item, or for files, which are added to ``files``."""
    if isinstance(value, Parts):
        number = {key: k for k, key in enumerate(_parts(item).numbers())}
        return [number[key] for key in value.numbers()]
    if isinstance(value, Part):
        return _outside(item, files, Parts.of((value,)))[0]
    if value.suffix == _PRIVATE:
        return None
    if value.is_file():
        files.append(value)
    return value.suffix


def _inside(item: object, stem: Path, value: Any) -> Part | Parts | Path:
    """The way back."""
    if isinstance(value, list):
        return _parts(item).some(value)
    return _parts(item)[value] if isinstance(value, int) else stem.with_name(stem.name + value)


def _name(function: Callable[..., object]) -> str:
    inner = function.func if isinstance(function, partial) else function
    return inner.__name__


def _batch(item: object) -> Batch | None:
    """The batch that a step is given."""
    batch = item.batch if isinstance(item, Plan) else item
    return batch if isinstance(batch, Batch) else None


def _parts(item: object) -> Parts:
    """The segments that a step is given."""
    batch = _batch(item)
    return Parts.of(()) if batch is None else batch.parts
