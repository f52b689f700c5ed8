"""The measuring core: warm-up, and rounds in which the devices take turns.

Devices are interleaved so that whatever the machine does hits all alike. A round is a series of
scans as the engine sizes them, on real works whose hits are collected; creating the works is
part of mining and is timed too. Between the scans of CPU devices the yardsticks are timed: how
fast the machine is changes within tenths of a second (docs/decisions/0063). So the settings of a
sweep take turns scan by scan.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import geometric_mean, median
from typing import TypeVar

from bench.energy import Meter, card_of, meter_for
from bench.ground import BLOCK_EVERY, Ground, target_of
from bench.load import Load, read_load
from bench.machine import cores
from bench.nvml import Card
from bench.proof import Scanned, hit_bits
from bench.results import Round
from bench.yardstick import Yardstick
from miner.backends import Backend
from miner.engine import SLICE_SECONDS

STABLE = 0.03
"""Three warm-up scans in a row within this of each other end the warm-up."""

WARM_UP_ROUND = 1_000_001
"""The ground of the first warm-up scan, a round that is never timed and no real block's; each further
scan takes the next such round."""

_BARREN = target_of(32)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often. Seconds."""

    rounds: int = 12
    round_seconds: float = 0.3
    """At least: a round ends with the scan that passes it."""
    batch_seconds: float = SLICE_SECONDS
    """One scan."""
    warmup_seconds: float = 2.0
    """At most."""
    yardstick_seconds: float = 0.002
    """Of each yardstick, between two scans."""
    proof_seconds: float = 6.0
    """What the proof of one device may cost, about."""
    windows: int = 8
    """Dense windows per device (bench.proof.WINDOW): eight hold 16,000 hits."""


DEFAULT = Plan()
QUICK = Plan(rounds=6, warmup_seconds=1.0, proof_seconds=3.0)


@dataclass
class Candidate:
    """A device that is open, in one setting, and what has been measured of it so far."""

    device: Backend
    name: str
    """What `open_backend` took: "numba" even if it runs on three threads."""
    gpu: bool = False
    threads: int = 1
    versions: int = 1
    sweep: str = ""
    batch_seconds: float | None = None
    """None: the plan's."""
    open_seconds: float = 0.0
    first_seconds: float = 0.0
    warmup: int = 0
    batch: int = 1
    """Hashes per scan, set by the warm-up."""
    bits: int = 0
    """One hash in 2**bits is a hit in the timed rounds, set by the warm-up."""
    yardsticks: tuple[str, ...] = ()
    """What is timed between its scans, set by the warm-up: nothing for a card."""
    rounds: list[Round] = field(default_factory=list)
    scans: list[Scanned] = field(default_factory=list)
    throttles: int = 0
    """How often a processor was slowed for its heat during the rounds."""
    slowdowns: set[str] = field(default_factory=set)
    """What slowed the card after any round."""
    card: Card | None = None
    temperatures: list[float] = field(default_factory=list)
    """Degrees Celsius of the card after each round."""
    fault: str = ""
    """Why it was dropped."""
    meter: Meter | None = None

    @property
    def rate(self) -> float:
        """H/s over all rounds so far; 0.0 before the first."""
        seconds = sum(round.seconds for round in self.rounds)
        return sum(round.hashes for round in self.rounds) / seconds if seconds else 0.0


class Measurement:
    """Everything that the rounds of one run share."""

    def __init__(
        self,
        plan: Plan,
        ground: Ground,
        *,
        clock: Callable[[], float] = time.perf_counter,
        yardstick: Yardstick | None = None,
        load: Callable[[], Load] = read_load,
    ) -> None:
        self.plan, self.ground = plan, ground
        self.clock, self._load = clock, load
        self.yardstick = yardstick or Yardstick(plan.yardstick_seconds)

    def warm_up(self, candidate: Candidate) -> None:
        """Scan until the rate is stable, and size the batches. The first scan is timed apart."""
        seconds = candidate.batch_seconds or self.plan.batch_seconds
        rates: list[float] = []
        started, hashes = self.clock(), 1024
        while not _stable(rates) and self.clock() - started < self.plan.warmup_seconds:
            # Another work each time: a device that kept an answer would seem endlessly fast.
            number = WARM_UP_ROUND + BLOCK_EVERY * candidate.warmup
            batch = next(self.ground.spans(number, candidate.versions, _BARREN, hashes))
            before = self.clock()
            candidate.device.scan(*batch)
            took = max(self.clock() - before, 1e-7)
            candidate.first_seconds = candidate.first_seconds or took
            candidate.warmup += 1
            if took >= seconds / 2:
                rates.append(batch.hashes / took)
            # A short scan is mostly overhead and says little: four times as many next at most.
            most = (1 << 32) * candidate.versions
            hashes = max(1, min(int(batch.hashes * seconds / took), batch.hashes * 4, most))
        rate = median(rates[-3:]) if rates else hashes / seconds
        candidate.batch = max(1, int(rate * seconds))
        candidate.bits = hit_bits(rate * self.plan.round_seconds * self.plan.rounds)
        candidate.yardsticks = () if candidate.gpu else self.yardstick.names
        candidate.card = card_of(candidate.name) if candidate.gpu else None
        candidate.meter = meter_for(candidate.name, candidate.gpu)

    def interleave(self, candidates: Sequence[Candidate], on_round: Callable[[int], None]) -> None:
        """All rounds of all candidates. One that raises is dropped, with its fault."""
        groups = _groups(candidates)
        for number in range(self.plan.rounds):
            # Another one starts each time: nobody always follows the same neighbour.
            for group in _rotated(groups, number):
                self._take_turn([c for c in _rotated(group, number) if not c.fault], number)
            on_round(number + 1)

    def _take_turn(self, group: Sequence[Candidate], number: int) -> None:
        load, started = self._load(), self.clock()
        turns = [_Turn(self, candidate, number, apart=len(group) > 1) for candidate in group]
        going = turns
        while going:
            for turn in going:
                _scan_or_drop(turn)
            going = [turn for turn in going if not (turn.over or turn.candidate.fault)]
        now = self._load()
        waited, others = now.waited_since(load), now.others_since(load, (self.clock() - started) * cores())
        for turn in turns:
            candidate = turn.candidate
            if not candidate.fault:
                candidate.rounds.append(replace(turn.round(), waited=waited, others=others))
                candidate.throttles += (now.throttles or 0) - (load.throttles or 0)
                if candidate.card:
                    _ask(candidate, candidate.card)

    def timed_round(self, candidate: Candidate, number: int) -> Round:
        """Scan until the round is over; what every scan returned is kept, to be proven.

        Whatever the device raises.
        """
        turn = _Turn(self, candidate, number)
        while not turn.over:
            turn.scan()
        return turn.round()


