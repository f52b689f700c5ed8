"""What makes a stored chain of blocks show its damage.

Each block's *seal* is the SHA-256 of the seal before it, its number and its
bytes; the first one follows the genesis block's hash. A store's *head* repeats
the last seal and how many there are. So a block that was altered, lost, added
or moved is found, and which one it is.
"""

from dataclasses import astuple, dataclass, replace
from hashlib import sha256

from miner.params import Params


@dataclass(frozen=True, slots=True)
class Head:
    """What a store says about itself."""

    format: int
    """The version of the store's layout."""
    network: str
    genesis: bytes
    """Hash of the first block, which is not stored; internal order."""
    blocks: int
    """How many there are; also the number of the last one."""
    seal: bytes
    """The last block's."""

    @property
    def checksum(self) -> bytes:
        """32 bytes over all of it."""
        return sha256(repr(astuple(self)).encode()).digest()

    def after(self, raw: bytes) -> "Head":
        """The head once `raw` has been appended."""
        number = self.blocks + 1
        return replace(self, blocks=number, seal=seal(self.seal, number, raw))


def first_head(params: Params, layout: int) -> Head:
    """The head of an empty store."""
    genesis = params.genesis_header.hash
    return Head(layout, params.name, genesis, 0, seal=genesis)


def seal(before: bytes, number: int, raw: bytes) -> bytes:
    """The seal of block `number`, 32 bytes; `before` is the one of the block before it."""
    return sha256(before + number.to_bytes(8, "little") + raw).digest()
