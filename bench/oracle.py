"""Who knows the right answer: hashlib, or a device that has proved itself against hashlib.

hashlib does about a million hashes a second, a device up to ten thousand times as many. So the
complete answer for a fast device's ranges comes from another device, after that has found exactly
what hashlib finds in dense windows of its own timed ranges.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from bench.ground import target_of
from miner.backends import Backend
from miner.work import Hit, Span, Work

DENSE_BITS = 4
"""In dense windows one hash in sixteen is a hit: few hashes prove much."""

CHUNK_SECONDS = 0.1
"""How long one scan of an oracle takes about."""

HASHLIB_RATE = 0.7e6
"""H/s of the definition in Python, roughly: it only bounds how much is asked."""


def hashlib_hits(work: Work, nonces: range) -> list[Hit]:
    """Every hit, by the definition: two calls of hashlib for each whole header."""
    found = []
    sha256, target, rest = hashlib.sha256, work.target, work.header[4:76]
    for version in work.versions:
        start = version.to_bytes(4, "little") + rest
        for nonce in nonces:
            digest = sha256(sha256(start + nonce.to_bytes(4, "little")).digest()).digest()
            if int.from_bytes(digest, "little") <= target:
                found.append(Hit(nonce, version))
    return sorted(found)


class OracleCaught(Exception):
    """The reference itself was wrong: nothing can be proven by it."""


class Oracle:
    """Somebody who knows every hit of a range: hashlib itself, or a device that has proved itself."""

    def __init__(self, device: Backend | None = None, rate: float = HASHLIB_RATE) -> None:
        """`rate` in H/s bounds how much is asked of it. Closing the device is its owner's business."""
        self.device, self.rate = device, rate

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.device.name}, itself proven by hashlib" if self.device else "hashlib"

    @property
    def kind(self) -> str:
        """The kind of device: two of one kind run the same code."""
        return self.device.name.partition(":")[0] if self.device else "hashlib"

    def hits(self, work: Work, nonces: range) -> list[Hit]:
        """Every hit, scanned in pieces of a tenth of a second."""
        if self.device is None:
            return hashlib_hits(work, nonces)
        step = max(1, int(self.rate * CHUNK_SECONDS) // len(work.versions))
        pieces = (range(i, min(i + step, nonces.stop)) for i in range(nonces.start, nonces.stop, step))
        return [hit for piece in pieces for hit in self.device.scan(work, piece)]


def choose(oracles: Sequence[Oracle], kind: str, hashes: int, seconds: float) -> tuple[Oracle, float]:
    """Who shall judge a device of this kind, and how many of its `hashes` within `seconds`: 0 ... 1.

    One of another kind if it gets through half of them; else whoever gets furthest, be it the device
    itself, scanning again.
    """

    def coverage(oracle: Oracle) -> float:
        return min(1.0, oracle.rate * seconds / hashes)

    def merit(oracle: Oracle) -> tuple[bool, float]:
        return oracle.kind != kind and coverage(oracle) >= 0.5, coverage(oracle)

    best = max(oracles, key=merit)
    return best, coverage(best)


class Density(NamedTuple):
    """What a dense check found."""

    expected: int
    missing: int
    extra: int
    """False, repeated or out of order."""


def dense_check(device: Backend, windows: Sequence[Span]) -> Density:
    """Scan the windows at a dense target, and compare with hashlib, hit for hit."""
    expected = missing = extra = 0
    for header, versions, nonces in ((w.work.header, w.work.versions, w.nonces) for w in windows):
        work = Work(header, target_of(DENSE_BITS), versions)
        known, answer = hashlib_hits(work, nonces), device.scan(work, nonces)
        expected += len(known)
        missing += len(set(known) - set(answer))
        extra += len(set(answer) - set(known)) + len(answer) - len(set(answer)) + (answer != sorted(answer))
    return Density(expected, missing, extra)
