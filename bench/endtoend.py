"""Through the engine, on jobs as a pool gives them: what is left of a device's rate, and how fast it stops.

The engine and the device alone take turns of a third of a second, so that both meet the same machine; the
engine's clock stands still while it is not its turn. The engine's figure is the hashes that it counted over
the time of its turns; the shares that hashlib confirmed are a second count of the same work.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench.campaign import Progress
from bench.ground import target_of
from bench.measure import QUICK, Candidate, Measurement, Plan
from bench.results import EngineRow
from miner.backends import Backend
from miner.engine import SLICE_SECONDS, Delivery, Engine, Update
from miner.lane import LaneState
from miner.run import Run
from miner.stats import Stats
from miner.work import Hit, Job, Outcome, Share, Verdict, Work

SECONDS = 30.0
"""Of engine time per device, and as much of the device alone."""

TURN_SECONDS = 0.3
"""The speed of a shared machine drifts within seconds; this is twelve of the engine's slices."""

JOB_SECONDS = 2.0
"""From one new tip to the next: far more often than on any network, to see many stops. What is found in the
last slice of each job comes too late to be a share."""

SHARES_PER_SECOND = 40.0
"""What the share target is set for: a pool asks for fewer."""

VERSION_MASK = 0x1FFFE000
"""BIP 320: all 16 bits."""


def plan(seconds: float = SECONDS) -> Plan:
    """A round is a turn of the device alone."""
    turns = max(1, round(seconds / TURN_SECONDS))
    return replace(QUICK, rounds=turns, round_seconds=TURN_SECONDS, yardstick_seconds=0.0)


class Turns:
    """The engine's device and clock. Every third of a second `alone` has its turn; the clock stands still."""

    def __init__(self, device: Backend, alone: Callable[[], None]) -> None:
        self._device, self._alone = device, alone
        self.name, self.siblings = device.name, getattr(device, "siblings", 1)
        self._lock = threading.Lock()
        self._away = 0.0
        self._left: float | None = None
        self._began = self.now()

    @property
    def engines(self) -> bool:
        """Whether it is the engine's turn."""
        return self._left is None

    def now(self) -> float:
        """Seconds of the engine's turns."""
        with self._lock:
            return (time.monotonic() if self._left is None else self._left) - self._away

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """The device's own, perhaps after a turn of `alone`."""
        if self.now() - self._began >= TURN_SECONDS:
            with self._elsewhere():
                self._alone()
            self._began = self.now()
        return self._device.scan(work, nonces)

    @contextmanager
    def _elsewhere(self) -> Iterator[None]:
        with self._lock:
            self._left = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._away += time.monotonic() - self._left
                self._left = None

    def close(self) -> None:
        """Nothing: the device is only lent."""


class Tips:
    """A work source whose tip changes about every two seconds; it takes every share. Seeded."""

    name = "benchmark"

    def __init__(self, seed: int, target: int, turns: Turns) -> None:
        self._source, self._target, self._turns = random.Random(seed), target, turns
        self._over = threading.Event()
        self.accepted = 0
        self._lock = threading.Lock()

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Deliver a job at once, and another at every new tip."""

        def tips() -> None:
            while not self._over.is_set():
                deliver(Update(self._job(), "new tip", clean=True))
                self._over.wait(JOB_SECONDS)
                while not self._turns.engines and not self._over.is_set():
                    # At any moment of the engine's next turn, not just when it begins.
                    self._over.wait(TURN_SECONDS * self._source.uniform(0.5, 1.5))

        threading.Thread(target=tips, name="benchmark tips", daemon=True).start()

    def submit(self, share: Share) -> Verdict:
        """Accepted: a Share has been verified by its construction."""
        with self._lock:
            self.accepted += 1
        return Verdict(share, Outcome.ACCEPTED)

    def close(self) -> None:
        """No further tip."""
        self._over.set()

    def _job(self) -> Job:
        source = self._source
        return Job(
            id=source.randbytes(4).hex(),
            version=0x2000_0000,
            previous=source.randbytes(32),
            bits=0x1703_4219,
            time=source.getrandbits(31),
            coinbase_prefix=source.randbytes(60),
            coinbase_suffix=source.randbytes(90),
            branch=tuple(source.randbytes(32) for _ in range(12)),  # of a block with 4,000 transactions
            target=self._target,
            version_mask=VERSION_MASK,
        )


def end_to_end(
    candidate: Candidate, measurement: Measurement, progress: Progress, seconds: float = SECONDS
) -> EngineRow:
    """A run of the engine, `seconds` of its own, and the device alone in between.

    The candidate must be warm, and stays open; the scans of its turns are there to be proven. DeviceFault if
    the engine retires the device.
    """
    shares_per_batch = candidate.batch / SLICE_SECONDS / SHARES_PER_SECOND
    target = target_of(max(0, int(shares_per_batch).bit_length() - 1))

    candidate.yardsticks = ()  # nothing shall come between its scans

    def alone() -> None:
        candidate.rounds.append(measurement.timed_round(candidate, len(candidate.rounds)))

    turns = Turns(candidate.device, alone)
    source = Tips(measurement.ground.seed, target, turns)
    with Engine(turns, clock=turns.now) as engine:
        started = turns.now()
        run = engine.run(source)
        threading.Thread(target=_closing, args=(run, turns, started + seconds, progress), daemon=True).start()
        for _ in run:
            pass
        stats = _at_rest(engine)
        elapsed = turns.now() - started
    return EngineRow(
        backend=candidate.name,
        seconds=elapsed,
        hashes=stats.hashes,
        alone=candidate.rate,
        shares=source.accepted,
        expected_shares=stats.hashes * ((target + 1) / (1 << 256)),
        stops=stats.stop_latency.count,
        stop_median=stats.stop_latency.median,
        stop_worst=stats.stop_latency.worst,
    )


def _closing(run: Run, turns: Turns, end: float, progress: Progress) -> None:
    while (left := end - turns.now()) > 0:
        progress(f"under the engine, {left:.0f} s left")
        time.sleep(min(0.1, left))
    run.close()


def _at_rest(engine: Engine) -> Stats:
    """What the engine has counted once the last scan, whose hashes count too, is over."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        stats = engine.stats()
        if stats.devices[0].state is not LaneState.MINING:
            break
        time.sleep(0.001)
    return stats
