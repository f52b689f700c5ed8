"""OpenCL devices through PyOpenCL: `opencl:0` and so on. AMD, Intel and Apple GPUs, and PoCL on the CPU.

The same kernel and the same launches as `cuda`, without its placements: each OpenCL compiler decides by
itself where an operation runs.
"""

import importlib
import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kernels.device_source import DeviceSource, device_source
from miner.backends.launches import CAPACITY, RESULT_WORDS, SLOTS, Launches, Question
from miner.backends.protocol import DeviceInfo, check_nonces
from miner.errors import DeviceError, DeviceFault, DeviceUnavailable
from miner.work import Hit, Work

GROUP_SIZE = 64
"""Work-items of one group: a wavefront of GCN, two of RDNA and NVIDIA; any device takes so many."""

GROUPS_PER_UNIT = 64
"""Groups of one launch per compute unit of a GPU: more than are resident, so that none idles at the end."""

SIBLINGS = 4
"""Versions that share a message schedule."""

INSTALL = "pip install 'nonceforge[opencl]'"


def devices() -> list[DeviceInfo]:
    """Every device of every platform, or the one line that says why there is none."""
    try:
        cl = _pyopencl()
        return [_info(cl, index, device) for index, device in enumerate(_all(cl))]
    except DeviceUnavailable as error:
        return [DeviceInfo("opencl", False, "OpenCL devices through PyOpenCL", str(error))]


def open(selector: str | None, threads: int | None) -> "OpenclBackend":
    """The device with this index or a name that contains it; None is the first GPU, else the first device.

    `threads` says nothing to a device. DeviceUnavailable with what to do about it.
    """
    cl = _pyopencl()
    found = _all(cl)
    index = _select(cl, found, selector)
    if reason := _refusal(found[index]):
        raise DeviceUnavailable(f"opencl:{index}: {reason}")
    return OpenclBackend(cl, f"opencl:{index}", found[index])


def _pyopencl() -> Any:
    if importlib.util.find_spec("pyopencl") is None:
        raise DeviceUnavailable(f"PyOpenCL is not installed: {INSTALL}")
    try:
        return importlib.import_module("pyopencl")
    except ImportError as error:
        raise DeviceUnavailable(f"PyOpenCL cannot be loaded ({error}): reinstall it, {INSTALL}") from error


def _all(cl: Any) -> list[Any]:
    """Devices in the order in which the platforms report them; DeviceUnavailable if there are none."""
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        hint = "install your GPU's OpenCL driver, or PoCL for the CPU: pip install pocl-binary-distribution"
        raise DeviceUnavailable(f"no OpenCL platform ({error}): {hint}") from error
    found = [device for platform in platforms for device in _devices_of(cl, platform)]
    if not found:
        raise DeviceUnavailable("the OpenCL platforms report no device: is your GPU's driver loaded?")
    return found


def _devices_of(cl: Any, platform: Any) -> list[Any]:
    try:
        return list(platform.get_devices())
    except cl.Error:  # a platform without devices raises CL_DEVICE_NOT_FOUND
        return []


def _is_gpu(cl: Any, device: Any) -> bool:
    return bool(device.type & (cl.device_type.GPU | cl.device_type.ACCELERATOR))


def _info(cl: Any, index: int, device: Any) -> DeviceInfo:
    version = re.sub(r"\s+", " ", device.platform.version.strip())
    text = f"{device.name.strip()}, {device.max_compute_units} compute units, {version}"
    reason = _refusal(device)
    return DeviceInfo(f"opencl:{index}", not reason, text[:120], reason, gpu=_is_gpu(cl, device))


def _refusal(device: Any) -> str:
    """Why a device cannot be used; empty if it can."""
    if not device.available:
        return "the device says that it is not available: does another program hold it?"
    if not device.compiler_available:
        return "its platform brings no compiler: install the full OpenCL driver"
    return "" if device.endian_little else "the device is big-endian"


def _select(cl: Any, found: list[Any], selector: str | None) -> int:
    if selector is None:
        return next((i for i, device in enumerate(found) if _is_gpu(cl, device)), 0)
    if selector.isdecimal() and int(selector) < len(found):
        return int(selector)
    for index, device in enumerate(found):
        if not selector.isdecimal() and selector.lower() in device.name.lower():
            return index
    names = ", ".join(f"opencl:{i} {device.name.strip()}" for i, device in enumerate(found))
    raise DeviceUnavailable(f"opencl:{selector}: no such device; there are {names}")


