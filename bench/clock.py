"""The clock of a core, measured: what the operating system calls its frequency is often a wish.

A chain of dependent multiplications takes a known number of cycles, whatever else the core could do
meanwhile; the time that it takes gives the cycles per second.
"""

import time
from collections.abc import Callable

from bench.yardstick import CLOCK, CLOCK_CYCLES, loops

TRIES = 100
"""The fastest counts: an interruption can only lengthen a chain."""


def measured_clock(now: Callable[[], float] = time.perf_counter) -> tuple[float | None, str]:
    """GHz of one busy core, or None and the reason."""
    chain = loops().get(CLOCK)
    if chain is None:
        return None, "the clock is measured on x86-64 with AVX2, by a loop that llvmlite assembles"
    best = float("inf")
    for _ in range(TRIES):
        started = now()
        chain()
        best = min(best, now() - started)
    return CLOCK_CYCLES / best / 1e9, ""
