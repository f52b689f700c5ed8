"""Every GPU of this machine against the conformance suite (`make test-gpu`). Without one it says why."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from conformance import Conformance

from miner.backends import Backend, DeviceInfo, devices, open_backend
from miner.backends.selftest import GENESIS
from miner.work import Work

pytestmark = pytest.mark.gpu


def gpus() -> list[DeviceInfo]:
    return [
        info for info in devices() if info.name.startswith(("cuda", "opencl")) and (info.gpu or info.reason)
    ]


@pytest.fixture(scope="module", params=gpus(), ids=lambda info: info.name)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    info: DeviceInfo = request.param
    if not info.available:
        pytest.skip(f"{info.name}: {info.reason}")
    with closing(open_backend(info.name)) as opened:
        yield opened


class TestGpu(Conformance):
    pass


def test_the_whole_nonce_space_holds_one_block_at_difficulty_1(backend: Backend) -> None:
    assert backend.scan(Work(GENESIS.header, GENESIS.work.target), range(1 << 32)) == [GENESIS.hit]
