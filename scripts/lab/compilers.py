"""C compilers: Debian's own, and its cross compilers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import debian
from lab.store import LabError

# No stack protector: the C library's lies behind a thread pointer, which raw threads do without.
STATIC = ("-static", "-O1", "-Wall", "-Wextra", "-fno-stack-protector", "-s", "-Wl,--build-id=none")
# Nothing but the source: no C library, no floating point, no tables that a dynamic loader would fill. It lies where
# it is linked, and begins at the same place in kseg0.
BARE_MIPS = (
    "-static", "-O1", "-Wall", "-Wextra", "-ffreestanding", "-nostdlib", "-EB", "-mips32r2", "-msoft-float",
    "-mno-abicalls", "-fno-pic", "-G0", "-Wl,-Ttext=0x401000", "-Wl,--defsym=entry=begin+0x80000000", "-Wl,-e,entry",
    "-Wl,--build-id=none",
)  # fmt: skip


@dataclass(frozen=True)
class Compiler:
    """One compiler and what it is told.

    Attributes:
        command: Its name.
        packages: Where Debian has it.
        flags: What makes a program of one source.
    """

    command: str
    packages: tuple[debian.Wanted, ...]
    flags: tuple[str, ...] = STATIC


TABLE = {
    "x86_64": Compiler("gcc", (("gcc",), ("libc6-dev",))),
    "i386": Compiler("i686-linux-gnu-gcc", (("gcc-i686-linux-gnu",), ("libc6-dev-i386-cross",))),
    "arm": Compiler("arm-linux-gnueabihf-gcc", (("gcc-arm-linux-gnueabihf",), ("libc6-dev-armhf-cross",))),
    "aarch64": Compiler("aarch64-linux-gnu-gcc", (("gcc-aarch64-linux-gnu",), ("libc6-dev-arm64-cross",))),
    "mipsel": Compiler("mipsel-linux-gnu-gcc", (("gcc-mipsel-linux-gnu",), ("libc6-dev-mipsel-cross",))),
    "mips-bare": Compiler("mips-linux-gnu-gcc", (("gcc-mips-linux-gnu",),), BARE_MIPS),
}


def compiled(source: Path, target: str) -> bytes:
    """The program made of `source` by the compiler of `target`.

    Raises:
        LabError: there is no such compiler, or it finds an error.
    """
    if target not in TABLE:
        raise LabError(f"no compiler for {target!r}: there are {', '.join(TABLE)}")
    compiler = TABLE[target]
    debian.install(compiler.packages)
    found = shutil.which(compiler.command)
    if found is None:
        wanted = " and ".join(need[0] for need in compiler.packages)
        raise LabError(f"no {compiler.command} here and apt has none; install {wanted}")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, source.stem)
        done = subprocess.run([found, *compiler.flags, "-o", str(out), str(source)], capture_output=True, text=True)
        if done.returncode != 0:
            reason = next((line for line in done.stderr.splitlines() if "error" in line), "no reason given")
            raise LabError(f"cannot compile {source.name}: {reason}")
        return out.read_bytes()
