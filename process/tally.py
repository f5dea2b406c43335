"""What was decoded, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from process.calls import Call
from process.grouping import group
from process.identify import State

Numbers = npt.NDArray[np.int64]

Process = tuple[int | None, int | None, str, str | None, str]
"""pid, ppid, procname, argv, source."""


@dataclass
class Tally:
    """What was decoded.

    Attributes:
        rows: Rows of the output.
        errors: Of these, calls that failed.
        lost_strings: Arguments whose string is lost, of those that were asked for.
        unknown: Events of syscalls that no table has, by ABI and number.
        processes: First sequence number, its Unix time in ns, and number of rows.
    """

    rows: int = 0
    errors: int = 0
    lost_strings: int = 0
    unknown: Counter[tuple[str, int]] = field(default_factory=Counter)
    processes: dict[Process, tuple[int, int, int]] = field(default_factory=dict)

    def add_process(self, process: Process, seq: int, time_ns: int, events: int) -> None:
        """Count rows of a process that come after those counted before."""
        first, began, count = self.processes.get(process, (seq, time_ns, 0))
        self.processes[process] = first, began, count + events

    def add_calls(self, calls: list[Call]) -> None:
        """Count events of unknown calls."""
        for call in calls:
            if not call.target.is_known:
                self.unknown[call.abi, call.target.number] += len(call.rows)

    def add_processes(self, state: State, identity: Numbers, pids: Numbers, sequences: Numbers, times: Numbers) -> None:
        """Count the rows of a slice by process.

        Args:
            state: Has the identities.
            identity: Of each row, an index into them; -1 for none.
            pids: Of each row, -1 if not known.
            sequences: Of each row, ascending.
            times: Unix time of each row, ns.
        """
        distinct, which = group(pids)
        found, which = group(which * (len(state.identities) + 1) + identity + 1)
        counts = np.bincount(which, minlength=len(found))
        first = np.zeros(len(found), np.intp)
        first[which[::-1]] = np.arange(len(which))[::-1]
        for at in np.argsort(first).tolist():
            pid, index = divmod(int(found[at]), len(state.identities) + 1)
            one = state.identities[index - 1] if index else None
            who = (one.ppid, one.procname, one.argv, one.source) if one else (None, "[none]", None, "unknown")
            known = int(distinct[pid]) if distinct[pid] >= 0 else None
            row = first[at]
            self.add_process((known, *who), int(sequences[row]), int(times[row]), int(counts[at]))
