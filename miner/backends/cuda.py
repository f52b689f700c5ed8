"""NVIDIA cards through CuPy: `cuda:0` and so on.

The kernel is `kernels.device_source`'s, compiled by NVRTC at first use and kept in CuPy's own cache. On first
use of a card the placements and numbers of versions are timed for a moment; the winner is kept in the tuning
file. Nothing here imports CuPy before the driver is known to be there.
"""

import ctypes
import hashlib
import importlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kernels.device_source import PLACEMENTS, VERSIONS, DeviceSource, device_source
from miner.backends import cuda_errors, tuned
from miner.backends.launches import CAPACITY, RESULT_WORDS, SLOTS, Launches, Question
from miner.backends.nvml import Thermometer
from miner.backends.protocol import DeviceInfo, check_nonces
from miner.errors import DeviceError, DeviceFault, DeviceUnavailable
from miner.work import Hit, Work

THREADS = 256
"""Per block, as scan.cu is compiled."""

WAVES = 8
"""Blocks per place on the card: enough that the last ones to finish leave little of it idle."""

TIMED_SECONDS = 0.02
"""A variant's trial grows until it takes this long, so that the launch itself no longer counts."""

INSTALL = "pip install 'nonceforge[cuda12]' (or cuda13, as `nvidia-smi` says)"

OPTIONS = ("-std=c++17",)


def devices() -> list[DeviceInfo]:
    """Every card, or the one line that says why there is none."""
    try:
        cupy = _cupy()
        return [_info(cupy, index) for index in range(_count(cupy))]
    except DeviceUnavailable as error:
        return [DeviceInfo("cuda", False, "NVIDIA GPUs through CuPy", str(error), gpu=True)]


def open(selector: str | None, threads: int | None) -> "CudaBackend":
    """The card with this index, name or UUID (or the beginning of one); None is the first card.

    `threads` says nothing to a card. DeviceUnavailable with what to do about it.
    """
    cupy = _cupy()
    return CudaBackend(cupy, _select(cupy, selector))


def _driver_reason() -> str:
    """Why no card can be used at all, found without CuPy; empty if the driver is there."""
    if sys.platform == "darwin":
        return "macOS has no CUDA; use the opencl backend"
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        hint = "" if importlib.util.find_spec("cupy") else f", then {INSTALL}"
        return f"no NVIDIA driver here ({library} is not found): install the driver from nvidia.com{hint}"
    return ""


def _cupy() -> Any:
    if reason := _driver_reason():
        raise DeviceUnavailable(reason)
    if importlib.util.find_spec("cupy") is None:
        raise DeviceUnavailable(f"CuPy is not installed: {INSTALL}")
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceUnavailable(f"CuPy cannot be loaded ({error}): reinstall it, {INSTALL}") from error


def _count(cupy: Any) -> int:
    with _translated("cuda", DeviceUnavailable):
        count: int = cupy.cuda.runtime.getDeviceCount()
    if not count:
        raise DeviceUnavailable("the NVIDIA driver reports no card: is CUDA_VISIBLE_DEVICES empty?")
    return count


def _properties(cupy: Any, index: int) -> dict[str, Any]:
    with _translated(f"cuda:{index}", DeviceUnavailable):
        properties: dict[str, Any] = cupy.cuda.runtime.getDeviceProperties(index)
    return properties


def _name(properties: dict[str, Any]) -> str:
    name: bytes = properties["name"]
    return name.decode(errors="replace")


def _uuid(properties: dict[str, Any]) -> str:
    """As nvidia-smi writes it; only its beginning if a byte of it is zero, where CuPy cuts it off."""
    raw = bytes(properties.get("uuid", b""))[:16].hex()
    parts = (raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:])
    return "GPU-" + "-".join(part for part in parts if part)


def _info(cupy: Any, index: int) -> DeviceInfo:
    try:
        found = _properties(cupy, index)
    except DeviceUnavailable as error:
        return DeviceInfo(f"cuda:{index}", False, "NVIDIA GPU", str(error), gpu=True)
    memory = found["totalGlobalMem"] / 2**30
    text = f"{_name(found)}, {found['multiProcessorCount']} SM, {memory:.0f} GiB, sm_{_arch(found)}"
    return DeviceInfo(f"cuda:{index}", True, text, gpu=True)


