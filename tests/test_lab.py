"""The lab: archives that cpio(1) reads, guests made once, stand-ins that load, errors that name the fix."""

from __future__ import annotations

import ctypes
import fcntl
import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lab import boot, compilers, cpio, debian, guest, machines, panda, standins, store, tools, workloads
from lab.store import ROOT, LabError

NOBODY = 65534
X86_64 = machines.machine("x86_64")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which the lab takes for its own."""
    monkeypatch.setenv("SYSREEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def downloaded(cache: Path) -> Path:
    """A cache in which a kernel and a busybox seem to have been fetched already."""
    home = guest.folder("x86_64")
    store.put(home / "vmlinuz", b"kernel")
    store.put(home / "busybox", b"busybox")
    return home


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `command`, and keep what it says."""
    env = {**os.environ, **environment}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env)


class TestCpio:
    ENTRIES = (
        cpio.folder("dev"),
        cpio.character_device("dev/console", 5, 1),
        cpio.character_device("dev/null", 1, 3, 0o666),
        cpio.file("deep/er/odd", b"not a multiple of four", 0o640),
        cpio.file("empty", b""),
        cpio.symlink("link", "deep/er/odd"),
    )

    @pytest.fixture(params=["cpio", "bsdcpio", "busybox"])
    def reader(self, request: pytest.FixtureRequest) -> list[str]:
        """An archive reader that is not ours; the lab's own busybox has one."""
        tool = shutil.which(request.param)
        kept = guest.folder("x86_64") / "busybox"
        if tool is None and request.param == "busybox" and kept.exists():
            kept.chmod(0o755)
            tool = str(kept)
        if tool is None:
            pytest.skip(f"no {request.param} here")
        return [tool, "cpio"] if request.param == "busybox" else [tool]

    def test_other_tools_list_the_same_members_modes_and_devices(self, reader: list[str], tmp_path: Path) -> None:
        listing = subprocess.run([*reader, "-itv"], input=cpio.archive(self.ENTRIES), capture_output=True).stdout
        rows = [line.split() for line in listing.decode().splitlines() if not line.endswith("blocks")]
        names = " ".join(row[-1] for row in rows)
        assert names == "dev dev/console dev/null deep deep/er deep/er/odd empty deep/er/odd"  # -> of the link
        assert [row[0] for row in rows] == [
            "drwxr-xr-x",
            "crw-------",
            "crw-rw-rw-",
            "drwxr-xr-x",
            "drwxr-xr-x",
            "-rw-r-----",
            "-rw-r--r--",
            "lrwxrwxrwx",
        ]

    def test_other_tools_unpack_the_same_bytes(self, reader: list[str], tmp_path: Path) -> None:
        plain = [entry for entry in self.ENTRIES if not stat.S_ISCHR(entry.mode)]  # nodes would need root
        subprocess.run([*reader, "-idm"], input=cpio.archive(plain), cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "deep/er/odd").read_bytes() == b"not a multiple of four"
        assert (tmp_path / "empty").read_bytes() == b""
        assert os.readlink(tmp_path / "link") == "deep/er/odd"

    def test_device_numbers_are_in_the_header(self) -> None:
        header = cpio.archive([cpio.character_device("console", 5, 1)])
        # magic; ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        assert fields[1] == stat.S_IFCHR | 0o600 and fields[9:12] == [5, 1, len("console") + 1]

    def test_same_entries_make_the_same_bytes(self) -> None:
        first = cpio.compressed(self.ENTRIES)
        assert first == cpio.compressed(self.ENTRIES)
        assert gzip.decompress(first) == cpio.archive(self.ENTRIES)

    @pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "", "."])
    def test_names_that_leave_the_root_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="bad member name"):
            cpio.archive([cpio.file(name, b"")])

    def test_a_member_with_two_contents_is_refused(self) -> None:
        with pytest.raises(ValueError, match="comes twice"):
            cpio.archive([cpio.file("a", b"1"), cpio.file("a", b"2")])


