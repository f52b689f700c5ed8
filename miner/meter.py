"""Counting: hash rates over several windows, and the time that a stop takes."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

RATE_WINDOWS = (10, 60, 900)
"""Seconds: what is happening now, what is steady, and what to believe."""


class Meter:
    """Hashes in one-second buckets over the longest window. One thread adds, any may read."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` counts seconds and never goes back."""
        self._clock = clock
        self._started = clock()
        self.total = 0
        # A ring that never changes its size, so that readers need no lock: (second, hashes in it).
        self._ring: list[tuple[int, int]] = [(-1, 0)] * max(RATE_WINDOWS)

    def add(self, hashes: int) -> None:
        """Hashes that have just been completed."""
        second = math.floor(self._clock())
        place = second % len(self._ring)
        bucket, count = self._ring[place]
        self._ring[place] = (second, count + hashes if bucket == second else hashes)
        self.total += hashes

    def rate(self, window: int) -> float:
        """H/s over the last `window` seconds, or since the start if that is less; 0.0 at the start."""
        now = self._clock()
        first = math.floor(now) - window + 1  # the oldest bucket that lies in the window as a whole
        span = now - max(first, self._started)
        counted = sum(count for second, count in list(self._ring) if second >= first)
        return counted / span if span > 0 else 0.0


@dataclass(frozen=True, slots=True)
class StopLatency:
    """Seconds from a new tip to the end of the last hash on the old one."""

    count: int
    median: float
    p99: float
    worst: float


class StopWatch:
    """Collects stop latencies; the last thousand count. The caller holds a lock."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=1000)
        self._count = 0

    def add(self, seconds: float) -> None:
        """One device has stopped `seconds` after the new tip arrived."""
        self._recent.append(seconds)
        self._count += 1

    def summary(self) -> StopLatency:
        """All zeros before the first stop."""
        ordered = sorted(self._recent)
        if not ordered:
            return StopLatency(0, 0.0, 0.0, 0.0)
        # The nearest rank: with fewer than 100 stops, p99 is the worst one.
        rank = math.ceil(0.99 * len(ordered)) - 1
        return StopLatency(self._count, ordered[len(ordered) // 2], ordered[rank], ordered[-1])
