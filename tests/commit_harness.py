"""Kills or interrupts the commit of an output at every line that it runs; run as a program, without Polars: it forks.

Arguments: a folder to work in. Prints a line of JSON for each case: what was done, at how many lines, what was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from process import output, rename, stopping, temporary

FILES = {module.__file__ for module in (output, rename, temporary)}


@dataclass
class Case:
    """One way of committing, and one of disturbing it.

    Attributes:
        number: The signal.
        is_folder: Whether the output is one.
        is_there: Whether there is an old one, which is replaced.
        at_once: Whether the system can exchange names.
        lines: At which it was disturbed.
        problems: What must not be.
    """

    number: int
    is_folder: bool
    is_there: bool
    at_once: bool
    lines: int = 0
    problems: list[str] = field(default_factory=list)


def make(path: Path, text: str, is_folder: bool) -> None:
    """An output of a run."""
    if is_folder:
        path.mkdir()
        path = path / "part-00000.parquet"
    path.write_text(text)


def read(path: Path) -> str | None:
    """What an output holds; None if it is not there."""
    if path.is_dir():
        path = path / "part-00000.parquet"
    return path.read_text() if path.exists() else None


def commit(folder: Path, case: Case) -> None:
    """What the pipeline does around the work itself."""
    out = folder / "out"
    with output.workshop(out) as workshop:
        made = workshop / "made"
        make(made, "new", case.is_folder)
        output.settle(made)
        stopping.ignore()
        output.publish(made, out, workshop, force=case.is_there)


def at_line(number: int, act: Callable[[], None]) -> None:
    """Do something once, before the n-th line that the modules of the commit run from now on."""
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                act()
        return trace

    sys.settrace(trace)


def disturbed(folder: Path, case: Case, line: int) -> int:
    """Commit in a child that is disturbed before a line; gives how it ended, 0 if it never came to that line."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not case.at_once:
            rename._renameat2 = lambda: None  # type: ignore[assignment]
        came = False

        def strike() -> None:
            nonlocal came
            came = True
            os.kill(os.getpid(), case.number)

        at_line(line, strike)
        try:
            commit(folder, case)
        except KeyboardInterrupt:
            os._exit(1)
        finally:
            os._exit(1 if came else 0)
    return os.waitpid(child, 0)[1]


def run(folder: Path, case: Case) -> None:
    """Disturb the commit at each of its lines."""
    while True:
        place = folder / "case"
        place.mkdir()
        if case.is_there:
            make(place / "out", "old", case.is_folder)
        status = disturbed(place, case, case.lines + 1)
        now = read(place / "out")
        left = [path for path in place.iterdir() if path.name != "out"]
        if status == 0:
            if now != "new" or left:
                case.problems.append(f"undisturbed: {now}, {left}")
            shutil.rmtree(place)
            return
        case.lines += 1
        where = f"line {case.lines}"
        kept = [path for path in left if (path / temporary.REPLACED).exists()]
        if now not in ("new", "old" if case.is_there else None) and not (kept and not case.at_once):
            case.problems.append(f"{where}: the output is {now}")
        if case.number == signal.SIGINT and left:
            case.problems.append(f"{where}: left {left}")
        temporary.remove_stale(place)
        after = [path for path in place.iterdir() if path.name != "out"]
        if after != kept or (kept and read(kept[0] / temporary.REPLACED) != "old"):
            case.problems.append(f"{where}: the next run leaves {after}")
        shutil.rmtree(place)


def main() -> None:
    """Every case."""
    folder = Path(sys.argv[1])
    for number in (signal.SIGKILL, signal.SIGINT):
        for is_folder in (False, True):
            for is_there in (False, True):
                for at_once in (True, False):
                    case = Case(int(number), is_folder, is_there, at_once)
                    run(folder, case)
                    print(json.dumps(asdict(case)), flush=True)


if __name__ == "__main__":
    main()
