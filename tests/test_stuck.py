"""An emulator that does not stop when it is told to: the command ends, and the capture is whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import command, decode
from lab import panda
from lab.guest import guest
from stuck_harness import STUCK

pytestmark = pytest.mark.live

HARNESS = Path(__file__).with_name("stuck_harness.py")
WARNING = "capture: warning: PANDA did not stop, and was ended; all that was recorded is sealed"


@pytest.mark.parametrize(("how", "by"), [("deaf", "signal"), ("dead", "timeout")])
def test_the_command_ends_and_what_it_recorded_is_whole(how: str, by: str, tmp_path: Path) -> None:
    job, segments, console = guest("x86_64", "busy", "count=100000000"), tmp_path / "segments", tmp_path / "console"
    words = [sys.executable, HARNESS, how, "-o", segments, "--kernel", job.kernel, "--initrd", job.initrd]
    words += ["--append", job.append, "--serial", console, *(["--timeout", "15"] if by == "timeout" else [])]
    with subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **panda.environment("x86_64")},
    ) as run:  # fmt: skip
        try:
            if by == "signal":
                time.sleep(15)
                run.send_signal(signal.SIGTERM)
            out, errors = run.communicate(timeout=120)
        finally:
            run.kill()
    assert run.returncode == 0, errors[-2000:]
    assert STUCK in errors
    assert errors.count(WARNING) == (how == "dead")
    assert "(stopped before the guest ended)" in out
    verified = command("process", "verify", segments)
    assert verified.returncode == 0, verified.stdout
    (events,) = re.findall(r"captured ([\d,]+) events", out)
    assert f", {events} events" in verified.stdout
    assert len(decode(segments, tmp_path / "rows.parquet")) > 500
