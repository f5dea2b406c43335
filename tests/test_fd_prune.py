"""What a segment's net effect leaves out: all that no other segment asks for. `test_descriptors` has random ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fd_world import CHILD, NR, RETURNED, Event, write
from process import fd_prune, fd_state
from process.fd_lives import Lives
from process.fd_records import ALWAYS, CWD, LIFE, Life
from process.fd_state import Effect
from process.pool import Workers
from process.prepare import prepare
from segments import task
from test_descriptors import Names, decoded, run

pytestmark = pytest.mark.usefixtures("no_batching")

NEVER_BACK = (1 << 64) - 1


class Capture:
    """Events one after the other, ten ticks each."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.cuts: list[int] = []

    def call(self, who: int, name: str, *args: int, ret: int = 0, began: int | None = None, text: bytes = b"") -> None:
        """One that came back ten ticks after it began; without ``began`` just before."""
        now = 1000 + 10 * len(self.events)
        time = now - 10 if began is None else began
        strings: dict[str, bytes | tuple[bytes, int]] = {"a1": text} if text else {}
        self.events.append(Event(NR[name], args, ret, who, time, now - time, RETURNED, 0, strings))

    def enter(self, who: int, name: str, *args: int, flags: int = 0, ret: int = 0) -> None:
        """One that does not come back."""
        now = 1000 + 10 * len(self.events)
        self.events.append(Event(NR[name], args, ret, who, now, NEVER_BACK, flags, 0, {}))

    def open(self, who: int, fd: int) -> None:
        self.call(who, "openat", CWD & NEVER_BACK, 0x7100, 0, ret=fd, text=b"/%d/%d" % (who >> 32, fd))

    def fork(self, who: int, child: int) -> None:
        self.enter(task(child), "fork", flags=CHILD, ret=who)
        self.call(who, "fork", ret=child)

    def cut(self) -> None:
        self.cuts.append(len(self.events))

    def surveyed(self, folder: Path) -> list[Effect]:
        """The net effects, after they were put together."""
        return [survey.effect for survey in prepare([folder], Workers(1)).surveys]

    def names(self, folder: Path) -> Names:
        """The names shown, which must be the same in one segment."""
        found = decoded(self.events, folder / "cut", self.cuts)
        assert decoded(self.events, folder / "whole") == found
        return found


def changed(effect: Effect) -> list[tuple[int, int]]:
    """The processes and descriptors that an effect changes."""
    changes = effect.scan.changes
    return sorted(
        (holder >> 32, fd) for holder, fd in zip(changes["holder"].tolist(), changes["fd"].tolist(), strict=True)
    )


def test_what_a_process_has_when_it_ends_is_left_out(tmp_path: Path) -> None:
    capture = Capture()
    capture.open(task(1), 3)
    capture.cut()
    capture.call(task(1), "read", 3)
    capture.fork(task(1), 5)
    capture.open(task(5), 4)
    capture.call(task(5), "dup", 4, ret=5)
    capture.fork(task(5), 6)  # asks for 3, 4 and 5
    capture.open(task(5), 7)
    capture.call(task(5), "dup", 7, ret=8)
    capture.enter(task(5), "exit_group", 0)
    capture.open(task(6), 9)
    capture.cut()
    capture.call(task(6), "read", 5)
    capture.call(task(6), "read", 7, ret=-9)
    capture.fork(task(1), 5)  # the same number again
    capture.call(task(5), "read", 3)
    shown = capture.names(tmp_path)
    at = capture.cuts[1]
    assert [shown[seq] for seq in (at, at + 1, at + 4)] == [["/5/4"], [None], ["/1/3"]]
    _, effect, _ = capture.surveyed(tmp_path / "cut")
    assert changed(effect) == [(5, 4), (5, 5), (6, 9)]
    assert effect.scan.changes["since"].tolist() == effect.scan.changes["t0"].tolist()  # each stands for itself alone
    assert effect.exits == (capture.cuts[1] - 2,) and effect.gone_since > 1000 + 10 * capture.cuts[0]


def test_what_was_asked_for_by_what_is_kept_is_kept(tmp_path: Path) -> None:
    capture = Capture()
    capture.open(task(1), 3)
    capture.call(task(1), "dup", 3, ret=4)
    capture.call(task(1), "dup", 4, ret=5)
    for fd in (3, 4):
        capture.call(task(1), "close", fd)
        capture.call(task(1), "pipe2", 0x7200, 0, ret=-9)
    capture.cut()
    capture.call(task(1), "read", 5)
    assert capture.names(tmp_path)[capture.cuts[0]] == ["/1/3"]


