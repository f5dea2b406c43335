"""The events of a generated capture as a CTF 1.8 trace, so that babeltrace2 can be given the same work.

One event class for each system call: the time of entry, duration, process and thread, the arguments by their names, in
hexadecimal, the path as a string where the call has one, and the result. Layout: Common Trace Format 1.8.3.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from process import prototypes

_PACKET = 1 << 16
"""Events of a packet."""
_MAGIC = 0xC1FC1FC1
_HEADER = struct.Struct("<I16sQQ")
"""Magic, UUID, content and packet size in bits."""

_PREAMBLE = """/* CTF 1.8 */
typealias integer {{ size = 16; align = 8; signed = false; byte_order = le; }} := u16;
typealias integer {{ size = 32; align = 8; signed = false; byte_order = le; }} := u32;
typealias integer {{ size = 64; align = 8; signed = false; byte_order = le; }} := u64;
typealias integer {{ size = 64; align = 8; signed = false; byte_order = le; base = 16; }} := hex;
typealias integer {{ size = 64; align = 8; signed = true; byte_order = le; }} := s64;
typealias integer {{ size = 8; align = 8; signed = false; byte_order = le; }} := byte;
trace {{
    major = 1; minor = 8; uuid = "{uuid}"; byte_order = le;
    packet.header := struct {{ u32 magic; byte uuid[16]; }};
}};
clock {{ name = host; freq = 1000000000; }};
typealias integer {{
    size = 64; align = 8; signed = false; byte_order = le; map = clock.host.value;
}} := time;
stream {{
    packet.context := struct {{ u64 content_size; u64 packet_size; }};
    event.header := struct {{ u16 id; time timestamp; }};
}};
"""

COLUMNS = ("nr", "time_ns", "duration_ns", "pid", "tid", *(f"arg{k}" for k in range(6)), "retno", "path")
"""Of the frame that `write` takes: integers, and the path as text, null where the call has none."""


def write(frame: pl.DataFrame, folder: Path) -> None:
    """Make a trace: a folder with ``metadata`` and one stream."""
    folder.mkdir(parents=True)
    known = uuid.uuid5(uuid.NAMESPACE_URL, "sysreel")
    table = prototypes.load("x86_64").by_number
    classes: list[str] = []
    packs: dict[tuple[int, bool], tuple[int, struct.Struct]] = {}
    for number, has_path in frame.select("nr", pl.col("path").is_not_null()).unique().sort(["nr", "path"]).iter_rows():
        prototype, index = table[number], len(classes)
        names = [f"_{argument.name}" for argument in prototype.args]
        fields = ["u64 call_duration", "u32 call_pid", "u32 call_tid", *(f"hex {name}" for name in names)]
        fields += ["s64 call_result"] + ["string call_path"] * has_path
        classes.append(
            f'event {{ name = "{prototype.name}"; id = {index}; fields := struct {{ {"; ".join(fields)}; }}; }};\n'
        )
        packs[number, has_path] = index, struct.Struct(f"<HQQII{len(names)}Qq")
    (folder / "metadata").write_text(_PREAMBLE.format(uuid=known) + "".join(classes), encoding="ascii")
    with open(folder / "stream", "wb") as stream:
        for packet in frame.iter_slices(_PACKET):
            body = b"".join(_events(packet.select(COLUMNS).iter_rows(), packs))
            bits = 8 * (_HEADER.size + len(body))
            stream.write(_HEADER.pack(_MAGIC, known.bytes, bits, bits) + body)


def _events(
    rows: Iterable[tuple[int | str | None, ...]], packs: dict[tuple[int, bool], tuple[int, struct.Struct]]
) -> Iterator[bytes]:
    """Each event's bytes."""
    mask = (1 << 64) - 1
    for number, time, duration, pid, tid, *arguments, retno, path in rows:
        index, layout = packs[int(number or 0), path is not None]
        words = [int(value or 0) & mask for value in arguments if value is not None]
        yield layout.pack(index, time, duration or 0, pid, tid, *words, retno or 0)  # null: it did not return
        if path is not None:
            yield str(path).encode() + b"\0"
