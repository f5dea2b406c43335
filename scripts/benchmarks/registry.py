"""The parts of the benchmark, in the order in which they run. A new part is a module with a ``PART``, named here."""

from __future__ import annotations

from benchmarks import memory, peers, rates, record, scans, sizes, small
from benchmarks.part import Part

PARTS: tuple[Part, ...] = (
    rates.MIX,
    rates.ADVERSARIAL,
    scans.PART,
    *sizes.PARTS,
    peers.PART,
    small.PART,
    memory.PART,
    *record.PARTS,
)
