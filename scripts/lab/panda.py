"""PANDA: the system's libraries, the wheel that carries it, stand-ins for the rest, and proof that it loads.

The stand-ins are `panda/ARCH/stubs` in the cache; the wheel goes into the Python that runs this.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab import debian, machines, standins, store
from lab.store import LabError

EXAMPLE = 'example: export "$(scripts/lab-panda --print-env)" && .venv/bin/python my_harness.py'
LOCK = store.ROOT / "requirements" / "panda.lock"
LIBRARIES: tuple[debian.Wanted, ...] = (
    # Debian 13 and Ubuntu 24.04 renamed those that use time_t or grew a new soname.
    ("libaio1", "libaio1t64"),
    ("libcacard0",),
    ("libcurl3-gnutls", "libcurl3t64-gnutls"),
    ("libepoxy0",),
    ("libfdt1",),
    ("libgbm1",),
    ("libgtk-3-0", "libgtk-3-0t64"),
    ("libibverbs1",),
    ("libiscsi7", "libiscsi9", "libiscsi10"),
    ("liblzo2-2",),
    ("libncursesw6",),
    ("libnuma1",),
    ("libpixman-1-0",),
    ("libpng16-16", "libpng16-16t64"),
    ("libprotobuf-c1",),
    ("librados2", "librados2t64"),
    ("librbd1", "librbd1t64"),
    ("librdmacm1", "librdmacm1t64"),
    ("libsasl2-2",),
    ("libsdl2-2.0-0",),
    ("libseccomp2",),
    ("libspice-server1",),
    ("libusb-1.0-0",),
    ("libusbredirparser1", "libusbredirparser1t64"),
    ("libvdeplug2", "libvdeplug2t64"),
    ("libvirglrenderer1",),
)
TOOLS: tuple[debian.Wanted, ...] = (("gcc",), ("binutils",))
# Run in a process of its own, the one that may load libpanda; ours has not the path for it.
PROOF = "import ctypes, sys, pandare; ctypes.CDLL(sys.argv[1])"


def libpanda(arch: str) -> Path:
    """The emulator for `arch`, inside the installed wheel.

    Raises:
        LabError: the wheel is not installed, or carries no such emulator (pandare 1.8 carries none).
    """
    wheel = importlib.util.find_spec("pandare")
    if wheel is None or not wheel.submodule_search_locations:
        raise LabError("pandare is not installed; run scripts/lab-panda")
    library = Path(wheel.submodule_search_locations[0], "data", f"{arch}-softmmu", f"libpanda-{arch}.so")
    if not library.exists():
        raise LabError(f"this pandare has no {library.name}; scripts/lab-panda installs one that has")
    return library


def stubs(arch: str) -> Path:
    """Where the stand-ins for `arch` are kept."""
    return store.cache() / "panda" / arch / "stubs"


def library_path(arch: str) -> str:
    """What LD_LIBRARY_PATH must be when a process starts that will run PANDA; the loader reads it only then.

    It names the plugins too: PANDA 0.1.1.5's syscalls2 opens `syscalls2_dso_info_*.so` by its bare name.

    Raises:
        LabError: PANDA is not ready.
    """
    if not stubs(arch).exists():
        raise LabError(f"PANDA for {arch} is not ready; run scripts/lab-panda --arch {arch}")
    return f"{stubs(arch)}:{libpanda(arch).parent / 'panda' / 'plugins'}"


def environment(arch: str) -> dict[str, str]:
    """Our environment, with `library_path`: for the subprocess that runs PANDA."""
    return {**os.environ, "LD_LIBRARY_PATH": library_path(arch)}


def loads(arch: str) -> str | None:
    """Try libpanda in a subprocess: None when it loads, else the loader's or Python's reason."""
    try:
        command = [sys.executable, "-c", PROOF, str(libpanda(arch))]
        done = subprocess.run(command, env=environment(arch), capture_output=True, text=True)
    except LabError as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]


def prepare(arch: str) -> bool:
    """Make PANDA for `arch` ready to load; whether there was anything to do.

    Raises:
        LabError: it cannot be made to load.
    """
    machines.machine(arch)
    with store.locked("panda"):
        if loads(arch) is None:
            return False
        debian.install((*LIBRARIES, *TOOLS))
        _install_wheel()
        with store.staged(stubs(arch)) as scratch:
            names = standins.make(libpanda(arch), scratch)
            print(f"made stand-ins for {len(names)} libraries: {' '.join(names)}", flush=True)
        if (reason := loads(arch)) is not None:
            raise LabError(f"libpanda-{arch}.so does not load: {reason}")
    return True


def _install_wheel() -> None:
    """Install what is missing of the lock; requirements/panda.in says why without dependencies."""
    print("installing", LOCK.relative_to(store.ROOT), flush=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "install", "--no-deps", "--require-hashes", "-r", str(LOCK)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise LabError(f"pip cannot install {LOCK.name}: {(reasons or ['no reason given'])[-1]}")
    importlib.invalidate_caches()


def main(words: Sequence[str] | None = None) -> int:
    """The command line of scripts/lab-panda."""
    parser = argparse.ArgumentParser(prog="lab-panda", description=__doc__.splitlines()[0], epilog=EXAMPLE)
    parser.add_argument(
        "--arch", default="x86_64", choices=[*machines.TABLE, *machines.BARE], help="the guest's (x86_64)"
    )
    parser.add_argument("--print-env", action="store_true", help="print LD_LIBRARY_PATH=...")
    options = parser.parse_args(words)
    start = time.monotonic()
    try:
        if options.print_env:
            print(f"LD_LIBRARY_PATH={library_path(options.arch)}")
            return 0
        worked = prepare(options.arch)
    except LabError as error:
        print(f"lab-panda: {error}", file=sys.stderr)
        return 1
    state = f"made in {time.monotonic() - start:.1f} s, ready" if worked else "ready"
    print(f"PANDA for {options.arch} {state}: {stubs(options.arch)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
