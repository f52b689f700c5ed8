"""Blocks for chain tests: really mined, on networks where that takes a few hashes."""

from dataclasses import replace
from itertools import count

from miner.block import Block, TxOut, coinbase_parts
from miner.header import BlockHeader, sha256d
from miner.params import Params, network
from miner.rules import subsidy
from miner.target import bits_to_target

REGTEST = network("regtest")

QUICK = replace(
    network("local"),
    name="quick",
    genesis=REGTEST.genesis,
    retarget_interval=4,
)
"""Two hashes a block to begin with, a new target every 4 blocks of 2 seconds."""

LATE = replace(QUICK, name="late", min_difficulty=True, enforce_bip94=True)
"""As testnet4: BIP 94, and the easiest target for a block more than two spacings late."""

START = REGTEST.genesis_header.time
"""The genesis block's time."""

_salts = count()


def solved(header: BlockHeader) -> BlockHeader:
    """The header with the first nonce that meets its bits."""
    target = bits_to_target(header.bits)
    return next(
        tried for tried in map(header.with_nonce, count()) if int.from_bytes(tried.hash, "little") <= target
    )


def block_after(
    parent: BlockHeader,
    height: int,
    *,
    params: Params = REGTEST,
    seconds: int = 1,
    bits: int | None = None,
    claim: int | None = None,
    coinbase_height: int | None = None,
) -> Block:
    """A block unlike any other: `seconds` after its parent, valid unless told otherwise."""
    value = subsidy(height, params) if claim is None else claim
    parts = coinbase_parts(height if coinbase_height is None else coinbase_height, [TxOut(value, b"\x51")])
    coinbase = next(_salts).to_bytes(8, "big").join(parts)
    header = BlockHeader(
        0x2000_0000, parent.hash, sha256d(coinbase), parent.time + seconds, bits or parent.bits, 0
    )
    return Block.assemble(bytes(solved(header)), coinbase)


def branch(parent: BlockHeader, height: int, length: int, **options: int) -> list[Block]:
    """`length` regtest blocks, the first of them at `height`, after `parent`."""
    blocks: list[Block] = []
    for at in range(height, height + length):
        blocks.append(block_after(parent, at, **options))  # type: ignore[arg-type]
        parent = blocks[-1].header
    return blocks
