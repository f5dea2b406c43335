"""32-bit programs on a 64-bit kernel: their calls, seen where the CPU enters the kernel.

syscalls2 (PANDA 0.1.1.5) does not show them: of a 64-bit x86 guest it passes over `int 0x80` and `sysenter`, takes a
32-bit program's `syscall` for a 64-bit one and never sees it come back; of aarch64 it does not know AArch32's `svc`.
So hooks are put on the CPU's own entry points, which the CPU itself names: the gate of interrupt 0x80 and the MSR
SYSENTER_EIP of x86, the vectors at VBAR_EL1 for exceptions out of AArch32. There the registers are still the program's.
This takes no symbol of the kernel and no profile, and costs native calls nothing.

On aarch64 it also keeps PANDA alive: its CPU state keeps the T bit of a Thumb program after the kernel has been
entered, and syscalls2 then takes the next program's 64-bit `svc` for a Thumb instruction, and aborts. The bit means
nothing in AArch64, and the way back to AArch32 sets it anew; so it is cleared at the vectors.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from capture.abi import COMPAT, I386, Abi
from capture.memory import GuestMemory
from capture.registers import words_of
from capture.returns import Returns
from capture.segment import ABI_NUMBERS
from capture.tracer import Args

_LOW = 0xFFFFFFFF
_MARK = 1 << 63
"""In a return address: that of a 32-bit call. Native code at the same place must not be taken for its return."""
_SVC_AARCH32 = 0x11  # exception class in ESR_EL1, Arm ARM D17.2.37
_FROM_AARCH32 = (0x600, 0x680, 0x700, 0x780)  # offsets of vectors: synchronous, IRQ, FIQ, SError (Arm ARM D1.3.1)
_INT_0X80 = 2  # bytes of the instruction
_GATE = struct.Struct(
    "<HHBBHI4x"
)  # an interrupt gate of 16 bytes: offset 0-15, selector, IST, type, offset 16-31, 32-63
_PRESENT_TO_USER = 0xE0  # bits of a gate's type: present, for ring 3
_STAR = 0x00230010  # upper half of MSR STAR as Linux sets it: __USER32_CS and __KERNEL_CS

Entered = Callable[[Any, int, int, Args], None]
"""(cpu, return address, number, arguments): a call was made. Numbers and addresses are marked with their ABI."""
Returned = Callable[[Any, int, int], None]
"""(cpu, return address, return register): the guest is where a call of this address comes back to."""


class Compat(ABC):
    """Sees the calls of a guest's 32-bit programs."""

    def __init__(self, panda: Any, memory: GuestMemory, abi: str, entered: Entered, returned: Returned) -> None:
        """Wait for the guest to set up its CPU, and hook where it enters the kernel.

        Args:
            panda: A ``pandare.Panda`` that does not run yet.
            memory: The guest's memory.
            abi: Name of the 32-bit ABI.
            entered: Told of calls. Must not raise, as the next.
            returned: Told of possible returns.
        """
        self.is_alone = False
        """Whether syscalls2 shows nothing of these calls, not even a 32-bit `syscall`."""
        self._panda, self._memory, self._entered, self._came_back = panda, memory, entered, returned
        self._abi = ABI_NUMBERS[abi] << 32
        self._vectors = Returns(panda, self._at_vector)
        self._returns = Returns(panda, self._at_return)
        self._waiting = f"sysreel_compat_{id(self)}"
        # The first programs of a 32-bit userland make no call that syscalls2 shows.
        panda.cb_asid_changed(name=self._waiting)(self._space_changed)

    def start(self, cpu: Any) -> None:
        """A program makes a call: all is set up by now."""
        if self._waiting:
            self._panda.disable_callback(self._waiting)
            self._waiting = ""
            self._space_changed(cpu, 0, 0)

    @abstractmethod
    def takes(self, cpu: Any, pc: int, back: int) -> bool:
        """Whether what syscalls2 shows as a native call at ``pc``, below 4 GiB, was a 32-bit program's."""

    @abstractmethod
    def _entry_points(self, cpu: Any) -> list[int]:
        """Where the CPU enters the kernel when a 32-bit program makes a call; none yet if that is not set up."""

    @abstractmethod
    def _at_vector(self, cpu: Any, block: Any, hook: Any) -> None:
        """The CPU has just left a program for the kernel."""

    @abstractmethod
    def _return_register(self, cpu: Any) -> int:
        """What a call has returned, at the instruction after it."""

    def _space_changed(self, cpu: Any, old: int, new: int) -> int:
        """PANDA's asid_changed: has the kernel set up the CPU's entry points?"""
        for address in self._entry_points(cpu):
            self._vectors.watch(cpu, address)
        return 0

    def _call(self, cpu: Any, back: int, number: int, args: Args) -> None:
        """A call was made; ``number`` is the register's low half."""
        if self._waiting:
            self.start(cpu)
        self._returns.watch(cpu, back)
        self._entered(cpu, back | _MARK, number | self._abi, args)

    def _at_return(self, cpu: Any, block: Any, hook: Any) -> None:
        """The guest is at an instruction that follows a 32-bit call, or at the same address in another program."""
        self._came_back(cpu, block.pc | _MARK, self._return_register(cpu))


