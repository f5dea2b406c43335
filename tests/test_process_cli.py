"""The command: messages of one line, exit statuses, and nothing left behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from capture.segment import MAJOR
from captures import write_capture
from process.app import app
from process.cli import VERBS, _may_tell
from segments import Builder

LOSS = 3


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    code = "from process.cli import main; main()"
    root = str(Path(__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip


def assert_lines(done: subprocess.CompletedProcess[str], status: int, *wanted: str) -> None:
    """The exit status is as said; stderr has only the command's own lines, the wanted among them."""
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    assert all(re.match(r"process: (error|warning): ", line) for line in lines), done.stderr
    for pattern in wanted:
        assert any(re.search(pattern, line) for line in lines), (pattern, done.stderr)


def one_segment(folder: Path, **options: int) -> Path:
    builder = Builder(**options)  # type: ignore[arg-type]
    builder.event()
    return builder.write(folder)


@pytest.mark.parametrize(
    ("words", "is_likely"),
    [
        ("caps -o all.parquet", True),
        ("caps --format=parquet -o all -j 16", True),
        ("caps", False),
        ("caps -o all.parquet -j 1", False),
        ("caps -o all.parquet --jobs=1", False),
        ("caps -o all.parquet -j1", False),
    ],
)
def test_polars_is_loaded_beforehand_where_footers_of_parquet_are_likely(
    words: str, is_likely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process.cli.processors", lambda: 2)
    assert _may_tell(words.split()) is is_likely
    monkeypatch.setattr("process.cli.processors", lambda: 1)
    assert not _may_tell(words.split())


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_alone_says_what_it_says_beside_the_others(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for made in (app(), app([verb])):
        with pytest.raises(SystemExit) as ended:
            made([verb, "--help"], prog_name="process")
        assert not ended.value.code
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert f"Usage: process {verb} " in shown[0]


def test_a_folder_alone_is_decoded_into_sqlite_here(tmp_path: Path) -> None:
    write_capture(tmp_path / "caps")
    done = run("caps", cwd=tmp_path)
    assert_lines(done, 0)
    assert (tmp_path / "caps.sqlite").exists()
    assert re.search(r"^244 syscalls of 3 processes, \d+ failed$", done.stdout, re.MULTILINE)
    assert re.search(r"^caps\.sqlite: [\d.]+ [KM]iB$", done.stdout, re.MULTILINE)
    assert sorted(os.listdir(tmp_path)) == ["caps", "caps.sqlite"]


@pytest.mark.parametrize(
    ("out", "options", "is_folder"),
    [
        ("a.db", (), False),
        ("a.sqlite", (), False),
        ("a.parquet", (), True),
        ("folder", (), True),
        ("a.any", ("--format", "sqlite"), False),
    ],
)
def test_the_suffix_picks_the_format(tmp_path: Path, out: str, options: tuple[str, ...], is_folder: bool) -> None:
    one_segment(tmp_path / "caps")
    done = run("decode", "caps", "-o", out, "--quiet", *options, cwd=tmp_path)
    assert_lines(done, 0)
    assert done.stdout == ""
    assert (tmp_path / out).is_dir() == is_folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("caps", "-o", "a.csv"), r"a\.csv: unknown suffix; use \.sqlite"),
        (("caps", "-o", "a.db", "--format", "parquet"), r"the suffix says sqlite, --format says parquet"),
        (("caps", "-o", "caps", "--force"), r"would replace an input"),
        (
            ("caps/cap-111111-000000.seg", "-o", "caps/cap-111111-000000.seg", "--format", "sqlite"),
            "replace an input",
        ),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    segment = one_segment(tmp_path / "caps")
    before = segment.read_bytes()
    assert_lines(run(*arguments, cwd=tmp_path), 2, message)
    assert segment.read_bytes() == before
    assert os.listdir(tmp_path) == ["caps"]


def test_wrong_options_are_usage_errors(tmp_path: Path) -> None:
    assert run("decode", "--nonsense", cwd=tmp_path).returncode == 2
    assert run("x", "-j", "0", cwd=tmp_path).returncode == 2
    assert run(cwd=tmp_path).returncode in (0, 2)


@pytest.mark.parametrize("verb", [(), ("decode",), ("info",), ("dump",)])
def test_every_help_has_examples(tmp_path: Path, verb: tuple[str, ...]) -> None:
    done = run(*verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert re.search(r"^  Examples:\n    process ", done.stdout, re.MULTILINE)


def test_nothing_decodable_is_a_failure_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.seg").write_text("no segment")
    newer = bytearray(one_segment(tmp_path / "new").read_bytes())
    newer[8] = MAJOR + 1
    (tmp_path / "new" / "cap-111111-000000.seg").write_bytes(newer)
    (tmp_path / "torn.seg").write_bytes(newer[:50])
    before = sorted(os.listdir(tmp_path))
    for verb in ("decode", "info"):
        assert_lines(run(verb, "empty", cwd=tmp_path), 1, r"error: \S*empty: no segments in this folder; give")
        assert_lines(run(verb, "missing", cwd=tmp_path), 1, r"error: \S*missing: no such file or folder")
        assert_lines(run(verb, "text.seg", cwd=tmp_path), 1, r"error: \S*text\.seg: not a sysreel segment")
        assert_lines(run(verb, "new", cwd=tmp_path), 1, r"error: .*newer than this sysreel reads.*upgrade")
        assert_lines(run(verb, "torn.seg", cwd=tmp_path), 1, r"error: \S*torn\.seg: truncated in its header")
    assert_lines(run("dump", "text.seg", cwd=tmp_path), 1, r"error: \S*text\.seg: not a sysreel segment")
    assert sorted(os.listdir(tmp_path)) == before


def test_a_bad_file_among_good_ones_is_named_and_the_rest_is_decoded(tmp_path: Path) -> None:
    write_capture(tmp_path / "caps")
    (tmp_path / "caps" / "bad.seg").write_text("no segment")
    done = run("caps", "-j", 2, cwd=tmp_path)
    assert_lines(done, LOSS, r"warning: loss: \S*bad\.seg: not a sysreel segment \(no magic at offset 0\)")
    assert done.stdout.startswith("244 syscalls")


def test_a_flipped_byte_costs_its_block_and_names_file_and_offset(tmp_path: Path) -> None:
    paths = write_capture(tmp_path / "caps")
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 2] ^= 0x10
    paths[1].write_bytes(data)
    done = run("caps", cwd=tmp_path)
    assert_lines(
        done,
        LOSS,
        rf"loss: {paths[1].name}: damaged at offset \d+ \(\d+ bytes\): (payload CRC mismatch|no sound)",
    )


def test_a_truncated_segment_is_decoded_as_far_as_it_goes(tmp_path: Path) -> None:
    paths = write_capture(tmp_path / "caps")
    paths[-1].write_bytes(paths[-1].read_bytes()[:-600])
    done = run("caps", cwd=tmp_path)
    assert_lines(done, LOSS, rf"{paths[-1].name}: damaged at offset \d+ .*(truncated block|no sound)", "tail unknown")
    assert int(done.stdout.split()[0]) > 3 * 60


def test_strict_turns_a_loss_into_a_failure_and_leaves_no_output(tmp_path: Path) -> None:
    write_capture(tmp_path / "caps")[1].unlink()
    done = run("caps", "--strict", cwd=tmp_path)
    assert_lines(done, 1, r"error: loss: events missing from capture \S+ \(61-122\): 62", "--strict was given")
    assert os.listdir(tmp_path) == ["caps"]
    assert_lines(run("caps", cwd=tmp_path), LOSS)


@pytest.mark.parametrize("out", ["a.sqlite", "a.parquet"])
def test_an_output_that_exists_is_kept_unless_forced(tmp_path: Path, out: str) -> None:
    one_segment(tmp_path / "caps")
    assert_lines(run("caps", "-o", out, cwd=tmp_path), 0)
    assert_lines(run("caps", "-o", out, cwd=tmp_path), 1, rf"error: {re.escape(out)}: exists; give --force")
    write_capture(tmp_path / "more")
    assert_lines(run("more", "-o", out, "--force", cwd=tmp_path), 0)
    assert "syscalls   244" in run("info", out, cwd=tmp_path).stdout
    assert sorted(os.listdir(tmp_path)) == sorted(["caps", "more", out])


def test_force_replaces_no_folder_of_other_things(tmp_path: Path) -> None:
    one_segment(tmp_path / "caps")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    done = run("caps", "-o", "home", "--force", cwd=tmp_path)
    assert_lines(done, 1, "home: holds files that process did not write")
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_an_output_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    one_segment(tmp_path / "caps")
    assert_lines(run("caps", "-o", "missing/a.sqlite", cwd=tmp_path), 1, r"missing: no such folder for the output")
    assert_lines(run("caps", "-o", "/proc/a.sqlite", cwd=tmp_path), 1, r"/proc.*cannot be written")
    assert_lines(run("caps", "-o", "/proc/a.parquet", cwd=tmp_path), 1, r"/proc.*cannot be written")


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("out", ["a.sqlite", "a.parquet"])
def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path, out: str, jobs: int) -> None:
    write_capture(tmp_path / "caps", events=3000)
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); from process.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "caps", "-o", out, "-j", str(jobs)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert_lines(done, 1, "cannot be written")
    assert os.listdir(tmp_path) == ["caps"]


