"""How fast the machine is right now: things that never change, timed on as many threads as the device.

Two hyperthreads share a core, and a stranger may have the other one: what he leaves depends on what
he does, and what that means to a device depends on what *it* does. So there are two yardsticks, which
feel a neighbour differently, and `bench.compare` finds out how much of each a device feels; and a third
that hardly feels him, for the clock, which everything feels alike (docs/decisions/0063):

* **sha3**: hashlib's SHA3-256, some 3 scalar instructions per cycle: Python code and scalar
  instructions are slowed like it.
* **wide**: SHA and vector instructions with operands from memory, in a body as long as a miner's,
  too long for half of a cache of decoded instructions: vector code is slowed like it.
* **clock**: a chain of multiplications, each of which waits for the one before.

The last two only on x86-64 with AVX2, and with llvmlite, which assembles them.

hashlib gives the GIL back for inputs of more than 2,047 bytes and ctypes for every call, so the
threads really run side by side.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from miner.backends.thread_clock import thread_seconds

PIECE = bytes(3 << 16)
"""One call's input: long enough that the interpreter, and threads that hand on its lock, do not count."""

GROUPS = 1500
"""Groups of instructions in the body of the wide loop: some 30 KB of code."""

LINKS = 100
"""Multiplications in the body of the clock's loop: its own two instructions run beside them."""

CLOCK = "clock"
"""The yardstick that tells the clock and nothing else."""

CLOCK_TIMES = 5000
"""Bodies per pass of it."""

CLOCK_CYCLES = 3 * LINKS * CLOCK_TIMES
"""Cycles per pass: every x86-64 core since 2008 multiplies in 3 cycles (Agner Fog, Instruction tables)."""

Loop = Callable[[], object]
"""One pass, some 0.4 milliseconds."""


@cache
def loops() -> dict[str, Loop]:
    """The yardsticks that there are on this machine, by name."""
    found: dict[str, Loop] = {"sha3": lambda: hashlib.sha3_256(PIECE).digest()}
    try:
        from bench.loops import assembled
        from kernels.code_cache import cpu_features
    except ImportError:
        return found
    if "avx2" in cpu_features():
        wide = assembled(wide_body("sha" in cpu_features(), "avx512vl" in cpu_features()))
        found["wide"] = lambda: wide(1000)
        clock = assembled(["imulq $$3, %rax, %rax"] * LINKS)
        found[CLOCK] = lambda: clock(CLOCK_TIMES)
    return found


def wide_body(sha: bool, rotations: bool) -> list[str]:
    """What the wide loop executes: one addition per group, a rotation and a load per two, and SHA rounds."""
    rotate = "vprold $$7, %ymm{0}, %ymm{0}" if rotations else "vpsrld $$7, %ymm{0}, %ymm{0}"
    body = []
    for i in range(GROUPS):
        if i % 2 == 0:
            body.append(f"vmovdqa {32 * (i % 64)}($0), %ymm13")
        if sha:  # six chains, to hide the latency of four cycles
            body.append(f"sha256rnds2 %xmm0, %xmm13, %xmm{1 + i % 6}")
        body.append(f"vpaddd %ymm13, %ymm{7 + i % 6}, %ymm{7 + i % 6}")
        if i % 2:
            body.append(rotate.format(7 + (i + 3) % 6))
    return body


class Yardstick:
    """Measures passes of each loop per second of processor time, over all threads together."""

    def __init__(
        self,
        seconds: float,
        wall: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = thread_seconds,
        loops: Callable[[], dict[str, Loop]] = loops,
    ) -> None:
        """`seconds` of wall time per loop and measurement."""
        self._seconds, self._wall, self._processor = seconds, wall, processor
        self._loops = loops()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the loops, in the order of the figures."""
        return tuple(self._loops)

    def __call__(self, threads: int) -> tuple[float, ...]:
        """Passes per second of processor time, summed over the threads, now; of each loop."""
        if threads == 1:
            return tuple(self._one(None))
        pool = self._pools.setdefault(threads, ThreadPoolExecutor(threads, "yardstick"))
        start = threading.Barrier(threads)
        return tuple(map(sum, zip(*pool.map(self._one, [start] * threads), strict=True)))

    def _one(self, start: threading.Barrier | None) -> list[float]:
        if start:
            start.wait()
        return [self._speed(loop) for loop in self._loops.values()]

    def _speed(self, loop: Loop) -> float:
        wall, passes = self._wall, 0
        stop, began = wall() + self._seconds, self._processor()
        while passes == 0 or wall() < stop:
            loop()
            passes += 1
        return passes / max(self._processor() - began, 1e-9)

    def close(self) -> None:
        """End the threads."""
        for pool in self._pools.values():
            pool.shutdown()
