"""Debian's packages: which are missing, installing them, and fetching others only to unpack them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab import store
from lab.store import LabError

Wanted = tuple[str, ...]
"""One need: names in order of preference, since Ubuntu and later Debians rename (libaio1, libaio1t64)."""

RECORDED = "scripts/demo --recorded"  # the way out that needs no lab
# As root, apt downloads as the user _apt, who may not be able to write into our cache; it warns of that.
APT = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0")


def missing(needs: Iterable[Wanted]) -> list[Wanted]:
    """Those of `needs` of which no alternative is installed."""
    needs = list(needs)
    if shutil.which("dpkg-query") is None:
        return needs
    names = [name for need in needs for name in need]
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *names]
    # Its exit status is 1 as soon as one name is unknown; the others are listed all the same.
    listing = subprocess.run(query, capture_output=True, text=True).stdout
    installed = {name for status, name in map(str.split, listing.splitlines()) if status == "installed"}
    return [need for need in needs if not installed.intersection(need)]


def install(needs: Iterable[Wanted]) -> None:
    """Install what is missing of `needs`, taking the first alternative that this system's apt knows.

    A need that apt knows under no name is passed over: the caller finds out whether it can do without.

    Raises:
        LabError: something is missing and we are not root, have no apt, or apt fails.
    """
    absent = missing(needs)
    if not absent:
        return
    words = " ".join(need[0] for need in absent)
    if shutil.which("apt-get") is None:
        raise LabError(f"no apt-get here to install: {words}; use Debian 12, or {RECORDED}")
    if os.geteuid() != 0:
        raise LabError(f"needs root to install: {words}; run as root or use {RECORDED}")
    known = _known(absent)
    if len(known) < len(absent):
        _apt("update")
        known = _known(absent)
    if known:
        print("installing", " ".join(known), flush=True)
        install = "install", "-y", "--no-install-recommends", *known
        try:
            _apt(*install)
        except LabError:  # lists from before what is installed: two packages of one source do not fit
            _apt("update")
            _apt(*install)


def download(pattern: str, architecture: str, into: Path) -> Path:
    """Fetch, into the folder `into`, the newest of the packages whose names `pattern` matches whole.

    The system's own package lists serve if they know one; else lists of our own are fetched into the cache,
    which needs no root and leaves the system's apt as it was, whatever the `architecture` (Debian's name of
    it).

    Raises:
        LabError: no package has such a name, or apt fails.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise LabError(f"no apt-get and dpkg-deb here to fetch {pattern}; use Debian 12, or {RECORDED}")
    view: list[str] = []
    names = _matching(pattern, view) if architecture == _native() else []
    reason = "use Debian 12"
    if not names:
        view = _own_view(architecture)
        try:
            _apt(*view, "update")
        except LabError as error:  # one source of several may lack the architecture: go by what did arrive
            reason = str(error)
        names = _matching(pattern, view)
    if not names:
        raise LabError(f"apt knows no {pattern} for {architecture}: {reason}, or {RECORDED}")
    print("downloading", names[-1], flush=True)
    _apt(*view, "download", names[-1], folder=into)
    return next(into.glob(f"{names[-1]}_*.deb"))


def unpack(package: Path, into: Path) -> None:
    """Unpack the files of `package` into the folder `into`; nothing is installed."""
    subprocess.run(["dpkg-deb", "-x", str(package), str(into)], check=True)


def oldest_first(names: Iterable[str]) -> list[str]:
    """Package names by the numbers in them: 6.1.0-9 before 6.1.0-10."""
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _known(needs: Sequence[Wanted]) -> list[str]:
    """The first alternative of each need that apt can install; needs without one are left out."""
    chosen = (next((name for name in need if _has_candidate(name)), None) for need in needs)
    return [name for name in chosen if name is not None]


def _has_candidate(name: str) -> bool:
    policy = subprocess.run(["apt-cache", "policy", name], capture_output=True, text=True, env=_environment())
    return re.search(r"Candidate: (?!\(none\))", policy.stdout) is not None


def _native() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()


def _own_view(architecture: str) -> list[str]:
    """Options that make apt see `architecture` alone, by lists in our cache and the system's sources."""
    lists = store.cache() / "apt" / architecture
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Dir::State::Lists": str(lists),
        # Empty: no binary caches of these lists, which would lie beside the system's.
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _matching(pattern: str, view: Sequence[str]) -> list[str]:
    """Package names that `pattern` matches whole, oldest first."""
    listing = subprocess.run(["apt-cache", *view, "pkgnames"], capture_output=True, text=True).stdout
    return oldest_first(name for name in listing.split() if re.fullmatch(pattern, name))


def _apt(*words: str, folder: Path | None = None) -> None:
    done = subprocess.run([*APT, *words], cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        verb = next(word for word in words if word in ("update", "install", "download"))
        reasons = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["no reason given"]
        raise LabError(f"apt-get {verb} failed: {reasons[-1]}")


def _environment() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
