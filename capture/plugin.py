"""`SyscallCapture`: the recorder as a pandare PyPlugin, for the ``capture`` command and for a user's own script."""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pandare import PyPlugin

from capture.abi import ABIS, COMPAT, Abi
from capture.arguments import ArgumentReader
from capture.arm64_pages import Arm64Pages
from capture.backend import Backend
from capture.calls import joined
from capture.calls import load as load_calls
from capture.chunk import Room
from capture.introspection import introspect
from capture.kernel_hook import KernelHook
from capture.memory import GuestMemory
from capture.mips_pages import MipsPages
from capture.profile import Profile
from capture.recorder import Recorder
from capture.reverts import Reverts
from capture.segment import ABI_NUMBERS
from capture.syscalls2 import Syscalls2


class SyscallCapture(PyPlugin):  # type: ignore[misc]  # pandare has no type information
    """Record every syscall of a guest.

    ``panda.pyplugins.load(SyscallCapture, {"outdir": "segments", "procs": ["httpd"]})`` before ``panda.run()``.
    It takes:

    * ``outdir``: folder for the segments (required).
    * ``procs``: names of the processes to record; all by default.
    * ``profile``: a kernelinfo file, or a `Profile`; without it a task is an address space, and has a name only if
      the calls themselves tell it.
    * ``backend``: `kernel-hook`, `syscalls2`, or `auto`: the former if the profile allows.
    * ``segment_size``, ``max_size``: stored bytes after which a segment is closed, and recording stops.
    * ``max_string``, ``max_vector``: bytes of a string and elements of an argv that are kept (4096, 1024).
    * ``buffers``: bytes of what is read and written that are kept (32).
    * ``meta``: a dict of facts to keep in every segment.
    """

    def __init__(self, panda: Any) -> None:
        """Called by pandare; registers the callbacks.

        Raises:
            ValueError: An argument is missing or wrong, or the architecture is not known.
            OSError: The folder cannot be written.
        """
        outdir = self.get_arg("outdir")
        if not outdir:
            raise ValueError("SyscallCapture: no outdir given: load it with {'outdir': FOLDER}")
        abi = ABIS.get(panda.arch_name)
        if abi is None:
            raise ValueError(f"SyscallCapture: no table for {panda.arch_name} (known: {', '.join(sorted(ABIS))})")
        profile = self.get_arg("profile")
        if isinstance(profile, str | Path):
            profile = Profile.load(Path(profile))
        procs = list(_names(self.get_arg("procs")))
        hooked = _is_hooked(str(self.get_arg("backend") or "auto"), abi, profile)
        backend = KernelHook.name if hooked else Syscalls2.name
        self._meta = {"backend": backend, "procs": procs, **(self.get_arg("meta") or {})}
        max_string = int(self.get_arg("max_string") or 4096)
        max_vector = int(self.get_arg("max_vector") or 1024)
        buffers = self.get_arg("buffers")
        max_buffer = 32 if buffers is None else int(buffers)
        pages: MipsPages | Arm64Pages | None = MipsPages(panda, abi.big_endian) if abi.refill_handler else None
        if abi.name == "aarch64":
            pages = Arm64Pages(panda)
        sizes = (max_string, max_buffer, max_vector)
        memory = GuestMemory(panda, abi.word_size, abi.big_endian, abi.user_limit, *sizes, pages)
        self.recorder = Recorder(
            Path(outdir),
            abi.name,
            word_size=abi.word_size,
            big_endian=abi.big_endian,
            segment_size=int(self.get_arg("segment_size") or 64 << 20),
            max_size=int(self.get_arg("max_size") or 0),
            room=self.get_arg("room") or Room(),
            meta=self._meta,
            on_chunk=lambda: self.backend.tracer.forget(),
        )
        introspection = introspect(panda, memory, profile, 16 * max_string, abi) if profile else None
        calls, other, others = load_calls(abi.name), COMPAT.get(abi.name), None
        if other:
            calls = joined(calls, load_calls(other.name), ABI_NUMBERS[other.name])
            others = GuestMemory(panda, 4, abi.big_endian, other.user_limit, *sizes, pages)
        wanted = frozenset(name.encode() for name in procs)
        arguments = ArgumentReader(memory, calls, max_buffer > 0, abi.word_size)
        self._parts = (
            panda, abi, calls, self.recorder, memory, arguments, introspection, wanted,
            ArgumentReader(others, calls, max_buffer > 0, 4) if others else None,
        )  # fmt: skip
        self.backend: Backend = (
            KernelHook(profile, self._fall_back, *self._parts) if hooked and profile else Syscalls2(*self._parts)
        )
        self._open = True
        self._reverts = Reverts(panda, self._reverted)
        atexit.register(self.close)

    def _fall_back(self, reason: str) -> None:
        """The running kernel is not what its profile says."""
        self._meta["backend"] = Syscalls2.name
        self.backend = Syscalls2(*self._parts)
        self.backend.enabled = self._open
        self.backend.trouble = f"no kernel-hook: {reason}; recorded with syscalls2"

    @property
    def is_open(self) -> bool:
        """Whether the capture is not sealed yet."""
        return self._open

    def enable(self) -> None:
        """Record from now on."""
        self.backend.enabled = self._open

    def disable(self) -> None:
        """Record nothing until `enable`; calls that are under way are recorded as not returned."""
        if self.backend.enabled:
            self.backend.enabled = False
            self.backend.tracer.finish()

    def mark(self, text: str, at_revert: bool = False) -> None:
        """Give the calls that come back from now on a text, until the next mark. Any thread may call it.

        Args:
            text: What the output's column ``mark`` shows.
            at_revert: Begin with the next revert: ``mark("testcase 4711", at_revert=True)``, then load the snapshot.
        """
        if self._open:
            self.recorder.mark(text, at_revert)

    def _reverted(self) -> None:
        """The machine is put into another state."""
        try:
            if self._open and self.recorder.next_event:
                self.backend.tracer.reset()
        except Exception:  # ctypes would print it
            self.recorder.counts["errors"] += 1

    def close(self) -> None:
        """Seal the capture; a second call does nothing."""
        if self._open:
            self._open = False
            self._reverts.close()
            self.disable()
            self.recorder.close()
            atexit.unregister(self.close)

    def uninit(self) -> None:
        """Called by pandare when the plugin is unloaded."""
        self.close()


def _is_hooked(wanted: str, abi: Abi, profile: Profile | None) -> bool:
    """Whether the back end is kernel-hook: if it is asked for, or if nothing else is and it can be used.

    Raises:
        ValueError: There is no such back end, or it cannot be used.
    """
    if wanted not in ("auto", KernelHook.name, Syscalls2.name):
        raise ValueError(f"SyscallCapture: no back end {wanted!r} (auto, {KernelHook.name}, {Syscalls2.name})")
    reason = KernelHook.unusable(abi.name, profile)
    if reason and wanted == KernelHook.name:
        raise ValueError(f"SyscallCapture: kernel-hook cannot be used: {reason}; take another profile or back end")
    return reason is None and wanted != Syscalls2.name


def _names(procs: str | Iterable[str] | None) -> Iterable[str]:
    """The ``procs`` argument as a list: pandare hands over text as it was given."""
    return [name for name in procs.split(",") if name] if isinstance(procs, str) else list(procs or ())
