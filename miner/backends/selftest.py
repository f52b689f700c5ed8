"""The test that a device must pass before it is believed, and the short one that it must go on passing.

What each case is for is said where it is made; `tests/mutants.py` holds the
broken devices that prove the need. The answers come from real blocks
(`ANCHORS`), from a table of every low hash in the whole nonce space
(`known_hits`), or from hashlib, nonce by nonce.

It is run at every start, so it counts hashes: about 9,000 for a device that
manages a million a second. Only a device that proves fast is given ranges as
wide as the engine's batches.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from miner.backends import known_hits
from miner.backends.protocol import Backend, siblings_of
from miner.errors import DeviceError, SelfTestFailed
from miner.header import sha256d
from miner.target import MAX_TARGET, bits_to_target
from miner.work import Hit, Work

EASY = bits_to_target(0x207FFFFF)
"""Regtest's target: half of all hashes meet it."""

COVER = 2309
"""Nonces of the case where every nonce is a hit.

More than twice 1,024, a usual size of result buffers; prime, so that no block size divides it.
"""

STEP = 4
"""By how much a range grows as long as the device keeps up."""

FIRST_RANGE, WIDE_RANGE = 1 << 10, 1 << 20
"""Nonces of the first range that grows, and of the first that only a wide device is given."""

NARROW_SECONDS, WIDE_SECONDS = 0.002, 0.008
"""A range that took longer is the last.

So a slow device loses some milliseconds at each start, and a wide one is given up to STEP times 8 ms:
a batch as the engine sizes it.
"""


class Case(NamedTuple):
    """One scan, and what an honest device answers."""

    name: str
    """Completes the sentence "wrong about ..."."""
    work: Work
    nonces: range
    expected: list[Hit]


class Anchor(NamedTuple):
    """A real block's header; its hash is far too low to be met by chance nearby."""

    name: str
    header: bytes

    @property
    def work(self) -> Work:
        """The work that was solved with it."""
        return Work(self.header, bits_to_target(int.from_bytes(self.header[72:76], "little")))

    @property
    def hit(self) -> Hit:
        """How it was solved."""
        return Hit(*(int.from_bytes(self.header[i : i + 4], "little") for i in (76, 0)))


GENESIS = Anchor("block 0", known_hits.HEADER)
"""Nonce 2083236893: its bytes read backwards are another number, below 2**31."""

SMALL = Anchor(
    "block 16751",
    bytes.fromhex(
        "010000008e612eb8664888c2934e02f5c1eb81bfd9a85173f792a9d41db1a21e"
        "000000005ed8e45574694b326b3ccf8f8abd7a80785ce93fd802dd1e8d700807"
        "6c0d50cb1c8b2e4affff001db1dc0000"
    ),
)
"""Nonce 56497, the lowest of the chain's first 18,000."""

ROLLED = Anchor(
    "block 823185",
    bytes.fromhex(
        "00409b260dbb57a61e26b0cef2ac6a774ab8abceeaf429019186020000000000"
        "000000007e0d2cf7ce8e77693e08e2706a355268294a64cf73f13dae38121e99"
        "a6c3fd92aa618c65b3e80317bb08f9ff"
    ),
)
"""Nonce 4294510779, near the end of all nonces; version 269b4000, rolled as BIP 320 allows."""


def self_test(backend: Backend, clock: Callable[[], float] = time.perf_counter) -> None:
    """Return if `backend` answers every case exactly. SelfTestFailed names the first it does not.

    A DeviceError that the device raises itself passes through.
    """
    for case in _cases(siblings_of(backend)):
        _check(backend, case)
    for count in sorted({1, min(siblings_of(backend), len(known_hits.NONCES))}):
        _check_growing(backend, count, clock)


def spot_check(backend: Backend, nonces: int = FIRST_RANGE) -> None:
    """A few scans between others': the device still answers as it did. SelfTestFailed if it does not.

    `nonces` is the length of the longest, by default next to nothing for any device.
    """
    for case in _spot_cases(siblings_of(backend)):
        _check(backend, case)
    _check(backend, _known(1, nonces))


def hits_of(work: Work, nonces: range) -> list[Hit]:
    """What an honest device answers, by the definition."""
    hits = (Hit(nonce, version) for nonce in nonces for version in sorted(work.versions))
    return [hit for hit in hits if int.from_bytes(sha256d(work.header_of(hit)), "little") <= work.target]


