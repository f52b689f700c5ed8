"""Two runs: is a device faster, slower, the same, or can nobody say?                           (pure)

A difference counts only if its whole interval lies beyond `MIN_EFFECT`; "the same" only if its whole
interval lies within `MIN_EFFECT` and what two runs differ by anyway. Everything else is UNSURE, which
is an answer too.

A machine is not equally fast on two days: clocks, neighbours and memory layout differ. So for a CPU
device the time that it waited for a processor is taken out, its rate is divided by the yardstick
that was measured beside each round, and the interval is widened by what is left between two runs
(`RUN_TO_RUN`).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from bench.results import Results, Row
from bench.spread import CONFIDENCE, Interval, shift

MIN_EFFECT = 0.03
"""Relative difference that is worth an alarm."""

RUN_TO_RUN = 0.025
"""Half-width that two runs of the same code add to what their own rounds show (decision 0061)."""


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
    """Relative: 0.1 reads "10 % faster". CPU devices: against the yardstick."""
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
    change, allowance = shift(_logs(before), _logs(after)), _allowance(before, after)
    interval = Interval(
        math.expm1(change.value),
        math.expm1(change.value - math.hypot(change.value - change.low, allowance)),
        math.expm1(change.value + math.hypot(change.high - change.value, allowance)),
        change.coverage,
    )
    verdict = _verdict(interval, effect)
    return Comparison(after.label, verdict, interval, before.rate.value, after.rate.value)


def _allowance(before: Row, after: Row) -> float:
    return math.hypot(RUN_TO_RUN, DISTURBED * _disturbance(before), DISTURBED * _disturbance(after))


def _disturbance(row: Row) -> float:
    """How much of the processors others had beside a CPU device, 0 ... 1."""
    if row.gpu:
        return 0.0
    return median(max(round.waited or 0.0, round.others or 0.0) for round in row.rounds)


def _logs(row: Row) -> list[float]:
    """Logarithms, so that twice as fast and half as fast are equally far from the same."""
    if row.gpu:
        return [math.log(round.rate) for round in row.rounds]
    return [math.log(round.rate_alone / round.yardstick) for round in row.rounds]


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
        notes.append(f"the machine itself changed by {machine:+.1%} (SHA3 beside the rounds)")
    return notes


def _machine_change(both: list[tuple[Row, Row]]) -> float:
    """How the yardstick beside the same rows changed, relative."""
    old = median(round.yardstick for row, _ in both for round in row.rounds)
    new = median(round.yardstick for _, row in both for round in row.rounds)
    return new / old - 1


def _words(results: Results) -> str:
    machine = results.machine
    return ", ".join([f"{machine.cores} x {machine.cpu}", *(gpu.split(",")[0] for gpu in machine.gpus)])