class TestStore:
    def test_an_interrupted_folder_leaves_the_old_one(self, tmp_path: Path) -> None:
        with store.staged(tmp_path / "made") as scratch:
            (scratch / "file").write_text("old")
        with pytest.raises(KeyboardInterrupt), store.staged(tmp_path / "made") as scratch:
            (scratch / "file").write_text("half of the new")
            raise KeyboardInterrupt
        assert (tmp_path / "made" / "file").read_text() == "old"
        assert os.listdir(tmp_path) == ["made"]

    def test_a_folder_replaces_an_old_one_whole(self, tmp_path: Path) -> None:
        for name in ("old", "new"):
            with store.staged(tmp_path / "made") as scratch:
                (scratch / name).touch()
        assert os.listdir(tmp_path / "made") == ["new"]

    def test_an_interrupted_file_leaves_the_old_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full_disk(descriptor: int) -> None:
            raise OSError("no space")

        store.put(tmp_path / "file", b"old")
        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space"):
            store.put(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]

    def test_only_one_holds_a_lock(self, cache: Path) -> None:
        with store.locked("panda"), open(cache / "panda.lock") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(cache / "panda.lock") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


class TestTables:
    @pytest.mark.parametrize("row", machines.TABLE.values(), ids=machines.TABLE)
    def test_machine_rows_are_complete(self, row: machines.Machine) -> None:
        assert row.arch and row.debian and row.kernel_package.startswith("linux-image-")
        assert row.os_version in ("linux-32-generic", "linux-64-generic")
        assert row.console.startswith("tty") and row.console != row.second_serial

    @pytest.mark.parametrize("arch", machines.TABLE)
    def test_the_wheel_has_an_emulator_for_each_machine(self, arch: str) -> None:
        try:
            panda.libpanda("x86_64")
        except LabError as error:
            pytest.skip(str(error))
        assert panda.libpanda(arch).stat().st_size > 1 << 20

    @pytest.mark.parametrize("job", workloads.TABLE.values(), ids=workloads.TABLE)
    def test_workload_sources_are_there(self, job: workloads.Workload) -> None:
        assert job.init.read_bytes().startswith(b"#!/bin/busybox sh\n")
        assert all(program.exists() for program in job.programs)

    def test_unknown_names_are_told_what_there_is(self) -> None:
        with pytest.raises(LabError, match=r"unknown architecture 'vax': the lab knows x86_64, i386, arm"):
            machines.machine("vax")
        with pytest.raises(LabError, match=r"unknown workload 'nap': there are demo, calls"):
            workloads.workload("nap")


