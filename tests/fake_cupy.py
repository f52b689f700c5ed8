"""A stand-in for CuPy 14 whose cards are `ptx_emulator`s, for machines that have no card.

It takes what CuPy takes and refuses what CuPy refuses, as its documentation and source say; the places are
named below (paths in the cupy repository). It is stricter than CuPy in one way: a launch whose arguments do
not have the sizes that the kernel was compiled for fails, where a card would read whatever lies there.

Work is queued per stream and done when somebody waits for it, as late as a card could do it: a driver that
reads results without waiting reads 0xA5. An error of the emulated card is sticky: all that follows on that
card fails with it too (CUDA Runtime API, "Error Handling").
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import ptx_emulator as emulator

from bench import nvidia_tools

_NAMES = {
    1: "cudaErrorInvalidValue: invalid argument",
    2: "cudaErrorMemoryAllocation: out of memory",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    100: "cudaErrorNoDevice: no CUDA-capable device is detected",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    701: "cudaErrorLaunchOutOfResources: too many resources requested for launch",
    702: "cudaErrorLaunchTimeout: the launch timed out and was terminated",
    719: "cudaErrorLaunchFailure: unspecified launch failure",
    999: "cudaErrorUnknown: unknown error",
}


class CUDARuntimeError(RuntimeError):
    """cupy_backends/cuda/api/runtime.pyx: `status`, and "name: description" as text."""

    __module__ = "cupy_backends.cuda.api.runtime"

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_NAMES.get(status, f"cudaError{status}: error {status}"))


class CUDADriverError(RuntimeError):
    """cupy_backends/cuda/api/driver.pyx: what moduleLoadData and launchKernel raise."""

    __module__ = "cupy_backends.cuda.api.driver"

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(
            _NAMES.get(status, f"CUDA_ERROR_{status}: error {status}").replace("cudaError", "CUDA_ERROR_")
        )


class OutOfMemoryError(MemoryError):
    """cupy/cuda/memory.pyx."""

    __module__ = "cupy.cuda.memory"


class CompileException(Exception):
    """cupy/cuda/compiler.py: NVRTC's log."""

    __module__ = "cupy.cuda.compiler"


@dataclass
class Card:
    """One emulated card, and how it shall fail."""

    name: str = "NVIDIA Emulated 4090"
    major: int = 8
    minor: int = 9
    processors: int = 2
    uuid: bytes = bytes(range(1, 17))
    memory: emulator.DeviceMemory = field(default_factory=emulator.DeviceMemory)
    fail: dict[str, BaseException] = field(default_factory=dict)
    """Step -> what it raises: "properties", "zeros", "pinned", "compile", "load", "launch", "wait"."""
    status: int = 0
    """The sticky error, once there is one."""
    launches: list[tuple[int, int, int]] = field(default_factory=list)
    """(stream, blocks, threads) of every launch so far."""
    pending: int = 0
    """Launches that are queued now."""
    deepest: int = 0
    """The most that ever were."""

    def step(self, name: str) -> None:
        """Fail here if the card is broken or was told to."""
        if self.status:
            raise CUDARuntimeError(self.status)
        if name in self.fail:
            raise self.fail[name]


Action = Callable[[], None]


