"""The search program on NumPy arrays: thousands of nonces at once, on one thread, without a compiler.

Slower than hashlib, and here for another reason: it runs the very program that
the other devices are made from, operation by operation, in a few lines.
"""

from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kernels.search import given, search
from miner.backends.protocol import Backend, DeviceInfo, check_nonces
from miner.errors import DeviceUnavailable
from miner.header import sha256d
from miner.work import Hit, Work

if TYPE_CHECKING:
    from numpy import uint32
    from numpy.typing import NDArray

BLOCK = 1 << 14
"""Nonces at once: 64 KiB per word. Fewer cost more calls per nonce, many more no longer fit the cache."""


class NumpyBackend:
    """One thread of array operations."""

    name = "numpy"
    form = "uint32 arrays"

    def __init__(self) -> None:
        import numpy

        self._numpy = numpy
        self._closed = False

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """Every (nonce, version) whose header hash meets work.target, sorted."""
        if self._closed:
            raise ValueError("the numpy backend is closed")
        check_nonces(nonces)
        blocks = [nonces[i : i + BLOCK] for i in range(0, len(nonces), BLOCK)]
        hits = (
            hit
            for version, midstate in zip(work.versions, work.midstates, strict=True)
            for prologue in [search(1).prologue(given([midstate], work.tail))]
            for block in blocks
            for hit in self._candidates(work, version, block, prologue)
        )
        return sorted(hit for hit in hits if _value(work.header_of(hit)) <= work.target)

    def close(self) -> None:
        """Nothing to free."""
        self._closed = True

    def _candidates(
        self, work: Work, version: int, block: range, prologue: tuple[list[int], list[list[int]]]
    ) -> list[Hit]:
        """The hits, and those that only share the target's top word."""
        np = self._numpy
        nonces = np.arange(block.start, block.stop, dtype=np.uint64).astype(np.uint32)
        tops: NDArray[uint32]
        # The program reads and gives big-endian words, a header holds little-endian numbers.
        (tops,) = search(1).run([nonces.byteswap()], *prologue)
        places = np.flatnonzero(tops.byteswap() <= np.uint32(work.target >> 224))
        return [Hit(block.start + place, version) for place in places.tolist()]


def _value(header: bytes) -> int:
    return int.from_bytes(sha256d(header), "little")


def open(selector: str | None, threads: int | None) -> Backend:
    """The numpy backend. ValueError for a selector or for more than one thread."""
    if selector is not None:
        raise ValueError(f"numpy has no device {selector!r}: there is one, called numpy")
    if threads not in (None, 1):
        raise ValueError(f"numpy runs on 1 thread, not {threads}; numba takes more")
    if reason := _why_not():
        raise DeviceUnavailable(reason)
    return NumpyBackend()


def devices() -> list[DeviceInfo]:
    """One, if NumPy is installed."""
    reason = _why_not()
    return [DeviceInfo("numpy", not reason, "array operations on one thread", reason)]


def _why_not() -> str:
    with suppress(ImportError, ValueError):
        if find_spec("numpy"):
            return ""
    return "numpy is not installed: pip install 'nonceforge[numpy]'"
