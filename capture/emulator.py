"""A guest under PANDA, from the ``capture`` command's options."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capture.interrupts import stop_on_signals

_VIRT = ("-M", "virt")
DEFAULTS = {
    "aarch64": (*_VIRT, "-cpu", "cortex-a57"),
    "arm": _VIRT,
    "mips": ("-M", "malta"),
    "mips64": ("-M", "malta"),
    "mipsel": ("-M", "malta"),
}
"""QEMU's options for machines that have no usable default; what the user gives wins."""
_SAME = {"-machine": "-M", "--machine": "-M", "--cpu": "-cpu"}
_PATIENCE = 10
"""Seconds in which an emulator that is told to stop has done so, by far: it takes hundredths, or is asked again."""
WORD_64 = frozenset({"aarch64", "mips64", "x86_64"})


def console(arch: str) -> str:
    """The first serial port of the machine, as the guest names it."""
    return "ttyAMA0" if DEFAULTS.get(arch, ())[:2] == _VIRT else "ttyS0"


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
        given = {_SAME.get(word, word) for word in self.extra}
        usual = DEFAULTS.get(self.arch, ())
        for option, value in zip(usual[::2], usual[1::2], strict=True):
            words += [option, value] if option not in given else []
        return words + list(self.extra)

    @property
    def os_version(self) -> str:
        """What PANDA calls the guest's system: picks its table of syscalls."""
        return f"linux-{64 if self.arch in WORD_64 else 32}-generic"


def boot(machine: Machine) -> Any:
    """A ``pandare.Panda`` for the machine, not running yet.

    Raises:
        ImportError: pandare is not installed.
        OSError: Its libpanda, or a library that it needs, is not there.
    """
    from pandare import Panda

    return Panda(arch=machine.arch, mem=machine.mem, os_version=machine.os_version, extra_args=machine.arguments())


def run(panda: Any, timeout: float | None, give_up: Callable[[], object]) -> bool:
    """Run the guest until it powers off, a signal ends it, or ``timeout`` seconds are over.

    Now and then PANDA does not stop when it is told to: its main loop asks the thread of the CPU for the lock that they
    share, the asking is lost, and both go on for good (PANDA 0.1.1.5; seen once in some hundred runs). So the CPU is
    asked again.

    Args:
        panda: The ``pandare.Panda``, not running yet.
        timeout: None: no limit.
        give_up: Called if that does not help, in another thread. This function does not return any more: it is to end
            the process.

    Returns:
        Whether the guest ended by itself.
    """
    ended, returned = threading.Event(), threading.Event()

    def stop() -> None:
        ended.set()
        panda.end_analysis()
        for _ in range(_PATIENCE):
            if returned.wait(1):
                return
            panda.exit_cpu_loop()  # the lock is then given to who waits for it
        give_up()

    timer = threading.Timer(timeout, stop) if timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    stop_on_signals(panda, stop)
    try:
        panda.run()
    except KeyboardInterrupt:  # pandare's own way, should it not have taken ours
        ended.set()
    finally:
        returned.set()
        if timer:
            timer.cancel()
    return not ended.is_set()
