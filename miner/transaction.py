"""Transactions as bytes, and the codec that reads and writes them.

A transaction has two serializations (BIP 144): with witnesses, and *stripped*
of them. Its txid is the hash of the stripped form; the wtxid that of the full
one. Integers are little-endian, hashes 32 bytes in internal order, amounts in
satoshi.

What is read here came from a stranger: every length is checked against the
bytes that are left before anything is allocated for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from miner.errors import Rule, RuleError
from miner.header import sha256d

WITNESS_SCALE = 4
"""BIP 141: a byte outside the witness weighs this much, one inside weighs 1."""

FINAL_SEQUENCE = 0xFFFF_FFFF
"""The sequence number that switches an input's lock time off."""

NULL_INDEX = 0xFFFF_FFFF
"""With a previous hash of zeros: the outpoint of a coinbase, which spends nothing."""

T = TypeVar("T")


def compact_size(value: int) -> bytes:
    """A count as 1, 3, 5 or 9 bytes, the shortest that holds it."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"size {value} is outside 0 ... 2**64 - 1")
    if value < 0xFD:
        return value.to_bytes(1, "little")
    size = next(count for count in (2, 4, 8) if value < 1 << 8 * count)
    mark = {2: 0xFD, 4: 0xFE, 8: 0xFF}[size]
    return mark.to_bytes(1, "little") + value.to_bytes(size, "little")


class Reader:
    """A cursor over untrusted bytes. Everything that it refuses is RuleError "block-decode-failed"."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        if count > self.left:
            raise self.refusal(f"{what} needs {count} bytes, and {self.left} are left")
        self._at += count
        return self._data[self._at - count : self._at]

    def uint(self, size: int, what: str) -> int:
        """The next `size` bytes as a number."""
        return int.from_bytes(self.take(size, what), "little")

    def size(self, what: str) -> int:
        """A compact size, which must be the shortest that holds its value."""
        mark = self.uint(1, what)
        if mark < 0xFD:
            return mark
        length = 1 << mark - 0xFC  # fd, fe, ff: 2, 4, 8 bytes
        value = self.uint(length, what)
        if len(compact_size(value)) != 1 + length:
            raise self.refusal(f"{what} {value} is written in {1 + length} bytes, more than it needs")
        return value

    def blob(self, what: str) -> bytes:
        """Bytes after their length."""
        return self.take(self.size(f"length of {what}"), what)

    def many(self, item: Callable[["Reader"], T], least: int, what: str) -> tuple[T, ...]:
        """A count, then so many items of `least` bytes or more each."""
        count = self.size(f"number of {what}")
        # Refused before anything is allocated: a count costs an attacker nine bytes.
        if count * least > self.left:
            raise self.refusal(f"{count} {what} cannot be in the {self.left} bytes that are left")
        return tuple(item(self) for _ in range(count))

    def end(self, what: str) -> None:
        """Nothing may be left."""
        if self.left:
            raise self.refusal(f"{self.left} bytes follow the {what}")

    def refusal(self, text: str) -> RuleError:
        """The error to raise, naming the place."""
        return RuleError(Rule.DECODE_FAILED, f"{text} (byte {self._at} of {len(self._data)})")


def _blob(data: bytes) -> bytes:
    return compact_size(len(data)) + data


def joined(items: Sequence[bytes]) -> bytes:
    """A count and the items: how the format writes every list."""
    return compact_size(len(items)) + b"".join(items)


@dataclass(frozen=True, slots=True)
class TxIn:
    """What a transaction spends."""

    previous: bytes
    """txid of the transaction whose output is spent; zeros in a coinbase."""
    index: int
    """Which of its outputs."""
    script: bytes
    sequence: int = FINAL_SEQUENCE

    def __post_init__(self) -> None:
        if len(self.previous) != 32:
            raise ValueError(f"previous hash has {len(self.previous)} bytes, not 32")
        if not (0 <= self.index < 1 << 32 and 0 <= self.sequence < 1 << 32):
            raise ValueError(f"index {self.index} or sequence {self.sequence} is outside 0 ... 2**32 - 1")

    @classmethod
    def read(cls, reader: Reader) -> "TxIn":
        """The next input."""
        previous, index = reader.take(32, "previous hash"), reader.uint(4, "output index")
        return cls(previous, index, reader.blob("input script"), reader.uint(4, "sequence"))

    def __bytes__(self) -> bytes:
        index, sequence = self.index.to_bytes(4, "little"), self.sequence.to_bytes(4, "little")
        return self.previous + index + _blob(self.script) + sequence


