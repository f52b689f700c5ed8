"""Job -> Work -> Share, Verdict: what is searched, what is found, what became of it.

A *Job* is everything that may be hashed under one template: a coinbase with
room for an extranonce, a merkle branch, the version bits and header times that
may be rolled. A *Work* is one nonce space out of it: a fixed header (and its
sibling versions) in which only the nonce is left open. `SearchSpace` deals a
job's works, each exactly once:

    time  x  extranonce  x  version  ->  Work  x  nonce

The version turns fastest, since a new one costs a device least; the time turns
last, so that it can follow the clock.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple, Self

from miner.errors import Rule, RuleError
from miner.header import HEADER_SIZE, BlockHeader, display_hex, sha256d
from miner.target import MAX_TARGET, bits_to_target, difficulty

try:
    from kernels import sha256
except ImportError as error:
    import kernels

    # The name is common: a folder of it in the current directory is enough.
    raise ImportError(
        f"the package `kernels` that Python finds first, in {next(iter(kernels.__path__))}, is not"
        " Nonceforge's: start from another directory, or remove or rename it"
    ) from error

NONCES = range(1 << 32)
"""Every nonce there is: a uint32."""

MAX_EXTRANONCE_SIZE = 8
"""Bytes of extranonce that are rolled at most: 2**64 values outlast any device."""


class Hit(NamedTuple):
    """A device's answer, not yet verified. Ordered by nonce, then version."""

    nonce: int
    version: int


@dataclass(frozen=True)
class Work:
    """One nonce space: a header whose nonce is open, and what its hash must meet."""

    header: bytes
    """80 bytes; the last four, the nonce, are ignored, and so is the version if `versions` says others."""
    target: int
    """A hash wins if int.from_bytes(hash, "little") <= target."""
    versions: tuple[int, ...] = ()
    """Sibling headers that differ in the version field alone (BIP 320). Empty becomes the header's own."""
    job: "Job | None" = field(default=None, repr=False)
    """Where it was dealt from; None for a header that somebody brought."""
    extranonce: int = 0
    """The job's extranonce under this work's merkle root."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", bytes(self.header))  # ours: nobody can change it under a scan
        if len(self.header) != HEADER_SIZE:
            raise ValueError(f"a block header is {HEADER_SIZE} bytes, not {len(self.header)}")
        if not 0 <= self.target <= MAX_TARGET:
            raise ValueError(f"target {self.target:#x} is outside 0 ... 2**256 - 1")
        versions = tuple(self.versions) or (int.from_bytes(self.header[:4], "little"),)
        if not all(0 <= version < 1 << 32 for version in versions):
            raise ValueError(f"versions {versions} are not all within 0 ... 2**32 - 1")
        if len(set(versions)) != len(versions):
            raise ValueError(f"versions {versions} hold one version twice")
        object.__setattr__(self, "versions", versions)

    @cached_property
    def midstates(self) -> tuple[tuple[int, ...], ...]:
        """For each version the eight uint32 of SHA-256's state after header bytes 0-63."""
        rest = self.header[4:64]
        return tuple(_midstate(version.to_bytes(4, "little") + rest) for version in self.versions)

    @property
    def tail(self) -> bytes:
        """Header bytes 64-75: what follows the midstate, up to the nonce."""
        return self.header[64:76]

    def header_of(self, hit: Hit) -> bytes:
        """The 80 bytes with the hit's version and nonce in place."""
        version, nonce = hit.version.to_bytes(4, "little"), hit.nonce.to_bytes(4, "little")
        return version + self.header[4:76] + nonce


def _midstate(first_block: bytes) -> tuple[int, ...]:
    words = tuple(int.from_bytes(first_block[i : i + 4], "big") for i in range(0, 64, 4))
    return tuple(sha256.compress(sha256.H0, words))


@dataclass(frozen=True)
class Share:
    """A verified hit: hashlib has seen these 80 bytes meet the target.

    RuleError "high-hash" at construction if they do not, ValueError for a
    nonce or version that the work does not hold.
    """

    work: Work
    nonce: int
    version: int

    def __post_init__(self) -> None:
        if self.version not in self.work.versions:
            raise ValueError(f"version {self.version:08x} is none of the work's {len(self.work.versions)}")
        if not 0 <= self.nonce < 1 << 32:
            raise ValueError(f"nonce {self.nonce} is outside 0 ... 2**32 - 1")
        if self.value > self.work.target:
            raise RuleError(Rule.HIGH_HASH, f"hash {self.hash_hex} > target {self.work.target:064x}")

    @cached_property
    def header(self) -> bytes:
        """The 80 bytes, nonce in place."""
        return self.work.header_of(Hit(self.nonce, self.version))

    @cached_property
    def hash(self) -> bytes:
        """SHA-256d of the header, internal order."""
        return sha256d(self.header)

    @property
    def hash_hex(self) -> str:
        """The hash in display order: zeros first."""
        return display_hex(self.hash)

    @property
    def value(self) -> int:
        """The hash as the number that is compared with a target."""
        return int.from_bytes(self.hash, "little")

    @property
    def difficulty(self) -> float:
        """The difficulty that this hash would have met; for people."""
        return difficulty(max(self.value, 1))

    @property
    def is_block(self) -> bool:
        """Whether the hash meets the header's own bits, not only the share target."""
        return self.value <= bits_to_target(BlockHeader.parse(self.header).bits)


class Outcome(StrEnum):
    """What became of a share."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the chain, node or pool said about a share."""

    share: Share
    outcome: Outcome
    reason: str = ""
    """Its own word for it (BIP 22); empty if accepted without one."""
    device: str = ""
    """The device that found the share, filled in by the engine."""

    @property
    def accepted(self) -> bool:
        """Whether the share was taken."""
        return self.outcome is Outcome.ACCEPTED


