"""`capture` with a guest that does not stop when it is told to, as under PANDA now and then.

usage: stuck_harness.py deaf|dead ARGUMENTS

deaf: Once the guest is busy, its CPU is no longer told that the emulator's main loop asks for its lock.
dead: Its CPU does nothing any more.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any
from unittest.mock import patch

from capture import cli
from capture.emulator import Machine, boot

AFTER = 1000
"""Events, so that there is something to keep."""
STUCK = "stuck_harness: from now on"


def stuck(machine: Machine, how: str) -> Any:
    """As `boot`."""
    panda, is_stuck = boot(machine), False

    @panda.cb_before_block_exec(enabled=False)  # type: ignore[untyped-decorator]  # pandare has no type information
    def lose(cpu: Any, block: Any) -> None:
        cpu.exit_request = 0

    @panda.cb_asid_changed  # type: ignore[untyped-decorator]
    def watch(cpu: Any, old: int, new: int) -> int:
        nonlocal is_stuck
        if not is_stuck and panda.pyplugins.plugins["SyscallCapture"].recorder.next_event > AFTER:
            is_stuck = True
            print(STUCK, file=sys.stderr, flush=True)
            if how == "dead":
                time.sleep(10_000)
            panda.enable_callback("lose")
        return 0

    return panda


if __name__ == "__main__":
    with patch.object(cli, "boot", partial(stuck, how=sys.argv.pop(1))):
        cli.command()
