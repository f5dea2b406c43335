"""A file that is put on the disk while it grows."""

from __future__ import annotations

import errno
from pathlib import Path
from threading import Event

import pytest

from process import flush
from process.flush import Flush


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