def test_a_killed_emulator_is_told_and_no_loss(tmp_path: Path) -> None:
    builder = Builder()
    builder.event()
    builder.live(tmp_path / "caps")
    assert_lines(run("caps", cwd=tmp_path), 0, r"warning: \S+\.live: not sealed")


def test_unknown_syscalls_are_counted_and_no_loss(tmp_path: Path) -> None:
    builder = Builder()
    for _ in range(3):
        builder.event(9999)
    builder.write(tmp_path / "caps")
    done = run("caps", cwd=tmp_path)
    assert_lines(done, 0, r"warning: calls of x86_64 syscall 9999, which no table has: 3")


def test_lost_strings_are_counted(tmp_path: Path) -> None:
    builder = Builder()
    for _ in range(3):
        builder.event(257, 1, 2, strings=5)
    builder.write(tmp_path / "caps")
    assert_lines(run("caps", cwd=tmp_path), LOSS, r"loss: arguments whose string is lost: 3")


def test_dropped_events_are_a_loss(tmp_path: Path) -> None:
    builder = Builder(counters={"dropped": 2})
    builder.event()
    builder.write(tmp_path / "caps")
    assert_lines(run("caps", cwd=tmp_path), LOSS, r"loss: events dropped by capture: 2", r"missing from .*\(1-2\): 2")


