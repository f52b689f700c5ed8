"""How fast the machine is right now: SHA3 by hashlib, on as many threads as the device next to it.

Two hyperthreads share a core, and a core's clock depends on how many are busy. So a device that runs on
two threads is measured against a yardstick on two threads. hashlib gives the GIL back for inputs of
more than 2,047 bytes, so the threads really run side by side.

SHA3, because no CPU has instructions for it: it keeps the execution ports as busy as the devices do, so
a busy neighbour slows both alike. SHA-256 with SHA instructions, or MD5, wait for their own results most of
the time and do not feel him (docs/decisions/0061).
"""

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

PIECE = bytes(1 << 16)
"""One call's input: long enough that the interpreter does not count, some 150 microseconds."""


def processor_clock() -> Callable[[], float]:
    """This thread's own processor time, where that is told finely enough; on Windows it comes in 16 ms."""
    fine = time.get_clock_info("thread_time").resolution < 1e-4
    return time.thread_time if fine else time.perf_counter


class Yardstick:
    """Measures bytes hashed per second of processor time, over all threads together."""

    def __init__(
        self,
        seconds: float,
        wall: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] | None = None,
    ) -> None:
        """`seconds` of wall time per measurement."""
        self._seconds, self._wall, self._processor = seconds, wall, processor or processor_clock()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def __call__(self, threads: int) -> float:
        """Bytes per second of processor time, summed over the threads, now."""
        if threads == 1:
            return self._one(None)
        pool = self._pools.setdefault(threads, ThreadPoolExecutor(threads, "yardstick"))
        start = threading.Barrier(threads)
        return sum(pool.map(self._one, [start] * threads))

    def _one(self, start: threading.Barrier | None) -> float:
        if start:
            start.wait()
        sha3, wall, pieces = hashlib.sha3_256, self._wall, 0
        stop, began = wall() + self._seconds, self._processor()
        while pieces == 0 or wall() < stop:
            sha3(PIECE).digest()
            pieces += 1
        spent = self._processor() - began
        return pieces * len(PIECE) / max(spent, 1e-9)

    def close(self) -> None:
        """End the threads."""
        for pool in self._pools.values():
            pool.shutdown()