def _cases(siblings: int) -> Iterator[Case]:
    yield from _real_blocks()
    yield from _targets()
    yield from _everything_and_nothing()
    yield from _dense()
    yield from _changing_works()
    yield from _versions(siblings)
    yield from _every_place(siblings)


def _real_blocks() -> Iterator[Case]:
    # The nonce first, last, alone and just outside: whoever is off by one is seen. Three blocks, so
    # that neither a nonce that fits a signed word nor a first work that is kept is enough.
    for anchor in (GENESIS, SMALL, ROLLED):
        hit, name = anchor.hit, anchor.name
        for nonces, where in (
            (range(hit.nonce - 40, hit.nonce + 1), "last"),
            (range(hit.nonce, hit.nonce + 40), "first"),
            (range(hit.nonce, hit.nonce + 1), "alone"),
        ):
            yield Case(f"the nonce of {name}, {where} in its range", anchor.work, nonces, [hit])
        yield Case(f"the nonces before {name}'s", anchor.work, range(hit.nonce - 40, hit.nonce), [])
        yield Case(f"the nonces after {name}'s", anchor.work, range(hit.nonce + 1, hit.nonce + 40), [])
    yield Case("an empty range", GENESIS.work, range(GENESIS.hit.nonce, GENESIS.hit.nonce), [])


def _targets() -> Iterator[Case]:
    # A target next to the hash in each of its eight words: equal is a hit, one less is none, and a
    # device that compares some of the words alone is seen. Once with a top word of zero, once not.
    for hit in (GENESIS.hit, GENESIS.hit._replace(nonce=0)):
        value = int.from_bytes(sha256d(GENESIS.work.header_of(hit)), "little")
        yield Case("a target equal to a hash", Work(GENESIS.header, value), _alone(hit), [hit])
        for word in range(8):
            for target, answer in ((value + (1 << 32 * word), [hit]), (value - (1 << 32 * word), [])):
                if 0 <= target <= MAX_TARGET:
                    name = f"a target one off a hash in word {word}"
                    yield Case(name, Work(GENESIS.header, target), _alone(hit), answer)


def _everything_and_nothing() -> Iterator[Case]:
    nonces = range((1 << 32) - COVER, 1 << 32)
    hits = [Hit(nonce, 1) for nonce in nonces]
    yield Case("a target that every hash meets", Work(GENESIS.header, MAX_TARGET), nonces, hits)
    yield Case("a target that no hash meets", Work(GENESIS.header, 0), nonces[:64], [])


def _dense() -> Iterator[Case]:
    # Both ends, and the middle, where a signed word turns negative.
    for start in (0, (1 << 31) - 64, (1 << 32) - 128):
        yield _hashed("every other nonce", Work(SMALL.header, EASY), range(start, start + 128))


