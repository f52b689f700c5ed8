"""Devices that are wrong, each in one way that a real one has been or could be.

`tests/test_selftest.py` shows that the self-test refuses every one of them: a
self-test is worth what it catches.
"""

from dataclasses import replace
from hashlib import sha256

from miner.backends.python import PythonBackend
from miner.header import sha256d
from miner.target import MAX_TARGET
from miner.work import Hit, Work


class SkipsTheLastNonce(PythonBackend):
    """Stops one short: `<` where `<=` was meant."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces[:-1])


class SkipsTheFirstNonce(PythonBackend):
    """Begins one late."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces[1:])


class OneNonceTooMany(PythonBackend):
    """Rounds its range up and reports what it finds there."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, range(nonces.start, min(nonces.stop + 1, 1 << 32)))


class FirstHitOnly(PythonBackend):
    """Stops at the first hit, as a miner that wants one block."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces)[:1]


class LessThan(PythonBackend):
    """`<` for `<=`: a hash equal to the target is lost."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, target=work.target - 1), nonces) if work.target else []


class TopWordOnly(PythonBackend):
    """Compares the top 32 bits and believes them."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, target=work.target | (1 << 224) - 1), nonces)


class TopTwoWordsOnly(PythonBackend):
    """Compares the top 64 bits and believes them."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, target=work.target | (1 << 192) - 1), nonces)


class Unordered(PythonBackend):
    """Hits as the lanes of a device happen to write them."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return sorted(super().scan(work, nonces), key=lambda hit: (hit.nonce % 32, hit))


class VersionsFirst(PythonBackend):
    """One version after the other: sorted by version, then by nonce."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return sorted(super().scan(work, nonces), key=lambda hit: (hit.version, hit.nonce))


def swapped(nonce: int) -> int:
    """The nonce with its four bytes in the other order."""
    return int.from_bytes(nonce.to_bytes(4, "big"), "little")


def _alone(nonce: int) -> range:
    return range(nonce, nonce + 1)


class BigEndianNonce(PythonBackend):
    """Writes the nonce into the header most significant byte first."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        found = [(n, super(BigEndianNonce, self).scan(work, _alone(swapped(n)))) for n in nonces]
        return [Hit(nonce, hit.version) for nonce, hits in found for hit in hits]


class ByteSwappedAnswer(PythonBackend):
    """Finds the right nonce and reports its bytes backwards."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return sorted(hit._replace(nonce=swapped(hit.nonce)) for hit in super().scan(work, nonces))


class StaleMidstate(PythonBackend):
    """Keeps the first work's midstate."""

    _first: Work | None = None

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        self._first = self._first or work
        header = self._first.header[:64] + work.header[64:]
        return super().scan(replace(work, header=header), nonces)


class MidstateByMerkleRoot(PythonBackend):
    """Makes a new midstate only when the merkle root has changed: blind to a new previous block."""

    _last: Work | None = None

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        if self._last is None or self._last.header[36:68] != work.header[36:68]:
            self._last = work
        header = self._last.header[:64] + work.header[64:]
        return super().scan(replace(work, header=header), nonces)


class StaleTail(PythonBackend):
    """Sets bytes 64-75 only with a new midstate: blind to a new header time."""

    _last: Work | None = None

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        if self._last is None or self._last.header[:64] != work.header[:64]:
            self._last = work
        return super().scan(replace(work, header=self._last.header), nonces)


class HalfATail(PythonBackend):
    """Zeros where the last word of the merkle root belongs."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, header=work.header[:64] + bytes(4) + work.header[68:]), nonces)


class IgnoresTheTail(PythonBackend):
    """Zeros where time and bits belong: right for a benchmark, wrong for a block."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, header=work.header[:68] + bytes(12)), nonces)


class StaleTarget(PythonBackend):
    """Sets the target only with a new header."""

    _last: Work | None = None

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        if self._last is None or self._last.header != work.header:
            self._last = work
        return super().scan(replace(work, target=self._last.target), nonces)


class SixtyFourSlots(PythonBackend):
    """A ring of 64 results: the later ones overwrite the earlier."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces)[-64:]


class ThousandSlots(PythonBackend):
    """A result buffer of 1,024; what does not fit is dropped without a word."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces)[:1024]


class SignedNonce(PythonBackend):
    """Reads its results as int32."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        hits = super().scan(work, nonces)
        return sorted(hit._replace(nonce=(hit.nonce ^ 1 << 31) - (1 << 31)) for hit in hits)


class SignedVersion(PythonBackend):
    """Reads its versions as int32."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        hits = super().scan(work, nonces)
        return sorted(hit._replace(version=(hit.version ^ 1 << 31) - (1 << 31)) for hit in hits)


