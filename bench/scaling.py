"""How the rate grows with the number of threads, from pairs of scans a moment apart.             (pure)

Two threads on one core are not two cores, and in a virtual machine two processors may be either, from
one second to the next. So scans on one thread and on several take turns, 25 ms each, and beside them the
yardsticks tell what the machine gave to as many threads at that moment. Of the pairs in which it gave
as many times one as there are threads, the rate should be that many times one, too: what is missing
there the device has lost, and nobody else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median

from bench.results import Row
from bench.spread import Interval, median_interval
from bench.yardstick import CLOCK

FULL = 0.05
"""How far each yardstick may be from as many times one thread as there are threads, either way."""

FEWEST = 8
"""Pairs from which their median is shown."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A scan on one thread and one on several, close together."""

    rate: float
    """On several, as a multiple of the rate on one."""
    machine: tuple[float, ...]
    """The same of each yardstick; the clock's is left out."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """One number of threads against one thread."""

    threads: int
    pairs: tuple[Pair, ...]

    @property
    def interval(self) -> Interval:
        """Times one thread: the median of all pairs, with its 95 % interval."""
        return median_interval([pair.rate for pair in self.pairs])

    @property
    def machine(self) -> float | None:
        """The same of the yardsticks; None without any."""
        found = [geometric_mean(pair.machine) for pair in self.pairs if pair.machine]
        return median(found) if found else None

    @property
    def full(self) -> tuple[Pair, ...]:
        """The pairs in which the machine gave as many cores as there were threads, by every yardstick."""
        return tuple(pair for pair in self.pairs if pair.machine and all(map(self._is_full, pair.machine)))

    @property
    def rate_when_full(self) -> float | None:
        """Times one thread in those; None where there are too few of them."""
        return median(pair.rate for pair in self.full) if len(self.full) >= FEWEST else None

    def _is_full(self, times: float) -> bool:
        return abs(math.log(times / self.threads)) <= math.log(1 + FULL)


def scaling(rows: Sequence[Row]) -> list[Scaling]:
    """Each row of a sweep over threads against the first, which is on one thread; as they took turns."""
    return [Scaling(row.threads, tuple(_pairs(rows[0], row))) for row in rows]


def _pairs(one: Row, several: Row) -> list[Pair]:
    places = [place for place, name in enumerate(one.yardsticks) if name != CLOCK]
    pairs = []
    for first, other in zip(one.rounds, several.rounds, strict=False):
        ratios = [there / here for here, there in zip(first.scan_rates, other.scan_rates, strict=False)]
        machines = [
            tuple(there[place] / here[place] for place in places)
            for here, there in zip(first.yardsticks, other.yardsticks, strict=False)
        ] or [()] * len(ratios)
        pairs += [Pair(ratio, machine) for ratio, machine in zip(ratios, machines, strict=True)]
    return pairs
