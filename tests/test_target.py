"""Bits, targets, difficulty: Bitcoin Core's own table, and what must hold for every number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.errors import Rule, RuleError
from miner.header import BlockHeader
from miner.params import MAINNET
from miner.target import (
    DIFFICULTY_1_TARGET,
    MAX_TARGET,
    bits_to_target,
    decode_bits,
    difficulty,
    difficulty_to_target,
    expected_hashes,
    target_to_bits,
)
from tests.real_data import mainnet_runs, vectors

NBITS = vectors("nbits")
targets = st.integers(0, 256).flatmap(lambda size: st.integers(0, (1 << size) - 1))


@pytest.mark.parametrize("entry", NBITS, ids=lambda entry: entry["bits"])
def test_bits_decode_as_in_bitcoin_core(entry: dict[str, object]) -> None:
    compact = decode_bits(int(str(entry["bits"]), 16))
    assert (compact.negative, compact.overflow) == (entry["negative"], entry["overflow"])
    if entry["target"] is not None:
        assert f"{compact.value:064x}" == entry["target"]
        assert (compact.value == 0) == entry["zero"]


@pytest.mark.parametrize("entry", NBITS, ids=lambda entry: entry["bits"])
def test_bits_that_are_no_target_are_refused_and_others_are_not(entry: dict[str, object]) -> None:
    bits = int(str(entry["bits"]), 16)
    if not entry["usable_as_target"]:
        with pytest.raises(RuleError) as caught:
            bits_to_target(bits)
        assert caught.value.kind is Rule.BAD_DIFFBITS
        return
    target = bits_to_target(bits)
    assert f"{target:064x}" == entry["target"]
    assert (target <= MAINNET.pow_limit) == entry["within_mainnet_limit"]
    if entry["recompact"] is not None:
        assert f"{target_to_bits(target):08x}" == entry["recompact"]


def test_the_bits_of_every_real_header_survive_the_round_trip() -> None:
    seen = {BlockHeader.parse(raw).bits for run in mainnet_runs() for raw in run.headers}
    assert len(seen) > 3
    for bits in seen:
        assert target_to_bits(bits_to_target(bits)) == bits


@given(targets)
def test_bits_never_stand_for_more_than_the_target_and_lose_under_one_in_32768(target: int) -> None:
    stands_for = decode_bits(target_to_bits(target)).value
    assert stands_for <= target
    assert (target - stands_for) << 15 <= target


@given(targets)
def test_rounding_to_bits_twice_is_rounding_once(target: int) -> None:
    bits = target_to_bits(target)
    assert target_to_bits(decode_bits(bits).value) == bits


@given(st.integers(0, 2**32 - 1))
def test_any_bits_are_a_usable_target_or_a_rule_error(bits: int) -> None:
    value, negative, overflow = decode_bits(bits)
    if negative or overflow or not value:
        with pytest.raises(RuleError, match=f"bad-diffbits: bits {bits:08x}"):
            bits_to_target(bits)
    else:
        assert 1 <= bits_to_target(bits) == value <= MAX_TARGET


@pytest.mark.parametrize("bits", [-1, 2**32])
def test_bits_outside_uint32_are_the_callers_mistake(bits: int) -> None:
    with pytest.raises(ValueError, match=str(bits)):
        decode_bits(bits)


@pytest.mark.parametrize("target", [-1, MAX_TARGET + 1])
def test_a_target_outside_256_bits_is_the_callers_mistake(target: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        target_to_bits(target)
    with pytest.raises(ValueError, match="outside"):
        expected_hashes(target)


@pytest.mark.parametrize(
    ("bits", "known"),
    [
        (0x1D00FFFF, 1.0),  # the first block
        (0x1D00D86A, 1.1828995343128408),  # block 32,256, the first change
        (0x1B0404CB, 16307.420938523983),  # Bitcoin wiki, "Difficulty"
        (0x17038C12, 79351228131136.77),  # block 832,608
    ],
)
def test_difficulty_is_what_explorers_show(bits: int, known: float) -> None:
    assert math.isclose(difficulty(bits_to_target(bits)), known, rel_tol=1e-13)


@given(st.floats(1e-9, 1e30))
def test_difficulty_survives_the_round_trip_over_a_target(value: float) -> None:
    assert math.isclose(difficulty(difficulty_to_target(value)), value, rel_tol=1e-9)


@given(st.floats(1e-60, 1e60), st.floats(1e-60, 1e60))
def test_more_difficulty_is_never_a_larger_target(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert difficulty_to_target(low) >= difficulty_to_target(high)


def test_share_difficulties_of_real_pools_become_targets() -> None:
    assert difficulty_to_target(1) == DIFFICULTY_1_TARGET
    assert difficulty_to_target(2.0000000000000002e-5) // DIFFICULTY_1_TARGET == 49_999
    assert difficulty_to_target(1e-300) == MAX_TARGET


@pytest.mark.parametrize("value", [0, -1, math.inf, -math.inf, math.nan])
def test_a_difficulty_that_is_not_above_zero_and_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite number above 0"):
        difficulty_to_target(value)


@pytest.mark.parametrize("target", [0, -1])
def test_a_target_of_nothing_has_no_difficulty(target: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        difficulty(target)


def test_a_difficulty_1_block_stands_for_4295032833_hashes() -> None:
    # The chain work of the first block, 0100010001 in Bitcoin Core's getblockheader.
    assert expected_hashes(DIFFICULTY_1_TARGET) == 0x0100010001
    assert expected_hashes(MAX_TARGET) == 1
    assert expected_hashes(0) == 1 << 256


@given(targets, targets)
def test_a_smaller_target_never_stands_for_fewer_hashes(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert expected_hashes(low) >= expected_hashes(high)