@dataclass(frozen=True, slots=True)
class TxOut:
    """An amount, and who may spend it."""

    value: int
    """Satoshi, an int64: the rules refuse a negative one, the format does not."""
    script: bytes

    def __post_init__(self) -> None:
        if not -(1 << 63) <= self.value < 1 << 63:
            raise ValueError(f"value {self.value} is outside -2**63 ... 2**63 - 1")

    @classmethod
    def read(cls, reader: Reader) -> "TxOut":
        """The next output."""
        value = int.from_bytes(reader.take(8, "value"), "little", signed=True)
        return cls(value, reader.blob("output script"))

    def __bytes__(self) -> bytes:
        return self.value.to_bytes(8, "little", signed=True) + _blob(self.script)


Witness = tuple[bytes, ...]
"""One input's witness stack."""


def _read_witness(reader: Reader) -> Witness:
    return reader.many(lambda inner: inner.blob("witness item"), 1, "witness items")


@dataclass(frozen=True)
class Transaction:
    """One transaction; `bytes(tx)` has the witnesses in it if there are any (BIP 144)."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    witnesses: tuple[Witness, ...] = ()
    """One stack per input, or nothing at all if every stack would be empty."""
    lock_time: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.version < 1 << 32 and 0 <= self.lock_time < 1 << 32):
            raise ValueError(f"version {self.version} or lock time {self.lock_time} is no uint32")
        if not any(self.witnesses):
            object.__setattr__(self, "witnesses", ())
        elif len(self.witnesses) != len(self.inputs):
            raise ValueError(f"{len(self.witnesses)} witnesses for {len(self.inputs)} inputs")

    @classmethod
    def parse(cls, raw: bytes) -> "Transaction":
        """From all of `raw`; RuleError "block-decode-failed"."""
        reader = Reader(raw)
        transaction = cls.read(reader)
        reader.end("transaction")
        return transaction

    @classmethod
    def read(cls, reader: Reader) -> "Transaction":
        """The next transaction, with or without witnesses."""
        version = reader.uint(4, "transaction version")
        inputs = reader.many(TxIn.read, 41, "inputs")
        # BIP 144: no inputs is the marker, and a flag byte follows that must be 1. A flag of 0 is
        # how Bitcoin Core reads a transaction that has neither inputs nor outputs.
        flag = 0 if inputs else reader.uint(1, "witness flag")
        if flag > 1:
            raise reader.refusal(f"transaction flag {flag} is unknown: only 1, witnesses, is")
        if flag:
            inputs = reader.many(TxIn.read, 41, "inputs")
        outputs = reader.many(TxOut.read, 9, "outputs") if inputs or flag else ()
        witnesses = tuple(_read_witness(reader) for _ in inputs) if flag else ()
        if flag and not any(witnesses):
            raise reader.refusal("the transaction announces witnesses and has none")
        return cls(version, inputs, outputs, witnesses, reader.uint(4, "lock time"))

    @property
    def stripped(self) -> bytes:
        """The serialization without witnesses, of which the txid is the hash."""
        return self._serialize(b"", b"")

    def __bytes__(self) -> bytes:
        if not self.witnesses:
            return self.stripped
        return self._serialize(b"\x00\x01", b"".join(joined([_blob(i) for i in w]) for w in self.witnesses))

    def _serialize(self, marker: bytes, witnesses: bytes) -> bytes:
        inputs, outputs = joined([bytes(i) for i in self.inputs]), joined([bytes(o) for o in self.outputs])
        version, lock_time = self.version.to_bytes(4, "little"), self.lock_time.to_bytes(4, "little")
        return version + marker + inputs + outputs + witnesses + lock_time

    @cached_property
    def txid(self) -> bytes:
        """What the merkle root commits to."""
        return sha256d(self.stripped)

    @cached_property
    def wtxid(self) -> bytes:
        """What the witness commitment commits to; the txid if there are no witnesses."""
        return sha256d(bytes(self)) if self.witnesses else self.txid

    @property
    def weight(self) -> int:
        """BIP 141: three times the stripped size plus the whole size."""
        return (WITNESS_SCALE - 1) * len(self.stripped) + len(bytes(self))

    @property
    def is_coinbase(self) -> bool:
        """Whether it has the one input that spends nothing."""
        return len(self.inputs) == 1 and spends_nothing(self.inputs[0])


def spends_nothing(txin: TxIn) -> bool:
    """Whether an input is a coinbase's: no transaction, no output."""
    return txin.index == NULL_INDEX and txin.previous == bytes(32)