@dataclass(frozen=True)
class Job:
    """One template and all that may be rolled in it. Hashes are 32 bytes in internal order."""

    id: str
    version: int
    previous: bytes
    bits: int
    time: int
    """The earliest header time to use, from the clock of whoever gave the job."""
    coinbase_prefix: bytes
    coinbase_suffix: bytes
    """The coinbase without witness, around the extranonce."""
    extranonce_size: int = MAX_EXTRANONCE_SIZE
    """Bytes between prefix and suffix: 0 (nothing to roll) ... 8."""
    branch: tuple[bytes, ...] = ()
    """Merkle branch of the coinbase, leaf side first."""
    target: int = 0
    """What a share must meet; 0 becomes the target of `bits`."""
    max_time: int = (1 << 32) - 1
    """The last header time allowed; equal to `time` if it must not be rolled."""
    version_mask: int = 0
    """The version bits that may be rolled (BIP 320)."""
    nonces: range = NONCES
    """The nonces allowed (BIP 22, noncerange)."""
    height: int | None = None
    once: bool = False
    """True if one accepted share ends the job (a block template), False if each counts (a pool's job)."""

    def __post_init__(self) -> None:
        if not 0 <= self.extranonce_size <= MAX_EXTRANONCE_SIZE:
            raise ValueError(f"extranonce of {self.extranonce_size} bytes: not 0 ... {MAX_EXTRANONCE_SIZE}")
        if not 0 <= self.version_mask < 1 << 32:
            raise ValueError(f"version mask {self.version_mask:#x} is outside 0 ... 2**32 - 1")
        if not 0 <= self.time <= self.max_time < 1 << 32:
            raise ValueError(f"times {self.time} ... {self.max_time} are not a range within uint32")
        if self.nonces.step != 1 or not 0 <= self.nonces.start < self.nonces.stop <= 1 << 32:
            raise ValueError(f"nonces {self.nonces} are not a range within uint32")
        # BlockHeader checks the rest: version, bits and the length of `previous`.
        BlockHeader(self.version, self.previous, bytes(32), self.time, self.bits, 0)
        if not self.target:
            object.__setattr__(self, "target", bits_to_target(self.bits))

    @property
    def version_count(self) -> int:
        """How many versions may be mined: 2 ** (bits in the mask)."""
        return 1 << self.version_mask.bit_count()

    def version_at(self, index: int) -> int:
        """The version number `index` of them; 0 is the template's own."""
        places = [1 << i for i in range(32) if self.version_mask >> i & 1]
        # XOR: index 0 leaves the template's version alone, and every other index gives another.
        return self.version ^ sum(place for i, place in enumerate(places) if index >> i & 1)

    @property
    def extranonce_count(self) -> int:
        """How many extranonces there are; up to 2**64, more than len() of a range can say."""
        return 1 << 8 * self.extranonce_size

    def coinbase(self, extranonce: int) -> bytes:
        """The coinbase without witness. The extranonce stands big-endian, so that hex counts upwards."""
        return self.coinbase_prefix + extranonce.to_bytes(self.extranonce_size, "big") + self.coinbase_suffix

    def merkle_root(self, extranonce: int) -> bytes:
        """The root over the coinbase with this extranonce, internal order."""
        root = sha256d(self.coinbase(extranonce))
        for sibling in self.branch:
            root = sha256d(root + sibling)
        return root

    def work(self, extranonce: int, time: int, versions: tuple[int, ...]) -> Work:
        """The nonce space of one extranonce, header time and group of versions."""
        root = self.merkle_root(extranonce)
        header = BlockHeader(versions[0], self.previous, root, time, self.bits, 0)
        return Work(bytes(header), self.target, versions, self, extranonce)


class Span(NamedTuple):
    """A piece of one work."""

    work: Work
    nonces: range

    def split(self, count: int) -> tuple[Self, Self]:
        """The first `count` nonces, and the rest; either may be empty."""
        cut = min(self.nonces.start + max(count, 0), self.nonces.stop)
        first = self._replace(nonces=range(self.nonces.start, cut))
        return first, self._replace(nonces=range(cut, self.nonces.stop))

    @property
    def hashes(self) -> int:
        """One per nonce and version."""
        return len(self.nonces) * len(self.work.versions)


class SearchSpace:
    """Deals a job's works, each exactly once. The caller holds a lock if threads share it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._returned: list[Span] = []
        self._dealt = 0  # extranonce * version_count + version index, at the times from _floor on
        self._floor = job.time  # no header time below it has (extranonce, version) pairs left
        self._latest = job.time  # the highest header time dealt so far

    def deal(self, now: int, siblings: int = 1) -> Span | None:
        """The next nonce space, with up to `siblings` versions; None once there is no more.

        `now` is the job giver's clock; the header time follows it within the job's limits, and
        runs ahead of it only when every extranonce has been dealt.
        """
        if self._returned:
            return self._returned.pop()
        job = self.job
        if self._dealt == job.extranonce_count * job.version_count:
            self._dealt, self._floor = 0, self._latest + 1
        if self._floor > job.max_time:
            return None
        time = max(self._floor, min(now, job.max_time))
        extranonce, first = divmod(self._dealt, job.version_count)
        stop = min(first + max(siblings, 1), job.version_count)
        self._dealt += stop - first
        self._latest = max(self._latest, time)
        versions = tuple(job.version_at(i) for i in range(first, stop))
        return Span(job.work(extranonce, time, versions), job.nonces)

    def take_back(self, span: Span) -> None:
        """A piece that was not scanned after all: dealt again before anything new."""
        if span.nonces:
            self._returned.append(span)