class WrapsAtTheEnd(PythonBackend):
    """Keeps the end of its range in 32 bits: the end of all nonces becomes 0."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces) if nonces.stop < 1 << 32 else []


class LosesUpperHalf(PythonBackend):
    """Loses the nonces whose top bit is set."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return [hit for hit in super().scan(work, nonces) if hit.nonce < 1 << 31]


class IgnoresVersions(PythonBackend):
    """Hashes the header's own version alone."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, versions=()), nonces)


class FirstVersionOnly(PythonBackend):
    """Hashes the first of the versions alone."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, versions=work.versions[:1]), nonces)


class OneMidstateForAll(PythonBackend):
    """Hashes the first version under the name of each."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        hits = super().scan(replace(work, versions=work.versions[:1]), nonces)
        return sorted(Hit(hit.nonce, version) for hit in hits for version in work.versions)


class StaleVersions(PythonBackend):
    """Loads the versions only with a new number of them."""

    _last: tuple[int, ...] = ()

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        if len(self._last) != len(work.versions):
            self._last = work.versions
        return super().scan(replace(work, versions=self._last), nonces)


class WrongVersionLabel(PythonBackend):
    """Finds hits under every version and calls them all by the first."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return [hit._replace(version=work.versions[0]) for hit in super().scan(work, nonces)]


class IgnoresTheRest(PythonBackend):
    """Takes versions in pairs and forgets the odd one at the end."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        even = len(work.versions) // 2 * 2 or 1
        return super().scan(replace(work, versions=work.versions[:even]), nonces)


class IgnoresTheStart(PythonBackend):
    """Counts from nonce 0 whatever it was given."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, range(len(nonces)))


class RepeatsARange(PythonBackend):
    """Answers a work it knows with what it found in it before."""

    _last: tuple[Work, list[Hit]] | None = None

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        if self._last is None or self._last[0] != work:
            self._last = (work, super().scan(work, nonces))
        return list(self._last[1])


class ReturnsEarly(PythonBackend):
    """Gives up after a thousand nonces."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces[:1000])


class SkipsEveryThousandth(PythonBackend):
    """Loses every thousandth nonce."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return [hit for hit in super().scan(work, nonces) if hit.nonce % 1000 != 999]


class DropsThePartialBlock(PythonBackend):
    """Rounds its range down to whole blocks of 32."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(work, nonces[: len(nonces) // 32 * 32])


class Duplicates(PythonBackend):
    """Two overlapping halves."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        half = len(nonces) // 2
        return super().scan(work, nonces[: half + 1]) + super().scan(work, nonces[half:])


class Uint32(int):
    """Stands for a NumPy integer: equal to an int, and none."""


class ForeignIntegers(PythonBackend):
    """Hands out the integers of its own library."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return [hit._replace(nonce=Uint32(hit.nonce)) for hit in super().scan(work, nonces)]


class PlainTuples(PythonBackend):
    """Tuples without names, which compare equal to hits."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return [tuple(hit) for hit in super().scan(work, nonces)]  # type: ignore[misc]


class FalseHits(PythonBackend):
    """Adds a nonce that it never hashed."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        extra = [Hit(nonces.start, work.versions[0])] if nonces else []
        return sorted({*super().scan(work, nonces), *extra})


def _once(header: bytes) -> int:
    return int.from_bytes(sha256(header).digest(), "little")


class OneHashOnly(PythonBackend):
    """Hashes once instead of twice."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        hits = (Hit(nonce, version) for nonce in nonces for version in sorted(work.versions))
        return [hit for hit in hits if _once(work.header_of(hit)) <= work.target]


class BigEndianHash(PythonBackend):
    """Compares the hash as it is printed by nobody: first byte first."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        hits = (Hit(nonce, version) for nonce in nonces for version in sorted(work.versions))
        return [hit for hit in hits if int.from_bytes(sha256d(work.header_of(hit)), "big") <= work.target]


class FindsNothing(PythonBackend):
    """A kernel that never ran: always empty."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return []


class FindsEverything(PythonBackend):
    """A result buffer that was never cleared: each nonce a hit."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return super().scan(replace(work, target=MAX_TARGET), nonces)


class AnswersNone(PythonBackend):
    """A `return` that was forgotten."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return None  # type: ignore[return-value]


class ForgetsAPlace(PythonBackend):
    """Its kernel for real difficulties never reports the third version of a group."""

    siblings = 4

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        hits = super().scan(work, nonces)
        if work.target >> 224 or len(work.versions) < 4:
            return hits
        return [hit for hit in hits if hit.version != work.versions[2]]


class Raises(PythonBackend):
    """A driver's own exception."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")


MUTANTS = [kind for kind in PythonBackend.__subclasses__() if kind.__module__ == __name__]
"""Every one of them."""
