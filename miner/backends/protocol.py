"""What a device is to the rest of the program: a name, a scan, a close."""

from dataclasses import dataclass
from typing import Protocol

from miner.work import NONCES, Hit, Work


class Backend(Protocol):
    """One device. The engine calls it from one thread at a time."""

    @property
    def name(self) -> str:
        """"numba", "cuda:0", ...: the CLI word and the benchmark row."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """Every (nonce, version) whose header hash meets work.target, sorted.

        `nonces` is range(a, b) with 0 <= a <= b <= 2**32. DeviceFault if the device breaks.
        """

    def close(self) -> None:
        """Free the device; scanning afterwards is an error (ValueError). Closing twice is not."""


def siblings_of(backend: Backend) -> int:
    """How many versions per Work a device is fastest with: its own `siblings` if it has that, else 1.

    An attribute that a device may leave out: most gain nothing from more than one.
    """
    return int(getattr(backend, "siblings", 1))


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One line of `miner devices`."""

    name: str
    """What `open_backend` takes."""
    available: bool
    description: str
    """What it is, in words: cores, model, memory."""
    reason: str = ""
    """Why it is not available and what would help; empty if it is."""
    gpu: bool = False
    """True if `auto` should prefer it to the CPU. PoCL, an OpenCL on the CPU, says False."""


def check_nonces(nonces: range) -> None:
    """ValueError unless `nonces` is range(a, b) with 0 <= a <= b <= 2**32."""
    if nonces.step != 1 or not NONCES.start <= nonces.start <= nonces.stop <= NONCES.stop:
        raise ValueError(f"{nonces} is no range(a, b) with 0 <= a <= b <= 2**32")


def check_threads(threads: int | None, most: int) -> None:
    """ValueError unless `threads` is None, which leaves the choice to the device, or 1 ... most."""
    if threads is not None and not 1 <= threads <= most:
        raise ValueError(f"{threads} threads: not 1 ... {most}")
