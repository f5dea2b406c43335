"""`capture run`: a script of the user's own, as Python runs it, with the recorder in its guest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from conftest import command, decode
from lab import panda
from lab.guest import Guest, guest

pytestmark = pytest.mark.live

BOOT = """
import sys
from pandare import Panda

def boot(kernel, initrd, append, serial):
    arguments = ["-kernel", kernel, "-initrd", initrd, "-append", append, "-serial", "file:" + serial]
    return Panda(arch="x86_64", mem="256M", os_version="linux-64-generic",
                 extra_args=[*arguments, "-display", "none", "-no-reboot"])
"""


def script(folder: Path, text: str) -> Path:
    (folder / "helper.py").write_text(BOOT, "utf-8")
    path = folder / "own.py"
    path.write_text(text, "utf-8")
    return path


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return command("capture", "run", *words, env=panda.environment("x86_64"))


def machine(job: Guest, folder: Path) -> list[str]:
    return [str(job.kernel), str(job.initrd), job.append, str(folder / "console")]


def test_a_script_that_knows_nothing_of_the_recorder_is_recorded(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
import sys
from helper import boot
panda = boot(*sys.argv[1:])
panda.run()
print("own:", __name__, len(sys.argv), __file__)
sys.exit(7)
""",
    )
    done = run(path, "-o", tmp_path / "segments", "--", *machine(guest("x86_64", "calls"), tmp_path))
    assert done.returncode == 7, done.stderr[-2000:]
    assert f"own: __main__ 5 {path}" in done.stdout
    assert "captured" in done.stderr and "captured" not in done.stdout and "warning" not in done.stderr
    rows = decode(tmp_path / "segments", tmp_path / "run.parquet")
    assert len(rows.filter(pl.col("procname") == "/calls")) > 100
    assert "exit status 0" in (tmp_path / "console").read_text()


def test_a_script_with_a_recorder_of_its_own_has_no_second_one(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
import sys
from helper import boot
from capture import SyscallCapture
panda = boot(*sys.argv[1:5])
panda.pyplugins.load(SyscallCapture, {"outdir": sys.argv[5]})
plugin = panda.pyplugins.plugins["SyscallCapture"]

@panda.ppp("syscalls2", "on_all_sys_enter")
def stop(cpu, pc, number):
    if plugin.recorder.next_event > 50:
        panda.end_analysis()
panda.run()
plugin.close()
""",
    )
    own = tmp_path / "own"
    done = run(path, "-o", tmp_path / "other", "--", *machine(guest("x86_64", "busy"), tmp_path), str(own))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "its own options hold" in done.stderr and not (tmp_path / "other").exists()
    assert len(list(own.glob("*.seg"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nsys.exit('no such corpus')\n",
        "import sys\nsys.exit(300)\n",
        "def run():\n    raise ValueError('own')\n\nrun()\n",
        "def run(:\n",
        "raise KeyboardInterrupt\n",
        "import no_such_module\n",
    ],
)
def test_what_a_script_says_at_its_end_is_what_python_says(text: str, tmp_path: Path) -> None:
    path = script(tmp_path, text)
    plain = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    done = run(path, "-o", tmp_path / "segments")
    *told, last = done.stderr.splitlines()
    assert last == f"capture: warning: {path} has run no guest: nothing was recorded"
    assert "\n".join(told) == plain.stderr.rstrip("\n")
    assert done.returncode == (plain.returncode if plain.returncode >= 0 else 128 - plain.returncode)
    assert not (tmp_path / "segments").exists()


def test_what_a_guests_run_raises_has_the_scripts_own_frames_alone(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
import sys
from helper import boot
panda = boot(*sys.argv[1:])

@panda.ppp("syscalls2", "on_all_sys_enter")
def fails(cpu, pc, number):
    raise LookupError("own callback")
panda.run()
""",
    )
    done = run(path, "-o", tmp_path / "segments", "--", *machine(guest("x86_64", "busy"), tmp_path))
    assert done.returncode == 1
    assert "LookupError: own callback" in done.stderr and f'File "{path}", line 9' in done.stderr
    assert "harness.py" not in done.stderr.partition("LookupError: own callback")[0].rpartition("Traceback")[2]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys\nfrom helper import boot\nboot(*sys.argv[1:]).run()\n")
    done = run(path, "-o", path, "--", *machine(guest("x86_64", "busy"), tmp_path))
    assert done.returncode == 1 and f"capture: error: [Errno 17] File exists: '{path}'" in done.stderr
    assert "Traceback" not in done.stderr
