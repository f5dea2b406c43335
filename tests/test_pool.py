"""Workers: order, look-ahead, and what becomes of the others when one dies."""

import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from captures import write_capture
from decoding import losses
from printed import printed_by
from process.errors import ProcessError
from process.output import Format
from process.pipeline import decode
from process.pool import Failure, Workers
from workers import die_elsewhere, half_write, name_and_wait, square, square_of_whole, take_and_free


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items_and_failures_among_them(jobs: int) -> None:
    items = [3, -2, 1, -4, 2]
    with Workers(jobs) as workers:
        outcomes = list(workers.run(square, items))
    assert [outcome.item for outcome in outcomes] == items
    assert [outcome.result for outcome in outcomes] == [
        9,
        Failure("bad segment"),
        1,
        Failure("internal error, please report it: ZeroDivisionError: a bug"),
        4,
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_output_that_fails_ends_the_run(jobs: int) -> None:
    with Workers(jobs) as workers, pytest.raises(ProcessError, match="disk is full"):
        list(workers.run(square, [1, -3, 2]))


def test_a_killed_worker_takes_only_its_own_item_with_it() -> None:
    items = [1, 2, -1, 3, 4, -1, 5]
    with Workers(2) as workers:
        results = [outcome.result for outcome in workers.run(square, items)]
    killed = [index for index, result in enumerate(results) if isinstance(result, Failure)]
    assert killed == [2, 5]
    assert [result for result in results if not isinstance(result, Failure)] == [1, 4, 9, 16, 25]


def test_a_worker_killed_while_it_writes_a_result_takes_only_its_own_item_with_it() -> None:
    with Workers(2) as workers:
        outcomes = {outcome.item: outcome.result for outcome in workers.run(square_of_whole, range(9))}
    failure = outcomes.pop(3)
    assert isinstance(failure, Failure) and "was killed" in failure.reason
    assert outcomes == {item: item * item for item in range(9) if item != 3}


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_is_stopped_while_a_worker_writes_a_result_ends() -> None:
    before = signal.signal(signal.SIGALRM, stopped)
    try:
        with pytest.raises(KeyboardInterrupt), Workers(2) as workers:
            signal.setitimer(signal.ITIMER_REAL, 1.5)
            list(workers.run(half_write, [False, False, False]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_workers_are_kept_from_one_run_to_the_next() -> None:
    with Workers(2) as workers:
        pids = [{outcome.result for outcome in workers.run(name_and_wait, range(4))} for _ in range(2)]
    assert pids[0] == pids[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_while_a_worker_is_busy_no_other_thread_of_it_asks_for_the_interpreter() -> None:
    def switches(pid: int) -> dict[str, list[str]]:
        tasks = [path for path in Path(f"/proc/{pid}/task").iterdir() if int(path.name) != pid]
        return {path.name: re.findall(r"ctxt_switches:\s+(\d+)", (path / "status").read_text()) for path in tasks}

    with Workers(2) as workers:
        list(workers.run(name_and_wait, range(4)))
        assert workers._pool is not None
        pids = list(workers._pool._processes)
        before = {pid: switches(pid) for pid in pids}
        time.sleep(0.5)
        assert {pid: switches(pid) for pid in pids} == before
    assert len(before) == 2 and all(before.values())  # one waits for the parent's end


def held(pid: int) -> int:
    """MiB that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() >> 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_workers_at_rest_give_back_what_they_keep_of_a_batch() -> None:
    with Workers(2) as workers:
        list(workers.run(square, [1, 2]))
        assert workers._pool is not None
        pids = list(workers._pool._processes)
        until = time.monotonic() + 30
        kept = dict.fromkeys(pids, 0)
        while time.monotonic() < until and not all(kept.values()):
            done = {outcome.result: None for outcome in workers.run(take_and_free, [64] * 4)}
            kept |= {pid: held(pid) for pid in pids if pid in done}  # either may have done all
        assert all(kept.values())
        while time.monotonic() < until and any(held(pid) > kept[pid] - 50 for pid in pids):
            workers.rest()  # likewise
            time.sleep(0.05)
        assert all(held(pid) <= kept[pid] - 50 for pid in pids)


KINDS = ("began", "done")
SLOW = """
import os, pathlib, time
here = pathlib.Path(__file__).parent
(here / f"{os.getpid()}.began").touch()
time.sleep(0.3)
while (here / "hold").exists():
    time.sleep(0.01)
(here / f"{os.getpid()}.done").touch()
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that takes long to import, and says in the test's folder who has begun and is done.

    While there is a file `hold` in it, nobody is.
    """
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    return "slow_to_import"


def wait_until(condition: Callable[[], bool]) -> None:
    """Half a minute at most: what did not come by then is for the test to say."""
    until = time.monotonic() + 30
    while time.monotonic() < until and not condition():
        time.sleep(0.01)


def test_each_idle_worker_imports_a_module_no_more_at_a_time_than_leave_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    monkeypatch.setattr("process.pool.processors", lambda: 3)
    with Workers(3) as workers:
        pids = {outcome.result for outcome in workers.run(name_and_wait, range(6))}
        workers.load(slow)
        wait_until(lambda: len(list(tmp_path.glob("*.done"))) >= len(pids))
    began, done = ({int(path.stem): path.stat().st_mtime_ns for path in tmp_path.glob(f"*.{kind}")} for kind in KINDS)
    assert len(pids) == 3 and began.keys() == done.keys() == pids
    assert max(began.values()) >= min(done.values())  # the third waited for one of the others


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_workers_have_the_memory_at_hand_that_they_are_told_to_need() -> None:
    with Workers(2) as workers:
        list(workers.run(name_and_wait, range(4)))
        assert workers._pool is not None
        pids = list(workers._pool._processes)
        before = {pid: held(pid) for pid in pids}
        workers.load("json", room=64 << 20)
        wait_until(lambda: all(held(pid) >= before[pid] + 56 for pid in pids))
        assert len(pids) == 2 and all(held(pid) >= before[pid] + 56 for pid in pids)


def test_workers_that_have_something_to_do_leave_out_what_they_have_not_begun_to_get_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    monkeypatch.setattr("process.pool.processors", lambda: 2)
    hold = tmp_path / "hold"
    hold.touch()
    with Workers(3) as workers:
        list(workers.run(name_and_wait, range(6)))
        workers.load(slow)
        wait_until(lambda: any(tmp_path.glob("*.began")))
        list(workers.run(name_and_wait, range(6)))
        hold.unlink()
        wait_until(lambda: any(tmp_path.glob("*.done")))
        for _ in range(5):  # the next step would begin before these
            list(workers.run(name_and_wait, range(6)))
    assert len(list(tmp_path.glob("*.began"))) == len(list(tmp_path.glob("*.done"))) == 1


def test_workers_that_end_while_they_import_are_ended(slow: str) -> None:
    with Workers(2) as workers:
        list(workers.run(square, [1, 2]))
        workers.load(slow)
        workers.load("is_nowhere")
        workers.end()
        assert [outcome.result for outcome in workers.run(square, [1, 2, 3])] == [1, 4, 9]


def test_workers_that_were_dismissed_end_and_others_do_what_comes_later() -> None:
    with Workers(2) as workers:
        first = {outcome.result for outcome in workers.run(name_and_wait, range(4))}
        for _ in range(2):
            workers.dismiss()
        later = {outcome.result for outcome in workers.run(name_and_wait, range(4))}
        assert not first & later
        assert workers.memory > 0
        workers.dismiss()
    assert workers._pool is None


def test_an_error_after_workers_were_dismissed_is_raised_as_it_is() -> None:
    with pytest.raises(ProcessError, match="later"), Workers(2) as workers:
        assert [outcome.result for outcome in workers.run(square, [1, 2, 3])] == [1, 4, 9]
        workers.dismiss()
        raise ProcessError("later")


def test_workers_that_were_started_beforehand_do_the_work() -> None:
    with Workers(2) as workers:
        workers.begin("workers", 4)
        assert workers._pool is not None
        started = set(workers._pool._processes)
        assert len(started) == 2
        assert {outcome.result for outcome in workers.run(name_and_wait, range(4))} <= started


def test_what_a_worker_that_dies_was_asked_for_is_made_here() -> None:
    with Workers(2) as workers:
        list(workers.run(square, [1, 2, 3]))
        assert workers.ahead(die_elsewhere, os.getpid())() == "here"
        assert [outcome.result for outcome in workers.run(square, [1, 2, 3])] == [1, 4, 9]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_parent_does_something_else_once_workers_have_something_to_do(jobs: int) -> None:
    called: list[bool] = []
    with Workers(jobs) as workers:
        workers.meanwhile = lambda: called.append(workers._pool is not None)
        for _ in range(2):
            assert [outcome.result for outcome in workers.run(square, [1, 2, 3])] == [1, 4, 9]
    assert called == [jobs > 1]


@pytest.mark.parametrize(("jobs", "items"), [(1, 4), (2, 1), (2, 0)])
def test_no_worker_is_started_beforehand_that_would_have_nothing_to_do(jobs: int, items: int) -> None:
    with Workers(jobs) as workers:
        workers.begin("workers", items)
        assert workers._pool is None


def test_a_worker_that_dies_before_it_has_anything_to_do_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.syspath_prepend(tmp_path)  # spawn gives it to workers
    with Workers(2) as workers:
        workers.begin("deadly", 3)
        assert [outcome.result for outcome in workers.run(square, [1, 2, 3])] == [1, 4, 9]


def test_a_segment_that_kills_its_worker_is_named_and_the_others_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_capture(tmp_path / "caps")
    poison = tmp_path / "sitecustomize.py"
    poison.write_text(
        "import os, signal\n"
        "import process.read as read, process.sound as sound\n"
        "def deadly(way):\n"
        "    def look(part):\n"
        f"        if part.sealed.name == {paths[1].name!r}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return way(part)\n"
        "    return look\n"
        "read.join = deadly(read.join)\n"  # the name that `merge` imports, too
        "sound._bytes_of = deadly(sound._bytes_of)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parent.parent}")
    monkeypatch.setattr("process.batch.MOST", 2 * paths[0].stat().st_size + 100)  # two batches, for two workers
    summary = decode([tmp_path / "caps"], tmp_path / "a.parquet", Format.PARQUET, jobs=2)
    lost = losses(summary.ledger)
    assert [item for item in lost if item.startswith(f"{paths[1].name}: not read: the worker")]
    assert 62 in lost.values()
    assert summary.rows == (60 + 1) + (1 + 60) + (1 + 60 + 1)


def test_workers_do_not_outlive_their_parent() -> None:
    code = (
        "import os, signal\n"
        "from process.pool import Workers\n"
        "from workers import name_and_wait\n"
        "if __name__ == '__main__':\n"
        "    with Workers(2) as workers:\n"
        "        for outcome in workers.run(name_and_wait, range(8)):\n"
        "            print(outcome.result, flush=True)\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    worker = Path("/proc") / printed_by(code).split()[0]
    for _ in range(100):
        if not worker.exists():
            return
        time.sleep(0.1)
    pytest.fail("a worker is still there")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_workers_begin_with_signals_blocked_so_that_ctrl_c_finds_none_unprepared() -> None:
    """The first of a process, too: multiprocessing's resource tracker, which is started with it, unblocks them."""
    code = (
        "from pathlib import Path\n"
        "from process.pool import Workers\n"
        "from process.stopping import held\n"
        "from workers import square\n"
        "if __name__ == '__main__':\n"
        "    with Workers(1) as workers:\n"
        "        with held():\n"
        "            pool = workers._begin()\n"
        "            pool.submit(square, 2)\n"
        "        (pid,) = pool._processes\n"
        "        print(Path(f'/proc/{pid}/status').read_text())\n"
    )
    (blocked,) = [int(line.split()[1], 16) for line in printed_by(code).splitlines() if line.startswith("SigBlk:")]
    assert blocked >> signal.SIGINT - 1 & 1 and blocked >> signal.SIGTERM - 1 & 1