class FakeCupy:
    """The machine: cards, driver, and the module that `import cupy` gives."""

    def __init__(self, cards: Sequence[Card], *, count_error: BaseException | None = None) -> None:
        self.cards, self.count_error = list(cards), count_error
        self._here = threading.local()
        self._queues: dict[int, list[tuple[int, Action]]] = {}
        self._next = 0
        self.module = self._make_module()

    # -- which card, which stream

    def device(self) -> int:
        return int(getattr(self._here, "device", 0))

    def card(self) -> Card:
        return self.cards[self.device()]

    def streams(self) -> list[Any]:
        """The calling thread's stack of current streams."""
        if not hasattr(self._here, "streams"):
            self._here.streams = []
        stack: list[Any] = self._here.streams
        return stack

    def new_handle(self) -> int:
        self._next += 1
        self._queues[self._next] = []
        return self._next

    def enqueue(self, stream: int, action: Action) -> int:
        """Queue work; its ticket."""
        self._next += 1
        self._queues.setdefault(stream, []).append((self._next, action))
        return self._next

    def run(self, stream: int, until: int | None = None) -> None:
        """Do what a stream has queued, up to a ticket. The first fault sticks to the card."""
        card, queue = self.card(), self._queues.setdefault(stream, [])
        card.step("wait")
        while queue and (until is None or queue[0][0] <= until):
            _, action = queue.pop(0)
            try:
                action()
            except emulator.PtxFault as fault:
                card.status = fault.status
                raise CUDARuntimeError(fault.status) from fault

    # -- the module

    def _make_module(self) -> ModuleType:
        cupy = ModuleType("cupy")
        cupy.__spec__ = ModuleSpec("cupy", None)
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=self._get_device_count,
            getDeviceProperties=self._get_properties,
            deviceGetPCIBusId=lambda device: f"0000:{device + 1:02X}:00.0",
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 12090,
        )
        cuda = SimpleNamespace(
            runtime=runtime,
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            Device=lambda device=None: _Device(self, device),
            Stream=lambda **options: _Stream(self, **options),
            Event=lambda **options: _Event(self, **options),
            alloc_pinned_memory=self._alloc_pinned,
        )
        cupy.__dict__.update(
            __version__="14.2.0", cuda=cuda, zeros=self._zeros, RawModule=lambda **kw: _RawModule(self, **kw)
        )
        return cupy

    def _get_device_count(self) -> int:
        if self.count_error:
            raise self.count_error
        return len(self.cards)

    def _get_properties(self, device: int) -> dict[str, Any]:
        if not 0 <= device < len(self.cards):
            raise CUDARuntimeError(101)
        card = self.cards[device]
        card.step("properties")
        return {
            "name": card.name.encode(), "major": card.major, "minor": card.minor,
            "multiProcessorCount": card.processors, "totalGlobalMem": card.memory.total,
            # runtime.pyx copies char[16] as a C string: it ends at the first zero byte.
            "uuid": card.uuid.split(b"\0")[0], "kernelExecTimeoutEnabled": 0,
        }  # fmt: skip

    def _alloc_pinned(self, size: int) -> Any:
        """cupy/cuda/pinned_memory.pyx: a buffer with `ptr`, rounded up to 512 bytes by the pool."""
        self.card().step("pinned")
        block = type("PinnedMemoryPointer", (ctypes.c_byte * (-(-size // 512) * 512),), {})()
        block.ptr = ctypes.addressof(block)
        ctypes.memset(block.ptr, 0xA5, ctypes.sizeof(block))
        return block

    def _zeros(self, shape: int, dtype: Any = float, order: str = "C") -> _Array:
        card = self.card()
        card.step("zeros")
        size = int(shape) * np.dtype(dtype).itemsize
        try:
            address = card.memory.allocate(size)
        except MemoryError as error:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes") from error
        array = _Array(self, self.device(), address, size)
        array.data.memset_async(0, size)  # on the current stream, not before
        return array


class _Device:
    """cupy/cuda/device.pyx: a context that makes a card the thread's current one."""

    def __init__(self, machine: FakeCupy, device: int | None) -> None:
        self._machine, self.id = machine, machine.device() if device is None else int(device)
        self._before: list[int] = []
        if not 0 <= self.id < len(machine.cards):
            raise CUDARuntimeError(101)

    def __enter__(self) -> _Device:
        self._before.append(self._machine.device())
        self._machine._here.device = self.id
        return self

    def __exit__(self, *_: object) -> None:
        self._machine._here.device = self._before.pop()

    def synchronize(self) -> None:
        with self:
            for stream in list(self._machine._queues):
                self._machine.run(stream)


class _Stream:
    """cupy/cuda/stream.pyx."""

    def __init__(self, machine: FakeCupy, null: bool = False, non_blocking: bool = False, ptds: bool = False,
                 priority: int | None = None) -> None:  # fmt: skip
        machine.card().step("stream")
        self._machine, self.ptr = machine, 0 if null else machine.new_handle()
        self.device_id = machine.device()

    def __enter__(self) -> _Stream:
        if self._machine.device() != self.device_id:  # check_stream_device_match
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id})"
                f" does not match with the current device ({self._machine.device()})"
            )
        self._machine.streams().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.streams().pop()

    def synchronize(self) -> None:
        self._machine.run(self.ptr)


class _Event:
    """cupy/cuda/stream.pyx."""

    def __init__(self, machine: FakeCupy, block: bool = False, disable_timing: bool = False,
                 interprocess: bool = False) -> None:  # fmt: skip
        machine.card().step("event")
        self._machine, self._recorded = machine, (0, 0)

    def record(self, stream: _Stream | None = None) -> None:
        ptr = _current(self._machine) if stream is None else stream.ptr
        self._recorded = ptr, self._machine.enqueue(ptr, lambda: None)

    def synchronize(self) -> None:
        """An event that was never recorded is complete (cudaEventSynchronize)."""
        stream, ticket = self._recorded
        self._machine.run(stream, ticket)


def _current(machine: FakeCupy) -> int:
    stack = machine.streams()
    return int(stack[-1].ptr) if stack else 0


class _MemoryPointer:
    """cupy/cuda/memory.pyx; the host side of a copy is an address."""

    def __init__(self, machine: FakeCupy, device: int, ptr: int) -> None:
        self._machine, self._device, self.ptr = machine, device, ptr

    def _queue(self, stream: _Stream | None, action: Action) -> None:
        self._machine.card().step("queue")
        if stream is not None and stream.device_id != self._machine.device():
            raise CUDARuntimeError(400)
        self._machine.enqueue(_current(self._machine) if stream is None else stream.ptr, action)

    def memset_async(self, value: int, size: int, stream: _Stream | None = None) -> None:
        memory = self._machine.cards[self._device].memory
        self._queue(stream, lambda: memory.bytes_at(self.ptr, size).fill(value))

    def copy_to_host_async(self, mem: int, size: int, stream: _Stream | None = None) -> None:
        if not isinstance(mem, (int, ctypes.c_void_p)):
            raise TypeError(f"an integer is required, not {type(mem)}")
        memory = self._machine.cards[self._device].memory
        self._queue(
            stream, lambda: ctypes.memmove(mem, memory.bytes_at(self.ptr, size).tobytes(), size) and None
        )


class _Array:
    """cupy.ndarray, as far as a kernel argument needs it."""

    def __init__(self, machine: FakeCupy, device: int, address: int, size: int) -> None:
        self.data, self.nbytes = _MemoryPointer(machine, device, address), size
        self._free = machine.cards[device].memory.free

    def __del__(self) -> None:
        self._free(self.data.ptr)


def packed(argument: object) -> bytes:
    """cupy/cuda/function.pyx, `_pointer`: the bytes that a kernel argument becomes; TypeError."""
    if argument is None:
        return bytes(8)
    if isinstance(argument, (_Array, _MemoryPointer)):
        pointer = argument.data if isinstance(argument, _Array) else argument
        return np.uint64(pointer.ptr).tobytes()
    if isinstance(argument, np.ndarray):
        # By value, and of one element only: more is taken for a forgotten copy to the card.
        if argument.size != 1:
            raise TypeError(f"Unsupported type {type(argument)}")
        return argument.tobytes()
    if isinstance(argument, (bool, np.bool_)):
        return np.bool_(argument).tobytes()
    if isinstance(argument, int):
        return np.int64(argument).tobytes()
    if isinstance(argument, float):
        return np.float64(argument).tobytes()
    if isinstance(argument, (np.integer, np.floating)):
        return argument.tobytes()
    raise TypeError(f"Unsupported type {type(argument)}")


@cache
def _parsed(ptx: str) -> Mapping[str, emulator.Kernel]:
    return emulator.parse(ptx)


class _RawModule:
    """cupy/_core/raw.pyx: keyword arguments only; nothing is compiled before a function is asked for."""

    def __init__(self, machine: FakeCupy, *, code: str | None = None, path: str | None = None,
                 options: tuple[str, ...] = (), backend: str = "nvrtc", **_: object) -> None:  # fmt: skip
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if not isinstance(options, tuple):
            raise TypeError(
                f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})"
            )
        assert code is not None, "cubin files are not emulated"
        assert backend == "nvrtc"
        self._machine, self._code, self._options = machine, code, options

    def get_function(self, name: str) -> _RawKernel:
        kernel = _RawKernel(self._machine, self._code, name, self._options)
        kernel.loaded()
        return kernel