class TestGuest:
    def test_a_second_run_makes_nothing(self, downloaded: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert guest.main(["--workload", "demo"]) == 0
        made = (downloaded / "demo.cpio.gz").stat()
        assert guest.main(["--workload", "demo"]) == 0
        assert (downloaded / "demo.cpio.gz").stat().st_ino == made.st_ino
        first, second = capsys.readouterr().out.splitlines()
        assert "made in" in first and "guests ready: demo" in second

    def test_a_newer_source_makes_it_anew_to_the_same_bytes(self, downloaded: Path) -> None:
        demo = workloads.workload("demo")
        guest.prepare(X86_64, [demo])
        first = (downloaded / "demo.cpio.gz").read_bytes()
        os.utime(downloaded / "demo.cpio.gz", (0, 0))
        assert not guest.is_ready(X86_64, demo)
        guest.prepare(X86_64, [demo])
        assert guest.is_ready(X86_64, demo)
        assert (downloaded / "demo.cpio.gz").read_bytes() == first

    def test_options_boot_it_and_send_its_ports_to_files(self, downloaded: Path) -> None:
        job = guest.guest("x86_64", "demo", "count=5")
        assert job.append == "console=ttyS0 nokaslr panic=-1 quiet cryptomgr.notests count=5"
        options = job.options(Path("console"), Path("second"))
        assert options[-4:] == ["-serial", "file:console", "-serial", "file:second"]
        assert options[options.index("-initrd") + 1] == str(downloaded / "demo.cpio.gz")

    def test_the_compilers_reason_is_one_line(
        self,
        downloaded: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        broken = tmp_path / "broken.c"
        broken.write_text("int main(void) { return missing; }\n")
        monkeypatch.setitem(workloads.TABLE, "demo", workloads.Workload("demo", "", (broken,)))
        if debian.missing(compilers.TABLE["x86_64"].packages):
            pytest.skip("no compiler here")
        assert guest.main(["--workload", "demo"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lab-guest: cannot compile broken.c: ") and "missing" in line
        assert not (downloaded / "demo.cpio.gz").exists()

    def test_the_list_names_every_workload(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert guest.main(["--list"]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(workloads.TABLE)


@pytest.mark.skipif(bool(debian.missing(panda.TOOLS)), reason="no binutils here")
class TestTools:
    def test_a_tool_comes_with_its_loader_and_all_libraries(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listing = run("ldd", shutil.which("readelf") or "").stdout
        libraries = [Path(word) for word in listing.split() if word.startswith("/")]

        def download(pattern: str, architecture: str, into: Path) -> Path:
            return into / pattern

        def unpack(package: Path, into: Path) -> None:
            (into / "bin").mkdir(parents=True, exist_ok=True)
            if package.name == "program":
                shutil.copy(shutil.which("readelf") or "", into / "bin" / "readelf")
            else:
                for library in libraries:
                    shutil.copy(library.resolve(), into / library.name)

        monkeypatch.setattr(debian, "download", download)
        monkeypatch.setattr(debian, "unpack", unpack)
        store.cache().mkdir()
        tools.fetch(tools.Tool("readelf", ("program", "libraries")), "amd64", tmp_path / "made")
        made = {entry.name for entry in tools.members(tmp_path / "made")}
        loader = next(path for path in libraries if "ld-linux" in path.name)
        assert {"bin/readelf", str(loader).lstrip("/")} <= made
        assert {f"lib/{path.name}" for path in libraries if path != loader} == {n for n in made if n.startswith("lib/")}
        with pytest.raises(LabError, match=r"none of the packages has .*\.so"):
            tools.fetch(tools.Tool("readelf", ("program",)), "amd64", tmp_path / "half")
        assert not (tmp_path / "half").exists()


class TestDebian:
    def test_the_newest_kernel_is_the_one_with_the_highest_numbers(self) -> None:
        names = [f"linux-image-6.1.0-{number}-cloud-amd64-unsigned" for number in (10, 9, 42)]
        assert debian.oldest_first(names) == [names[1], names[0], names[2]]

    @pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no dpkg here")
    def test_any_alternative_meets_a_need(self) -> None:
        needs = [("no-such-package", "dpkg"), ("no-such-package",)]
        assert debian.missing(needs) == [("no-such-package",)]

    def test_lists_that_are_too_old_to_install_by_are_fetched_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def apt(*words: str, folder: Path | None = None) -> None:
            asked.append(words[0])
            if "update" not in asked:
                raise LabError("apt-get install failed: E: Unable to correct problems, you have held broken packages.")

        monkeypatch.setattr(debian, "_apt", apt)
        monkeypatch.setattr(debian, "missing", list)
        monkeypatch.setattr(debian, "_known", lambda needs: [need[0] for need in needs])
        monkeypatch.setattr(shutil, "which", lambda name: name)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        debian.install([("some-package",)])
        assert asked == ["install", "update", "install"]

    def test_who_is_not_root_is_told_what_to_do(self) -> None:
        code = "from lab import panda; panda.LIBRARIES = (('no-such-package',),); exit(panda.main([]))"
        command = [str(Path(sys.executable).resolve()), "-c", code]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        folder = Path("/var/tmp", f"sysreel-lab-{os.getpid()}")  # pytest's own folders are root's alone
        folder.mkdir()
        folder.chmod(0o777)
        shutil.copytree(ROOT / "scripts" / "lab", folder / "lab")  # the checkout may be root's alone
        try:
            done = run(*command, PYTHONPATH=str(folder), SYSREEL_CACHE=str(folder / "cache"))
        finally:
            shutil.rmtree(folder)
        if "no apt-get" in done.stderr:
            pytest.skip("no apt here")
        assert done.returncode == 1
        wanted = "needs root to install: no-such-package; run as root or use scripts/demo --recorded"
        assert done.stderr == f"lab-panda: {wanted}\n"


@pytest.mark.skipif(bool(debian.missing(panda.TOOLS)), reason="no gcc here")
class TestStandins:
    def build(self, folder: Path, soname: str) -> Path:
        """A library, linked BIND_NOW against a function and an object of another, which is then lost."""
        gcc = ["gcc", "-shared", "-fPIC", "-x", "c"]
        (folder / "lost.c").write_text("int lost_object[4] = {1, 2, 3, 4}; int lost(void) { return 7; }\n")
        user = "extern int lost_object[4]; int lost(void); int use(void) { return lost() + lost_object[2]; }\n"
        (folder / "user.c").write_text(user)
        lost, library = folder / soname, folder / "libuser.so"
        assert run(*gcc, folder / "lost.c", f"-Wl,-soname,{soname}", "-o", lost).returncode == 0
        now: list[str | Path] = ["-x", "none", lost, "-Wl,-z,now"]
        assert run(*gcc, folder / "user.c", *now, "-o", library).returncode == 0
        lost.unlink()
        return library

    def test_a_library_loads_on_the_stand_ins_of_what_is_lost(self, tmp_path: Path) -> None:
        library = self.build(tmp_path, "libjpeg.so.99")
        with pytest.raises(OSError, match="libjpeg"):
            ctypes.CDLL(str(library))
        (tmp_path / "stubs").mkdir()
        assert standins.make(library, tmp_path / "stubs") == ["libjpeg.so.99"]
        code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).use())"
        done = run(sys.executable, "-c", code, library, LD_LIBRARY_PATH=str(tmp_path / "stubs"))
        assert (done.stdout, done.stderr) == ("0\n", "")

    def test_a_library_that_is_called_gets_no_stand_in(self, tmp_path: Path) -> None:
        library = self.build(tmp_path, "libglib-2.0.so.99")
        with pytest.raises(LabError, match=r"libpanda needs libglib-2\.0\.so\.99"):
            standins.make(library, tmp_path)


class TestPanda:
    def test_library_path_says_what_to_run_when_there_is_none(self, cache: Path) -> None:
        with pytest.raises(LabError, match="run scripts/lab-panda"):
            panda.library_path("x86_64")

    @pytest.mark.skipif(panda.loads("x86_64") is not None, reason="run scripts/lab-panda first")
    def test_a_second_run_makes_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert panda.main([]) == 0
        assert capsys.readouterr().out.startswith("PANDA for x86_64 ready: ")

    @pytest.mark.skipif(panda.loads("x86_64") is not None, reason="run scripts/lab-panda first")
    @pytest.mark.skipif(not guest.is_ready(X86_64, workloads.workload("calls")), reason="run scripts/lab-guest first")
    def test_a_guest_makes_its_calls_and_brings_the_truth_out(self, tmp_path: Path) -> None:
        outcome = boot.boot(guest.guest("x86_64", "calls"), [tmp_path / "console", tmp_path / "second"])
        assert outcome.finished and "exit status 0" in (tmp_path / "console").read_text()
        calls = [json.loads(line) for line in (tmp_path / "second").read_text().splitlines()]
        assert [call["index"] for call in calls] == list(range(len(calls))) and len(calls) >= 100
        assert len({call["pid"] for call in calls}) == 3 and len({call["tid"] for call in calls}) == 4
        (edge,) = (call for call in calls if call["strings"].get("1") == b"/tmp/at-the-edge".hex())
        assert int(edge["args"][1], 16) % 4096 == 4096 - len("/tmp/at-the-edge") - 1 and edge["errno"] == "ENOENT"
        (long_exec,) = (call for call in calls if len(call["lists"].get("1", [])) == 25)
        assert (long_exec["name"], long_exec["ret"]) == ("execve", 0)
        faults = [call for call in calls if call["errno"] == "EFAULT"]
        assert len(faults) >= 6 and not any(call["strings"].get("1") for call in faults if call["nr"] == 257)