def test_long_chains_of_sources_are_told_in_a_few_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    of_sources = fd_prune._Readers.of_sources

    def counted(*given: Any) -> Any:
        asked.append(len(given[-1]))
        return of_sources(*given)

    monkeypatch.setattr(fd_prune._Readers, "of_sources", counted)
    capture = Capture()
    capture.open(task(1), 3)
    for k in range(3000):
        old, new = (3, 4) if k % 2 == 0 else (4, 3)
        capture.call(task(1), "dup2", old, new, ret=new)
        capture.call(task(1), "close", old)
    capture.cut()
    capture.call(task(1), "read", 3)
    assert capture.names(tmp_path)[capture.cuts[0]] == ["/1/3"]
    assert max(asked) > 3000 and len(asked) < 100


def test_what_is_changed_again_is_left_out_with_what_it_asked_for(tmp_path: Path) -> None:
    capture = Capture()
    for _ in range(3):
        capture.open(task(1), 3)
        capture.call(task(1), "dup2", 3, 4, ret=4)
    capture.cut()
    capture.call(task(1), "read", 4)
    assert capture.names(tmp_path)[6] == ["/1/3"]
    effect, _ = capture.surveyed(tmp_path / "cut")
    assert changed(effect) == [(1, 3), (1, 4)]


@pytest.mark.parametrize("how", ["thread", "clone", "began before"])
def test_what_may_be_asked_for_after_the_end_of_a_process_is_kept(how: str, tmp_path: Path) -> None:
    capture = Capture()
    capture.open(task(1), 3)
    capture.cut()
    capture.call(task(1), "read", 3)
    capture.fork(task(1), 5)
    if how == "clone":
        capture.call(task(5), "clone", 0x10D00, ret=6)  # a thread of which nothing is seen yet
    if how == "thread":
        capture.call(task(5, 6), "read", 0)
    began = 995 if how == "began before" else None
    capture.call(task(5), "openat", CWD & NEVER_BACK, 0x7100, 0, ret=4, text=b"/f", began=began)
    capture.enter(task(5), "exit_group", 0)
    capture.cut()
    capture.call(task(5, 6), "read", 4, began=1000 + 10 * (len(capture.events) - 2) + 5)
    capture.names(tmp_path)
    effect = capture.surveyed(tmp_path / "cut")[1]
    assert (5, 4) in changed(effect) and not effect.exits


def test_who_seemed_to_have_one_thread_and_has_another_lacks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork's result is another's number in a namespace: it says that a process begins which was there before."""
    asked: list[int] = []
    read = fd_state.unpruned

    def unpruned(effects: Sequence[Effect]) -> None:
        asked.append(len(effects))
        read(effects)

    monkeypatch.setattr(fd_state, "unpruned", unpruned)
    capture = Capture()
    capture.open(task(5), 3)
    capture.call(task(5), "clone", 0x10D00, ret=6)
    capture.call(task(5, 6), "read", 3)
    capture.cut()
    capture.call(task(1), "read", 0)
    capture.call(task(1), "fork", ret=5)
    capture.open(task(5), 4)
    capture.enter(task(5), "exit_group", 0)
    capture.cut()
    capture.call(task(5, 6), "read", 4, began=1000 + 10 * (capture.cuts[1] - 2) + 5)
    write(capture.events, tmp_path / "cut", capture.cuts)
    effect = capture.surveyed(tmp_path / "cut")[1]
    assert asked == [3]
    assert (5, 4) in changed(effect) and not effect.exits
    capture.names(tmp_path)


def test_a_random_world_leaves_out_much(tmp_path: Path) -> None:
    """That nothing is missing is for `test_descriptors` to say."""
    write(run(1, shares=False, threads=False), tmp_path, [300, 600, 900])
    prepared = prepare([tmp_path], Workers(1))
    effects = [survey.effect for survey in prepared.surveys]
    assert any(effect.exits for effect in effects)
    left = [len(effect.scan.changes) for effect in effects]
    fd_state.unpruned(effects)
    assert sum(left) < 0.8 * sum(len(effect.scan.changes) for effect in effects)
    assert not any(effect.exits for effect in effects)


@pytest.mark.parametrize(("read", "lacks"), [(False, True), (True, False)])
def test_a_table_that_is_anothers_after_its_process_ended_may_be_asked_for(read: bool, lacks: bool) -> None:
    """Unless it was read whole before: then nothing from before counts."""
    steps = [
        (1, 10, 10, task(5), 77, 0, Life.IDENTITY),
        (2, 20, 20, task(5), 0, 0, Life.EXIT_GROUP),
        *([(3, 30, 30, 77, 3, 0, Life.SNAPSHOT)] if read else []),
        (4, 40, 40, task(9), 77, 0, Life.IDENTITY),
    ]
    lives = Lives(np.array(steps, LIFE), [(task(5), 10, 20), (task(9), 40, 50)], [], ALWAYS, frozenset({2}))
    assert lives.lacks is lacks
