"""Segments that ask for memory, time or files without end, decoded as a user does: bounded, named, and survived."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard

from capture.segment import FILE_HEADER_SIZE, MAX_RAW, ROW_SIZES, STRING_INDEX, BlockType, Encoding, pack_block
from figures import Figure, count_figures, run_script
from segments import OPENAT, Builder

ROOT = str(Path(__file__).parent.parent)
LOSS = 3
MIB = 1 << 20


def run(folder: Path, *words: object, setup: str = "", peak: bool = True) -> tuple[int, str, int]:
    """Run the command; gives its exit status, its messages, and the most memory that it had resident, in MiB.

    That is the kernel's VmHWM: getrusage(2) counts what this process held, too, which started it.
    """
    code = (
        f"import resource\n{setup}\nfrom process.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    status = open('/proc/self/status').read()\n"
        "    print('peak', int(status.partition('VmHWM:')[2].split()[0]) >> 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": ROOT}, timeout=600,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr, int(done.stdout.rpartition("peak ")[2])


def sound() -> Builder:
    """A segment with one event, to which more blocks are added."""
    builder = Builder(columns=False)
    builder.event(OPENAT, 1, 0x10, strings=builder.set(a1=b"ok"))
    builder.block()
    return builder


def filled(builder: Builder, kind: BlockType, size: int, times: int) -> None:
    """Add blocks of zeros that are sound, and a few thousand bytes each."""
    width = ROW_SIZES.get(kind, 1)
    count, payload = size // width, bytes(size // width * width)
    if kind is BlockType.STRINGS:
        count, payload = 1, STRING_INDEX.pack(size - STRING_INDEX.size, 0) + bytes(size - STRING_INDEX.size)
    stored = zstandard.compress(payload)
    for k in range(times):
        first = 2 + k * count if kind in (BlockType.STRINGS, BlockType.SETS) else 1
        header, index = builder.header, builder._index
        builder.stored.append(pack_block(header, kind, Encoding.ZSTD, index, count, first, len(payload), stored))
        builder._index += 1


def test_blocks_that_unpack_to_gigabytes_are_refused(tmp_path: Path, figure: Figure) -> None:
    builder = sound()
    for kind in (BlockType.TASKS, BlockType.MARKS, BlockType.FILES, BlockType.SETS):
        filled(builder, kind, 8 * MIB, 1)
        filled(builder, kind, 60 * MIB, 8)
    filled(builder, BlockType.STRINGS, 60 * MIB, 30)
    path = builder.write(tmp_path)
    began = time.monotonic()
    status, text, peak = run(tmp_path, path, "-o", "a.parquet", "-j", 1)
    seconds = time.monotonic() - began
    assert status == LOSS and text.count("with it the segment unpacks to more than it may") == 62
    assert peak < 600, peak
    figure(
        f"bombs of {(4 * 488 + 1800) / 1024:.1f} GiB in {path.stat().st_size:,} bytes, peak RSS",
        f"{peak} MiB, {seconds:.1f} s",
    )


def test_frames_that_lie_about_their_size_are_refused_before_they_are_unpacked(tmp_path: Path, figure: Figure) -> None:
    builder = sound()
    zeros = bytes(MAX_RAW)
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    frame = zstandard.compress(zeros)
    dictionary = zstandard.train_dictionary(4096, [bytes([k % 251]) * 8 + b"%d" % k * 40 for k in range(4000)])
    cases = {
        "undeclared": (undeclared, MAX_RAW),
        "two frames": (frame + frame, 2 * MAX_RAW),
        "less declared in the block": (frame, 96),
        "more than any block has": (frame, (1 << 32) - 1),
        "a frame in a frame": (zstandard.compress(frame), len(frame)),
        "a dictionary": (zstandard.ZstdCompressor(dict_data=dictionary).compress(bytes(96)), 96),
        "a window of 2 GiB": (b"\x28\xb5\x2f\xfd\x80" + b"\xf8" + (96).to_bytes(4, "little") + b"\x01\x00\x00", 96),
    }
    for number, (stored, raw) in enumerate(cases.values()):
        count = raw // 96 if raw % 96 == 0 else 1
        builder.stored.append(
            pack_block(builder.header, BlockType.EVENTS, Encoding.ZSTD, builder._index + number, count, 1, raw, stored)
        )
    builder._index += len(cases)
    path = builder.write(tmp_path)
    began = time.monotonic()
    status, text, peak = run(tmp_path, path, "-o", "a.parquet", "-j", 1)
    seconds = time.monotonic() - began
    assert status == LOSS and text.count("damaged at offset") == len(cases), text
    assert peak < 400, peak
    figure("frames that lie about their size, peak RSS", f"{peak} MiB, {seconds:.1f} s")


def test_a_segment_too_large_for_memory_is_named_and_the_others_are_decoded(tmp_path: Path, figure: Figure) -> None:
    """Its workers run out of memory in earnest."""
    caps = tmp_path / "caps"
    for number in range(3):
        builder = Builder(segment=number, first=number)
        builder.event()
        builder.write(caps)
    huge = Builder(segment=3, first=3)
    huge.event()
    path = huge.write(caps)
    with path.open("r+b") as file:
        file.truncate(64 << 30)  # a hole: no disk has to have it
    limit = 8 << 30
    setup = f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))"
    for jobs in (1, 2):
        status, text, _ = run(tmp_path, "caps", "-o", f"{jobs}.sqlite", "-j", jobs, setup=setup)
        assert status == LOSS, text
        assert f"{path.name}: not read: out of memory; try fewer jobs (-j)" in text
    figure("a segment of 64 GiB under a limit of memory", "named, 3 of 3 others decoded, exit 3")


@pytest.mark.parametrize("out", ["a.sqlite", "a.parquet"])
def test_thousands_of_tiny_segments_with_few_descriptors(tmp_path: Path, out: str, figure: Figure) -> None:
    """`ulimit -n 64`, two workers, and strays among the segments: names with `..`, FIFOs, devices, loops."""
    caps, number = tmp_path / "caps", 400
    for k in range(number):
        builder = Builder(segment=k, first=k)
        builder.event()
        builder.write(caps)
    (caps / "..seg").write_bytes(b"")
    (caps / "...seg").symlink_to("../../outside.seg")
    (caps / "loop.seg").symlink_to("loop.seg")
    (caps / "zero.seg").symlink_to("/dev/zero")
    os.mkfifo(caps / "fifo.seg")
    setup = "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    status, text, _ = run(tmp_path, "caps/../caps", "caps", "-o", out, "-j", 2, setup=setup)
    assert status == LOSS, text
    assert text.count("loss:") == 5, text
    assert sorted(os.listdir(tmp_path)) == sorted(["caps", out])
    figure(f"{number:,} segments with ulimit -n 64", "hangs 0, written outside the output 0")


def test_one_huge_segment_is_decoded_within_a_limit(figure: Figure) -> None:
    """The limit is for all processes; the greatest of them must leave room for another."""
    done = run_script("extremes.py", "--huge", "300000")
    found = count_figures(figure, "one huge segment", done)
    assert done.returncode == 0, done.stderr
    assert found["events missing or twice"] == found["events missing or twice with --max-memory 300M"] == 0
    assert found["peak RSS of a process, MiB with --max-memory 300M"] < 250
    assert found["said that the limit is not kept"] == 0


def test_a_header_alone_and_a_file_of_magics_are_told(tmp_path: Path) -> None:
    data = sound().data()
    (tmp_path / "caps").mkdir()
    (tmp_path / "caps" / "a.seg").write_bytes(data[:FILE_HEADER_SIZE])
    (tmp_path / "caps" / "b.seg").write_bytes(data[:FILE_HEADER_SIZE] + b"\xb1SRB" * 250_000)
    status, text, _ = run(tmp_path, "verify", "caps", "-j", 1)
    assert status == LOSS, text
