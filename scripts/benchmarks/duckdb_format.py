"""DuckDB's way to the same rows: python duckdb_format.py RAW.parquet OUT.parquet THREADS. See `peers`."""

from __future__ import annotations

import sys

import duckdb

import errno_tables
from process import prototypes

_ARGS = 6


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Tables of calls and errors."""
    columns = ", ".join(f"name{k} VARCHAR, kind{k} VARCHAR" for k in range(_ARGS))
    connection.execute(f"CREATE TABLE calls (nr BIGINT, name VARCHAR, {columns})")
    rows = []
    for number, prototype in prototypes.load("x86_64").by_number.items():
        arguments = [(one.name, _kind(one.ctype, one.name)) for one in prototype.args]
        arguments += [("", "")] * (_ARGS - len(arguments))
        rows.append((number, prototype.name, *(word for pair in arguments for word in pair)))
    connection.executemany(f"INSERT INTO calls VALUES (?, ?{', ?, ?' * _ARGS})", rows)
    connection.execute("CREATE TABLE errors (retno BIGINT, errno VARCHAR, shown VARCHAR)")
    known = errno_tables.load("x86_64").by_number
    errors = [(-number, error.name, f"{error.name}({error.text})") for number, error in known.items()]
    connection.executemany("INSERT INTO errors VALUES (?, ?, ?)", errors)


def _kind(ctype: str, name: str) -> str:
    """What follows a value: `path`, a fixed text, or nothing."""
    if name == "fd":
        return "([???])"
    if "*" not in ctype:
        return ""
    if "char" in ctype:
        return "path"
    return f"({ctype.replace('*', '').replace('const', '').strip()})" if "struct" in ctype else "(ptr)"


def _repr(k: int) -> str:
    """The text of an argument."""
    shown = f"name{k} || '=0x' || lower(to_hex(arg{k}))"
    return f"""CASE WHEN arg{k} IS NULL THEN NULL
        WHEN kind{k} = 'path' THEN
            CASE WHEN arg{k} = 0 THEN name{k} || '=[NULL]' ELSE {shown} || '("' || coalesce(path, '') || '")' END
        WHEN kind{k} = '' THEN {shown}
        WHEN arg{k} = 0 AND kind{k} != '([???])' THEN name{k} || '=[NULL]'
        ELSE {shown} || kind{k} END AS arg{k}_repr"""


def main(raw: str, output: str, threads: str) -> None:
    """Format and write."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}")
    _prepare(connection)
    arguments = ", ".join(f"arg{k}, {_repr(k)}" for k in range(_ARGS))
    connection.execute(
        f"""COPY (
            SELECT id, name, procname, pid AS proc_id, raw.retno,
                coalesce(shown, '0x' || lower(to_hex(raw.retno))) AS retno_repr, {arguments},
                id - 1 AS seq, 'x86_64' AS abi, nr, pid, tid, time_ns, duration_ns, errno, 'returned' AS status, mark
            FROM read_parquet('{raw}') AS raw JOIN calls USING (nr) LEFT JOIN errors ON raw.retno = errors.retno
        ) TO '{output}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"""
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
