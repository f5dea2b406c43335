"""A user's own PANDA script, run as Python would run it, with the recorder loaded into every Panda that it runs."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from capture.profile import Profile

_INTERRUPTED = 130
"""Exit status of a shell's command that SIGINT has ended."""


class Recorded:
    """Hooks ``pandare.Panda.run``, which every way to run a guest goes through, replays too.

    The recorder is loaded when a Panda begins to run, unless the script has loaded one itself, and closed when it has
    run; a Panda that runs again makes another capture.

    Attributes:
        plugins: The recorders that were loaded, in order.
        is_scripts: Whether a Panda had one of the script's own.
    """

    def __init__(self, options: Mapping[str, object], profile: Callable[[Path | None], Profile | None]) -> None:
        """Hook.

        Args:
            options: For `SyscallCapture`, all but the profile.
            profile: Gives the profile for the kernel image that PANDA is told to boot; None if it is told of none.

        Raises:
            ImportError: pandare is not installed.
            OSError: A library that it needs is not there.
        """
        from pandare import Panda

        from capture.plugin import SyscallCapture

        self.plugins: list[SyscallCapture] = []
        self.is_scripts = False
        original = Panda.run

        @functools.wraps(original)
        def run(panda: Any, *words: Any, **more: Any) -> Any:
            loaded, mine = panda.pyplugins.plugins, None
            if any(isinstance(one, SyscallCapture) and one.is_open for one in loaded.values()):
                self.is_scripts = True
            else:
                try:
                    settings = {**options, "profile": profile(_kernel(panda.panda_args))}
                    panda.pyplugins.load(SyscallCapture, settings)
                except (OSError, ValueError) as error:
                    raise SystemExit(f"capture: error: {error}") from None
                mine = loaded[SyscallCapture.__name__]
                self.plugins.append(mine)
            try:
                return original(panda, *words, **more)
            finally:
                if mine is not None:
                    mine.close()

        Panda.run = run


def _kernel(arguments: Sequence[str]) -> Path | None:
    """The kernel image in QEMU's arguments."""
    found = [Path(after) for word, after in pairwise(arguments) if word == "-kernel"]
    return found[-1] if found else None


def run_script(path: Path, arguments: Sequence[str]) -> int:
    """Run a script as ``python PATH ARGUMENTS`` does, but for the interpreter's end.

    Returns:
        Its exit status. What it raised has been shown on stderr, as Python shows it.

    Raises:
        OSError: It cannot be read.
    """
    source = path.read_bytes()
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    sys.modules["__main__"] = module
    sys.argv[:] = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SystemExit as end:
        return _status(end.code)
    except BaseException as error:
        error.__traceback__ = _theirs(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _status(code: object) -> int:
    """The exit status of ``sys.exit(code)``, which shows what is no number."""
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _theirs(frames: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without the frames of this module."""
    found = []
    while frames is not None:
        found.append(frames)
        frames = frames.tb_next
    kept: types.TracebackType | None = None
    for one in reversed(found):
        if one.tb_frame.f_code.co_filename != __file__:
            kept = types.TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return kept
