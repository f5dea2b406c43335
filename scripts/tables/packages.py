"""Debian packages as a source of kernel headers, without installing them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote


class PackageError(Exception):
    """A package cannot be had; the message is one line."""


@dataclass(frozen=True)
class Package:
    """An unpacked package.

    Attributes:
        name: Package name.
        version: Debian version, such as 6.1.192-2.
        root: Folder that holds the package's files as the machine's `/` would.
    """

    name: str
    version: str
    root: Path

    def __str__(self) -> str:
        """Returns name and version, as apt-get download takes them."""
        return f"{self.name}={self.version}"


@cache
def fetch(wanted: str, folder: Path) -> Package:
    """Downloads and unpacks a package, or finds it in the cache.

    Args:
        wanted: `name` for the newest version, or `name=version`, which takes no
            apt-get when the cache has it.
        folder: The cache, for the .deb files and what was in them.

    Raises:
        PackageError: apt-get does not know it or cannot download it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, _, version = wanted.partition("=")
    cached = sorted(folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")) if version else []
    deb = cached[0] if cached else _download(wanted, folder)
    root = deb.with_suffix("")
    if not root.exists():
        partial = deb.with_suffix(".partial")
        _run("dpkg-deb", "-x", str(deb), str(partial), cwd=folder)
        partial.rename(root)
    return Package(name, unquote(deb.name.split("_")[1]), root)


def _download(wanted: str, folder: Path) -> Path:
    with TemporaryDirectory() as empty:
        # In a folder that has the file already, apt-get prints nothing.
        uri = _run("apt-get", "download", "--print-uris", wanted, cwd=Path(empty))
    match = re.search(r"^'\S+' (\S+\.deb) ", uri, re.MULTILINE)
    if not match:
        raise PackageError(f"{wanted}: apt-get names no file for it; try apt-get update")
    deb = folder / match[1]
    if not deb.exists():
        # apt's download user may not write here, and it warns about it at length.
        _run("apt-get", "download", "-oAPT::Sandbox::User=root", wanted, cwd=folder)
    return deb


def newest_headers(kernel: str) -> str:
    """Returns the newest `linux-headers-*-common` package of a kernel series.

    Args:
        kernel: Series, such as 6.1.

    Raises:
        PackageError: The archive has none.
    """
    names = _run("apt-cache", "pkgnames", f"linux-headers-{kernel}.", cwd=Path.cwd()).split()
    common = [name for name in names if name.endswith("-common")]
    if not common:
        raise PackageError(f"no linux-headers-{kernel}.*-common in the archive; try apt-get update")
    # 6.1.0-9 is older than 6.1.0-10: compare the numbers, not the text.
    return max(common, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def _run(*command: str, cwd: Path) -> str:
    try:
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise PackageError(f"{command[0]} is not installed: this needs a Debian machine") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split()) or f"exit status {error.returncode}"
        raise PackageError(f"{' '.join(command)}: {reason}") from None
