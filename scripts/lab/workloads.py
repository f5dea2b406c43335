"""What runs in the guests, as data: an /init script each and the C programs it starts (in tests/guest)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import machines
from lab.store import ROOT, LabError

SOURCES = ROOT / "tests" / "guest"


@dataclass(frozen=True)
class Workload:
    """One guest's job: `NAME.sh` is its /init; each of `programs`, in C, becomes a static one in /.

    Those of `compat` do too, compiled for the 32-bit programs that the machine's 64-bit kernel runs. `arch` is the only
    architecture where it runs; None for all.
    """

    name: str
    summary: str
    programs: tuple[Path, ...] = ()
    compat: tuple[Path, ...] = ()
    arch: str | None = None

    @property
    def init(self) -> Path:
        """The script that becomes /init."""
        return SOURCES / f"{self.name}.sh"


TABLE = {
    row.name: row
    for row in (
        Workload("demo", "a varied shell workload that ends by itself"),
        Workload("calls", "known system calls, then the truth about them", (SOURCES / "calls.c",)),
        Workload(
            "files",
            "descriptors made in every way, and what /proc says of them on port 2",
            (SOURCES / "files.c",),
            arch="x86_64",
        ),
        Workload("compat", "known calls of a 32-bit program", compat=(SOURCES / "compat.c",)),
        Workload("bench", "cost per call by the guest's clock; takes count=N", (SOURCES / "bench.c",), arch="x86_64"),
        Workload("busy", "works until it is killed, with a counter on port 2"),
    )
}


def for_machine(arch: str) -> list[Workload]:
    """Those that can run on `arch`."""
    both = machines.machine(arch).compat is not None
    return [row for row in TABLE.values() if row.arch in (None, arch) and (both or not row.compat)]


def workload(name: str) -> Workload:
    """The row of `name`.

    Raises:
        LabError: there is no such workload.
    """
    if name not in TABLE:
        raise LabError(f"unknown workload {name!r}: there are {', '.join(TABLE)}")
    return TABLE[name]
