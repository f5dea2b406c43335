"""Print the processes of a decoded capture, and a dozen of its rows: scripts/show_rows.py demo.sqlite."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Sequence

PROCESSES = """
    select procname, count(distinct proc_id), count(*), sum(errno is not null) from syscalls
    group by 1 order by 3 desc limit 10
"""
ROWS = """
    select proc_id, procname, substr(name, 5), arg0_repr, arg1_repr, arg2_repr, retno_repr from syscalls
    where id in (select min(id) from syscalls where name in
        ('sys_execve', 'sys_openat', 'sys_open', 'sys_newstat', 'sys_mount', 'sys_socket', 'sys_unlink', 'sys_rename',
         'sys_symlink', 'sys_chmod', 'sys_kill', 'sys_mmap', 'sys_wait4', 'sys_readlink', 'sys_exit_group')
        group by name, errno is null)
    order by id limit 12
"""


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="an SQLite file that process wrote")
    options = parser.parse_args(words)
    with sqlite3.connect(f"file:{options.output}?mode=ro", uri=True) as connection:
        print(f"\n{'process':32}{'pids':>6}{'calls':>8}{'errors':>8}")
        for name, pids, calls, errors in connection.execute(PROCESSES):
            print(f"{name[:31]:32}{pids:>6}{calls:>8}{errors:>8}")
        print()
        for pid, process, name, *args, ret in connection.execute(ROWS):
            text = ", ".join(arg for arg in args if arg is not None)
            print(f"{pid:>5} {process[:14]:15}{name}({text}) = {ret or '?'}"[:150])
    return 0


if __name__ == "__main__":
    sys.exit(main())