def _arch(properties: dict[str, Any]) -> str:
    return f"{properties['major']}{properties['minor']}"


def _select(cupy: Any, selector: str | None) -> int:
    count = _count(cupy)
    if selector is None:
        return 0
    if selector.isdecimal():
        if int(selector) >= count:
            raise DeviceUnavailable(f"cuda:{selector}: there are {count} cards, cuda:0 to cuda:{count - 1}")
        return int(selector)
    cards = [_properties(cupy, index) for index in range(count)]
    wanted = selector.lower()
    for index, card in enumerate(cards):
        uuid = _uuid(card).lower()
        cut_off = len(uuid) < len("GPU-") + 36 and len(uuid) > len("GPU-") and wanted.startswith(uuid)
        if wanted in _name(card).lower() or uuid.startswith(wanted) or cut_off:
            return index
    raise DeviceUnavailable(f"cuda:{selector}: no such card; there are {', '.join(map(_name, cards))}")


@contextmanager
def _translated(device: str, kind: type[DeviceError]) -> Iterator[None]:
    """Whatever CuPy raises, as one of our errors with a sentence that tells what to do."""
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:
        if not cuda_errors.is_from_device(error):
            raise
        raise kind(f"{device}: {cuda_errors.sentence(error)}") from error


class _Card:
    """One card as a `Launcher`: two streams, each with a result buffer on the card and a pinned one here."""

    def __init__(self, cupy: Any, index: int) -> None:
        self._cupy, self.index, self.name = cupy, index, f"cuda:{index}"
        self.properties = _properties(cupy, index)
        self.placement = next(reversed(PLACEMENTS))
        self._kernels: dict[tuple[str, int, bool], tuple[Any, DeviceSource]] = {}
        size = 4 * RESULT_WORDS
        with self.use(DeviceUnavailable):
            self._streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(SLOTS)]
            # A blocking event: the waiting thread sleeps, and CuPy has released the GIL.
            self._events = [cupy.cuda.Event(block=True, disable_timing=True) for _ in range(SLOTS)]
            self._results = [cupy.zeros(RESULT_WORDS, dtype=np.uint32) for _ in range(SLOTS)]
            self._pinned = [cupy.cuda.alloc_pinned_memory(size) for _ in range(SLOTS)]
            cupy.cuda.Device(index).synchronize()  # the zeros were written on another stream

    @contextmanager
    def use(self, kind: type[DeviceError]) -> Iterator[None]:
        """Make this card the calling thread's, and its errors ours."""
        with _translated(self.name, kind), self._cupy.cuda.Device(self.index):
            yield

    def start(self, slot: int, question: Question, kind: type[DeviceError] = DeviceFault) -> None:
        """`Launcher.start`."""
        versions, any_target = len(question.midstates), question.top > 0
        with self.use(kind):
            kernel, source = self.kernel(self.placement, versions, any_target)
            words = np.array(source.uniforms(question.midstates, question.tail), np.uint32)
            stream, results = self._streams[slot], self._results[slot]
            with stream:
                results.data.memset_async(0, 8, stream)
                kernel((self._blocks(len(question.nonces)),), (THREADS,), (
                    words.view([("words", np.uint32, len(words))]),  # a struct of one element goes by value
                    np.uint32(question.nonces.start), np.uint32(len(question.nonces)),
                    np.uint32(question.top), np.uint32(CAPACITY), results,
                ))  # fmt: skip
                results.data.copy_to_host_async(self._pinned[slot].ptr, 4 * RESULT_WORDS, stream)
                self._events[slot].record(stream)

    def finish(self, slot: int) -> Any:
        """`Launcher.finish`."""
        with self.use(DeviceFault):
            self._events[slot].synchronize()
        return np.frombuffer(self._pinned[slot], np.uint32, RESULT_WORDS).copy()

    def kernel(self, placement: str, versions: int, any_target: bool) -> tuple[Any, DeviceSource]:
        """The compiled kernel and its source, made on first use."""
        key = (placement, versions, any_target)
        if key not in self._kernels:
            source = device_source("cuda", versions, placement, any_target=any_target)
            module = self._cupy.RawModule(code=source.text, options=OPTIONS, backend="nvrtc")
            self._kernels[key] = module.get_function("scan"), source
        return self._kernels[key]

    def prepare(self, siblings: int) -> None:
        """Compile what mining will need: no batch waits for it then, and what is missing is told now."""
        with self.use(DeviceUnavailable):
            for versions in sorted({1, siblings}):
                self.kernel(self.placement, versions, any_target=False)

    def _blocks(self, nonces: int) -> int:
        # Four blocks of 256 threads fill a multiprocessor (__launch_bounds__ in scan.cu).
        most = 4 * WAVES * int(self.properties["multiProcessorCount"])
        return min(-(-nonces // THREADS), most)

    def drain(self) -> None:
        """Wait for whatever is still running; a card that is lost has nothing running."""
        try:
            with self.use(DeviceFault):
                for stream in self._streams:
                    stream.synchronize()
        except DeviceError:
            pass

    def drop(self) -> None:
        """Forget kernels and buffers: CuPy frees what nothing refers to."""
        self._kernels.clear()
        self._streams, self._events, self._results, self._pinned = [], [], [], []


class CudaBackend:
    """One card."""

    def __init__(self, cupy: Any, index: int) -> None:
        self._card: _Card | None = _Card(cupy, index)
        self.name = self._card.name
        self._thermometer = Thermometer(_bus(cupy, self._card))
        self._card.placement, self.siblings = _fastest(cupy, self._card)
        self._card.prepare(self.siblings)
        self._launches = Launches(self._card, sorted({1, self.siblings}))

    @property
    def form(self) -> str:
        """Which variant of the kernel this card runs, in words."""
        return f"{self._card.placement if self._card else 'closed'}, {self.siblings} versions"

    def condition(self) -> str:
        """Temperature, power, clock and throttling, if NVML tells; from any thread."""
        return self._thermometer.condition()

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """`Backend.scan`."""
        check_nonces(nonces)
        if self._card is None:
            raise ValueError(f"{self.name} is closed")
        self._thermometer.wait_until_cool()
        return self._launches.scan(work, nonces)

    def close(self) -> None:
        """`Backend.close`."""
        if self._card is not None:
            self._card.drain()
            self._card.drop()
            self._card = None


def _fastest(cupy: Any, card: _Card) -> tuple[str, int]:
    """Placement and number of versions: remembered, or timed now."""
    key = _tuning_key(cupy, card)
    placement, _, versions = (tuned.recall(key) or "").partition(" ")
    if placement in PLACEMENTS and versions in map(str, VERSIONS):
        return placement, int(versions)
    found = _timed(card)
    tuned.remember(key, f"{found[0]} {found[1]}")
    return found


def _bus(cupy: Any, card: _Card) -> str:
    """Where the card sits, a name for it that no other card of this machine has."""
    with card.use(DeviceUnavailable):
        bus: str = cupy.cuda.runtime.deviceGetPCIBusId(card.index)
    return bus


def _tuning_key(cupy: Any, card: _Card) -> str:
    """What a timing holds for: this card with this driver and this kernel."""
    with card.use(DeviceUnavailable):
        driver = cupy.cuda.runtime.driverGetVersion()
    text = "".join(device_source("cuda", 1, name).text for name in PLACEMENTS)
    kernel = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"cuda {_name(card.properties)} at {_bus(cupy, card)} driver {driver} kernel {kernel}"


def _timed(card: _Card) -> tuple[str, int]:
    """The fastest placement with one version, then the best number of versions with that placement."""
    rates = {name: _rate(card, name, 1) for name in PLACEMENTS}
    placement = max(rates, key=lambda name: rates[name])
    siblings = {n: rates[placement] if n == 1 else _rate(card, placement, n) for n in VERSIONS}
    return placement, max(siblings, key=lambda n: siblings[n])


def _rate(card: _Card, placement: str, versions: int) -> float:
    """Hashes per second of one variant; an impossible target, so that nothing is found."""
    card.placement, count = placement, 1 << 10
    question = Question(((0,) * 8,) * versions, bytes(12), range(count), 0)
    card.start(0, question, DeviceUnavailable)  # compiles
    card.finish(0)
    while True:
        began = time.perf_counter()
        card.start(0, Question(question.midstates, question.tail, range(count), 0), DeviceUnavailable)
        card.finish(0)
        seconds = time.perf_counter() - began
        if seconds >= TIMED_SECONDS or count >= 1 << 28:
            return count * versions / seconds
        count *= 4
