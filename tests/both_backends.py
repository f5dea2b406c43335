"""A guest under both back ends at once, each with a recorder of its own: what test_backends.py compares.

usage: both_backends.py ARCH KERNEL INITRD APPEND FOLDER
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from capture import SyscallCapture
from capture.emulator import Machine, boot, run
from capture.profile_cache import profile_of


class Other(SyscallCapture):
    """pandare tells plugins apart by the names of their classes."""


def main() -> None:
    arch, kernel, initrd, append, folder = sys.argv[1:]
    path = Path(folder)
    panda = boot(Machine(arch, Path(kernel), Path(initrd), append, serial=(path / "console", path / "second")))
    for plugin, backend in ((SyscallCapture, "kernel-hook"), (Other, "syscalls2")):
        options = {"outdir": path / backend, "profile": profile_of(Path(kernel)), "backend": backend, "buffers": 256}
        panda.pyplugins.load(plugin, options)
    plugins = [panda.pyplugins.plugins[plugin.__name__] for plugin in (SyscallCapture, Other)]
    assert run(panda, 300, partial(os._exit, 1)), "the guest did not end by itself"
    for plugin in plugins:
        plugin.close()
        assert plugin.backend.trouble is None, plugin.backend.trouble


if __name__ == "__main__":
    main()
