"""The traced program on arrays, held to hashlib like any device."""

import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from conformance import Conformance, check_close

from miner.backends import numpy
from miner.backends.numpy import BLOCK
from miner.backends.protocol import Backend
from miner.backends.selftest import GENESIS
from miner.errors import DeviceUnavailable


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with closing(numpy.open(None, None)) as backend:
        yield backend


class TestNumpy(Conformance):
    pass


def test_a_hit_is_found_on_either_side_of_a_block_s_edge(backend: Backend) -> None:
    nonce = GENESIS.hit.nonce
    for start in (nonce - BLOCK + 1, nonce - BLOCK):
        assert backend.scan(GENESIS.work, range(start, start + BLOCK + 1)) == [GENESIS.hit]


def test_closing_it_ends_it() -> None:
    check_close(numpy.open(None, 1))


@pytest.mark.parametrize(("selector", "threads"), [("0", None), (None, 2)])
def test_there_is_one_device_with_one_thread(selector: str | None, threads: int | None) -> None:
    with pytest.raises(ValueError, match=r"^numpy (has no device '0'|runs on 1 thread, not 2)"):
        numpy.open(selector, threads)


def test_without_numpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(DeviceUnavailable, match=r"pip install 'nonceforge\[numpy\]'"):
        numpy.open(None, None)
    (info,) = numpy.devices()
    assert (info.available, info.reason[:22]) == (False, "numpy is not installed")
