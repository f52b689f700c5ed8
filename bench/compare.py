"""Two runs: is a device faster, slower, the same, or can nobody say?                           (pure)

A difference counts only if its whole interval lies beyond `MIN_EFFECT`; "the same" only if its whole
interval lies within `MIN_EFFECT` and what two runs differ by anyway. Everything else is UNSURE, which
is an answer too.

A machine is not equally fast on two days: clocks, neighbours and memory layout differ. So for a CPU
device the time that it waited for a processor is taken out, then the clock, then what its yardsticks say
of a neighbour (`bench.feel`); the interval is widened by what two runs of the same code differ by
nevertheless (`RUN_TO_RUN`), and by what is not known about the device's feelings (`DOUBT`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, median

from bench.feel import Run, Scan, scan_median, slopes
from bench.results import Results, Row
from bench.spread import CONFIDENCE, Interval, shift
from bench.yardstick import CLOCK

MIN_EFFECT = 0.03
"""Relative difference that is worth an alarm."""

RUN_TO_RUN = 0.02
"""Half-width that two runs of the same code add to what their own rounds show (decision 0063)."""

DOUBT = 0.1
"""How far what a device feels of a yardstick may be from the estimate: it counts by how much the yardstick
itself has changed between the runs."""

DISTURBED = 0.25
"""What others add to the interval, per share of the processor time that they had, or that the device
waited: a rate that was worked out from a third of the time is known less well."""


class Change(StrEnum):
    """What became of a device between two runs."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNSURE = "UNSURE"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One device in two runs."""

    label: str
    change: Change
    effect: Interval
    """Relative: 0.1 reads "10 % faster". CPU devices: what the machine did is taken out."""
    before: float
    """Median H/s."""
    after: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that two runs have in common, and what they have not."""

    rows: tuple[Comparison, ...]
    notes: tuple[str, ...]
    """Sentences: devices of one run only, settings that differ, a machine that was slower as a whole."""

    @property
    def slower(self) -> tuple[Comparison, ...]:
        """The rows that a CI should stop for."""
        return tuple(row for row in self.rows if row.change is Change.SLOWER)


def compare(before: Results, after: Results, *, force: bool = False, effect: float = MIN_EFFECT) -> Compared:
    """Every device that both runs measured, judged.

    ValueError if the machines differ, unless forced, or if no device is in both runs.
    """
    if not force and before.machine.fingerprint != after.machine.fingerprint:
        raise ValueError(
            f"the runs are from different machines ({_words(before)}; {_words(after)}): --force compares them"
        )
    pairs = [(row, after.row(row.label)) for row in before.rows]
    both = [(one, other) for one, other in pairs if other is not None]
    if not both:
        raise ValueError("the runs have no device in common")
    rows = tuple(judge(one, other, effect) for one, other in both)
    return Compared(rows, tuple(_notes(before, after, both)))


def judge(before: Row, after: Row, effect: float = MIN_EFFECT) -> Comparison:
    """One device in two runs."""
    common = [name for name in before.yardsticks if name in after.yardsticks]
    runs = [_scans(row, common) for row in (before, after)]
    felt = slopes(runs)
    change = shift(*([scan_median(scans, felt) for scans in run] for run in runs))
    allowance = math.hypot(_allowance(before, after), *(DOUBT * move for move in _moves(runs)))
    interval = Interval(
        math.expm1(change.value),
        math.expm1(change.value - math.hypot(change.value - change.low, allowance)),
        math.expm1(change.value + math.hypot(change.high - change.value, allowance)),
        change.coverage,
    )
    verdict = _verdict(interval, effect)
    return Comparison(after.label, verdict, interval, before.rate.value, after.rate.value)


def _scans(row: Row, common: Sequence[str]) -> Run:
    """All in logarithms, so that twice as fast and half as fast are equally far from the same.

    Rates and yardsticks are per cycle if the clock is known: a faster clock makes everything faster.
    """
    clock = _clock(row) if CLOCK in common else 0.0
    places = [row.yardsticks.index(name) for name in common if name != CLOCK]
    run = []
    for timed in row.rounds:
        waiting = math.log(1 - (timed.waited or 0.0)) if not row.gpu else 0.0
        scans = zip(timed.scan_hashes, timed.scan_seconds, strict=True)
        rates = [math.log(hashes / seconds) - waiting - clock for hashes, seconds in scans]
        machine = [tuple(math.log(values[place]) - clock for place in places) for values in timed.yardsticks]
        machine = machine or [()] * len(rates)
        run.append([Scan(rate, speeds) for rate, speeds in zip(rates, machine, strict=True)])
    return run


def _clock(row: Row) -> float:
    """The run's clock, as a logarithm: what the fastest tenth says, as a neighbour can only slow it down."""
    place = row.yardsticks.index(CLOCK)
    values = sorted(math.log(values[place]) for timed in row.rounds for values in timed.yardsticks)
    return values[len(values) * 9 // 10]


def _moves(runs: Sequence[Run]) -> list[float]:
    """How much each yardstick changed from run to run, in logarithms."""
    old, new = (zip(*(scan.machine for timed in run for scan in timed), strict=True) for run in runs)
    return [median(one) - median(other) for one, other in zip(old, new, strict=True)]


def _allowance(before: Row, after: Row) -> float:
    return math.hypot(RUN_TO_RUN, DISTURBED * _disturbance(before), DISTURBED * _disturbance(after))


def _disturbance(row: Row) -> float:
    """How much of the processors others had beside a CPU device, 0 ... 1."""
    if row.gpu:
        return 0.0
    return median(max(round.waited or 0.0, round.others or 0.0) for round in row.rounds)


def _verdict(interval: Interval, effect: float) -> Change:
    if interval.coverage < CONFIDENCE:  # three rounds against three prove nothing
        return Change.UNSURE
    if interval.low > effect:
        return Change.FASTER
    # Both bounds in ratios: 3 % slower undoes 3 % faster.
    if interval.high < 1 / (1 + effect) - 1:
        return Change.SLOWER
    if interval.low >= -effect - RUN_TO_RUN and interval.high <= effect + RUN_TO_RUN:
        return Change.SAME
    return Change.UNSURE


def _notes(before: Results, after: Results, both: list[tuple[Row, Row]]) -> list[str]:
    notes = []
    for one, other, when in ((before, after, "before"), (after, before, "after")):
        only = sorted({row.label for row in one.rows} - {row.label for row in other.rows})
        if only:
            notes.append(f"measured {when} only: {', '.join(only)}")
    for old, new in both:
        notes += [
            f"{new.label}: {name} was {getattr(old, name)}, is {getattr(new, name)}"
            for name in ("threads", "versions", "form")
            if getattr(old, name) != getattr(new, name)
        ]
    machine = _machine_change(both)
    if abs(machine) > MIN_EFFECT:
        notes.append(f"the machine itself changed by {machine:+.1%} (the yardsticks between the scans)")
    return notes


def _machine_change(both: list[tuple[Row, Row]]) -> float:
    """How the yardsticks beside the same rows changed, relative."""
    old, new = (
        [math.log(fmean(values)) for pair in both for timed in pair[i].rounds for values in timed.yardsticks]
        for i in (0, 1)
    )
    return math.expm1(median(new) - median(old)) if old and new else 0.0


def _words(results: Results) -> str:
    machine = results.machine
    return ", ".join([f"{machine.cores} x {machine.cpu}", *(gpu.split(",")[0] for gpu in machine.gpus)])
