"""How hard it is: bits <-> target <-> difficulty, and the work that a target stands for.

A header wins when its hash, read as a little-endian 256-bit integer, is at most
the *target*. The header carries the target as 32 *bits*, a floating-point
number with base 256 (Bitcoin Core, arith_uint256.cpp, SetCompact):

    31       24  23  22                      0
    +----------+---+-------------------------+
    | exponent | - |        mantissa         |     target = mantissa * 256 ** (exponent - 3)
    +----------+---+-------------------------+
                 sign: set means negative, which no target may be

*Difficulty* is a float for people: how many times harder than 1d00ffff. It is
never compared; targets are.
"""

from typing import NamedTuple

from miner.errors import Rule, RuleError

MAX_TARGET = (1 << 256) - 1
"""The largest 256-bit number: every hash meets it."""

DIFFICULTY_1_TARGET = 0xFFFF << 208
"""The target of bits 1d00ffff, which counts as difficulty 1."""

_SIGN = 0x0080_0000
_MANTISSA = 0x007F_FFFF


class CompactTarget(NamedTuple):
    """What 32 bits say, usable as a target or not."""

    value: int
    """The magnitude, truncated to 256 bits as Bitcoin Core does."""
    negative: bool
    overflow: bool


def decode_bits(bits: int) -> CompactTarget:
    """Decode compact bits exactly as Bitcoin Core's SetCompact, invalid ones included.

    ValueError if `bits` is not a uint32.
    """
    if not 0 <= bits < 1 << 32:
        raise ValueError(f"bits {bits} is outside 0 ... 2**32 - 1")
    exponent, mantissa = bits >> 24, bits & _MANTISSA
    if exponent <= 3:
        mantissa >>= 8 * (3 - exponent)
        value = mantissa
    else:
        value = mantissa << 8 * (exponent - 3)
    return CompactTarget(
        value=value & MAX_TARGET,
        negative=mantissa != 0 and bool(bits & _SIGN),
        overflow=value > MAX_TARGET,
    )


def bits_to_target(bits: int) -> int:
    """The target that `bits` stands for: 1 ... 2**256 - 1.

    RuleError "bad-diffbits" for zero, negative or overflowing bits.
    """
    compact = decode_bits(bits)
    for wrong, what in (
        (compact.negative, "negative"),
        (compact.overflow, "above 2**256 - 1"),
        (compact.value == 0, "zero"),
    ):
        if wrong:
            raise RuleError(Rule.BAD_DIFFBITS, f"bits {bits:08x} stand for a target that is {what}")
    return compact.value


def target_to_bits(target: int) -> int:
    """The most precise bits that stand for at most `target` (Bitcoin Core's GetCompact)."""
    if not 0 <= target <= MAX_TARGET:
        raise ValueError(f"target {target:#x} is outside 0 ... 2**256 - 1")
    exponent = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - exponent) if exponent <= 3 else target >> 8 * (exponent - 3)
    if mantissa & _SIGN:  # the mantissa's top bit is the sign: move it one byte down
        mantissa >>= 8
        exponent += 1
    return exponent << 24 | mantissa


def difficulty(target: int) -> float:
    """How many times harder than difficulty 1; for people only. ValueError for target 0."""
    if target <= 0:
        raise ValueError(f"target {target} has no difficulty: it must be at least 1")
    return DIFFICULTY_1_TARGET / target


def difficulty_to_target(value: float) -> int:
    """The target of a pool's share difficulty, at most 2**256 - 1.

    ValueError unless `value` is finite and above zero.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"difficulty {value} is not a finite number above 0")
    numerator, denominator = value.as_integer_ratio()
    return min(DIFFICULTY_1_TARGET * denominator // numerator, MAX_TARGET)


def expected_hashes(target: int) -> int:
    """How many hashes a header that meets `target` stands for, on average.

    Rounded down as Bitcoin Core's GetBlockProof: 2**256 // (target + 1). Summed
    over a chain this is its chain work.
    """
    if not 0 <= target <= MAX_TARGET:
        raise ValueError(f"target {target:#x} is outside 0 ... 2**256 - 1")
    return (1 << 256) // (target + 1)
