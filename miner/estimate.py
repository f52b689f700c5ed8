"""The hash rate that shares prove, with the interval in which the true one lies.

Shares arrive as a Poisson process: each stands for the expected hashes of its
target, and n of them say the rate to within about 2/sqrt(n). What a device
claims should lie inside; if it does not, hashes get lost on the way, or the
claim is wrong.
"""

import math
from typing import NamedTuple

Z_95 = 1.959964
"""Standard deviations that hold 95 % of a normal distribution."""


class RateEstimate(NamedTuple):
    """H/s, and the bounds between which the true rate lies with 95 % confidence."""

    rate: float
    low: float
    high: float


def poisson_bounds(count: int) -> tuple[float, float]:
    """The 95 % interval of a Poisson mean of which `count` events were seen.

    Byar's approximation (Breslow and Day, 1987, eq. 2.13), within 1 % of the exact one from 1 event on.
    """
    if count < 0:
        raise ValueError(f"{count} events")
    upper = count + 1
    high = upper * (1 - 1 / (9 * upper) + Z_95 / (3 * math.sqrt(upper))) ** 3
    if count == 0:
        return 0.0, high
    return count * (1 - 1 / (9 * count) - Z_95 / (3 * math.sqrt(count))) ** 3, high


def rate_from_shares(count: int, hashes: float, seconds: float) -> RateEstimate | None:
    """From `count` accepted shares that stand for `hashes` together; None without any, or any time."""
    if count == 0 or seconds <= 0:
        return None
    low, high = poisson_bounds(count)
    rate = hashes / seconds
    return RateEstimate(rate, rate * low / count, rate * high / count)
