"""A run's sweeps as tables of text, for terminal and page alike.                             (pure)"""

from collections.abc import Iterator
from typing import NamedTuple

from bench.results import Results, Row
from bench.scaling import FULL, Scaling, scaling
from bench.units import hash_rate, spread, times

THREADS_CAPTION = (
    "vs one: median of pairs of scans, one of each on one thread; machine: of the yardsticks beside them; "
    f"where full: of the (n) pairs in which these did as many times one as threads, within {100 * FULL:.0f} %"
)


class SweepTable(NamedTuple):
    """One sweep, of one backend or of several."""

    kind: str
    """threads, versions or batch."""
    headings: tuple[str, ...]
    """After those of the backend and of what is swept."""
    rows: tuple[tuple[str, ...], ...]
    """Backend and value first."""
    caption: str


def sweep_tables(results: Results) -> Iterator[SweepTable]:
    """Every sweep of a run, in its order."""
    for kind in dict.fromkeys(row.sweep for row in results.rows if row.sweep):
        swept = [row for row in results.rows if row.sweep == kind]
        rows: list[tuple[str, ...]] = []
        for backend in dict.fromkeys(row.backend for row in swept):
            rows += _rows(kind, [row for row in swept if row.backend == backend])
        threads = kind == "threads"
        headings = ("vs one", "machine", "where full") if threads else ("vs first",)
        caption = THREADS_CAPTION if threads else ""
        yield SweepTable(kind, ("hash rate", "± 95 %", *headings), tuple(rows), caption)


def _rows(kind: str, rows: list[Row]) -> Iterator[tuple[str, ...]]:
    scaled = scaling(rows)
    for row, against_first in zip(rows, scaled, strict=True):
        figures = hash_rate(row.rate.value), spread(row.rate)
        ratio = (times(row.rate.value / rows[0].rate.value),)
        columns = _scaling_cells(against_first) if kind == "threads" else ratio
        yield (row.backend, f"{getattr(row, kind):,}", *figures, *columns)


def _scaling_cells(found: Scaling) -> tuple[str, ...]:
    if found.threads == 1:
        return times(1.0), "", ""
    machine, full = found.machine, found.rate_when_full
    return (
        times(found.interval.value),
        times(machine) if machine else "n/a",
        f"{times(full)} ({len(found.full)})" if full else "n/a",
    )