@pytest.mark.parametrize("what", ["caps", "a.sqlite", "a.parquet"])
def test_info_tells_of_segments_and_outputs_alike(tmp_path: Path, what: str) -> None:
    paths = write_capture(tmp_path / "caps")
    paths[2].unlink()
    for out in ("a.sqlite", "a.parquet"):
        assert run("caps", "-o", out, cwd=tmp_path).returncode == LOSS
    done = run("info", what, cwd=tmp_path)
    assert_lines(done, LOSS)
    for wanted in (
        "1 capture, 3 segments, ",
        "syscalls   184",
        "time       2023-11-14 22:13:20.000000 UTC to 2023-11-14 22:13:20.000024 UTC",
        "cap-111111-000001.seg: x86_64, 62 syscalls, ",
        "processes (3)",
        "[kworker]",
        "read                 62  events missing from capture 11111111-2222-3333-4444-555555555555 (123-184)",
    ):
        assert wanted in done.stdout


def test_info_of_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 100)
    assert_lines(run("info", "a.sqlite", cwd=tmp_path), 1, "a.sqlite: not an output of process")


def test_dump_gives_the_raw_records(tmp_path: Path) -> None:
    builder = Builder()
    builder.task(argv=b"sh\0\xff\0")
    builder.mark(b"go")
    builder.event(257, 1, (1 << 64) - 1, ret=-2, strings=builder.set(a1=b"a\\\x00"), time=5)
    builder.write(tmp_path)
    done = run("dump", ".", cwd=tmp_path)
    assert_lines(done, 0)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    by_type = {line["type"]: line for line in lines}
    assert [line["type"] for line in lines] == [
        "segment", "string", "string", "string", "string", "set", "task", "mark", "event", "totals",
    ]  # fmt: skip
    assert by_type["segment"]["capture"] == str(builder.capture)
    assert [line["text"] for line in lines if line["type"] == "string"] == [
        "sh",
        "sh\\x00\\xff\\x00",
        "go",
        "a\\\\\\x00",
    ]
    assert by_type["set"] == {"type": "set", "id": 1, "strings": [0, 4, 0, 0, 0, 0]}
    assert by_type["event"] == {
        "type": "event", "seq": 0, "time_ns": 5, "duration_ns": 10, "task": 7 << 32 | 7,
        "args": [1, (1 << 64) - 1, 0, 0, 0, 0], "ret": (1 << 64) - 2, "nr": 257, "strings": 1, "flags": 1,
        "entry": 0,
    }  # fmt: skip
    assert by_type["task"]["comm"] == 1
    assert by_type["mark"] == {"type": "mark", "seq": 0, "text": 3}
    assert by_type["totals"]["sealed"] is True


def test_dump_tells_damage_and_goes_on(tmp_path: Path) -> None:
    paths = write_capture(tmp_path / "caps")
    data = bytearray(paths[0].read_bytes())
    data[200] ^= 1
    paths[0].write_bytes(data)
    done = run("dump", "caps", cwd=tmp_path)
    assert done.returncode == LOSS
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert types.count("damage") == 1
    assert types.count("segment") == 4


def test_a_decode_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    write_capture(tmp_path / "caps", segments=6, events=4000)
    code = "from process.cli import main; main()"
    running = subprocess.Popen(
        [sys.executable, "-c", code, "caps", "-j", "2"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    with running:
        while running.poll() is None and len(os.listdir(tmp_path)) == 1:
            pass
        running.terminate()
        _, stderr = running.communicate(timeout=60)
    assert (running.returncode, stderr) == (1, "process: error: stopped; nothing is left of the output\n")
    assert os.listdir(tmp_path) == ["caps"]
