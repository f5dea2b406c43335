"""The inline logger inside an emulator: what benchmarks/record.py runs for its ratio, in a process of its own.

Our own equivalent of the inline way: at each return of syscalls2 it asks OSI for the process, for the path behind a
descriptor and reads strings, formats the call, and inserts rows with SQLAlchemy, batch by batch. Without a kernelinfo
that osi_linux can use (it has none for aarch64) OSI is left out, and the logger is faster than it was.

usage: inline_guest.py ARCH KERNELINFO DATABASE -- OPTIONS_OF_QEMU...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pandare import Panda
from sqlalchemy import create_engine, insert

import errno_tables
from capture.abi import ABIS
from capture.profile import Profile
from inline_logger import BATCH, EMPTY, EVENT, SYSCALL, Base
from process import prototypes


class Logger:
    """Formats and inserts each call as it returns."""

    def __init__(self, panda: Any, abi: str, database: Path, osi: bool) -> None:
        """Register with syscalls2."""
        self._panda, self._ffi, self._osi = panda, panda.ffi, osi
        self._prototypes, self._errnos = prototypes.load(abi).by_number, errno_tables.load(abi).by_number
        self._engine = create_engine(f"sqlite:///{database}")
        Base.metadata.create_all(self._engine)
        self._rows: list[dict[str, Any]] = []
        self.count = 0
        panda.ppp("syscalls2", "on_all_sys_return2")(self.returned)

    def returned(self, cpu: Any, pc: int, info: Any, context: Any) -> None:
        """PANDA's on_all_sys_return2."""
        ffi, panda = self._ffi, self._panda
        self.count += 1
        row = dict(EMPTY, id=self.count, name="unknown", proc_id=0)
        process = panda.plugins["osi"].get_current_process(cpu) if self._osi else ffi.NULL
        if process != ffi.NULL:
            row["proc_id"] = process.pid
            row["procname"] = ffi.string(process.name).decode("utf8", "replace") if process.name != ffi.NULL else "?"
        prototype = self._prototypes.get(context.no)
        if prototype is not None:
            row["name"] = prototype.name
            for i, argument in enumerate(prototype.args):
                value = int(ffi.cast("uint64_t *", context.args[i])[0])
                row[f"arg{i}"] = value - (value >> 63 << 64)
                row[f"arg{i}_repr"] = f"{argument.name}={self._shown(cpu, process, argument, value)}"
        retno = panda.arch.get_retval(cpu, convention="syscall") & (1 << 64) - 1
        retno -= retno >> 63 << 64
        known = self._errnos.get(-retno)
        row["retno"], row["retno_repr"] = retno, f"{known.name}({known.text})" if known else f"{retno:#x}"
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            self.flush()

    def _shown(self, cpu: Any, process: Any, argument: Any, value: int) -> str:
        """An argument as text."""
        if "*" in argument.ctype:
            if value == 0:
                return "[NULL]"
            if "char" in argument.ctype:
                try:
                    return f'{value:#x}("{self._panda.read_str(cpu, value, 256)}")'
                except ValueError:
                    return f"{value:#x}([unreadable])"
            return f"{value:#x}({argument.ctype.replace('*', '').strip() if 'struct' in argument.ctype else 'ptr'})"
        if argument.name == "fd":
            path = self._ffi.NULL
            if process != self._ffi.NULL:
                path = self._panda.plugins["osi_linux"].osi_linux_fd_to_filename(cpu, process, value & 0x7FFFFFFF)
            return (
                f"{value:#x}({self._ffi.string(path).decode('utf8', 'replace') if path != self._ffi.NULL else '[???]'})"
            )
        return f"{value:#x}"

    def flush(self) -> None:
        """Insert what there is."""
        if self._rows:
            with self._engine.begin() as connection:
                connection.execute(insert(EVENT), self._rows)
                connection.execute(insert(SYSCALL), self._rows)
            self._rows.clear()


def main() -> None:
    """Boot and log."""
    arch, kernelinfo, database, _, *options = sys.argv[1:]
    group = Profile.load(Path(kernelinfo)).group  # must be the tail of os_version too
    panda = Panda(arch=arch, mem="256M", os_version=f"linux-64-{group}", extra_args=options)
    panda.load_plugin("syscalls2", {"load-info": True})
    osi = arch == "x86_64"
    if osi:
        panda.load_plugin("osi", {"disable-autoload": True})
        panda.load_plugin("osi_linux", {"kconf_file": kernelinfo, "kconf_group": group})
    logger = Logger(panda, ABIS[arch].name, Path(database), osi)
    panda.run()
    logger.flush()
    print(logger.count)


if __name__ == "__main__":
    main()
