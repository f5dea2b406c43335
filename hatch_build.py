"""Compiles the C of process/ where the project is built: hatchling calls it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ("-std=c99", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror=implicit-function-declaration")
SOURCES, LIBRARY = "process/*.c", "process/libkernels.so"


def compiler() -> list[str] | None:
    """The machine's own C compiler: $CC, or the first that is there; None without any."""
    named = shlex.split(os.environ.get("CC", ""))
    found = [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    return named or (found[0] if found else None)


class Kernels(BuildHookInterface[Any]):
    """Makes the library, beside its source, and lets the wheel have it."""

    def dependencies(self) -> list[str]:
        """A compiler from the package index where the machine has none."""
        return [] if compiler() else ["ziglang"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; ``version`` is `standard` or `editable`.

        Raises:
            RuntimeError: The compiler fails; the text has its words.
        """
        root = Path(self.root)
        made = root / f"{LIBRARY}.{os.getpid()}"
        command = [*(compiler() or [sys.executable, "-m", "ziglang", "cc"]), *FLAGS, "-o", str(made)]
        sources = sorted(map(str, root.glob(SOURCES)))
        done = subprocess.run([*command, *sources], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{SOURCES} cannot be compiled: {shlex.join(command)}\n{done.stderr}")
        made.replace(root / LIBRARY)  # a process that has the old one goes on with it
        build_data["artifacts"].append(LIBRARY)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"  # no Python is called: any version will do
