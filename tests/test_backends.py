"""The registry: names, reasons, and that no device is handed out unproved. And the python backend itself."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

import miner.backends
from miner.backends import Backend, DeviceInfo, devices, open_backend, siblings_of
from miner.backends import python as python_backend
from miner.backends.python import PythonBackend
from miner.errors import DeviceUnavailable, SelfTestFailed
from miner.work import Hit, Work
from tests.conformance import Conformance, check_close
from tests.mutants import FindsNothing


@pytest.fixture(scope="module")
def backend() -> PythonBackend:
    return PythonBackend()


class TestPython(Conformance):
    """The definition itself is held to what all are held to."""


def test_python_is_opened_by_name_and_closed_for_good() -> None:
    backend = open_backend("python")
    assert (backend.name, siblings_of(backend)) == ("python", 1)
    check_close(backend)


@pytest.mark.parametrize("nonces", [range(-1, 5), range(0, 10, 2), range(5, 3), range(2**32 + 1)], ids=str)
def test_python_refuses_nonces_that_are_none(nonces: range) -> None:
    with pytest.raises(ValueError, match="is no range"):
        PythonBackend().scan(Work(bytes(80), 0), nonces)


@pytest.mark.parametrize("spec", ["nix", "", ":", "Python", " python", "cudaa", "auto:1"])
def test_an_unknown_name_is_told_the_known_ones(spec: str) -> None:
    with pytest.raises(ValueError, match="there are cuda, opencl, numba, multiprocess, python, numpy, auto"):
        open_backend(spec)


@pytest.mark.parametrize("spec", ["python:", "python:0", "python:x"])
def test_python_has_no_numbered_devices(spec: str) -> None:
    with pytest.raises(ValueError, match="there is one"):
        open_backend(spec)


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**9])
@pytest.mark.parametrize("spec", ["python", "multiprocess", "auto"])
def test_threads_out_of_range_are_refused_with_the_bound(spec: str, threads: int) -> None:
    with pytest.raises(ValueError, match=f"{threads} threads: not 1 ... 1024"):
        open_backend(spec, threads=threads)


def test_python_runs_on_one_thread() -> None:
    open_backend("python", threads=1).close()
    with pytest.raises(ValueError, match="1 thread, not 2"):
        open_backend("python", threads=2)


class Recorder(PythonBackend):
    """Remembers whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Empty modules in place of every kind, to be filled by the test: all unavailable until then."""
    modules = {kind: absent(kind) for kind in miner.backends.KINDS}
    for kind, module in modules.items():
        monkeypatch.setitem(sys.modules, f"miner.backends.{kind}", module)
    return modules


def absent(kind: str) -> ModuleType:
    def unavailable(selector: str | None, threads: int | None) -> Backend:
        raise DeviceUnavailable(f"no {kind} here")

    return module(unavailable, [DeviceInfo(kind, False, kind, f"no {kind} here")])


def module(opener: object, infos: list[DeviceInfo]) -> ModuleType:
    made = ModuleType("made")
    made.open, made.devices = opener, lambda: infos  # type: ignore[attr-defined]
    return made


def test_a_device_that_fails_its_self_test_is_closed_and_not_handed_out(kinds: dict[str, ModuleType]) -> None:
    class Broken(Recorder, FindsNothing):
        pass

    broken = Broken()
    kinds["numba"].open = lambda selector, threads: broken  # type: ignore[attr-defined]
    with pytest.raises(SelfTestFailed):
        open_backend("numba")
    assert broken.closed


def test_ctrl_c_in_a_self_test_closes_the_device(kinds: dict[str, ModuleType]) -> None:
    class Interrupted(Recorder):
        def scan(self, work: Work, nonces: range) -> list[Hit]:
            raise KeyboardInterrupt

    device = Interrupted()
    kinds["numba"].open = lambda selector, threads: device  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        open_backend("numba")
    assert device.closed


def test_a_close_that_fails_does_not_hide_why_it_was_closed(kinds: dict[str, ModuleType]) -> None:
    class Stuck(FindsNothing):
        def close(self) -> None:
            raise OSError("device busy")

    kinds["numba"].open = lambda selector, threads: Stuck()  # type: ignore[attr-defined]
    with pytest.raises(SelfTestFailed):
        open_backend("numba")


def test_a_driver_s_own_exception_becomes_ours(kinds: dict[str, ModuleType]) -> None:
    def opener(selector: str | None, threads: int | None) -> Backend:
        raise RuntimeError("cudaErrorInsufficientDriver")

    kinds["cuda"].open = opener  # type: ignore[attr-defined]
    with pytest.raises(DeviceUnavailable, match=r"cuda:0 cannot be opened: RuntimeError\('cudaErrorInsuff"):
        open_backend("cuda:0")


def test_what_is_no_backend_is_told_what_it_lacks(kinds: dict[str, ModuleType]) -> None:
    kinds["cuda"].open = lambda selector, threads: object()  # type: ignore[attr-defined]
    with pytest.raises(DeviceUnavailable, match="which has no name, scan, close"):
        open_backend("cuda")


@pytest.mark.parametrize("spec", [None, 3, b"python"])
def test_a_name_is_a_str(spec: object) -> None:
    with pytest.raises(TypeError, match="named by a str"):
        open_backend(spec)  # type: ignore[arg-type]


def test_selector_and_threads_reach_the_kind(kinds: dict[str, ModuleType]) -> None:
    seen = []

    def opener(selector: str | None, threads: int | None) -> Backend:
        seen.append((selector, threads))
        return PythonBackend()

    kinds["cuda"].open = opener  # type: ignore[attr-defined]
    open_backend("cuda")
    open_backend("cuda:1", threads=3)
    assert seen == [(None, None), ("1", 3)]


def test_auto_takes_the_first_that_works(kinds: dict[str, ModuleType]) -> None:
    kinds["multiprocess"].open = lambda selector, threads: PythonBackend()  # type: ignore[attr-defined]
    kinds["python"].open = lambda selector, threads: pytest.fail("too far")  # type: ignore[attr-defined]
    assert isinstance(open_backend("auto"), PythonBackend)


def test_auto_passes_over_a_device_that_lies(kinds: dict[str, ModuleType]) -> None:
    kinds["cuda"].open = lambda selector, threads: FindsNothing()  # type: ignore[attr-defined]
    kinds["python"].open = python_backend.open  # type: ignore[attr-defined]
    assert type(open_backend("auto")) is PythonBackend


def test_auto_says_why_each_was_passed_over(kinds: dict[str, ModuleType]) -> None:
    with pytest.raises(DeviceUnavailable) as failure:
        open_backend("auto")
    assert str(failure.value) == (
        "no backend works here. cuda: no cuda here; numba: no numba here; "
        "multiprocess: no multiprocess here; python: no python here; numpy: no numpy here"
    )


@pytest.mark.parametrize(("gpu", "chosen"), [(True, "opencl:1"), (False, "python")])
def test_auto_takes_opencl_only_on_a_gpu(kinds: dict[str, ModuleType], gpu: bool, chosen: str) -> None:
    class OpenCl(PythonBackend):
        name = "opencl:1"

    pocl, card = DeviceInfo("opencl:0", True, "PoCL"), DeviceInfo("opencl:1", True, "a card", gpu=gpu)
    made = module(lambda selector, threads: OpenCl() if selector == "1" else None, [pocl, card])
    sys.modules["miner.backends.opencl"] = made
    kinds["python"].open = python_backend.open  # type: ignore[attr-defined]
    assert open_backend("auto").name == chosen


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "miner.backends.numba", raising=False)
    monkeypatch.setitem(sys.modules, "miner.backends.numba", None)
    with pytest.raises(DeviceUnavailable, match="cannot be loaded"):
        open_backend("numba")
    error = ModuleNotFoundError("No module named 'numpy'", name="numpy")
    advice = miner.backends._missing("numba", error)
    assert advice == "numpy is not installed: pip install 'nonceforge[numba]'"


def test_every_kind_is_listed_and_the_absent_say_why() -> None:
    infos = devices()
    assert {info.name.partition(":")[0] for info in infos} >= set(miner.backends.KINDS)
    assert all(info.available or info.reason for info in infos)
    assert DeviceInfo("python", True, python_backend.devices()[0].description) in infos


def test_a_broken_driver_does_not_hide_the_other_devices(kinds: dict[str, ModuleType]) -> None:
    def broken() -> list[DeviceInfo]:
        raise OSError("libcuda.so.1: file too short")

    kinds["cuda"].devices = broken  # type: ignore[attr-defined]
    infos = {info.name: info for info in devices()}
    assert infos["cuda"].reason == "libcuda.so.1: file too short"
    assert infos["numba"].reason == "no numba here"


def open_foreign(selector: str | None, threads: int | None) -> Backend:
    """What another package's entry point names."""
    return PythonBackend()


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("mine", "tests.test_backends:open_foreign", "miner.backends"),
        EntryPoint("gone", "no_such_package:open", "miner.backends"),
        EntryPoint("python", "no_such_package:open", "miner.backends"),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)


@pytest.mark.usefixtures("entry_points")
def test_another_package_may_add_a_kind() -> None:
    assert isinstance(open_backend("mine"), PythonBackend)
    with pytest.raises(DeviceUnavailable, match="no_such_package:open cannot be loaded"):
        open_backend("gone")
    with pytest.raises(ValueError, match="auto, gone, mine"):
        open_backend("yours")


@pytest.mark.usefixtures("entry_points")
def test_another_package_cannot_take_a_name_of_ours() -> None:
    assert type(open_backend("python")) is PythonBackend


@pytest.mark.usefixtures("entry_points")
def test_other_packages_kinds_are_listed() -> None:
    infos = {info.name: info for info in devices()}
    assert infos["mine"].available
    assert not infos["gone"].available
    assert "no_such_package" in infos["gone"].reason


HEAVY = {"numpy", "numba", "cupy", "pyopencl", "importlib.metadata", "multiprocessing", "concurrent.futures"}


def test_nothing_heavy_is_imported_to_open_python() -> None:
    script = "import sys, miner.backends; miner.backends.open_backend('python'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert not HEAVY & set(done.stdout.split())
