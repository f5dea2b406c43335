"""What runs in the guests, as data: an /init script each and the C programs it starts (in tests/guest)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import machines
from lab.store import ROOT, LabError
from lab.tools import STRACE, Tool

SOURCES = ROOT / "tests" / "guest"
WHO = SOURCES / "who.c"
X86_64 = ("x86_64",)
TRACED = ("x86_64", "aarch64")


@dataclass(frozen=True)
class Workload:
    """One guest's job.

    Attributes:
        name: Of the workload.
        summary: What it does.
        programs: Sources in C; each becomes a static program in /.
        compat: Likewise, compiled for the 32-bit programs that the machine's 64-bit kernel runs.
        arches: The architectures that it can run on; empty for all.
        tools: Debian's programs that it needs in /bin.
        script: Name of the script that becomes /init, if not the workload's.
    """

    name: str
    summary: str
    programs: tuple[Path, ...] = ()
    compat: tuple[Path, ...] = ()
    arches: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    script: str = ""

    @property
    def init(self) -> Path:
        """The script that becomes /init."""
        return SOURCES / f"{self.script or self.name}.sh"


TABLE = {
    row.name: row
    for row in (
        Workload("demo", "a varied shell workload that ends by itself"),
        Workload("calls", "known system calls, then the truth about them", (SOURCES / "calls.c",)),
        Workload(
            "files",
            "descriptors made in every way, and what /proc says of them",
            (SOURCES / "files.c",),
            arches=TRACED,
        ),
        Workload("compat", "known calls of a 32-bit program", compat=(SOURCES / "compat.c",)),
        Workload("bench", "cost per call by the guest's clock; takes count=N", (SOURCES / "bench.c",), arches=X86_64),
        Workload("cases", "test cases, each after a revert to a snapshot", (SOURCES / "cases.c",), arches=X86_64),
        Workload(
            "signals", "calls that signals interrupt, and what they were to the program", (SOURCES / "signals.c",)
        ),
        Workload("busy", "works until it is killed, with a counter on port 2"),
        Workload(
            "who", "many processes and files under strace; its log on port 2", (WHO,), arches=TRACED, tools=(STRACE,)
        ),
        Workload("names", "the same without strace: what each process calls itself", (WHO,), script="who"),
    )
}


def for_machine(arch: str) -> list[Workload]:
    """Those that can run on `arch`."""
    both = machines.machine(arch).compat is not None
    rows = TABLE.values()
    return [row for row in rows if (not row.arches or arch in row.arches) and (both or not row.compat)]


def workload(name: str) -> Workload:
    """The row of `name`.

    Raises:
        LabError: there is no such workload.
    """
    if name not in TABLE:
        raise LabError(f"unknown workload {name!r}: there are {', '.join(TABLE)}")
    return TABLE[name]
