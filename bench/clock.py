"""The clock of a core, measured: what the operating system calls its frequency is often a wish.

A chain of dependent multiplications and exclusive-ors takes a known number of cycles per link,
whatever else the core could do meanwhile; the time that it takes gives the cycles per second. Every
x86-64 core since 2008 multiplies 64 bits in 3 cycles and takes 1 for an exclusive-or (Agner Fog,
Instruction tables; uops.info).
"""

import platform
import time
from collections.abc import Callable

LINKS = 100_000
"""Length of the chain: about a tenth of a millisecond, so that some are never interrupted."""

TRIES = 300
"""The fastest counts: an interruption can only lengthen a chain."""

_CYCLES_PER_LINK = {"x86_64": 4, "AMD64": 4}


def measured_clock(now: Callable[[], float] = time.perf_counter) -> tuple[float | None, str]:
    """GHz of one busy core, or None and the reason."""
    cycles = _CYCLES_PER_LINK.get(platform.machine())
    if cycles is None:
        return None, f"no chain of known length for {platform.machine()} processors"
    try:
        import numba
    except ImportError:
        return None, "the clock is measured with numba, which is not installed"
    chain = numba.njit("uint64(uint64, uint64)", nogil=True)(_chain)
    best = float("inf")
    for seed in range(TRIES):
        started = now()
        chain(seed, LINKS)
        best = min(best, now() - started)
    return LINKS * cycles / best / 1e9, ""


def _chain(value, links):  # type: ignore[no-untyped-def]
    factor = 0x9E3779B97F4A7C15  # odd, so no bit is ever lost, and too long for shifts and adds
    for _ in range(links):
        value = (value * factor) ^ links
    return value
