"""What was decoded, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from process.calls import Call
from process.events import HIGH, Words
from process.fd_pieces import Made
from process.fd_timeline import Timeline
from process.grouping import group, union
from process.identify import State
from process.kernels_events import count_rows
from process.survey import NOBODY

Numbers = npt.NDArray[np.int64]

Process = tuple[int, int] | tuple[int | None, str, str | None, str]
"""Whose rows: a program's, by its index and -1; or, of a process of which the capture says nothing, its number and the
first sequence number of the stretch without gaps; or, where a task is an address space, ppid, procname, argv, source.
"""


@dataclass
class Count:
    """Rows of a process.

    Attributes:
        seq: First sequence number.
        time_ns: Its Unix time.
        events: How many.
        errors: Of these, calls that failed.
        tasks: Threads that made calls.
    """

    seq: int
    time_ns: int
    events: int = 0
    errors: int = 0
    tasks: set[int] = field(default_factory=set)

    def add(self, other: Count) -> None:
        """Count rows that come after those counted before."""
        self.events += other.events
        self.errors += other.errors
        self.tasks |= other.tasks


@dataclass
class Tally:
    """What was decoded.

    Attributes:
        rows: Rows of the output.
        errors: Of these, calls that failed.
        lost_strings: Arguments whose string is lost, of those that were asked for.
        unknown: Events of syscalls that no table has, by ABI and number.
        processes: Rows by process.
        files: What the batch gives the table `fd`, if that was asked for.
    """

    rows: int = 0
    errors: int = 0
    lost_strings: int = 0
    unknown: Counter[tuple[str, int]] = field(default_factory=Counter)
    processes: dict[Process, Count] = field(default_factory=dict)
    files: Made | None = None

    def add_process(self, process: Process, count: Count) -> None:
        """Count rows of a process that come after those counted before."""
        if process in self.processes:
            self.processes[process].add(count)
        else:
            self.processes[process] = Count(count.seq, count.time_ns, count.events, count.errors, set(count.tasks))

    def add_calls(self, calls: list[Call]) -> None:
        """Count events of unknown calls."""
        for call in calls:
            if not call.target.is_known:
                self.unknown[call.abi, call.target.number] += len(call.rows)

    def add_processes(
        self, state: State, programs: Timeline, tasks: tuple[Words, Numbers], knows_pid: npt.NDArray[np.bool_],
        identity: Numbers, failed: npt.NDArray[np.bool_], sequences: Numbers, times: Numbers,
    ) -> None:  # fmt: skip
        """Count the rows of a slice by process.

        Args:
            state: Has the identities, and where stretches without gaps start.
            programs: Which program each process runs.
            tasks: The distinct tasks, and for each row an index into them.
            knows_pid: Of each row, whether its task has numbers.
            identity: Of each row, an index into the identities; -1 for none.
            failed: Of each row, whether the call failed.
            sequences: Of each row, ascending.
            times: Unix time of each row, ns.
        """
        cuts = union(programs.times, state.runs)
        cuts = cuts[(cuts > sequences[0]) & (cuts <= sequences[-1])]
        starts = np.searchsorted(sequences, cuts)  # of stretches in each of which each process runs one program
        distinct, of_row = tasks
        stretch = np.repeat(np.arange(len(cuts) + 1), np.diff(starts, prepend=0, append=len(sequences)))
        which, size = of_row * (len(cuts) + 1) + stretch, len(distinct) * (len(cuts) + 1)
        if not knows_pid.all():
            _, which = group(which * 2 + knows_pid)
            found, which = group(which * (len(state.identities) + 1) + np.where(knows_pid, -1, identity) + 1)
            size = len(found)
        elif size > len(which):
            found, which = group(which)
            size = len(found)
        events, errors, firsts = count_rows(which, failed, size)
        first = np.sort(firsts[events > 0])
        order = which[first]
        keys = self._keys(state, programs, distinct[of_row[first]], knows_pid[first], identity[first], sequences[first])
        for key, row, at in zip(keys, first.tolist(), order.tolist(), strict=True):
            count = Count(
                int(sequences[row]), int(times[row]), int(events[at]), int(errors[at]), {int(distinct[of_row[row]])}
            )
            self.add_process(key, count)

    def _keys(
        self, state: State, programs: Timeline, tasks: Words, knows_pid: npt.NDArray[np.bool_], identity: Numbers,
        sequences: Numbers,
    ) -> list[Process]:  # fmt: skip
        """Whose some rows are."""
        pids = tasks >> HIGH
        move = programs.index(pids, sequences)
        starts = np.append(0, state.runs)
        run = starts[np.searchsorted(state.runs, sequences, "right")]
        since = np.append(programs.times, -1)[move]
        keys: list[Process] = []
        for pid, known, index, at, start, begun in zip(
            pids.tolist(), knows_pid.tolist(), identity.tolist(), move.tolist(), run.tolist(), since.tolist(),
            strict=True,
        ):  # fmt: skip
            if not known:
                one = state.identities[index] if index >= 0 else NOBODY
                keys.append((one.ppid, one.procname, one.argv, one.source))
            else:
                keys.append((int(programs.nodes[at]), -1) if begun >= start else (pid, start))
        return keys