class _OnX86(Compat):
    """i386 calls on an x86_64 kernel, also those that a 64-bit program makes by int 0x80."""

    def __init__(self, panda: Any, memory: GuestMemory, native: Abi, entered: Entered, returned: Returned) -> None:
        super().__init__(panda, memory, "i386", entered, returned)
        self._native, self._words = native, memoryview(bytearray(8)).cast("Q")
        self._registers: Callable[[Any], tuple[int, ...]] = itemgetter(*I386.args)
        self._sysenter = self._syscall = -1
        self._state: Any = None
        self._code = memoryview(b"\xff\xff\xff\xff").cast("I")
        """Flags of the code segment."""

    def takes(self, cpu: Any, pc: int, back: int) -> bool:
        """The vDSO's `syscall`: the kernel returns behind the `int 0x80` that follows it (vdso32/system_call.S)."""
        if self._code[0] >> 21 & 1:  # L: a segment of 64-bit code
            return False
        self._make(cpu, back + _INT_0X80, self._words[4])
        return True

    def _entry_points(self, cpu: Any) -> list[int]:
        ffi = self._panda.ffi
        self._state = ffi.cast(self._native.state, cpu.env_ptr)
        flags = ffi.addressof(self._state.segs[1], "flags")
        self._words, self._code = words_of(self._panda, self._native, cpu), memoryview(ffi.buffer(flags)).cast("I")
        gate = self._memory.block(cpu, self._state.idt.base + 0x80 * _GATE.size, _GATE.size)
        if gate is None:
            return []
        low, _, _, kind, middle, high = _GATE.unpack(gate)
        if kind & _PRESENT_TO_USER != _PRESENT_TO_USER or not high >> 31:
            return []
        self._sysenter = self._msr("sysenter_eip")
        self._syscall = self._msr("cstar") if self.is_alone else -1
        if self._waiting:
            if self._sysenter < 0:  # the gate is set up before the MSRs
                return []
            # There is no more to come, and a kernel that patches itself changes spaces thousands of times.
            self._panda.disable_callback(self._waiting)
            self._waiting = ""
        addresses = high << 32 | middle << 16 | low, self._sysenter, self._syscall
        return [address for address in addresses if address > 0]

    def _msr(self, register: str) -> int:
        """An MSR, by the name that the CPU's state has for it; -1 if it cannot be found.

        PANDA 0.1.1.5's own declaration of the CPU's state, as pandare has it, lacks the padding before ``xmm_regs``:
        what follows stands 8 bytes later than it says. STAR, of known contents, tells.
        """
        ffi, state = self._panda.ffi, self._state
        for shift in (0, 8):
            star, found = (
                ffi.cast("uint64_t *", ffi.cast("char *", ffi.addressof(state, name)) + shift)[0]
                for name in ("star", register)
            )
            if star >> 32 == _STAR:
                return int(found)
        return -1

    def _at_vector(self, cpu: Any, block: Any, hook: Any) -> None:
        """Interrupt 0x80 has put the return address on the kernel's stack; the vDSO, its caller's on the program's.

        `sysenter` keeps no address at all. Before it the vDSO pushes ecx, edx and ebp, and ebp points there. `syscall`
        keeps it in ecx, what was there is in ebp, and the stack is the program's.
        """
        words = self._words
        if block.pc == self._sysenter:
            back = self._memory.word(cpu, (words[5] & _LOW) + 12, 4)
            if back is not None:
                self._make(cpu, back, words[5])
        elif block.pc == self._syscall:
            self._make(cpu, (words[1] & _LOW) + _INT_0X80, words[4], words[5])
        else:
            back = self._memory.word(cpu, words[4], 8)
            if back is not None:
                a0, a1, a2, a3, a4, a5 = self._registers(words)
                args = a0 & _LOW, a1 & _LOW, a2 & _LOW, a3 & _LOW, a4 & _LOW, a5 & _LOW
                self._call(cpu, back, words[0] & _LOW, args)

    def _make(self, cpu: Any, back: int, sixth_at: int, second: int | None = None) -> None:
        """A call by the vDSO, whose sixth argument is on the program's stack."""
        words = self._words
        a0, a1, a2, a3, a4, _ = self._registers(words)
        a1 = a1 if second is None else second
        sixth = self._memory.word(cpu, sixth_at & _LOW, 4) or 0
        self._call(cpu, back, words[0] & _LOW, (a0 & _LOW, a1 & _LOW, a2 & _LOW, a3 & _LOW, a4 & _LOW, sixth))

    def _return_register(self, cpu: Any) -> int:
        return self._words[0] & _LOW


