"""Through the engine, on jobs as a pool gives them: what is left of a device's rate, and how fast it stops.

Rounds of the device alone are taken in turn with runs of the engine, so that both meet the same
machine. The engine's figure is the hashes that it counted over the wall time; the shares that hashlib
confirmed are a second count of the same work.
"""

import random
import threading
import time
from collections.abc import Callable
from statistics import fmean, median

from bench.campaign import Progress
from bench.ground import target_of
from bench.load import read_load
from bench.measure import Candidate, Measurement
from bench.results import EngineRow
from miner.backends import Backend
from miner.engine import Delivery, Engine, Update
from miner.lane import LaneState
from miner.stats import Stats
from miner.work import Hit, Job, Outcome, Share, Verdict, Work

SECONDS = 30.0
"""Of engine time per device."""

PIECES = 3
"""Runs of the engine that those are cut into, with rounds of the device alone between them."""

JOB_SECONDS = 2.0
"""From one new tip to the next: far more often than on any network, to see many stops. What is found in the
last slice of each job comes too late to be a share."""

SHARES_PER_SECOND = 40.0
"""What the share target is set for: a pool asks for fewer."""

VERSION_MASK = 0x1FFFE000
"""BIP 320: all 16 bits."""


class Tips:
    """A work source whose tip changes every two seconds; it takes every share. Seeded."""

    name = "benchmark"

    def __init__(self, seed: int, target: int) -> None:
        self._source, self._target = random.Random(seed), target
        self._over = threading.Event()
        self.accepted = 0
        self._lock = threading.Lock()

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Deliver a job at once, and another at every new tip."""

        def tips() -> None:
            while not self._over.is_set():
                deliver(Update(self._job(), "new tip", clean=True))
                self._over.wait(JOB_SECONDS)

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


class Lent:
    """A device that the engine may close without closing it."""

    def __init__(self, device: Backend) -> None:
        self._device = device
        self.name, self.siblings = device.name, getattr(device, "siblings", 1)

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """The device's own."""
        return self._device.scan(work, nonces)

    def close(self) -> None:
        """It is only lent."""


def end_to_end(
    candidate: Candidate, measurement: Measurement, progress: Progress, seconds: float = SECONDS
) -> EngineRow:
    """Alternate rounds and runs of the engine. The candidate must be warm, and stays open.

    DeviceFault if the engine retires the device.
    """
    target = target_of(
        max(0, int(candidate.batch / _slice(measurement) / SHARES_PER_SECOND).bit_length() - 1)
    )
    hashes = shares = stops = 0
    elapsed, latencies, waits, worst = 0.0, [], [], 0.0
    for piece in range(PIECES):
        progress(f"{candidate.name} under the engine, {piece + 1} of {PIECES}")
        measurement.interleave([candidate], lambda number: None)
        source = Tips(measurement.ground.seed + piece, target)
        with Engine(Lent(candidate.device)) as engine:
            load, started = read_load(), time.monotonic()
            run = engine.run(source)
            closer = threading.Timer(seconds / PIECES, run.close)
            closer.start()
            for _ in run:
                pass
            stats = _at_rest(engine)
            elapsed += time.monotonic() - started
            waits.append(read_load().waited_since(load))
        hashes += stats.hashes
        shares += source.accepted
        stops += stats.stop_latency.count
        latencies.append(stats.stop_latency.median)
        worst = max(worst, stats.stop_latency.worst)
    return EngineRow(
        backend=candidate.name,
        seconds=elapsed,
        hashes=hashes,
        waited=None if candidate.gpu or None in waits else fmean(wait or 0.0 for wait in waits),
        alone=median(r.rate if candidate.gpu else r.rate_alone for r in candidate.rounds),
        shares=shares,
        expected_shares=hashes * ((target + 1) / (1 << 256)),
        stops=stops,
        stop_median=median(latencies),
        stop_worst=worst,
    )


def _at_rest(engine: Engine) -> Stats:
    """What the engine has counted once the last scan, whose hashes count too, is over."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        stats = engine.stats()
        if stats.devices[0].state is not LaneState.MINING:
            break
        time.sleep(0.001)
    return stats


def _slice(measurement: Measurement) -> float:
    return measurement.plan.batch_seconds
