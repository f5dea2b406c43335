"""What scripts/fuzz.py runs under Atheris: its targets, instrumented, and its mutations as Atheris's own.

Words: a module with targets, a scratch folder, a folder for what fails, `first` to end with the first failure, then
libFuzzer's. What is raised is kept, and
fuzzing goes on; hangs, crashes and exhausted memory end the process, and libFuzzer keeps what made them.
"""

from __future__ import annotations

import importlib
import os
import sys
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["capture", "process"]):
    import fuzz
    from mutations import Mutator

    targets = importlib.import_module(sys.argv[1])

DECODED = 4
"""Of so many segments one is made into rows, which takes ten times as long as reading it."""


def main(words: list[str]) -> None:
    """Fuzz; does not return."""
    folder, keep = Path(words[2]), Path(words[3])
    path, counts = folder / "a.seg", os.open(folder / "counts", os.O_RDWR)
    done = fuzz.Fuzzed()
    told: set[object] = set()

    def examine(data: bytes) -> None:
        path.write_bytes(data)
        done.executions += 1
        try:
            targets.read(path)
            if zlib.crc32(data) % DECODED == 0:
                done.decoded += targets.decode(path) > 0
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            place = (type(error), trace.tb_frame.f_code, trace.tb_lineno) if trace is not None else type(error)
            if place not in told:
                told.add(place)
                fuzz.keep_failure(keep, data)
        os.pwrite(counts, fuzz.COUNTS.pack(done.executions, done.decoded), 0)
        if told and words[4] == "first":
            sys.stderr.flush()
            os._exit(1)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        mutator = Mutator(seed, lambda some: atheris.Mutate(some, max(len(some) + 64, 128)) if some else b"")
        return mutator.mutated(data)[:most]

    atheris.Setup([words[0], *words[5:]], examine, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
