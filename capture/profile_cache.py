"""Profiles made from kernel images, kept so that a kernel is examined once."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from capture.profile import Profile, ProfileError, make_profile
from capture.version import VERSION

_EDITION = 7
"""Counts what `make_profile` has learned to give: profiles kept by an older one are made anew."""


def profile_of(kernel: Path) -> Profile:
    """The profile of a kernel image: from the cache, else made and cached if the cache can be written.

    Raises:
        ProfileError: The image is unreadable, or has no BTF or no kallsyms.
    """
    try:
        digest = hashlib.sha256(kernel.read_bytes()).hexdigest()
    except OSError as error:
        raise ProfileError(f"{kernel}: {error.strerror}") from None
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cached = home / "sysreel" / f"{digest[:32]}-{VERSION}-{_EDITION}.kernelinfo"
    with suppress(ProfileError):
        return Profile.load(cached)
    profile = make_profile(kernel)
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        profile.save(cached)
    return profile
