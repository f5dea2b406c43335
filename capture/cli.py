"""The ``capture`` command."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capture.abi import ABIS
from capture.emulator import Machine, boot, console, run
from capture.interrupts import ignore_signals
from capture.limits import LEAST_SIZE, Policy
from capture.profile import Profile, ProfileError
from capture.profile_cache import profile_of
from capture.size import bytes_of
from capture.version import VERSION
from capture.watch import captures_of, live_line, table

if TYPE_CHECKING:
    from capture.plugin import SyscallCapture

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


Arch = Enum("Arch", {name: name for name in sorted(ABIS)}, type=str)  # type: ignore[misc]  # made from the ABI table


DEFAULT_ARCH = Arch("x86_64")

PROFILES = ("auto", "symbols", "none")
"""What --profile takes besides a file; a file of such a name is ./none."""

EXAMPLES = """\b
Examples:
  capture -o segments --kernel vmlinuz --initrd initrd.gz
  capture -o segments --kernel vmlinuz --initrd initrd.gz --procs httpd --timeout 60
  capture -o segments --kernel vmlinuz --append 'root=/dev/sda nokaslr' -- -hda disk.img
  capture -o segments --arch arm --kernel zImage --initrd initrd.gz
  capture -o segments --kernel vmlinuz --max-size 2G --policy drop-oldest --segment-time 600
  capture run harness.py -o segments -- --cases corpus
  capture status segments
  capture profile vmlinuz -o vmlinuz.kernelinfo
"""
STATUS_EXAMPLES = """\b
Examples:
  capture status segments
  capture status segments --json
"""
RUN_EXAMPLES = """\b
Examples:
  capture run harness.py
  capture run harness.py -o segments --procs httpd --max-size 2G -- --cases corpus
  capture run replay.py --profile vmlinuz.kernelinfo
"""
PROFILE_EXAMPLE = """\b
Example:
  capture profile /boot/vmlinuz-6.1.0-18-amd64 -o vmlinuz.kernelinfo
"""


class Backend(str, Enum):
    """How calls are seen."""

    AUTO = "auto"
    KERNEL_HOOK = "kernel-hook"
    SYSCALLS2 = "syscalls2"


def command() -> None:
    """The console script: what follows ``--`` is QEMU's, not typer's."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    app(words[:end], prog_name="capture", obj=tuple(words[end + 1 :]))


def fail(message: str, status: int = 1) -> typer.Exit:
    """One line on stderr, and the exit to raise."""
    typer.echo(f"capture: error: {message}", err=True)
    return typer.Exit(status)


def size(text: str, option: str) -> int:
    """What an option says of bytes."""
    try:
        return bytes_of(text)
    except ValueError as error:
        raise fail(f"{option}: {error}", 2) from None


def _max_size(text: str) -> int:
    """The greatest size of a capture; 0 for none."""
    found = size(text, "--max-size")
    if 0 < found < LEAST_SIZE:
        raise fail(f"--max-size: {text} has no room for live files and segments; give at least {LEAST_SIZE >> 20}M", 2)
    return found


def _settings(
    *, backend: Backend, procs: list[str] | None, segment_size: str, max_size: str, **others: object
) -> dict[str, object]:
    """The options of `SyscallCapture`, out of those of a command."""
    return {
        "backend": backend.value,
        "procs": procs or [],
        "segment_size": size(segment_size, "--segment-size"),
        "max_size": _max_size(max_size),
        **others,
    }


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"capture (sysreel {VERSION})")
        raise typer.Exit


