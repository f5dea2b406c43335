"""A file that is put on the disk while it grows."""

from __future__ import annotations

import errno
from pathlib import Path
from threading import Event

import pytest

from process import flush
from process.flush import Aside, Flush


def test_what_is_under_way_is_waited_for_and_not_begun_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, synced = Event(), list[Path]()

    def wait(path: Path) -> None:
        may_end.wait()
        synced.append(path)

    monkeypatch.setattr(flush, "sync", wait)
    file = Flush(tmp_path)
    for _ in range(3):
        file.begin()
    may_end.set()
    file.end()
    assert synced == [tmp_path]
    file.begin()
    file.end()
    assert synced == [tmp_path] * 2


def test_a_disk_that_fails_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(flush, "sync", fail)
    file = Flush(tmp_path)
    file.begin()
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            file.end()
    with pytest.raises(OSError, match="Input/output error"):
        file.begin()


def test_what_is_done_aside_is_done_in_order_and_what_it_raises_is_raised(tmp_path: Path) -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Aside() as aside:
        for number in range(3):
            aside.do(done.append, number)
        aside.end()
        assert done == [0, 1, 2]
        aside.do(fail)
        aside.do(done.append, 3)
        with pytest.raises(OSError, match="Input/output error"):
            aside.end()
    assert done in ([0, 1, 2], [0, 1, 2, 3])
