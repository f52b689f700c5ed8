"""How much of what happens to the machine a device feels.                                    (pure)

A neighbour on the other hyperthread halves the speed of one program and hardly touches another. So
the speed of a device is taken to follow the yardsticks as

    log(rate) = constant of the run + sum(slope * log(yardstick))

with slopes that are the same in both runs of a comparison. They are estimated from how rate and
yardsticks move together *within* each run, by least squares with Huber's weights, for which a few wild
scans count little. Where nothing moves nothing can be estimated, and nothing needs to be: there the
slopes fall back to equal shares, what a mere change of clock would ask for.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

QUIET = 0.01
"""Standard deviation of a yardstick's logarithm, within a run, below which equal shares are believed rather
than the estimate."""

HUBER = 1.345
"""Standard deviations from which a residual counts less (Huber 1964; 95 % efficient for normal noise)."""

PASSES = 10
"""Of reweighting; the slopes settle after five."""


class Scan(NamedTuple):
    """One scan and its moment, in natural logarithms."""

    rate: float
    machine: tuple[float, ...]
    """Each yardstick beside it."""


Run = Sequence[Sequence[Scan]]
"""Rounds of scans."""


def slopes(runs: Sequence[Run]) -> tuple[float, ...]:
    """What each yardstick counts for the rate, the same in all runs."""
    groups = [[scan for timed in run for scan in timed] for run in runs]
    weights = [[1.0] * len(group) for group in groups]
    found: list[float] = []
    for _ in range(PASSES):
        found = _least_squares(groups, weights)
        weights = [_weights(group, found) for group in groups]
    return tuple(found)


def scan_median(scans: Sequence[Scan], felt: Sequence[float]) -> float:
    """The median of the rates, without what the device felt of the machine."""
    return median(_without(scan, felt) for scan in scans)


def _without(scan: Scan, felt: Sequence[float]) -> float:
    return scan.rate - sum(slope * speed for slope, speed in zip(felt, scan.machine, strict=True))


def _weights(group: Sequence[Scan], felt: Sequence[float]) -> list[float]:
    values = [_without(scan, felt) for scan in group]
    middle = median(values)
    # 1.4826: the standard deviation of a normal distribution, in median absolute deviations.
    sigma = 1.4826 * median(abs(value - middle) for value in values) or 1e-9
    return [min(1.0, HUBER * sigma / max(abs(value - middle), 1e-12)) for value in values]


def _least_squares(groups: Sequence[Sequence[Scan]], weights: Sequence[Sequence[float]]) -> list[float]:
    """Of deviations from each run's own mean, drawn to equal shares as if by scans that moved by `QUIET`."""
    yardsticks = len(groups[0][0].machine)
    places = range(yardsticks)
    drawn = QUIET**2 * sum(map(len, groups))
    left = [[drawn if i == j else 0.0 for j in places] for i in places]
    right = [drawn / yardsticks for _ in places]
    for group, heavy in zip(groups, weights, strict=True):
        mean = [_mean([scan.machine[i] for scan in group], heavy) for i in places]
        rate = _mean([scan.rate for scan in group], heavy)
        for weight, scan in zip(heavy, group, strict=True):
            moved = [speed - middle for speed, middle in zip(scan.machine, mean, strict=True)]
            for i in places:
                right[i] += weight * moved[i] * (scan.rate - rate)
                for j in places:
                    left[i][j] += weight * moved[i] * moved[j]
    return _solved(left, right)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _solved(left: list[list[float]], right: list[float]) -> list[float]:
    """Gauss's elimination; `left` is symmetric and positive definite, so it needs no pivoting."""
    rows = [[*row, value] for row, value in zip(left, right, strict=True)]
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            share = row[i] / pivot[i]
            row[i:] = [value - share * above for value, above in zip(row[i:], pivot[i:], strict=True)]
    found: list[float] = []
    for i in reversed(range(len(rows))):
        known = sum(value * x for value, x in zip(rows[i][i + 1 : -1], found, strict=True))
        found.insert(0, (rows[i][-1] - known) / rows[i][i])
    return found
