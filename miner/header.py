"""The 80 bytes that are hashed.

A header is six fields, integers little-endian, hashes in *internal* order (the
order in which SHA-256 puts them out):

    bytes   0- 3   version        uint32   (BIP 9 and BIP 320 read it as bits)
    bytes   4-35   previous       hash of the parent's header
    bytes  36-67   merkle_root    commits to every transaction of the block
    bytes  68-71   time           uint32   seconds since 1970
    bytes  72-75   bits           uint32   the target, in compact form
    bytes  76-79   nonce          uint32

People write hashes the other way round, so that the zeros come first: that is
*display* order, `hash_hex`.
"""

import hashlib
import struct
from dataclasses import dataclass, replace

HEADER_SIZE = 80
"""Bytes in a serialized block header."""

_FIELDS = struct.Struct("<I32s32sIII")
_UINT32_FIELDS = ("version", "time", "bits", "nonce")


def sha256d(data: bytes) -> bytes:
    """SHA-256 of the SHA-256 of `data`: 32 bytes, internal order."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def display_hex(digest: bytes) -> str:
    """A 32-byte hash as people write it: byte-reversed hex."""
    return digest[::-1].hex()


def from_display_hex(text: str) -> bytes:
    """A hash as people write it, to 32 bytes in internal order. ValueError if it is not 64 hex digits."""
    # fromhex alone would skip whitespace and take "0 1" for one byte.
    if len(text) != 64 or not set(text) <= set("0123456789abcdefABCDEF"):
        raise ValueError(f"a hash is 64 hex digits, not {text[:80]!r} ({len(text)} characters)")
    return bytes.fromhex(text)[::-1]


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """One block header; `bytes(header)` is what is hashed. Hashes are 32 bytes in internal order."""

    version: int
    previous: bytes
    merkle_root: bytes
    time: int
    bits: int
    nonce: int

    def __post_init__(self) -> None:
        for name in _UINT32_FIELDS:
            value = getattr(self, name)
            if not 0 <= value < 1 << 32:
                raise ValueError(f"{name} {value} is outside 0 ... 2**32 - 1")
        for name in ("previous", "merkle_root"):
            if len(getattr(self, name)) != 32:
                raise ValueError(f"{name} has {len(getattr(self, name))} bytes, not 32")

    @classmethod
    def parse(cls, raw: bytes) -> "BlockHeader":
        """From exactly 80 bytes; ValueError for any other length."""
        if len(raw) != HEADER_SIZE:
            raise ValueError(f"a block header is {HEADER_SIZE} bytes, not {len(raw)}")
        return cls(*_FIELDS.unpack(raw))

    @classmethod
    def from_hex(cls, text: str) -> "BlockHeader":
        """From exactly 160 hex digits, bytes in the order in which they are hashed; else ValueError."""
        if len(text) != 2 * HEADER_SIZE:
            raise ValueError(f"a block header is {2 * HEADER_SIZE} hex digits, not {len(text)} characters")
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if len(raw) != HEADER_SIZE:  # fromhex skips whitespace
            raise ValueError("a block header is 160 hex digits; this text holds other characters")
        return cls.parse(raw)

    def __bytes__(self) -> bytes:
        return _FIELDS.pack(self.version, self.previous, self.merkle_root, self.time, self.bits, self.nonce)

    def hex(self) -> str:
        """The 80 bytes as 160 hex digits."""
        return bytes(self).hex()

    @property
    def hash(self) -> bytes:
        """SHA-256d of the 80 bytes, internal order."""
        return sha256d(bytes(self))

    @property
    def hash_hex(self) -> str:
        """The hash in display order: zeros first."""
        return display_hex(self.hash)

    def with_nonce(self, nonce: int) -> "BlockHeader":
        """The same header with another nonce."""
        return replace(self, nonce=nonce)
