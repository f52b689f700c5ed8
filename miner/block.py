"""Blocks as bytes, the merkle tree, the witness commitment, and the coinbase that a miner makes.

Hashes are 32 bytes in internal order, amounts in satoshi.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from miner.header import HEADER_SIZE, BlockHeader, sha256d
from miner.transaction import (
    FINAL_SEQUENCE,
    NULL_INDEX,
    WITNESS_SCALE,
    Reader,
    Transaction,
    TxIn,
    TxOut,
    compact_size,
    joined,
)

__all__ = [
    "Block",
    "Transaction",
    "TxIn",
    "TxOut",
    "coinbase_parts",
    "commitment_output",
    "data_output",
    "find_commitment",
    "has_twin_hashes",
    "merkle_branch",
    "merkle_root",
    "push",
    "script_number",
    "witness_commitment",
]

MAX_COINBASE_SCRIPT = 100
"""Bytes (Bitcoin Core, tx_check.cpp, "bad-cb-length"); the least is 2."""

MAX_HEIGHT = (1 << 31) - 1
"""Bitcoin Core keeps heights in an int32."""

COMMITMENT_PREFIX = bytes.fromhex("6a24aa21a9ed")
"""BIP 141: OP_RETURN, a push of 36 bytes, and the commitment's four-byte header."""

OP_0, OP_1, OP_PUSHDATA1, OP_PUSHDATA2, OP_RETURN = 0x00, 0x51, 0x4C, 0x4D, 0x6A


@dataclass(frozen=True)
class Block:
    """A header and the transactions that it commits to, coinbase first."""

    header: BlockHeader
    transactions: tuple[Transaction, ...]

    @classmethod
    def parse(cls, raw: bytes) -> "Block":
        """From all of `raw`, in time and memory proportional to it; RuleError "block-decode-failed"."""
        reader = Reader(raw)
        header = BlockHeader.parse(reader.take(HEADER_SIZE, "block header"))
        transactions = reader.many(Transaction.read, 10, "transactions")
        reader.end("block")
        return cls(header, transactions)

    @classmethod
    def assemble(cls, header: bytes, coinbase: bytes, others: Sequence[Transaction] = ()) -> "Block":
        """What a miner publishes: a solved header, the stripped coinbase under it, and the rest.

        A coinbase that commits to witnesses gets the one that it needs itself.
        """
        first = Transaction.parse(coinbase)
        # BIP 141: the coinbase's input has one witness item, the reserved value, 32 bytes.
        if find_commitment(first) is not None:
            first = replace(first, witnesses=((bytes(32),),))
        return cls(BlockHeader.parse(header), (first, *others))

    def __bytes__(self) -> bytes:
        return bytes(self.header) + joined([bytes(tx) for tx in self.transactions])

    @property
    def txids(self) -> list[bytes]:
        """The leaves of the merkle tree."""
        return [tx.txid for tx in self.transactions]

    @property
    def stripped_size(self) -> int:
        """Bytes without witnesses."""
        count = compact_size(len(self.transactions))
        return HEADER_SIZE + len(count) + sum(len(tx.stripped) for tx in self.transactions)

    @property
    def weight(self) -> int:
        """BIP 141: at most 4,000,000."""
        return (WITNESS_SCALE - 1) * self.stripped_size + len(bytes(self))


