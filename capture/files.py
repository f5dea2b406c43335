"""When file records are written: a table whole where it is first met, a descriptor when a call has made it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from capture.descriptors import Descriptors
from capture.recorder import Recorder


class FileRecords:
    """Records the tables and current folders of a guest's tasks.

    Its caller says where each thing was seen: the address of the task_struct that is current. Rows hold from the
    next event on, so a call's own event is recorded first.
    """

    def __init__(self, descriptors: Descriptors, recorder: Recorder) -> None:
        """Record what ``descriptors`` reads with ``recorder``."""
        self._descriptors, self._recorder = descriptors, recorder
        self._tables: dict[int, int] = {}
        """Process to the table that is on record for it in this live file."""
        self._folders: dict[int, int] = {}
        """Task to its fs_struct."""

    def forget(self) -> None:
        """Nothing is on record any more: a live file has begun."""
        self._tables.clear()
        self._folders.clear()

    def gone(self, pid: int) -> None:
        """A process has ended, or its table may have changed in ways that no event tells."""
        self._tables.pop(pid, None)

    def identified(self, cpu: Any, current: int, task: int, again: bool) -> int:
        """A task has been identified: record its table, unless a thread of its process has it, and its folder.

        Args:
            cpu: PANDA's CPU.
            current: Address of the task_struct.
            task: The number that its events carry.
            again: Whether a table that is on record is so no more (the task has executed a program).

        Returns:
            The table for the identity; 0 if the task has none.
        """
        reader, recorder, pid = self._descriptors, self._recorder, task >> 32
        table, folders = reader.table_of(cpu, current), reader.folders_of(cpu, current)
        if table and (again or self._tables.get(pid) != table):
            opened = reader.table(cpu, table)
            found = None if opened is None else reader.files(cpu, opened)
            if found is None:
                recorder.counts["unnamed"] += 1
                self._tables.pop(pid, None)
            else:
                recorder.counts["unnamed"] += sum(path is None for _, path, _ in found)
                recorder.files(table, found, snapshot=True)
                self._tables[pid] = table
        if folders:
            self._folders[task] = folders
            self._folder([task], reader.folder(cpu, folders))
        return table

    def made(self, cpu: Any, current: int, fds: Iterable[int]) -> None:
        """A call of the current task has made descriptors."""
        reader, recorder = self._descriptors, self._recorder
        address = reader.table_of(cpu, current)
        table = reader.table(cpu, address) if address else None
        if table is None:
            recorder.counts["unnamed"] += 1
            return
        for fd in fds:
            file = reader.file(cpu, table, fd)
            if file is not None:
                if file[1] is None:
                    recorder.counts["unnamed"] += 1
                recorder.file(address, *file)

    def moved(self, cpu: Any, current: int, task: int) -> None:
        """The current task has changed its folder, and that of all who share it."""
        folders = self._descriptors.folders_of(cpu, current)
        if folders:
            self._folders[task] = folders
            sharing = [other for other, theirs in self._folders.items() if theirs == folders]
            self._folder(sharing, self._descriptors.folder(cpu, folders))

    def _folder(self, tasks: Iterable[int], path: bytes | None) -> None:
        for task in tasks:
            self._recorder.counts["unnamed"] += path is None
            self._recorder.folder(task, path)
