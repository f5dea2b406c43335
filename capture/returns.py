"""Where calls come back to: a hook at every return address, for PANDA's plugin hooks.

syscalls2 (PANDA 0.1.1.5) has hooks of its own, but shows one return for each return address and address space. It
misses the parent's of vfork, execve's and sigreturn's on i386 and arm, and, since it takes all of aarch64's address
spaces for one and mips' change their number, those of calls during which another task made one at the same address.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

_UNMAPPED = (1 << 64) - 1
_MOST = 2048
"""Hooks of the cheap kind: at each translation PANDA's plugin looks through those that the guest has yet to come to."""


def _handle(panda: Any, name: str) -> int:
    """The dlopen(3) handle of a plugin that is loaded."""
    return int(panda.ffi.cast("uintptr_t", panda.libpanda.panda_get_plugin_by_name(name.encode())))


class Returns:
    """Calls ``returned(cpu, block, hook)`` whenever the guest is at an address given to `watch`.

    The code there gets the hook when PANDA translates it, which costs all other code nothing. Code that has been
    translated before is thrown away: a program may have jumped to where a call comes back without making it. With
    more than `_MOST` addresses the others are compared with every block that begins.

    The plugin has PANDA keep the program counter up to date at each instruction, and with the first hook that is
    compared it has it leave off chaining blocks. Each makes a guest much slower, and hooks of these kinds need neither:
    both stay as they were. That holds also for the hooks that syscalls2 sets, since the plugin does it only once.
    """

    def __init__(self, panda: Any, returned: Callable[[Any, Any, Any], None]) -> None:
        """Prepare to hook.

        Args:
            panda: A ``pandare.Panda`` that does not run yet.
            returned: Must not raise.
        """
        self._panda = panda
        self._library = library = ctypes.CDLL(panda.libpanda_path)
        ways = [ctypes.c_bool.in_dll(library, name) for name in ("panda_update_pc", "panda_tb_chaining")]
        before = [way.value for way in ways]
        panda.load_plugin("hooks")
        for way, value in zip(ways, before, strict=True):
            way.value = value
        plugin = ctypes.CDLL("panda_hooks", handle=_handle(panda, "hooks"))
        ctypes.c_bool.in_dll(plugin, "first_tb_chaining").value = True  # as if it had turned chaining off already
        self._callback = panda.ffi.callback("void(CPUState *, TranslationBlock *, struct hook *)", returned)
        self._translated, self._compared = panda.ffi.new("struct hook *"), panda.ffi.new("struct hook *")
        self._translated.type = panda.libpanda.PANDA_CB_BEFORE_TCG_CODEGEN
        self._translated.cb.before_tcg_codegen = self._callback
        self._compared.type = panda.libpanda.PANDA_CB_START_BLOCK_EXEC
        self._compared.cb.start_block_exec = self._callback
        for hook in (self._translated, self._compared):
            hook.km = panda.libpanda.MODE_ANY
            hook.asid = 0  # any
            hook.enabled = True
        self._add = panda.plugins["hooks"].add_hook
        self._seen: set[int] = set()

    def watch(self, cpu: Any, address: int) -> None:
        """Hook an address that is not hooked yet."""
        if address not in self._seen:
            self._seen.add(address)
            hook = self._translated if len(self._seen) <= _MOST else self._compared
            hook.addr = address
            self._add(hook)
            self._translate_anew(cpu, address)

    def _translate_anew(self, cpu: Any, address: int) -> None:
        """Throw away the code that PANDA has made of what is at an address, as a debugger's breakpoint does."""
        place = self._panda.libpanda.panda_virt_to_phys_external(cpu, address)
        if place in (_UNMAPPED, -1):
            self._panda.libpanda.panda_do_flush_tb()
        else:
            space = ctypes.addressof(ctypes.c_char.in_dll(self._library, "address_space_memory"))
            self._library.tb_invalidate_phys_addr(ctypes.c_void_p(space), ctypes.c_uint64(place))