def _levels(hashes: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The merkle tree from the leaves to the root; an odd last hash is paired with itself."""
    level = list(hashes)
    yield level
    while len(level) > 1:
        right = level[1::2] + level[-1:] * (len(level) % 2)
        level = [sha256d(a + b) for a, b in zip(level[::2], right, strict=True)]
        yield level


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """The root over all transactions' hashes, coinbase first; 32 zeros if there are none."""
    *_, top = _levels(hashes)
    return top[0] if top else bytes(32)


def has_twin_hashes(hashes: Sequence[bytes]) -> bool:
    """Whether the tree has a pair of equal hashes, so that a shorter list has the same root.

    CVE-2012-2459: the padding of an odd level cannot be told from a repeated transaction, so a
    valid block can be made invalid without changing its header. Such a list is to be refused
    without condemning the header.
    """
    return any(
        left == right
        for level in _levels(hashes)
        for left, right in zip(level[::2], level[1::2], strict=False)
    )


def merkle_branch(others: Sequence[bytes]) -> tuple[bytes, ...]:
    """What the coinbase's hash is combined with to the root, leaf side first.

    `others`: the txids of every transaction *after* the coinbase, whose own hash is not needed.
    """
    leaves = [bytes(32), *others]  # any hash may stand for the coinbase: only its siblings are kept
    return tuple(level[1] if len(level) > 1 else b"" for level in _levels(leaves))[:-1]


def witness_commitment(others: Sequence[bytes], reserved: bytes = bytes(32)) -> bytes:
    """BIP 141's commitment, 32 bytes. `others`: the wtxids of every transaction after the coinbase.

    `reserved` is the one witness item of the coinbase's input.
    """
    # BIP 141: the wtxid of the coinbase is assumed to be 0x0000....0000.
    return sha256d(merkle_root([bytes(32), *others]) + reserved)


def commitment_output(commitment: bytes) -> TxOut:
    """The coinbase output that carries a witness commitment."""
    return TxOut(0, COMMITMENT_PREFIX + commitment)


def find_commitment(coinbase: Transaction) -> bytes | None:
    """The 32 bytes to which the coinbase commits, or None."""
    # BIP 141: if several outputs match the pattern, the one with the highest index counts.
    for output in reversed(coinbase.outputs):
        if output.script.startswith(COMMITMENT_PREFIX) and len(output.script) >= 38:
            return output.script[6:38]
    return None


def push(data: bytes) -> bytes:
    """The script that puts `data` on the stack; ValueError above 65,535 bytes."""
    size = len(data)
    if size < OP_PUSHDATA1:
        return bytes([size]) + data
    if size <= 0xFF:
        return bytes([OP_PUSHDATA1, size]) + data
    if size <= 0xFFFF:
        return bytes([OP_PUSHDATA2]) + size.to_bytes(2, "little") + data
    raise ValueError(f"{size} bytes cannot be pushed: a push holds at most 65,535")


def script_number(height: int) -> bytes:
    """The script that puts a height on the stack, as BIP 34 wants it; ValueError outside 0 ... 2**31 - 1."""
    if not 0 <= height <= MAX_HEIGHT:
        raise ValueError(f"height {height} is outside 0 ... {MAX_HEIGHT}")
    if height <= 16:
        return bytes([OP_1 + height - 1 if height else OP_0])
    # Little-endian, and one bit more than the number has: the top bit is the sign.
    return push(height.to_bytes(height.bit_length() // 8 + 1, "little"))


def data_output(record: bytes) -> TxOut:
    """An output that nobody can spend and that holds `record`."""
    return TxOut(0, bytes([OP_RETURN]) + push(record))


def coinbase_parts(
    height: int,
    outputs: Sequence[TxOut],
    *,
    extranonce_size: int = 8,
    tag: bytes = b"",
    flags: bytes = b"",
) -> tuple[bytes, bytes]:
    """The stripped coinbase of a block at `height`, before and after its extranonce.

    The input script is the height (BIP 34), the extranonce, `tag`, and `flags` byte for byte
    (BIP 22, coinbaseaux). Above 100 bytes the tag is dropped, then the flags.
    ValueError for an impossible height or an extranonce of more than 75 bytes.
    """
    if not 0 <= extranonce_size < OP_PUSHDATA1:
        raise ValueError(f"extranonce of {extranonce_size} bytes: not 0 ... {OP_PUSHDATA1 - 1}")
    head = script_number(height) + (bytes([extranonce_size]) if extranonce_size else b"")
    pushed_tag = push(tag) if tag else b""
    room = MAX_COINBASE_SCRIPT - len(head) - extranonce_size
    rest = next(text for text in (pushed_tag + flags, flags, b"") if len(text) <= room)
    if len(head) + extranonce_size + len(rest) < 2:
        rest = bytes([OP_0])  # heights up to 16 take one byte; the rule wants two
    script_size = compact_size(len(head) + extranonce_size + len(rest))
    # BIP 54: locked to the height before, and so not final. Nothing needs it yet; it makes every
    # coinbase differ from every other, and holds today as well (lock time < height).
    sequence, lock_time = FINAL_SEQUENCE - 1, max(height - 1, 0)
    opening = (2).to_bytes(4, "little") + b"\x01" + bytes(32) + NULL_INDEX.to_bytes(4, "little")
    closing = sequence.to_bytes(4, "little") + joined([bytes(output) for output in outputs])
    return opening + script_size + head, rest + closing + lock_time.to_bytes(4, "little")
