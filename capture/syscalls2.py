"""The syscalls2 back end: PANDA's own plugin calls at every syscall's entry; a hook shows its return."""

from __future__ import annotations

from typing import Any

from capture.backend import Backend
from capture.returns import Returns
from capture.segment import EventFlag

_ERROR = int(EventFlag.ERROR)
_LOW = 0xFFFFFFFF
_INT_0X80 = 2  # bytes of the instruction


class Syscalls2(Backend):
    """Sees calls on every architecture, also without a profile. Loads PANDA's plugin."""

    name = "syscalls2"

    def __init__(self, panda: Any, *parts: Any) -> None:
        """Load syscalls2 and register with it; takes what `Backend` takes."""
        super().__init__(panda, *parts)
        self._number, self._ret = self._abi.number, self._abi.ret
        self._error, self._sixth_at = self._abi.error, self._abi.sixth_at
        panda.load_plugin("syscalls2")
        panda.ppp("syscalls2", "on_all_sys_enter2", name=f"sysreel_enter_{id(self)}")(self._entered)
        self._returns = Returns(panda, self._returned)

    def _entered(self, cpu: Any, pc: int, info: Any, context: Any) -> None:
        """PANDA's on_all_sys_enter2: the guest is about to execute its syscall instruction."""
        if not self.enabled:
            return
        try:
            if self._cpu is None:
                self._start(cpu)
            words, asid, back = self._words, self._space[0] & self._space_mask, context.retaddr
            if self._compat and back <= _LOW and self._compat.takes(cpu, pc, back):
                return
            args = self._args(words)
            if self._sixth_at is not None and back != pc + _INT_0X80:
                args = (*args[:5], self._memory.word(cpu, words[self._sixth_at]) or 0)
            self._returns.watch(cpu, back)
            self.tracer.enter(self._task(cpu, asid), asid, back, words[self._number] & 0xFFFFFFFF, args)
        except Exception as error:  # pandare would stop the guest
            self._failed(error)

    def _returned(self, cpu: Any, block: Any, hook: Any) -> None:
        """The guest is at an instruction that follows a call: the task that is there has come back, or passes by."""
        if not self.enabled or self._cpu is None:
            return
        try:
            words, asid = self._words, self._space[0] & self._space_mask
            failed = self._error is not None and words[self._error] != 0
            self.tracer.leave(self._task(cpu, asid), asid, block.pc, words[self._ret], _ERROR if failed else 0)
        except Exception as error:  # as above
            self._failed(error)
