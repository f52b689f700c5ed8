"""How sure a measured figure is: medians, intervals, outliers.                        (pure)

Nothing here assumes a normal distribution: timings have a hard lower edge and a long tail of
interruptions. Order statistics and ranks need no such assumption, need no random numbers, and one
wild round cannot move them far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, stdev

CONFIDENCE = 0.95
"""Of every interval that is printed."""

OUTLIER_SCORE = 3.5
"""Modified z-score from which a value is called an outlier (Iglewicz and Hoaglin, 1993)."""

_MAD_TO_SIGMA = 0.6745
"""The median absolute deviation of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the range in which its true value lies with probability `coverage`."""

    value: float
    low: float
    high: float
    coverage: float = CONFIDENCE

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} is outside its own interval {self.low} ... {self.high}")

    @property
    def relative(self) -> float:
        """Half the width over the value: 0.01 reads "plus or minus 1 %"."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else math.inf


def median_interval(values: Sequence[float]) -> Interval:
    """The median, between two order statistics that hold it with at least 95 % probability.

    The number of values below the true median is binomial(n, 1/2), whatever the distribution. Fewer
    than six values cannot reach 95 %: they give their whole range, with its true coverage.
    ValueError for no values.
    """
    if not values:
        raise ValueError("no values: their median is unknown")
    ordered = sorted(values)
    rank, coverage = 1, _coverage(len(ordered), 1)
    while 2 * (rank + 1) <= len(ordered) and _coverage(len(ordered), rank + 1) >= CONFIDENCE:
        rank += 1
        coverage = _coverage(len(ordered), rank)
    return Interval(median(ordered), ordered[rank - 1], ordered[-rank], coverage)


def _coverage(count: int, rank: int) -> float:
    """Probability that the true median lies between the rank-th smallest and the rank-th largest."""
    outside = sum(math.comb(count, below) for below in range(rank))
    return max(0.0, 1 - 2 * outside / (1 << count))


def variation(values: Sequence[float]) -> float:
    """The coefficient of variation: standard deviation over mean. 0.0 for fewer than two values."""
    return stdev(values) / fmean(values) if len(values) > 1 else 0.0


def outliers(values: Sequence[float]) -> tuple[int, ...]:
    """The places of the values that lie implausibly far from the median."""
    if not values:
        return ()
    middle = median(values)
    spread = median(abs(value - middle) for value in values)
    if spread == 0:  # more than half are equal: anything else stands out
        return tuple(i for i, value in enumerate(values) if value != middle)
    scores = (_MAD_TO_SIGMA * abs(value - middle) / spread for value in values)
    return tuple(i for i, score in enumerate(scores) if score > OUTLIER_SCORE)


def shift(before: Sequence[float], after: Sequence[float]) -> Interval:
    """How much larger `after` is than `before`: Hodges and Lehmann's estimate, with its interval.

    The median of all pairwise differences; the interval inverts the Mann-Whitney test (normal
    approximation, as in Hollander and Wolfe, Nonparametric Statistical Methods, section 4.3). Samples
    too small for that give the whole range, with its true coverage. ValueError if either is empty.
    """
    if not before or not after:
        raise ValueError(f"{len(before)} and {len(after)} values cannot be compared: both need at least one")
    differences = sorted(b - a for a in before for b in after)
    pairs, total = len(differences), len(before) + len(after)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    rank = max(1, math.floor(pairs / 2 - z * math.sqrt(pairs * (total + 1) / 12)))
    # Two equal distributions lie wholly apart with this probability: no interval can do better.
    coverage = min(CONFIDENCE, 1 - 2 / math.comb(total, len(before)))
    return Interval(median(differences), differences[rank - 1], differences[-rank], coverage)


def poisson_score(count: int, expected: float) -> float:
    """How many standard deviations `count` events are from `expected` ones; 0.0 if none are expected.

    Anscombe's square root makes a Poisson variable nearly normal with standard deviation 1/2.
    """
    if expected <= 0:
        return 0.0 if count == 0 else math.inf
    return 2 * (math.sqrt(count + 3 / 8) - math.sqrt(expected + 3 / 8))