class _RawKernel:
    """cupy/_core/raw.pyx: compiled per device, launched on the current stream."""

    def __init__(self, machine: FakeCupy, code: str, name: str, options: tuple[str, ...]) -> None:
        self._machine, self._code, self._name, self._options = machine, code, name, options

    def loaded(self) -> emulator.Kernel:
        card = self._machine.card()
        card.step("compile")
        try:
            ptx = nvidia_tools.compiled(self._code, f"sm_{card.major}{card.minor}", self._options).ptx
        except nvidia_tools.CompileError as error:
            raise CompileException(str(error)) from error
        card.step("load")
        kernels = _parsed(ptx)
        if self._name not in kernels:
            raise CUDADriverError(500)  # CUDA_ERROR_NOT_FOUND
        return kernels[self._name]

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[object], *,
                 shared_mem: int = 0) -> None:  # fmt: skip
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("grid and block are tuples")
        machine, card, kernel = self._machine, self._machine.card(), self.loaded()
        card.step("launch")
        (blocks, *_), (threads, *_) = grid, block
        arguments = [packed(argument) for argument in args]
        stream = machine.streams()[-1] if machine.streams() else None
        if stream is not None and stream.device_id != machine.device():
            raise CUDADriverError(400)
        try:
            emulator.pack_arguments(kernel, arguments)
            if threads > kernel.max_threads:
                raise emulator.PtxFault(emulator.LAUNCH_OUT_OF_RESOURCES, f"{threads} threads")
        except emulator.PtxFault as fault:
            raise CUDADriverError(fault.status) from fault

        def work() -> None:
            card.pending -= 1
            emulator.launch(kernel, blocks, threads, arguments, card.memory)

        card.launches.append((_current(machine), blocks, threads))
        card.pending += 1
        card.deepest = max(card.deepest, card.pending)
        machine.enqueue(_current(machine), work)


@contextmanager
def installed(machine: FakeCupy, monkeypatch: Any) -> Iterator[FakeCupy]:
    """`import cupy` gives this machine's module, on which the driver library is found."""
    from miner.backends import cuda

    monkeypatch.setitem(__import__("sys").modules, "cupy", machine.module)
    monkeypatch.setattr(cuda, "_driver_reason", lambda: "")
    yield machine