Outdir = Annotated[Path | None, typer.Option("-o", "--outdir", help="Folder for the segments; made if missing.")]
ArchOption = Annotated[Arch, typer.Option(help="The guest's architecture; also picks QEMU's machine.")]
Kernel = Annotated[Path | None, typer.Option(help="Kernel image to boot (vmlinuz).")]
Initrd = Annotated[Path | None, typer.Option(help="Initial file system to boot.")]
Append = Annotated[
    str | None, typer.Option(help="Kernel command line (console=PORT nokaslr panic=-1 quiet). Names need nokaslr.")
]
Mem = Annotated[str, typer.Option(help="Guest memory.")]
ProfileFile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="FILE|auto|symbols|none",
        help="kernelinfo file; or auto: made from the kernel image; symbols: offsets are derived from the running "
        "kernel even if the image has BTF; none: names come from the calls alone.",
    ),
]
BackendOption = Annotated[
    Backend, typer.Option(help="How calls are seen; auto: kernel-hook if the profile allows, else syscalls2.")
]
Procs = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Record only this process; repeatable.")]
Timeout = Annotated[float | None, typer.Option(min=0.1, help="Stop the guest after so many seconds.")]
SegmentSize = Annotated[str, typer.Option(metavar="SIZE", help="Bytes after which a segment is closed.")]
SegmentTime = Annotated[
    float | None, typer.Option(min=0.1, metavar="SECONDS", help="Seconds after which a segment is closed.")
]
MaxSize = Annotated[
    str, typer.Option(metavar="SIZE", help="Bytes that the capture may take, live files included; 0: any number.")
]
PolicyOption = Annotated[
    Policy,
    typer.Option(
        "--policy",
        help="At --max-size: stop the guest; delete the oldest segments; or let the guest go on and count what is "
        "dropped.",
    ),
]
MaxString = Annotated[int, typer.Option(min=1, max=65536, help="Bytes of a guest string that are kept.")]
MaxVector = Annotated[int, typer.Option(min=1, max=65536, help="Elements of an argv or envp that are kept.")]
Buffers = Annotated[
    int, typer.Option(min=0, max=4096, help="Bytes of what is read and written that are kept; 0: none.")
]
Serial = Annotated[list[Path] | None, typer.Option(metavar="FILE", help="File for a serial port; repeatable.")]
Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")]


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def main(
    context: typer.Context,
    outdir: Outdir = None,
    arch: ArchOption = DEFAULT_ARCH,
    kernel: Kernel = None,
    initrd: Initrd = None,
    append: Append = None,
    mem: Mem = "256M",
    profile: ProfileFile = "auto",
    backend: BackendOption = Backend.AUTO,
    procs: Procs = None,
    timeout: Timeout = None,
    segment_size: SegmentSize = "64M",
    segment_time: SegmentTime = None,
    max_size: MaxSize = "0",
    policy: PolicyOption = Policy.DROP_NEWEST,
    max_string: MaxString = 4096,
    max_vector: MaxVector = 1024,
    buffers: Buffers = 32,
    serial: Serial = None,
    version: Version = False,
) -> None:
    """Boot a Linux guest under PANDA and record every syscall into segment files.

    Words after -- go to QEMU as they are. Decode the segments with the command process.
    """
    if context.invoked_subcommand is not None:
        return
    if outdir is None or kernel is None:
        raise fail("give -o DIR and --kernel VMLINUZ (see capture --help)", 2)
    for path in (kernel, initrd, None if profile in PROFILES else Path(profile)):
        if path is not None and not path.is_file():
            raise fail(f"{path}: no such file", 2)
    if append is None:
        append = f"console={console(arch.value)} nokaslr panic=-1 quiet"
    machine = Machine(arch.value, kernel, initrd, append, mem, tuple(serial or ()), context.obj or ())
    options = _settings(
        outdir=outdir, profile=_profile(profile, kernel), backend=backend, procs=procs, segment_size=segment_size,
        segment_time=segment_time, max_size=max_size, policy=policy, max_string=max_string, max_vector=max_vector,
        buffers=buffers, meta={"kernel": kernel.name, "append": append},
    )  # fmt: skip
    _capture(machine, options, timeout)


@app.command("status", epilog=STATUS_EXAMPLES)
def show_status(
    folder: Annotated[Path, typer.Argument(help="Folder into which captures are written.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, for scripts.")] = False,
) -> None:
    """Show the captures of a folder that run, and those that were killed or could not be sealed."""
    if not folder.is_dir():
        raise fail(f"{folder}: no such folder", 2)
    found = captures_of(folder)
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in found], indent=1))
    else:
        for row in table(found):
            typer.echo(row)


