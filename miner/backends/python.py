"""The definition: hashlib, one nonce after the other. Every other device is compared with this one.

A loop of Python costs little here: hashlib takes 0.6 of the 0.7 us per hash
(docs/decisions/0041-the-python-loop.md tells what was tried).
"""

import hashlib
import platform
import struct
from collections.abc import Iterator

from miner.backends.protocol import Backend, DeviceInfo, check_nonces
from miner.work import Hit, Work


class PythonBackend:
    """One thread of hashlib."""

    name = "python"
    form = "hashlib"

    def __init__(self) -> None:
        self._closed = False

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """Every (nonce, version) whose header hash meets work.target, sorted."""
        if self._closed:
            raise ValueError("the python backend is closed")
        check_nonces(nonces)
        if len(work.versions) == 1:
            return list(_hits(work, work.versions[0], nonces))
        return sorted(hit for version in work.versions for hit in _hits(work, version, nonces))

    def close(self) -> None:
        """Nothing to free."""
        self._closed = True


def _hits(work: Work, version: int, nonces: range) -> Iterator[Hit]:
    target = work.target
    # Little-endian: the last byte is the most significant, and turns almost all away without an int.
    top = target >> 248
    sha256 = hashlib.sha256
    # Copying an object that has swallowed the first 76 bytes saves their compression for each nonce.
    start = sha256(version.to_bytes(4, "little") + work.header[4:76]).copy
    uint32 = struct.Struct("<I").pack
    for nonce in nonces:
        inner = start()
        inner.update(uint32(nonce))
        digest = sha256(inner.digest()).digest()
        if digest[31] <= top and int.from_bytes(digest, "little") <= target:
            yield Hit(nonce, version)


def open(selector: str | None, threads: int | None) -> Backend:
    """The python backend. ValueError for a selector or for more than one thread."""
    if selector is not None:
        raise ValueError(f"python has no device {selector!r}: there is one, called python")
    if threads not in (None, 1):
        raise ValueError(f"python runs on 1 thread, not {threads}; multiprocess takes more")
    return PythonBackend()


def devices() -> list[DeviceInfo]:
    """Always there."""
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    return [DeviceInfo("python", True, f"hashlib on one thread of {interpreter}")]
