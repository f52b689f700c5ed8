"""The common ground: headers and nonce ranges that every device is measured on.                (pure)

Everything follows from a seed. In round `r` all devices search the same header from the same nonce
on, each as far as it gets; every third round's header is a real block's, and its nonce lies near the
start of the range.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from miner.header import BlockHeader
from miner.work import Span, Work

ROLL_SHIFT = 13
"""BIP 320: bits 13 to 28 of the version may be rolled."""

BLOCK_EVERY = 3
"""Rounds from one real block to the next."""

LEAD = 1000
"""A real block's nonce lies at most this far behind the start of its range: any device gets there."""


class KnownBlock(NamedTuple):
    """A block of Bitcoin's main chain."""

    height: int
    header: bytes

    @property
    def nonce(self) -> int:
        """What its miner found."""
        return int.from_bytes(self.header[76:], "little")


KNOWN_BLOCKS = tuple(
    KnownBlock(height, bytes.fromhex(text))
    for height, text in (
        (
            0,
            "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b2"
            "7ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
        ),
        (
            170,  # the first that pays from one person to another
            "0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab9"
            "3e63f8c3ce5c2c2e9dbb37de2764b3a3175c8166562cac7d51b96a49ffff001d283e9e70",
        ),
        (
            16751,  # the lowest nonce of the first 18,000
            "010000008e612eb8664888c2934e02f5c1eb81bfd9a85173f792a9d41db1a21e000000005ed8e45574694b32"
            "6b3ccf8f8abd7a80785ce93fd802dd1e8d7008076c0d50cb1c8b2e4affff001db1dc0000",
        ),
        (
            823185,  # a rolled version, and a nonce near the end of all nonces
            "00409b260dbb57a61e26b0cef2ac6a774ab8abceeaf429019186020000000000000000007e0d2cf7ce8e7769"
            "3e08e2706a355268294a64cf73f13dae38121e99a6c3fd92aa618c65b3e80317bb08f9ff",
        ),
        (
            825000,
            "00e0d020f6d6008880ac145009739b2833412709addcdb255aba010000000000000000000da9542333c185a8"
            "add906acda78de91617a580d5cb8ee16fb74204d0401026092449d6569d803176c52eb4e",
        ),
    )
)
"""Real work, mined by others between 2009 and 2024."""


def target_of(bits: int) -> int:
    """The target that each hash meets with probability 2**-bits."""
    return (1 << (256 - bits)) - 1


def versions_of(header: bytes, count: int) -> tuple[int, ...]:
    """`count` sibling versions, the header's own first."""
    own = int.from_bytes(header[:4], "little")
    return tuple(own ^ i << ROLL_SHIFT for i in range(count))


class Ground:
    """An endless supply of nonce spaces, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def spans(self, round: int, versions: int, target: int, hashes: int) -> Iterator[Span]:
        """Pieces of about `hashes` hashes each, without end: round `round` of a device."""
        step, piece = max(1, hashes // versions), 0
        while True:
            header, start = self._place(round, piece)
            work = Work(header, target, versions_of(header, versions))
            for first in range(start, 1 << 32, step):
                yield Span(work, range(first, min(first + step, 1 << 32)))
            piece += 1

    def _place(self, round: int, piece: int) -> tuple[bytes, int]:
        """A header, and the nonce to begin with."""
        # The third of three rounds is the second with another header time, so that a device that looks
        # at the first 64 bytes alone is seen.
        later = round % BLOCK_EVERY == BLOCK_EVERY - 1
        source = random.Random(f"{self.seed} {round - later} {piece}")
        if piece == 0 and round % BLOCK_EVERY == 0:
            block = KNOWN_BLOCKS[round // BLOCK_EVERY % len(KNOWN_BLOCKS)]
            return block.header, max(0, block.nonce - source.randrange(LEAD))
        header = BlockHeader(
            version=0x2000_0000 | source.getrandbits(16) << ROLL_SHIFT,
            previous=source.randbytes(32),
            merkle_root=source.randbytes(32),
            time=source.getrandbits(31) + later,
            bits=0x1D00_FFFF,
            nonce=0,
        )
        return bytes(header), source.randrange(1 << 31)


def blocks_within(span: Span) -> Iterator[tuple[int, int]]:
    """(nonce, version) of every real block that lies in this span."""
    for block in KNOWN_BLOCKS:
        version = int.from_bytes(block.header[:4], "little")
        same = span.work.header[4:76] == block.header[4:76] and version in span.work.versions
        if same and block.nonce in span.nonces:
            yield block.nonce, version
