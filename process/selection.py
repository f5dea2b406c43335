"""Which rows to look at: by process, call, result and time; the same rule for frames and for SQL."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import polars as pl

from errno_tables.tsv import TableError
from process import prototypes
from process.errors import ProcessError

USAGE = 2
"""Exit status of a wrong selection."""


@dataclass(frozen=True)
class Selection:
    """Conditions that a row must meet, all of them.

    Attributes:
        pids: Process or thread ids, any of them; empty for all.
        processes: Names of processes as shown, or their last path component; empty for all.
        calls: Names of syscalls, with `sys_`; empty for all.
        is_negated: Whether ``calls`` are those not wanted.
        errors: Only calls that failed.
        since: Earliest entry, Unix time in ns.
        until: Latest entry, likewise.
    """

    pids: tuple[int, ...] = ()
    processes: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    is_negated: bool = False
    errors: bool = False
    since: int | None = None
    until: int | None = None

    def expression(self) -> pl.Expr:
        """The conditions for frames of ``schema.SCHEMA``."""
        wanted = pl.lit(True)
        if self.pids:
            wanted &= pl.col("pid").is_in(self.pids) | pl.col("tid").is_in(self.pids)
        if self.processes:
            name = pl.col("procname").cast(pl.String)
            wanted &= name.is_in(self.processes) | name.str.extract(r"([^/]*)$").is_in(self.processes)
        if self.calls:
            called = pl.col("name").cast(pl.String).is_in(self.calls)
            wanted &= ~called if self.is_negated else called
        if self.errors:
            wanted &= pl.col("errno").is_not_null()
        if self.since is not None:
            wanted &= pl.col("time_ns") >= self.since
        if self.until is not None:
            wanted &= pl.col("time_ns") <= self.until
        return wanted

    def where(self) -> tuple[str, list[int | str]]:
        """The conditions as SQL with holes, and what goes into the holes."""
        parts, values = ["1"], list[int | str]()

        def any_of(column: str, found: Sequence[int | str]) -> str:
            values.extend(found)
            return f"{column} IN ({', '.join('?' * len(found))})"

        if self.pids:
            parts.append(f"({any_of('pid', self.pids)} OR {any_of('tid', self.pids)})")
        if self.processes:
            last = "substr(procname, length(rtrim(procname, replace(procname, '/', ''))) + 1)"
            parts.append(f"({any_of('procname', self.processes)} OR {any_of(last, self.processes)})")
        if self.calls:
            parts.append(f"{'NOT ' * self.is_negated}{any_of('name', self.calls)}")
        if self.errors:
            parts.append("errno IS NOT NULL")
        for bound, sign in ((self.since, ">="), (self.until, "<=")):
            if bound is not None:
                parts.append(f"time_ns {sign} ?")
                values.append(bound)
        return " AND ".join(parts), values


def parse_calls(texts: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """Strace's ``-e``: `open,close`, `trace=open`, `!read`.

    Returns:
        Names with `sys_`, and whether they are those not wanted.

    Raises:
        ProcessError: There is no such call on any ABI, or wanted and unwanted are mixed.
    """
    names: list[str] = []
    signs = set()
    for text in texts:
        rest = text.strip().removeprefix("trace=")
        signs.add(rest.startswith("!"))
        names += [name.strip() for name in rest.removeprefix("!").split(",")]
    if len(signs) > 1:
        raise ProcessError("-e: either calls that are wanted, or (with !) calls that are not", USAGE)
    known = _known_calls()
    found = []
    for name in names:
        full = name if name.startswith("sys_") else f"sys_{name}"
        having = [one for one in (full, full.replace("sys_", "sys_new", 1)) if one in known]  # stat is sys_newstat
        if not having and not full.startswith("sys_unknown_"):
            near = difflib.get_close_matches(full, known, 1)
            hint = f"; did you mean {near[0].removeprefix('sys_')}?" if near else ""
            raise ProcessError(f"-e: no ABI has a syscall {name!r}{hint}", USAGE)
        found += having or [full]
    return tuple(found), True in signs


def parse_time(text: str, first_ns: int) -> int:
    """A point in time: seconds after the first call, or a date and time in UTC.

    Args:
        text: `1.5`, `12:30:01.25` (on the day of the first call), `2026-11-22T12:30:01`.
        first_ns: Unix time of the first call.

    Returns:
        Unix time, ns.

    Raises:
        ProcessError: It is none of these.
    """
    try:
        return first_ns + round(float(text) * 1e9)
    except (ValueError, OverflowError):
        pass
    day = datetime.fromtimestamp(first_ns // 1_000_000_000, timezone.utc).date().isoformat()
    for candidate in (text, f"{day}T{text}"):
        try:
            moment = datetime.fromisoformat(candidate.removesuffix("Z"))
        except ValueError:
            continue
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    raise ProcessError(
        f"{text!r} is no time: give seconds after the first call (1.5) or a time in UTC (2026-11-22T12:30:01)", USAGE
    )


def _known_calls() -> set[str]:
    """Names of the calls of all ABIs that have a table."""
    folder = Path(prototypes.__file__).parent / "tables"
    return {prototype.name for abi in _abis(folder) for prototype in prototypes.load(abi).by_number.values()}


def _abis(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.tsv")):
        try:
            prototypes.load(path.stem)
        except TableError:
            continue  # a table of another kind
        yield path.stem
