"""Everything that can go wrong, as one tree under `MinerError`.

A caller's own mistake (a header of 79 bytes, an unknown backend name) is a
`ValueError` or `TypeError` and not in this tree.
"""

from enum import StrEnum


class MinerError(Exception):
    """The root: catch this to catch what the outside world did to the miner."""


class Rule(StrEnum):
    """What a header or block broke, in Bitcoin Core's reject words (validation.cpp, tx_check.cpp)."""

    HIGH_HASH = "high-hash"
    BAD_DIFFBITS = "bad-diffbits"
    TIME_TOO_OLD = "time-too-old"
    TIME_TOO_NEW = "time-too-new"
    TIME_TIMEWARP = "time-timewarp-attack"
    BAD_VERSION = "bad-version"
    PREV_NOT_FOUND = "prev-blk-not-found"
    BAD_PREVBLK = "bad-prevblk"
    DUPLICATE = "duplicate"
    BAD_MERKLE_ROOT = "bad-txnmrklroot"
    DUPLICATE_TXNS = "bad-txns-duplicate"
    BAD_WITNESS_COMMITMENT = "bad-witness-merkle-match"
    BAD_WITNESS_NONCE = "bad-witness-nonce-size"
    UNEXPECTED_WITNESS = "unexpected-witness"
    BAD_BLOCK_LENGTH = "bad-blk-length"
    BAD_BLOCK_WEIGHT = "bad-blk-weight"
    COINBASE_MISSING = "bad-cb-missing"
    COINBASE_MULTIPLE = "bad-cb-multiple"
    COINBASE_LENGTH = "bad-cb-length"
    COINBASE_HEIGHT = "bad-cb-height"
    COINBASE_AMOUNT = "bad-cb-amount"
    NO_INPUTS = "bad-txns-vin-empty"
    NO_OUTPUTS = "bad-txns-vout-empty"
    OUTPUT_NEGATIVE = "bad-txns-vout-negative"
    OUTPUT_TOO_LARGE = "bad-txns-vout-toolarge"
    OUTPUT_TOTAL_TOO_LARGE = "bad-txns-txouttotal-toolarge"
    DUPLICATE_INPUTS = "bad-txns-inputs-duplicate"
    PREVOUT_NULL = "bad-txns-prevout-null"
    TXN_OVERSIZE = "bad-txns-oversize"
    TXN_NONFINAL = "bad-txns-nonfinal"
    SIGOPS = "bad-blk-sigops"
    DECODE_FAILED = "block-decode-failed"


class RuleError(MinerError):
    """A header, block or template that breaks a rule: `kind` for programs, `str()` for people."""

    def __init__(self, kind: Rule, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class DeviceError(MinerError):
    """A device cannot be used, or can no longer be used."""


class DeviceUnavailable(DeviceError):
    """The device is not there: no driver, no library, no such index. Says what to do about it."""


class SelfTestFailed(DeviceError):
    """The device answered, and its answers were wrong."""


class DeviceFault(DeviceError):
    """A device that had passed its self-test broke: it raised, lied or hung."""


class SourceError(MinerError):
    """Work cannot be had from, or given to, a node or pool."""


class SourceUnavailable(SourceError):
    """The node or pool does not answer, or refuses us."""


class RemoteProtocolError(SourceError):
    """The node or pool said something that its protocol does not allow."""


class LocalProtocolError(SourceError):
    """We were about to say something that the protocol does not allow."""


class StoreError(MinerError):
    """A block store cannot be opened, read or written."""


class StoreCorrupt(StoreError):
    """A block store holds something other than what was written to it. Names the block."""