class _OnAarch64(Compat):
    """arm calls on an aarch64 kernel, made in ARM or in Thumb state."""

    def __init__(self, panda: Any, memory: GuestMemory, native: Abi, entered: Entered, returned: Returned) -> None:
        super().__init__(panda, memory, "arm", entered, returned)
        self._native = native
        self._state: Any = None
        self._words = self._low_words = memoryview(bytearray(8)).cast("Q")
        """The registers of AArch64, which has those of AArch32 in them once the kernel is entered, and of AArch32."""

    def takes(self, cpu: Any, pc: int, back: int) -> bool:
        """AArch32 code that looks like `svc` of AArch64 is no call (PANDA 0.1.1.5 goes by its four bytes alone)."""
        return self._state is not None and not self._state.aarch64

    def _entry_points(self, cpu: Any) -> list[int]:
        """With KPTI the kernel has other vectors while a program runs: both are here, and the CPU goes by one."""
        if self._state is None:
            self._state = self._panda.ffi.cast(self._native.state, cpu.env_ptr)
            self._words = words_of(self._panda, self._native, cpu)
            self._low_words = memoryview(self._panda.ffi.buffer(self._state.regs)).cast("I")
        base = self._state.cp15.vbar_el[1]
        return [base + offset for offset in _FROM_AARCH32] if base else []

    def _at_vector(self, cpu: Any, block: Any, hook: Any) -> None:
        state, words = self._state, self._words
        state.thumb = 0
        if block.pc & 0x7FF == _FROM_AARCH32[0] and state.cp15.esr_el[1] >> 26 == _SVC_AARCH32:
            a0, a1, a2, a3, a4, a5 = words[0:6]
            args = a0 & _LOW, a1 & _LOW, a2 & _LOW, a3 & _LOW, a4 & _LOW, a5 & _LOW
            self._call(cpu, state.elr_el[1], words[7] & _LOW, args)

    def _return_register(self, cpu: Any) -> int:
        return self._low_words[0]


def compat_of(panda: Any, native: Abi, memory: GuestMemory, entered: Entered, returned: Returned) -> Compat | None:
    """What sees the 32-bit programs of a guest of this ABI, if its kernel can have such."""
    kinds = {"i386": _OnX86, "arm": _OnAarch64}
    other = COMPAT.get(native.name)
    return kinds[other.name](panda, memory, native, entered, returned) if other else None
