"""What the engine tells of itself: immutable snapshots."""

from dataclasses import dataclass

from miner.lane import LaneState
from miner.meter import StopLatency
from miner.target import bits_to_target, expected_hashes
from miner.work import Job, Outcome


@dataclass(frozen=True, slots=True)
class DeviceStats:
    """One device so far. Rates in H/s over 10 s, 60 s and 15 min."""

    name: str
    state: LaneState
    hashes: int
    rates: tuple[float, float, float]
    hits: int
    hardware_errors: int
    """Hits that hashlib did not confirm."""
    fault: str = ""
    condition: str = ""
    """Temperature, power and the like, in the device's own words; most have none."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The engine so far: a snapshot."""

    devices: tuple[DeviceStats, ...]
    seconds: float
    """Since the engine started."""
    verdicts: dict[Outcome, int]
    best_share: float
    """The highest difficulty of any share."""
    job: Job | None
    stop_latency: StopLatency

    @property
    def hashes(self) -> int:
        """By all devices together."""
        return sum(device.hashes for device in self.devices)

    @property
    def rates(self) -> tuple[float, float, float]:
        """H/s over 10 s, 60 s and 15 min, all devices together."""
        ten, sixty, quarter = (sum(d.rates[i] for d in self.devices) for i in range(3))
        return ten, sixty, quarter

    @property
    def hits(self) -> int:
        """Verified, by all devices together."""
        return sum(device.hits for device in self.devices)

    @property
    def hardware_errors(self) -> int:
        """False hits, by all devices together."""
        return sum(device.hardware_errors for device in self.devices)

    @property
    def expected_seconds(self) -> float | None:
        """Seconds to a block at the 60 s rate, on average; None without a job or a rate."""
        rate = self.rates[1]
        if self.job is None or rate == 0:
            return None
        return expected_hashes(bits_to_target(self.job.bits)) / rate
