"""Every form that this CPU can run finds exactly what hashlib finds; and what is kept on disk is not trusted."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conformance import Conformance, check_close, random_header, random_versions

from kernels import native
from miner.backends import numba
from miner.backends.numba import NumbaBackend, top_mask
from miner.backends.protocol import Backend
from miner.backends.selftest import EASY, GENESIS, hits_of
from miner.errors import DeviceFault, DeviceUnavailable
from miner.target import MAX_TARGET, bits_to_target
from miner.work import Hit, Work


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile here what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NONCEFORGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="module", params=native.supported(), ids=lambda form: form.name)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    form: native.Form = request.param
    with closing(NumbaBackend(1, form)) as backend:
        yield backend


class TestEveryForm(Conformance):
    pass
