"""Figures as people read them.                                                               (pure)"""

from bench.results import Row
from bench.spread import Interval

DIFFICULTY_1 = 1 << 32
"""Hashes that a block of difficulty 1 takes on average; 2**256 / (0xffff * 2**208) to four digits."""

_PREFIXES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def hash_rate(rate: float) -> str:
    """71234567.0 -> "71.2 MH/s"."""
    for prefix, size in _PREFIXES:
        if rate >= 0.9995 * size:
            return f"{digits(rate / size)} {prefix}H/s"
    return f"{digits(rate)} H/s"


def digits(value: float) -> str:
    """Three significant ones, without an exponent: 1.23, 12.3, 123, 1,234."""
    for limit, places in ((9.995, 2), (99.95, 1)):
        if value < limit:
            return f"{value:.{places}f}"
    return f"{value:,.0f}"


def spread(interval: Interval) -> str:
    """The farther end of the interval, in per cent of the value: "±1.2 %"."""
    width = max(interval.high - interval.value, interval.value - interval.low)
    return f"±{100 * width / interval.value:.1f} %"


def times(factor: float) -> str:
    """How many times as fast: "75.2 x"."""
    return f"{digits(factor)} x"


def percent(share: float) -> str:
    """0.123 -> "12 %"."""
    return f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """Two units at most: "4.20 ms", "0.40 s", "1 min 12 s", "3 h 5 min", "2 d 4 h"."""
    if seconds < 0.1:
        return f"{digits(1000 * seconds)} ms"
    if seconds < 60:
        return f"{digits(seconds)} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 60:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    if hours < 24:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{int(hours // 24):,} d {int(hours % 24)} h"


def energy(row: Row) -> str:
    """Joules per 10**9 hashes, "n/a" without a counter."""
    joules = row.joules_per_gigahash
    return "n/a" if joules is None else digits(joules)


def settings(row: Row) -> str:
    """Threads and versions of a row, in words."""
    words = [f"{row.threads} threads" if row.threads > 1 else "1 thread"] if row.threaded else []
    words += [f"{row.versions} versions"] if row.versions > 1 else []
    return ", ".join(words)
