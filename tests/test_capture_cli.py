"""What the capture command answers to wrong input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capture.emulator import Machine, console
from conftest import command


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ((), 2, "Usage: capture"),
        (("-o", "segments"), 2, "give -o DIR and --kernel VMLINUZ"),
        (("-o", "segments", "--kernel", "missing"), 2, "missing: no such file"),
        (("-o", "segments", "--kernel", __file__, "--initrd", "missing"), 2, "missing: no such file"),
        (("-o", "segments", "--kernel", __file__, "--segment-size", "many"), 2, "'many' is no size"),
        (("-o", "segments", "--kernel", __file__, "--arch", "vax"), 2, "vax"),
        (("-o", "segments", "--kernel", __file__, "--profile", "missing"), 2, "missing: no such file"),
        (("-o", "segments", "--kernel", __file__, "--profile", __file__), 1, "not a kernelinfo.conf"),
        (("profile", __file__, "-o", "out"), 1, "capture: error: "),
        (("run",), 2, "Missing argument"),
        (("run", "missing.py"), 2, "missing.py: no such file"),
        (("run", __file__, "--profile", __file__), 1, "not a kernelinfo.conf"),
        (("run", __file__, "--max-size", "many"), 2, "'many' is no size"),
        (("profile", "missing", "-o", "out"), 1, "missing"),
    ],
)
def test_wrong_input_has_an_answer_and_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], status: int, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("capture", *words)
    assert done.returncode == status
    assert text in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples_and_every_option_of_the_contract() -> None:
    text = command("capture", "--help").stdout
    for word in ("Examples:", "--arch", "--kernel", "--initrd", "--append", "--mem", "--profile", "--backend",
                 "--procs", "--timeout", "--segment-size", "--max-size", "--serial", "profile"):  # fmt: skip
        assert word in text
    assert "Example" in command("capture", "profile", "--help").stdout
    assert "Example" in command("capture", "run", "--help").stdout


def test_importing_capture_needs_neither_pandare_nor_polars_nor_numpy() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pandare', 'polars', 'numpy', 'tqdm'])); "
        "import capture, capture.recorder, capture.tracer, capture.cli, capture.profile_cache"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_machine_has_what_it_needs_by_default_and_what_the_user_gives_instead() -> None:
    def options(arch: str, *extra: str) -> list[str]:
        return Machine(arch, Path("k"), None, "", extra=extra).arguments()[7:]

    assert options("x86_64") == options("i386") == []
    assert options("arm") == ["-M", "virt"] and console("arm") == "ttyAMA0"
    assert options("aarch64", "-m", "1G") == ["-M", "virt", "-cpu", "cortex-a57", "-m", "1G"]
    assert options("aarch64", "-cpu", "cortex-a53") == ["-M", "virt", "-cpu", "cortex-a53"]
    assert options("mipsel", "-machine", "mips") == ["-machine", "mips"] and console("mipsel") == "ttyS0"
    assert Machine("mipsel", Path("k"), None, "").os_version == "linux-32-generic"