class _Device:
    """One device as a `Launcher`: two queues, each with a result buffer there and one here."""

    def __init__(self, cl: Any, name: str, device: Any) -> None:
        self._cl, self._device, self.name = cl, device, name
        self._kernels: dict[tuple[int, bool], tuple[Any, DeviceSource]] = {}
        self._events: list[Any] = [None] * SLOTS
        with self._errors(DeviceUnavailable):
            self._context = cl.Context([device])
            self._queues = [cl.CommandQueue(self._context, device) for _ in range(SLOTS)]
            flags, size = cl.mem_flags, 4 * RESULT_WORDS
            self._results = [cl.Buffer(self._context, flags.READ_WRITE, size) for _ in range(SLOTS)]
            self._here = [np.zeros(RESULT_WORDS, np.uint32) for _ in range(SLOTS)]

    def start(self, slot: int, question: Question) -> None:
        """`Launcher.start`."""
        cl = self._cl
        with self._errors(DeviceFault):
            kernel, source = self._kernel(len(question.midstates), question.top > 0)
            words = np.array(source.uniforms(question.midstates, question.tail), np.uint32)
            queue, results = self._queues[slot], self._results[slot]
            cl.enqueue_fill_buffer(queue, results, np.uint32(0), 0, 8)
            kernel.set_args(
                words.view([("words", np.uint32, len(words))])[0],
                np.uint32(question.nonces.start), np.uint32(len(question.nonces)),
                np.uint32(question.top), np.uint32(CAPACITY), results,
            )  # fmt: skip
            size = GROUP_SIZE * self._groups(len(question.nonces))
            cl.enqueue_nd_range_kernel(queue, kernel, (size,), (GROUP_SIZE,))
            self._events[slot] = cl.enqueue_copy(queue, self._here[slot], results, is_blocking=False)
            queue.flush()

    def finish(self, slot: int) -> Any:
        """`Launcher.finish`."""
        with self._errors(DeviceFault):
            self._events[slot].wait()
        return self._here[slot].copy()

    def drop(self) -> None:
        """Wait for what is still running, and free everything."""
        try:
            with self._errors(DeviceFault):
                for queue in self._queues:
                    queue.finish()
        except DeviceFault:
            pass  # a lost device has nothing running
        self._kernels.clear()
        self._queues, self._results, self._events = [], [], []

    def _groups(self, nonces: int) -> int:
        most = GROUPS_PER_UNIT * int(self._device.max_compute_units)
        return min(-(-nonces // GROUP_SIZE), most)

    def _kernel(self, versions: int, any_target: bool) -> tuple[Any, DeviceSource]:
        key = (versions, any_target)
        if key not in self._kernels:
            source = device_source("opencl", versions, any_target=any_target)
            with warnings.catch_warnings():  # compilers that have something to say, even if all is well
                warnings.simplefilter("ignore", self._cl.CompilerWarning)
                program = self._cl.Program(self._context, source.text).build(["-cl-std=CL1.2"])
            self._kernels[key] = self._cl.Kernel(program, "scan"), source
        return self._kernels[key]

    @contextmanager
    def _errors(self, kind: type[DeviceError]) -> Iterator[None]:
        """Whatever PyOpenCL raises, as one of our errors."""
        try:
            yield
        except (self._cl.Error, MemoryError) as error:
            words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise kind(f"{self.name}: {_advice(words)} ({words})") from error


def _advice(words: str) -> str:
    """What to do about an OpenCL error (OpenCL 3.0, appendix B), by its name."""
    text = words.upper()
    if "OUT_OF" in text or "ALLOCATION_FAILURE" in text or "MEMORY" in text:
        return "the device has no memory left: close other programs that use it"
    if "BUILD" in text or "COMPILE" in text:
        return "its compiler does not take the kernel: update the driver, and please report this"
    if "NOT_AVAILABLE" in text or "DEVICE_NOT_FOUND" in text:
        return "the device is gone: is it used exclusively, or its driver reset?"
    return "the device failed: close other programs on it, update its driver and start again"


class OpenclBackend:
    """One OpenCL device."""

    siblings = SIBLINGS

    def __init__(self, cl: Any, name: str, device: Any) -> None:
        self.name = name
        self._device: _Device | None = _Device(cl, name, device)
        self._launches = Launches(self._device, (1, SIBLINGS))

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """`Backend.scan`."""
        check_nonces(nonces)
        if self._device is None:
            raise ValueError(f"{self.name} is closed")
        return self._launches.scan(work, nonces)

    def close(self) -> None:
        """`Backend.close`."""
        if self._device is not None:
            self._device.drop()
            self._device = None
