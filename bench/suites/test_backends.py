"""One scan of each backend that works here, sized, timed and proven by the benchmark's own core."""

from collections.abc import Iterator
from typing import Any

import pytest

from bench.campaign import Setting, candidate_for
from bench.ground import Ground, target_of
from bench.measure import QUICK, Candidate, Measurement
from bench.oracle import Density, dense_check
from bench.units import hash_rate
from miner.backends import devices, open_backend, self_test

ROUNDS = 20

HASHES = {"python": 1 << 15, "multiprocess": 1 << 16, "numpy": 1 << 16, "numba": 1 << 21, "opencl": 1 << 14}
"""Per round and kind of device, the same in every run: pytest-benchmark compares seconds, not rates."""

CARD_HASHES = 1 << 28

NAMES = [info.name for info in devices() if info.available]
GPUS = {info.name for info in devices() if info.gpu}


@pytest.fixture(params=NAMES)
def candidate(request: pytest.FixtureRequest) -> Iterator[Candidate]:
    """The device, open and warm."""
    name = request.param
    found = candidate_for(open_backend(name), Setting(name), gpu=name in GPUS)
    Measurement(QUICK, Ground(1)).warm_up(found)
    yield found
    found.device.close()


def test_scan(benchmark: Any, candidate: Candidate) -> None:
    """Each round scans other nonces of one work, as the engine does."""
    hashes = CARD_HASHES if candidate.gpu else HASHES.get(candidate.name.partition(":")[0], 1 << 20)
    spans = Ground(1).spans(1, candidate.versions, target_of(candidate.bits), hashes)
    first = next(spans)
    benchmark.extra_info["hashes"] = first.hashes
    benchmark.extra_info["device"] = candidate.name
    benchmark.pedantic(candidate.device.scan, setup=lambda: (tuple(next(spans)), {}), rounds=ROUNDS)
    benchmark.extra_info["rate"] = hash_rate(first.hashes / benchmark.stats.stats.median)
    # A device that got fast by getting wrong must not pass for one.
    self_test(candidate.device)
    window = first.split(30_011 // candidate.versions)[0]
    found = dense_check(candidate.device, [window])
    assert found == Density(found.expected, 0, 0)
