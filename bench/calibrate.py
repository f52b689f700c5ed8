"""`python -m bench calibrate`: how far comparisons can be trusted on this machine, now.

A device is measured again and again, together with a copy of it that hashes a tenth more than it tells. Each
run is compared with the one before: the same device must raise no alarm, the copy must be SLOWER.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from bench import campaign
from bench.campaign import Setting, candidate_for
from bench.compare import Change, judge
from bench.measure import DEFAULT
from bench.results import Row
from miner.backends import Backend, open_backend
from miner.work import Hit, Work

SLOWED = "slowed"


class Slowed:
    """A device that takes a tenth more time: it scans a tenth of every range twice."""

    def __init__(self, device: Backend) -> None:
        self._device = device
        self.name, self.threads = device.name, getattr(device, "threads", 1)
        self.siblings = getattr(device, "siblings", 1)

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """The device's answer, late."""
        self._device.scan(work, nonces[: len(nonces) // 10])
        return self._device.scan(work, nonces)

    def close(self) -> None:
        """The device's own."""
        self._device.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Print what became of each comparison; 1 if fewer than nine in ten were right."""
    parser = argparse.ArgumentParser(prog="python -m bench calibrate", description=__doc__)
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--tries", type=int, choices=range(2, 101), default=10, metavar="2...100")
    arguments = parser.parse_args(argv)
    runs = [_run(arguments.backend) for _ in range(arguments.tries + 1)]
    pairs = list(pairwise(runs))
    same = Counter(judge(old[0], new[0]).change for old, new in pairs)
    slower = Counter(judge(old[0], new[1]).change for old, new in pairs)
    for what, counts in (("the same device", same), ("10 % slower", slower)):
        print(f"{what}: {', '.join(f'{change} {count}' for change, count in counts.most_common())}")
    right = same[Change.SAME] + same[Change.UNSURE], slower[Change.SLOWER]
    return 0 if min(right) >= 0.9 * arguments.tries else 1


def _run(backend: str) -> tuple[Row, Row]:
    devices = open_backend(backend), Slowed(open_backend(backend))
    candidates = [
        candidate_for(device, Setting(name)) for device, name in zip(devices, (backend, SLOWED), strict=True)
    ]
    results = campaign.run(candidates, replace(DEFAULT, proof_seconds=0.5), mode="calibrate")
    plain, slowed = results.row(backend), results.row(SLOWED)
    if plain is None or slowed is None:
        raise ValueError(f"{backend} failed its proof: {results.failed[0].reason}")
    print(
        f"{plain.rate.value / 1e6:.2f} MH/s {plain.health}, slowed {slowed.rate.value / 1e6:.2f}", flush=True
    )
    return plain, slowed