class _Turn:
    """One candidate's round, scan by scan. `apart`: others scan between its scans."""

    def __init__(
        self, measurement: Measurement, candidate: Candidate, number: int, *, apart: bool = False
    ) -> None:
        self.candidate = candidate
        self._now, self._yardstick = measurement.clock, measurement.yardstick
        self._least, self._spent, self._apart = measurement.plan.round_seconds, 0.0, apart
        ground, target = measurement.ground, target_of(candidate.bits)
        self._batches = ground.spans(number, candidate.versions, target, candidate.batch)
        self._hashes: list[int] = []
        self._seconds: list[float] = []
        self._joules: list[float | None] = []
        self._around: list[tuple[float, ...]] = []
        self._before: tuple[float, ...] = ()

    @property
    def over(self) -> bool:
        """Whether it has lasted long enough. A device that only pretends to scan would take forever."""
        return sum(self._seconds) >= self._least or self._spent >= 3 * self._least

    def scan(self) -> None:
        """The next one, between two looks at the machine. Whatever the device raises."""
        candidate, began = self.candidate, self._now()
        if self._apart or not self._before:
            self._before = self._measure()
        energy, started = self._energy(), self._now()
        batch = next(self._batches)
        hits = candidate.device.scan(batch.work, batch.nonces)
        self._seconds.append(self._now() - started)
        after = self._energy()
        self._joules.append(after - energy if after is not None and energy is not None else None)
        self._hashes.append(batch.hashes)
        candidate.scans.append(Scanned(batch, hits))
        before, self._before = self._before, self._measure()
        self._around.append(tuple(map(_between, before, self._before)))
        self._spent += self._now() - began

    def round(self) -> Round:
        """What was measured."""
        return Round(
            tuple(self._hashes),
            tuple(round(took, 9) for took in self._seconds),
            tuple(filter(None, self._around)),
            joules=None if None in self._joules else sum(spent or 0.0 for spent in self._joules),
        )

    def _measure(self) -> tuple[float, ...]:
        """How fast the machine is for this device, if that is wanted."""
        return self._yardstick(self.candidate.threads) if self.candidate.yardsticks else ()

    def _energy(self) -> float | None:
        return self.candidate.meter.read() if self.candidate.meter else None


def _between(before: float, after: float) -> float:
    return round(geometric_mean((before, after)), 1)


def _scan_or_drop(turn: _Turn) -> None:
    try:
        turn.scan()
    except Exception as error:  # noqa: BLE001 - a device may raise anything; the others go on
        turn.candidate.fault = f"it raised {error!r:.200} in round {len(turn.candidate.rounds)}"


def _groups(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Who takes turns scan by scan rather than round by round: a sweep's settings, to be compared closely."""
    groups: dict[object, list[Candidate]] = {}
    for place, candidate in enumerate(candidates):
        closely = candidate.sweep and candidate.batch_seconds is None
        groups.setdefault((candidate.name, candidate.sweep) if closely else place, []).append(candidate)
    return list(groups.values())


def _rotated(items: Sequence[_T], places: int) -> list[_T]:
    start = places % max(len(items), 1)
    return [*items[start:], *items[:start]]


def _ask(candidate: Candidate, card: Card) -> None:
    if slowed := card.slowdowns():
        candidate.slowdowns.add(slowed)
    if (celsius := card.temperature()) is not None:
        candidate.temperatures.append(celsius)


def _stable(rates: Sequence[float]) -> bool:
    last = rates[-3:]
    return len(last) == 3 and max(last) <= min(last) * (1 + STABLE)
