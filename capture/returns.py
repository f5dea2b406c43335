"""Where calls come back to: a hook at every return address, for PANDA's plugin hooks.

syscalls2 (PANDA 0.1.1.5) has hooks of its own, but shows one return for each return address and address space. It
misses the parent's of vfork, execve's and sigreturn's on i386 and arm, and, since it takes all of aarch64's address
spaces for one and mips' change their number, those of calls during which another task made one at the same address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Returns:
    """Calls ``returned(cpu, block, hook)`` whenever the guest is at an address given to `watch`."""

    def __init__(self, panda: Any, returned: Callable[[Any, Any, Any], None], unseen: bool = False) -> None:
        """Prepare to hook.

        Args:
            panda: A ``pandare.Panda`` that does not run yet.
            returned: Must not raise.
            unseen: The guest has not been at any of the addresses yet. Then its code gets the hook when PANDA
                translates it, which costs all other code nothing; the usual kind keeps PANDA from chaining blocks.
        """
        ffi = panda.ffi
        panda.load_plugin("hooks")
        self._callback = ffi.callback("void(CPUState *, TranslationBlock *, struct hook *)", returned)
        self._hook = ffi.new("struct hook *")
        if unseen:
            self._hook.type = panda.libpanda.PANDA_CB_BEFORE_TCG_CODEGEN
            self._hook.cb.before_tcg_codegen = self._callback
        else:
            self._hook.type = panda.libpanda.PANDA_CB_START_BLOCK_EXEC
            self._hook.cb.start_block_exec = self._callback
        self._hook.km = panda.libpanda.MODE_ANY
        self._hook.asid = 0  # any
        self._hook.enabled = True
        self._add = panda.plugins["hooks"].add_hook
        self._seen: set[int] = set()

    def watch(self, address: int) -> None:
        """Hook an address that is not hooked yet."""
        if address not in self._seen:
            self._seen.add(address)
            self._hook.addr = address
            self._add(self._hook)
