"""Devices: how one is found by name, and that none is handed out unproved.

A kind of device is a module of this package with two functions,
`open(selector, threads) -> Backend` and `devices() -> list[DeviceInfo]`. It is
imported when somebody asks for it, and imports its own library no sooner.
Another package adds a kind by an entry point in the group `miner.backends`:
its name, and a callable like `open`.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

from miner.backends.protocol import Backend, DeviceInfo, check_threads, siblings_of
from miner.backends.selftest import self_test, spot_check
from miner.errors import DeviceError, DeviceUnavailable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Backend", "DeviceInfo", "devices", "open_backend", "self_test", "siblings_of", "spot_check"]


class _Kind(Protocol):
    """What a module of this package must have."""

    open: "Open"
    devices: Callable[[], list[DeviceInfo]]


Open = Callable[[str | None, int | None], Backend]

KINDS = ("cuda", "opencl", "numba", "multiprocess", "python", "numpy")
"""Our own, fastest first, as `auto` tries them (docs/decisions/0042-the-order-of-auto.md)."""

EXTRAS = {"cuda": "cuda12", "opencl": "opencl", "numba": "numba", "numpy": "numpy"}
"""Kind -> the extra of ours that installs all the libraries it needs."""

GROUP = "miner.backends"
"""Entry points in it are kinds from other packages."""

MAX_THREADS = 1024
"""More than any one machine's cores; a kind may set a lower bound."""


def open_backend(spec: str, *, threads: int | None = None) -> Backend:
    """The device that `spec` names, its self-test passed.

    `spec` is a kind ("numba"), a kind and a device of it ("cuda:1"), or "auto": the fastest kind
    that works here. `threads` None leaves the number to the device. ValueError for a name nobody
    knows or threads out of range; DeviceUnavailable says what is missing and what to do;
    SelfTestFailed if the device gives a wrong answer.
    """
    if not isinstance(spec, str):
        raise TypeError(f"a backend is named by a str, not {type(spec).__name__}")
    check_threads(threads, MAX_THREADS)
    return _open_fastest(threads) if spec == "auto" else _open_proved(spec, threads)


def devices() -> list[DeviceInfo]:
    """Every device of every kind, those that cannot be used too, with the reason."""
    ours = [info for kind in KINDS for info in _devices_of(kind)]
    return ours + [_foreign_info(point) for point in _entry_points()]


def _open_fastest(threads: int | None) -> Backend:
    passed_over = []
    for spec in _preferred():
        try:
            return _open_proved(spec, threads)
        except DeviceError as error:
            passed_over.append(f"{spec}: {error}")
    raise DeviceUnavailable(f"no backend works here. {'; '.join(passed_over)}")


def _preferred() -> Iterator[str]:
    for kind in KINDS:
        if kind == "opencl":
            # PoCL runs OpenCL on the CPU, slower than numba does: only a real GPU comes first.
            yield from (info.name for info in _devices_of(kind) if info.available and info.gpu)
        else:
            yield kind


def _open_proved(spec: str, threads: int | None) -> Backend:
    backend = _open(spec, threads)
    try:
        self_test(backend)
    except BaseException:  # Ctrl-C too: nobody else can close it
        with suppress(Exception):  # what came first is what there is to tell
            backend.close()
        raise
    return backend


def _open(spec: str, threads: int | None) -> Backend:
    kind, colon, selector = spec.partition(":")
    opener = _opener(kind)
    try:
        backend = opener(selector if colon else None, threads)
    except (DeviceError, ValueError):
        raise
    except Exception as error:  # a driver's own, or anybody's code
        raise DeviceUnavailable(f"{spec} cannot be opened: {error!r}") from error
    if missing := [name for name in ("name", "scan", "close") if not hasattr(backend, name)]:
        raise DeviceUnavailable(f"{spec} opened {backend!r}, which has no {', '.join(missing)}")
    return backend


def _opener(kind: str) -> Open:
    if kind in KINDS:
        return _module(kind).open
    for point in _entry_points():
        if point.name == kind:
            return _load(point)
    known = ", ".join((*KINDS, "auto", *(point.name for point in _entry_points())))
    raise ValueError(f"no backend is called {kind!r}; there are {known}")


def _module(kind: str) -> "_Kind":
    try:
        return cast(_Kind, importlib.import_module(f"{__name__}.{kind}"))
    except ImportError as error:
        raise DeviceUnavailable(_missing(kind, error)) from error


def _missing(kind: str, error: ImportError) -> str:
    library = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and kind in EXTRAS and library not in {"", "miner", "kernels"}:
        return f"{library} is not installed: pip install 'nonceforge[{EXTRAS[kind]}]'"
    return f"it cannot be loaded: {error}"


def _devices_of(kind: str) -> list[DeviceInfo]:
    try:
        return _module(kind).devices()
    except Exception as error:  # noqa: BLE001 - one broken driver must not hide the other devices
        return [DeviceInfo(kind, False, kind, str(error) or repr(error))]


def _entry_points() -> Iterable["EntryPoint"]:
    from importlib.metadata import entry_points  # 15 ms, and most starts know the name without it

    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _load(point: "EntryPoint") -> Open:
    try:
        return cast(Open, point.load())
    except Exception as error:  # anybody's code
        raise DeviceUnavailable(f"the entry point {point.value} cannot be loaded: {error!r}") from error


def _foreign_info(point: "EntryPoint") -> DeviceInfo:
    description = f"entry point {point.value}"
    try:
        _load(point)
    except DeviceUnavailable as error:
        return DeviceInfo(point.name, False, description, str(error))
    return DeviceInfo(point.name, True, description)