def _changing_works() -> Iterator[Case]:
    # Each differs from the one before in one thing, which a device might fail to notice.
    base = ROLLED.header
    changed = {
        "the work": base,
        "the same work": base,
        "another time": _with_byte(base, 68),
        "another end of the merkle root": _with_byte(base, 67),
        "another previous block": _with_byte(base, 10),
        "the first work again": base,
    }
    nonces = range(1 << 30, (1 << 30) + 24)
    for name, header in changed.items():
        yield _hashed(f"a change of works ({name})", Work(header, EASY), nonces)
    for target in (EASY // 4, EASY):
        yield _hashed("a change of works (another target)", Work(base, target), nonces)


def _versions(siblings: int) -> Iterator[Case]:
    # One more than a group of siblings, so that there is a full group and a rest; not in order, and
    # one with the top bit set.
    count = max(siblings + 1, 3)
    work = replace(SMALL.work, target=EASY, versions=_sibling_versions(SMALL.hit.version, count))
    yield _hashed(f"{count} versions", work, range((1 << 32) - 24, 1 << 32))
    work = replace(work, versions=work.versions[: max(siblings, 2)])
    yield _hashed(f"{len(work.versions)} versions", work, range(24))
    work = replace(ROLLED.work, versions=_sibling_versions(ROLLED.hit.version, count))
    nonces = range(ROLLED.hit.nonce - 40, ROLLED.hit.nonce + 1)
    yield Case(f"{ROLLED.name} among {count} versions", work, nonces, [ROLLED.hit])


def _every_place(siblings: int) -> Iterator[Case]:
    # Devices have a kernel of their own for targets below 2**224, which is what mining needs; here it
    # finds a real block in each place of a group. A device without groups has shown as much above.
    if siblings == 1:
        return
    own, nonces = GENESIS.hit.version, range(GENESIS.hit.nonce - 20, GENESIS.hit.nonce + 1)
    others = [version for version in _sibling_versions(own, siblings) if version != own]
    for place in range(siblings):
        versions = (*others[:place], own, *others[place:])
        name = f"{GENESIS.name} in place {place} of {siblings} versions"
        yield Case(name, replace(GENESIS.work, versions=versions), nonces, [GENESIS.hit])


def _check_growing(backend: Backend, count: int, clock: Callable[[], float]) -> None:
    size = FIRST_RANGE
    while size <= 1 << 32:
        case, start = _known(count, size), clock()
        _check(backend, case)
        if clock() - start > (NARROW_SECONDS if size < WIDE_RANGE else WIDE_SECONDS):
            break
        size *= STEP


def _known(count: int, size: int) -> Case:
    """A range of `size` nonces that ends on a hit, with `count` versions."""
    versions = tuple(known_hits.NONCES)[:count]
    hits = sorted(Hit(nonce, version) for version in versions for nonce in known_hits.NONCES[version])
    stop = hits[-1].nonce + 1
    nonces = range(max(stop - size, 0), stop)
    expected = [hit for hit in hits if hit.nonce in nonces]
    work = Work(known_hits.HEADER, known_hits.TARGET, versions)
    return Case(f"{len(nonces)} nonces of {count} version(s)", work, nonces, expected)


@cache
def _spot_cases(siblings: int) -> tuple[Case, ...]:
    """Constants of a process: hashed once, asked for ever."""
    return (*_versions(siblings), _hashed("every other nonce", Work(SMALL.header, EASY), range(128)))


def _hashed(name: str, work: Work, nonces: range) -> Case:
    return Case(name, work, nonces, hits_of(work, nonces))


def _alone(hit: Hit) -> range:
    return range(hit.nonce, hit.nonce + 1)


def _with_byte(header: bytes, place: int) -> bytes:
    return header[:place] + bytes([header[place] ^ 1]) + header[place + 1 :]


def _sibling_versions(version: int, count: int) -> tuple[int, ...]:
    # BIP 320: bits 13-28 may be rolled. XOR with even numbers first leaves the versions out of order.
    rolled = [version ^ i << 13 for i in range(count - 1, -1, -1)]
    return (*rolled[:-2], rolled[-1], rolled[-2] | 1 << 31)


def _check(backend: Backend, case: Case) -> None:
    try:
        hits = backend.scan(case.work, case.nonces)
    except DeviceError:
        raise
    except Exception as error:  # a device may be anybody's code, and raise anything
        raise SelfTestFailed(f"{_wrong(backend, case)}: it raised {error!r}") from error
    if fault := _difference(case.expected, hits):
        raise SelfTestFailed(f"{_wrong(backend, case)}: {fault}")


def _wrong(backend: Backend, case: Case) -> str:
    a, b = case.nonces.start, case.nonces.stop
    return f"{backend.name} failed its self-test, wrong about {case.name} (nonces {a} ... {b})"


def _difference(expected: Sequence[Hit], hits: object) -> str:
    """What is wrong with `hits`, as the end of a sentence; empty if nothing is."""
    if not isinstance(hits, list):
        return f"expected a list, got {type(hits).__name__}"
    for hit in hits:
        # NumPy's integers compare equal to ours and then overflow in somebody's arithmetic.
        if type(hit) is not Hit or not all(type(item) is int for item in hit):
            return f"expected Hits of two ints, got {hit!r}"
    if hits == expected:
        return ""
    if missing := sorted(set(expected) - set(hits)):
        return f"expected {len(expected)} hits, got {len(hits)}, without {missing[0]}"
    if extra := sorted(set(hits) - set(expected)):
        return f"expected {len(expected)} hits, got {len(hits)}, with {extra[0]}"
    unsorted = next(pair for pair in pairwise(hits) if pair[0] >= pair[1])
    return f"expected each hit once and in order, got {unsorted[1]} after {unsorted[0]}"
