"""Hash rates beside pytest-benchmark's own table, which knows seconds only."""

from typing import Any

from bench.units import hash_rate


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """A line per benchmark that hashes: its rate at the median and at the quartiles."""
    session = getattr(config, "_benchmarksession", None)
    rows = [b for b in getattr(session, "benchmarks", []) if b.extra_info.get("hashes") and b.stats]
    if not rows:
        return
    terminalreporter.write_sep("-", "hash rates: median (quartiles)")
    width = max(len(row.name) for row in rows)
    for row in rows:
        slow, middle, fast = (
            hash_rate(row.extra_info["hashes"] / seconds)
            for seconds in (row.stats.q3, row.stats.median, row.stats.q1)
        )
        terminalreporter.write_line(f"{row.name:<{width}}  {middle:>10}  ({slow} ... {fast})")
