"""The OpenCL backend on PoCL: a real OpenCL compiler and runtime, on the CPU."""

import importlib.util
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
from conformance import Conformance, check_close

from miner.backends import Backend, opencl
from miner.backends.launches import CAPACITY
from miner.backends.selftest import EASY, GENESIS, SMALL, hits_of
from miner.errors import DeviceFault, DeviceUnavailable
from miner.target import MAX_TARGET
from miner.work import Hit, Work

if importlib.util.find_spec("pyopencl") is None:
    pytest.skip(
        "PyOpenCL is not installed: pip install pyopencl pocl-binary-distribution", allow_module_level=True
    )


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with closing(opencl.open(None, None)) as opened:
        yield opened


class TestOpencl(Conformance):
    pass


def test_closing_is_final() -> None:
    check_close(opencl.open("0", None))


@pytest.mark.parametrize("place", range(4))
def test_a_real_block_is_found_whichever_version_it_has(backend: Backend, place: int) -> None:
    versions, nonce = [2, 3, 4], GENESIS.hit.nonce
    versions.insert(place, GENESIS.hit.version)
    work = Work(GENESIS.header, GENESIS.work.target, tuple(versions))
    assert backend.scan(work, range(nonce - 100, nonce + 100)) == [GENESIS.hit]


def test_a_flood_of_hits_is_scanned_in_parts(backend: Backend) -> None:
    nonces = range(3 * CAPACITY)
    assert backend.scan(Work(GENESIS.header, MAX_TARGET), nonces) == [Hit(nonce, 1) for nonce in nonces]


def test_devices_are_described() -> None:
    infos = opencl.devices()
    assert [info.name for info in infos] == [f"opencl:{i}" for i in range(len(infos))]
    assert all("compute units" in info.description for info in infos)


def test_pocl_does_not_pass_for_a_gpu() -> None:
    pocl = [info for info in opencl.devices() if "PoCL" in info.description]
    assert not any(info.gpu for info in pocl)


@pytest.mark.parametrize("selector", ["99", "no such card"])
def test_a_device_that_is_not_there_is_told_with_those_that_are(selector: str) -> None:
    with pytest.raises(DeviceUnavailable, match="no such device; there are opencl:0 "):
        opencl.open(selector, None)


@pytest.mark.parametrize(
    ("lacks", "sentence"),
    [
        ("available", "not available"),
        ("compiler_available", "no compiler"),
        ("endian_little", "big-endian"),
    ],
)
def test_a_device_that_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, lacks: str, sentence: str
) -> None:
    import pyopencl

    fields = {"available": True, "compiler_available": True, "endian_little": True} | {lacks: False}
    platform = SimpleNamespace(version="OpenCL 1.2 Test ")
    device = SimpleNamespace(name="Test", platform=platform, max_compute_units=1, type=4, **fields)
    platform.get_devices = lambda: [device]
    monkeypatch.setattr(pyopencl, "get_platforms", lambda: [platform])
    (info,) = opencl.devices()
    assert not info.available
    assert sentence in info.reason
    with pytest.raises(DeviceUnavailable, match=f"opencl:0: .*{sentence}"):
        opencl.open(None, None)


def test_a_machine_without_platforms_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyopencl

    def none() -> None:
        raise pyopencl.LogicError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR")

    monkeypatch.setattr(pyopencl, "get_platforms", none)
    with pytest.raises(DeviceUnavailable, match=r"no OpenCL platform .*pocl-binary-distribution"):
        opencl.open(None, None)


def test_a_device_is_chosen_by_its_name(backend: Backend) -> None:
    import pyopencl

    name = pyopencl.get_platforms()[0].get_devices()[0].name[:6]
    with closing(opencl.open(name.upper(), None)) as opened:
        assert opened.name == "opencl:0"


def test_a_machine_without_pyopencl_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (info,) = opencl.devices()
    assert (info.name, info.available) == ("opencl", False)
    assert "pip install 'nonceforge[opencl]'" in info.reason


@pytest.mark.parametrize(
    ("failing", "code", "advice"),
    [
        ("enqueue_nd_range_kernel", "OUT_OF_RESOURCES", "no memory left"),
        ("Program", "BUILD_PROGRAM_FAILURE", "does not take the kernel"),
        ("enqueue_copy", "DEVICE_NOT_AVAILABLE", "the device is gone"),
        ("enqueue_fill_buffer", "INVALID_COMMAND_QUEUE", "the device failed"),
    ],
)
def test_what_fails_while_mining_is_a_fault_of_that_device(
    monkeypatch: pytest.MonkeyPatch, failing: str, code: str, advice: str
) -> None:
    import pyopencl

    def broken(*arguments: object, **options: object) -> None:
        raise pyopencl.RuntimeError(f"{failing} failed: {code}")

    with closing(opencl.open("0", None)) as backend:
        work = Work(SMALL.header, EASY)
        monkeypatch.setattr(pyopencl, failing, broken)
        with pytest.raises(DeviceFault, match=rf"^opencl:0: .*{advice}"):
            backend.scan(work, range(10))
        monkeypatch.undo()
        assert backend.scan(work, range(10)) == hits_of(work, range(10))
