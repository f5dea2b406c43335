"""Results of workers as bytes and back: plain values, arrays, and the classes that are named here; nothing is run.

The same form, hashed, tells whether two inputs are the same.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final, get_type_hints
from uuid import UUID

import numpy as np

from process.batch import Batch
from process.discover import Part, Parts
from process.events import Damage
from process.fd_records import Scan
from process.fd_state import Effect
from process.lives import Step
from process.merge import Members
from process.splits import Split
from process.survey import Identity, Mark, Survey
from process.tally import Count, Tally

_KNOWN: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (Batch, Split, Members, Survey, Effect, Scan, Identity, Mark, Step, Damage, Tally, Count)
}
"""What can be read back."""

Outside = Callable[[Any], Any]
"""Of a `Part`, `Parts`, a `Path` or another value that is not plain: what stands for it; and the way back."""


class Unreadable(ValueError):
    """Bytes that are not what `pack` gave."""


def pack(value: object, outside: Outside) -> bytes:
    """A value as bytes: the length of a JSON text and the text, then the arrays that it counts.

    Args:
        value: Plain values, arrays, dataclasses, named tuples.
        outside: What stands for each segment and path, as a plain value; None if it does not count.
    """
    arrays: list[Any] = []
    text = json.dumps(_plain(value, arrays, outside), separators=(",", ":")).encode()
    file = io.BytesIO()
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def unpack(data: bytes, inside: Outside) -> Any:
    """What `pack` was given.

    Args:
        data: What it gave.
        inside: What each value that ``outside`` gave stands for.

    Raises:
        Unreadable: It did not give that.
    """
    try:
        file = io.BytesIO(data)
        text = file.read(int.from_bytes(file.read(8), "little"))
        tree = json.loads(text)
        arrays = []
        while file.tell() < len(data):
            arrays.append(np.lib.format.read_array(file, allow_pickle=False))
        return _value(tree, arrays, inside)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError) as error:
        raise Unreadable(str(error)) from None


def digest(value: object, outside: Outside) -> str:
    """The hash of a value: 64 hexadecimal digits."""
    return hashlib.sha256(pack(value, outside)).hexdigest()


def _plain(value: Any, arrays: list[Any], outside: Outside) -> Any:
    """A value as JSON has it: an object has one key, which says what it is."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, np.ndarray):
        arrays.append(_clean(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, (Part, Parts, Path)):
        stands = outside(value)
        return None if stands is None else {"outside": stands}
    if isinstance(value, UUID):
        return {"uuid": value.hex}
    if isinstance(value, list):
        kind = type(value[0]) if value else None
        if kind is not None and hasattr(kind, "_fields") and all(type(item) is kind for item in value):
            return {kind.__name__: [[_plain(field, arrays, outside) for field in item] for item in value]}
        return [_plain(item, arrays, outside) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(item, arrays, outside) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"set": sorted(value)}
    if isinstance(value, dict):
        pairs = [[_plain(item, arrays, outside) for item in pair] for pair in value.items()]
        return {"counter" if isinstance(value, Counter) else "dict": pairs}
    if is_dataclass(value):
        named = [_plain(getattr(value, field.name), arrays, outside) for field in fields(value)]
        return {type(value).__name__: named}
    raise TypeError(f"{type(value).__name__} cannot be packed")


def _clean(array: Any) -> Any:
    """An array without what lies between its fields, which is whatever was in memory before."""
    if array.dtype.names is None:
        return array
    made = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        made[name] = array[name]
    return made


def _value(tree: Any, arrays: list[Any], inside: Outside) -> Any:
    """The way back."""
    if isinstance(tree, list):
        return [_value(item, arrays, inside) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "array":
        return arrays[content]
    if kind == "outside":
        return inside(content)
    if kind == "uuid":
        return UUID(content)
    items = [_value(item, arrays, inside) for item in content]
    if kind == "tuple":
        return tuple(items)
    if kind == "set":
        return set(items)
    if kind in ("dict", "counter"):
        made = {key: item for key, item in items}
        return Counter(made) if kind == "counter" else made
    make: Any = _KNOWN[kind]
    if not issubclass(make, tuple):
        return make(*items)
    enums = _enums(make)
    return [make(*(enums[at](one) if at in enums else one for at, one in enumerate(row))) for row in items]


@cache
def _enums(kind: type) -> dict[int, type[Enum]]:
    """Which fields of a named tuple are enumerations."""
    hints = list(get_type_hints(kind).values())
    return {at: hint for at, hint in enumerate(hints) if isinstance(hint, type) and issubclass(hint, Enum)}
