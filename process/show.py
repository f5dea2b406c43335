"""Rows as strace would print them: one line a call, made for whole frames at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from process.schema import ARGS
from process.strings import escape

COLUMNS: Final = (
    "name", "procname", "pid", "tid", "time_ns", "duration_ns", "retno", "retno_repr", "errno", "status", "mark",
    *(name for k in range(ARGS) for name in (f"arg{k}", f"arg{k}_repr")),
)  # fmt: skip
"""The columns that lines are made of."""

_RESET, _BOLD, _DIM, _RED, _GREEN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m"
_AT_FDCWD = -100 & 0xFFFFFFFF
_NOT_PRINTABLE = r"[\p{C}\p{Zl}\p{Zp}]"


@dataclass(frozen=True)
class Style:
    """How lines look.

    Attributes:
        clock: `none`, `time` (UTC) or `relative` (seconds since ``first_ns``).
        first_ns: Unix time of the first call.
        durations: Whether each line ends in the time that the call took.
        colour: Whether names and errors are coloured.
    """

    clock: str = "none"
    first_ns: int = 0
    durations: bool = False
    colour: bool = False


class Printer:
    """Turns frames into lines; knows the mark of the line before."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._mark: str | None = None

    def lines(self, frame: pl.DataFrame) -> pl.Series:
        """The text of each row, without a line end of its own; a new mark has a line before the row's.

        Args:
            frame: Rows with `COLUMNS`.
        """
        if frame.is_empty():
            return pl.Series(dtype=pl.String)
        frame = frame.with_columns(_printable(column) for column in frame if column.dtype != pl.Int64)
        mark = pl.col("mark")
        before = pl.Series([self._mark], dtype=pl.String).extend(frame["mark"][:-1])
        self._mark = frame["mark"][-1]
        begins = mark.is_not_null() & mark.ne_missing(pl.col("before"))
        head = pl.when(begins).then(pl.concat_str(pl.lit("--- mark: "), mark, pl.lit("\n"))).otherwise(pl.lit(""))
        line = pl.concat_str(head, self._clock(), self._task(), self._call(), self._result(), self._duration())
        return frame.with_columns(before=before).select(line).to_series()

    def _clock(self) -> pl.Expr:
        if self._style.clock == "time":
            moment = pl.from_epoch("time_ns", "ns").dt.strftime("%H:%M:%S%.6f ")
        elif self._style.clock == "relative":
            micros = (pl.col("time_ns") - self._style.first_ns) // 1000
            seconds = (micros // 1_000_000).cast(pl.String).str.pad_start(6)
            moment = pl.concat_str(seconds, pl.lit("."), (micros % 1_000_000).cast(pl.String).str.zfill(6), pl.lit(" "))
        else:
            moment = pl.lit("")
        return moment

    def _task(self) -> pl.Expr:
        """`[7 sh] `, and `[7/9 sh] ` for a thread that is not its process's first."""
        pid, tid = pl.col("pid").cast(pl.String), pl.col("tid").cast(pl.String)
        number = pl.when(pl.col("pid") == pl.col("tid")).then(pid).otherwise(pl.concat_str(pid, pl.lit("/"), tid))
        text = pl.concat_str(pl.lit("["), number.fill_null("-"), pl.lit(" "), pl.col("procname"), pl.lit("] "))
        return self._coloured(text, _DIM)

    def _call(self) -> pl.Expr:
        arguments = pl.concat_str([_argument(k) for k in range(ARGS)], separator=", ", ignore_nulls=True)
        name = self._coloured(pl.col("name").str.strip_prefix("sys_"), _BOLD)
        return pl.concat_str(name, pl.lit("("), arguments, pl.lit(")"))

    def _result(self) -> pl.Expr:
        """`= 3`, `= 0x7f00…` for what looks like an address, `= -1 ENOENT (No such file or directory)`, `= ?`."""
        value = pl.col("retno")
        plain = pl.when(value.abs() < 1 << 22).then(value.cast(pl.String)).otherwise(pl.col("retno_repr"))
        why = pl.col("retno_repr").str.replace(r"^([A-Z0-9]+)\(", " $1 (")
        failed = self._coloured(pl.concat_str(pl.lit("-1"), why), _RED)
        pending = self._coloured(pl.concat_str(pl.lit("? <"), pl.col("status"), pl.lit(">")), _GREEN)
        shown = (
            pl.when(pl.col("status") != "returned").then(pending)
            .when(pl.col("errno").is_not_null()).then(failed)
            .otherwise(plain)
        )  # fmt: skip
        return pl.concat_str(pl.lit(" = "), shown)

    def _duration(self) -> pl.Expr:
        if not self._style.durations:
            return pl.lit("")
        micros = pl.col("duration_ns") // 1000
        fraction = (micros % 1_000_000).cast(pl.String).str.zfill(6)
        text = pl.concat_str(pl.lit(" <"), micros // 1_000_000, pl.lit("."), fraction, pl.lit(">"))
        return text.fill_null("")

    def _coloured(self, text: pl.Expr, colour: str) -> pl.Expr:
        return pl.concat_str(pl.lit(colour), text, pl.lit(_RESET)) if self._style.colour else text


def _argument(k: int) -> pl.Expr:
    """Strace's way to write what a repr says: no name, no address before a string, `3</etc/passwd>` for an fd."""
    text = pl.col(f"arg{k}_repr").str.replace(r"^[^=]*=", "")
    value = text.str.extract(r"^(0x[0-9a-f]+)", 1)
    rest = text.str.slice(value.str.len_chars())
    inner = rest.str.slice(1, rest.str.len_chars() - 2)
    number = pl.col(f"arg{k}").cast(pl.Int64)
    number = (
        pl.when(number & 0xFFFFFFFF == _AT_FDCWD).then(pl.lit("AT_FDCWD"))
        .when(number.abs() < 1 << 31).then(number.cast(pl.String))
        .otherwise(value)
    )  # fmt: skip
    return (
        pl.when(text == "[NULL]").then(pl.lit("NULL"))
        .when(rest == "").then(pl.when(pl.col(f"arg{k}").is_between(0, 9)).then(number).otherwise(value))
        .when(rest == "([???])").then(number)
        .when(rest.str.starts_with('("') | rest.str.starts_with("(['") | (rest == "([])")).then(inner)
        .when(rest.str.contains(r"^\((struct |union |ptr\))") | rest.str.starts_with("([")).then(value)
        .when(rest.str.starts_with("(")).then(pl.concat_str(number, pl.lit("<"), inner, pl.lit(">")))
        .otherwise(text)
    )  # fmt: skip


def _printable(column: pl.Series) -> pl.Series:
    """Text fit for a terminal: decoded rows always are; those of a foreign output are escaped here."""
    text: pl.Series = column.cast(pl.String)
    odd = text.str.contains(_NOT_PRINTABLE).fill_null(False)
    if not odd.any():
        return text
    safe = pl.Series([escape(value.encode("utf-8", "surrogatepass")) for value in text.filter(odd)], dtype=pl.String)
    text.scatter(odd.arg_true(), safe)
    return text
