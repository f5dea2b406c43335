"""A guest under PANDA, from the ``capture`` command's options."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """What PANDA is told to emulate.

    Attributes:
        arch: PANDA's name of the architecture.
        kernel: Kernel image.
        initrd: Initial file system.
        append: Kernel command line.
        mem: Memory, as QEMU writes it (``256M``).
        serial: A file for each serial port, in order.
        extra: Further arguments for QEMU.
    """

    arch: str
    kernel: Path
    initrd: Path | None
    append: str
    mem: str = "256M"
    serial: tuple[Path, ...] = ()
    extra: tuple[str, ...] = field(default=())

    def arguments(self) -> list[str]:
        """QEMU's arguments."""
        words = ["-kernel", str(self.kernel), "-append", self.append, "-display", "none", "-no-reboot"]
        words += ["-initrd", str(self.initrd)] if self.initrd else []
        for path in self.serial:
            words += ["-serial", f"file:{path}"]
        return words + list(self.extra)


def boot(machine: Machine) -> Any:
    """A ``pandare.Panda`` for the machine, not running yet.

    Raises:
        ImportError: pandare is not installed.
        OSError: Its libpanda, or a library that it needs, is not there.
    """
    from pandare import Panda

    return Panda(arch=machine.arch, mem=machine.mem, os_version="linux-64-generic", extra_args=machine.arguments())


def run(panda: Any, timeout: float | None) -> bool:
    """Run the guest until it powers off, a signal ends it, or ``timeout`` seconds are over.

    Returns:
        Whether the guest ended by itself.
    """
    ended = threading.Event()

    def stop() -> None:
        ended.set()
        panda.end_analysis()

    timer = threading.Timer(timeout, stop) if timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        panda.run()
    except KeyboardInterrupt:  # pandare raises it after SIGINT, SIGTERM and SIGHUP
        ended.set()
    finally:
        if timer:
            timer.cancel()
    return not ended.is_set()
