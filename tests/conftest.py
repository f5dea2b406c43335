"""What the live tests share: guests captured once a session, and their decoded rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from figures import Figure
from lab import panda
from lab.guest import folder, guest

os.environ.setdefault("SYSREEL_VMLINUZ", str(folder("x86_64") / "vmlinuz"))

BIN = Path(sys.executable).parent
FIGURE = "FIGURE "
"""How a figure's name begins among a report's properties."""
RECORDED = Path(__file__).resolve().parent / "data" / "recorded"


@dataclass(frozen=True)
class Captured:
    """A guest's run, captured by the ``capture`` command.

    Attributes:
        segments: The folder it wrote.
        console: What the guest printed.
        second: What came out of its second serial port.
        summary: What the command printed.
    """

    segments: Path
    console: str
    second: str
    summary: str


def command(*words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands as a user would."""
    line = [str(BIN / words[0]), *map(str, words[1:])]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=600)


def capture_guest(folder: Path, workload: str, *options: str, arch: str = "x86_64") -> Captured:
    """Boot a workload under the ``capture`` command."""
    job = guest(arch, workload)
    ports = [folder / "console", folder / "second"]
    segments = folder / "segments"
    done = command(
        "capture", "-o", segments, "--arch", arch, "--kernel", job.kernel, "--initrd", job.initrd,
        "--append", job.append, "--serial", ports[0], "--serial", ports[1], *options, env=panda.environment(arch),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    text = [port.read_text(encoding="utf-8", errors="backslashreplace") for port in ports]
    return Captured(segments, text[0], text[1], done.stdout)


def decode(segments: Path, output: Path, *options: str) -> pl.DataFrame:
    """Rows of a capture, in order, by the ``process`` command."""
    done = command("process", segments, "-o", output, *options)
    assert done.returncode == 0, done.stderr
    return pl.scan_parquet(f"{output}/**/*.parquet").sort("id").collect()


@pytest.fixture(scope="session")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """The guest whose program prints what it did."""
    return capture_guest(tmp_path_factory.mktemp("calls"), "calls", "--buffers", "4096", "--max-string", "16384")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """The demo's guest."""
    return capture_guest(tmp_path_factory.mktemp("demo"), "demo")


@pytest.fixture
def figure(record_property: Figure) -> Figure:
    """``figure("name", value)``: a number that a test has measured, shown at the end of the run."""
    return lambda name, value: record_property(FIGURE + name, str(value))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.geteuid():
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures as `FIGURE name: value`, a line each; failed tests' too."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    told = [item for report in reports if report.when == "call" for item in report.user_properties]
    if figures := [f"{name}: {value}" for name, value in told if name.startswith(FIGURE)]:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What scripts/test asks for: there, a test that cannot run is a failure."""
    parser.addoption("--no-skips", action="store_true", help="end with status 1 if a test was skipped")
    parser.addoption("--reverts", type=int, default=40, help="reverts of the live test of reverts (1000: long form)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that boot guests come first: they take longest, and workers side by side then end together."""
    live = {item.path for item in items if item.get_closest_marker("live")}
    items.sort(key=lambda item: item.path not in live)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run if it skipped something."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture(params=["together", "alone"])
def batching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments share a batch, as they do; and none does, so that what one needs of another is put to the test."""
    if request.param == "alone":
        monkeypatch.setattr("process.batch.SMALL", 0)


@pytest.fixture
def no_batching(monkeypatch: pytest.MonkeyPatch) -> None:
    """No segment shares a batch."""
    monkeypatch.setattr("process.batch.SMALL", 0)
