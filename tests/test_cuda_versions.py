"""The conformance suite for the CUDA kernel with four versions: minutes, so in `make test-all`."""

from collections.abc import Iterator

import pytest
from conformance import Conformance
from test_cuda_backend import opened

from miner.backends import Backend

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    yield from opened("adds+shifts+rotates 4")


class TestFourVersions(Conformance):
    pass