@app.command("profile", epilog=PROFILE_EXAMPLE)
def make_profile_file(
    vmlinuz: Annotated[Path, typer.Argument(help="Kernel image, or a debug vmlinux.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
) -> None:
    """Write the profile (kernelinfo) of a kernel: where its tasks keep their names and pids."""
    from capture.profile import make_profile

    try:
        made = make_profile(vmlinuz)
        made.save(output)
    except (ProfileError, OSError) as error:
        raise fail(str(error)) from None
    typer.echo(f"{output}: profile of {made.release}")
    if not made.is_complete:
        typer.echo(
            f"{vmlinuz}: no BTF and no DWARF: the file has {len(made.symbols)} functions of the kernel and no offsets. "
            "capture derives these from the running kernel; PANDA's osi_linux cannot use it. "
            "A debug vmlinux gives them all."
        )


@app.command("run", epilog=RUN_EXAMPLES)
def run_harness(
    context: typer.Context,
    harness: Annotated[Path, typer.Argument(help="Your own PANDA script.")],
    outdir: Annotated[Path, typer.Option("-o", "--outdir", help="Folder for the segments; made if missing.")] = Path(
        "segments"
    ),
    profile: ProfileFile = "auto",
    backend: BackendOption = Backend.AUTO,
    procs: Procs = None,
    segment_size: SegmentSize = "64M",
    segment_time: SegmentTime = None,
    max_size: MaxSize = "0",
    policy: PolicyOption = Policy.DROP_NEWEST,
    max_string: MaxString = 4096,
    max_vector: MaxVector = 1024,
    buffers: Buffers = 32,
) -> None:
    """Run a PANDA script of yours with the recorder loaded into every Panda that it runs, replays too.

    Words after -- are the script's. Its output, its exit status and its tracebacks are its own; what is said of the
    capture goes to stderr. A script that loads SyscallCapture itself is left to its own options.
    """
    from capture.harness import Recorded, run_script

    if not harness.is_file():
        raise fail(f"{harness}: no such file", 2)
    given = _profile(profile, Path()) if profile not in PROFILES else None

    def profile_for(kernel: Path | None) -> Profile | None:
        if given is not None or profile == "none":
            return given
        if kernel is None:
            typer.echo("capture: warning: no -kernel: names come from the calls alone (see --profile)", err=True)
            return None
        return _profile(profile, kernel)

    options = _settings(
        outdir=outdir, backend=backend, procs=procs, segment_size=segment_size, segment_time=segment_time,
        max_size=max_size, policy=policy, max_string=max_string, max_vector=max_vector, buffers=buffers,
        meta={"harness": harness.name},
    )  # fmt: skip
    try:
        recorded = Recorded(options, profile_for)
    except (ImportError, OSError) as error:
        raise _no_panda(error) from None
    status = run_script(harness, context.obj or ())
    sys.stdout.flush()
    for plugin in recorded.plugins:
        recorder = plugin.recorder
        events = recorder.counts["events"] + recorder.finished["events"]
        typer.echo(f"captured {events:,} events, {recorder.segments} segments in {outdir}", err=True)
        _warn(plugin)
    if recorded.is_scripts:
        typer.echo(f"capture: warning: {harness} loads SyscallCapture itself: its own options hold", err=True)
    elif not recorded.plugins:
        typer.echo(f"capture: warning: {harness} has run no guest: nothing was recorded", err=True)
    raise typer.Exit(status)


def _profile(given: str, kernel: Path) -> Profile | None:
    """The profile to use: the one given, or one made from the kernel, or none with a warning."""
    if given == "none":
        return None
    try:
        if given not in PROFILES:
            return Profile.load(Path(given))
        profile = profile_of(kernel)
        return profile if given == "auto" else profile.without_offsets()
    except ProfileError as error:
        if given not in PROFILES:
            raise fail(str(error)) from None
        typer.echo(f"capture: warning: {error}", err=True)
        return None


def _capture(machine: Machine, options: Mapping[str, object], timeout: float | None) -> None:
    """Boot, record, seal, and say what was recorded. PANDA's own chatter goes to stderr."""
    out = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        panda = boot(machine)
    except (ImportError, OSError) as error:
        raise _no_panda(error) from None
    from capture.plugin import SyscallCapture

    try:
        panda.pyplugins.load(SyscallCapture, options)
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    plugin = panda.pyplugins.plugins["SyscallCapture"]
    began = time.monotonic()
    with live_line(plugin.recorder) as hide:

        def give_up() -> None:
            plugin.close()
            hide()
            typer.echo("capture: warning: PANDA did not stop, and was ended; all that was recorded is sealed", err=True)
            os._exit(_conclude(plugin, options, time.monotonic() - began, out, by_itself=False))

        by_itself = run(panda, timeout, give_up)
    seconds = time.monotonic() - began
    plugin.close()
    ignore_signals()
    if status := _conclude(plugin, options, seconds, out, by_itself):
        raise typer.Exit(status)


def _conclude(plugin: SyscallCapture, options: Mapping[str, object], seconds: float, out: int, by_itself: bool) -> int:
    """Say what was recorded, on ``out``. Gives the exit status."""
    recorder = plugin.recorder
    totals = recorder.totals()
    text = (
        f"captured {totals['events']:,} events in {seconds:.1f} s ({totals['events'] / seconds:,.0f}/s), "
        f"{totals['strings']:,} strings, {recorder.segments} segments in {options['outdir']}"
        f"{'' if by_itself and not plugin.is_full else ' (stopped before the guest ended)'}"
    )
    os.write(out, (text + "\n").encode())
    return int(_warn(plugin))


def _no_panda(error: Exception) -> typer.Exit:
    """PANDA cannot be loaded: one line, and the exit to raise."""
    hint = "install pandare and PANDA's libraries, or see scripts/lab-panda --help"
    return fail(f"PANDA cannot be loaded ({error}); {hint}")


def _warn(plugin: SyscallCapture) -> bool:
    """Say what a capture could not keep. Gives whether some of it could not be written."""
    recorder = plugin.recorder
    totals = recorder.totals()
    told = [f"{name} {totals[name]:,}" for name in ("dropped", "unstored", "filtered", "errors") if totals[name]]
    if told:
        typer.echo(f"capture: warning: {', '.join(told)}", err=True)
    if plugin.backend.trouble:
        typer.echo(f"capture: warning: {plugin.backend.trouble}", err=True)
    if plugin.is_full:
        typer.echo("capture: warning: the guest was stopped at --max-size", err=True)
    if recorder.failure and recorder.is_whole:
        typer.echo(f"capture: warning: could not write for a while: {recorder.failure}", err=True)
    elif recorder.failure:
        fail(f"could not write: {recorder.failure}; what is there decodes with its live files")
    return bool(recorder.failure) and not recorder.is_whole
