"""Header rules: 22,000 real headers obey them, and each rule refuses what it should, with its word."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.errors import Rule, RuleError
from miner.header import BlockHeader
from miner.header_rules import (
    HeaderAt,
    check_header,
    check_header_in_context,
    check_not_future,
    expected_bits,
    linked_headers,
    median_time_past,
    verify_headers,
)
from miner.params import LOCAL, MAINNET, REGTEST, SIGNET, TESTNET3, TESTNET4, Params
from miner.target import bits_to_target, expected_hashes
from tests.real_data import NOW, HeaderRun, bsv_runs, mainnet_runs, real_blocks, vectors

EARLY, LATE = mainnet_runs()
SHORT = replace(MAINNET, retarget_interval=8, spacing=2)  # 16 s, as on `local`, with mainnet's limit


def ancestors(headers: Sequence[BlockHeader], first_height: int = 0) -> HeaderAt:
    return dict(enumerate(headers, first_height)).__getitem__


def chain(times: Sequence[int], bits: int | Sequence[int] = 0x1C00FFFF) -> list[BlockHeader]:
    all_bits = [bits] * len(times) if isinstance(bits, int) else bits
    return [
        BlockHeader(4, bytes(32), bytes(32), time, bit, 0) for time, bit in zip(times, all_bits, strict=True)
    ]


def word(raw_headers: Sequence[bytes], params: Params = MAINNET, first_height: int = 0) -> Rule:
    with pytest.raises(RuleError) as caught:
        list(verify_headers(raw_headers, params, first_height, NOW))
    return caught.value.kind


# Real chains


def test_every_header_from_the_first_block_on_obeys_every_rule() -> None:
    verified = list(verify_headers(EARLY.headers, MAINNET, 0, NOW))
    assert len(verified) == 18_144
    assert sum(each.retarget_checked for each in verified) == 8
    # Nothing comes before the first block; everything can be tested on all others.
    assert all(each.bits_checked and each.median_checked for each in verified[1:])


def test_every_header_of_a_later_run_obeys_the_rules_that_the_run_can_tell() -> None:
    verified = list(verify_headers(LATE.headers, MAINNET, LATE.first_height, NOW))
    assert len(verified) == 4_033
    assert [each.height for each in verified if each.retarget_checked] == [824_544, 826_560]
    assert [each.bits_checked for each in verified].count(False) == 1
    assert [each.median_checked for each in verified].count(False) == 11


@pytest.mark.parametrize("run", bsv_runs(), ids=["mainnet", "testnet"])
def test_chains_that_retarget_otherwise_still_link_and_have_their_proof_of_work(run: HeaderRun) -> None:
    linked = list(linked_headers(run.headers, run.params, run.first_height))
    assert [height for height, _ in linked] == list(
        range(run.first_height, run.first_height + len(run.headers))
    )


def test_a_chain_that_retargets_otherwise_is_not_taken_for_mainnet() -> None:
    run = bsv_runs()[0]
    assert word(run.headers, MAINNET, run.first_height) is Rule.BAD_DIFFBITS


@pytest.mark.parametrize("entry", vectors("retarget"), ids=lambda entry: str(entry["height"]))
def test_a_real_retarget_is_exact(entry: dict[str, object]) -> None:
    height = entry["height"]
    assert isinstance(height, int)
    first, last, new = (
        BlockHeader.from_hex(str(entry[f"{name}_header"])) for name in ("first", "last", "new")
    )
    known = {height - 2016: first, height - 1: last}
    assert expected_bits(MAINNET, height, known.__getitem__, new.time) == new.bits


def test_headers_are_tested_as_they_come_and_none_is_held_back() -> None:
    def endless() -> object:
        yield from EARLY.headers[:3]
        raise AssertionError("a fourth header was asked for")

    verified = verify_headers(endless(), MAINNET, 0, NOW)  # type: ignore[arg-type]
    assert [each.height for each in islice(verified, 3)] == [0, 1, 2]


# One flipped bit


def accept(raw: bytes, height: int, header_at: HeaderAt) -> None:
    header = BlockHeader.parse(raw)
    check_header(header, MAINNET)
    check_header_in_context(header, height, MAINNET, header_at, NOW)


@pytest.mark.parametrize("run", [EARLY, LATE], ids=["early", "late"])
def test_a_header_with_any_bit_flipped_is_refused(run: HeaderRun) -> None:
    at = 2016 + 5
    before = [BlockHeader.parse(raw) for raw in run.headers[at - 2016 : at]]
    header_at = ancestors(before, run.first_height + at - 2016)
    accept(run.headers[at], run.first_height + at, header_at)
    for bit in range(640):
        raw = bytearray(run.headers[at])
        raw[bit // 8] ^= 1 << bit % 8
        # Bytes 72-75 are the bits: those no longer fit, or the hash no longer meets them.
        expected = {Rule.BAD_DIFFBITS, Rule.HIGH_HASH} if 72 <= bit // 8 < 76 else {Rule.HIGH_HASH}
        with pytest.raises(RuleError) as caught:
            accept(bytes(raw), run.first_height + at, header_at)
        assert caught.value.kind in expected


def test_a_flip_in_a_run_names_the_height() -> None:
    headers = [*EARLY.headers[:5], EARLY.headers[5][:79] + b"\0", *EARLY.headers[6:9]]
    with pytest.raises(RuleError, match=r"high-hash: header at height 5: hash .* > target"):
        list(verify_headers(headers, MAINNET, 0, NOW))


# Links


def test_a_header_left_out_is_a_missing_parent() -> None:
    assert word([*EARLY.headers[:3], *EARLY.headers[4:6]]) is Rule.PREV_NOT_FOUND


def test_a_run_from_height_0_starts_at_the_networks_first_block() -> None:
    assert word(EARLY.headers[1:3]) is Rule.PREV_NOT_FOUND
    assert word(EARLY.headers[:3], TESTNET3) is Rule.PREV_NOT_FOUND


@pytest.mark.parametrize("size", [0, 1, 79, 81])
def test_a_piece_of_another_size_is_no_header(size: int) -> None:
    assert word([*EARLY.headers[:2], bytes(size)]) is Rule.DECODE_FAILED


def test_no_headers_are_no_error() -> None:
    assert list(verify_headers([], MAINNET, 0, NOW)) == []


# Proof of work


@pytest.mark.parametrize("bits", [0, 0x1D80FFFF, 0x2300FFFF, 0x1D010000, 0x207FFFFF])
def test_bits_that_are_no_target_or_easier_than_the_limit_are_refused(bits: int) -> None:
    header = replace(MAINNET.genesis_header, bits=bits)
    with pytest.raises(RuleError) as caught:
        check_header(header, MAINNET)
    assert caught.value.kind is Rule.BAD_DIFFBITS
    assert f"{bits:08x}" in caught.value.text


class AtTheTarget(BlockHeader):
    """A header whose hash is its target plus `above`: nobody could mine one to order."""

    above = 0

    @property
    def hash(self) -> bytes:
        return (bits_to_target(self.bits) + self.above).to_bytes(32, "little")


class AboveTheTarget(AtTheTarget):
    above = 1


def test_bits_of_exactly_the_limit_are_allowed() -> None:
    assert bits_to_target(SIGNET.genesis_header.bits) == SIGNET.pow_limit
    check_header(SIGNET.genesis_header, SIGNET)


def test_a_hash_equal_to_the_target_wins_and_one_more_loses() -> None:
    fields = (1, bytes(32), bytes(32), 0, 0x1D00FFFF, 0)
    check_header(AtTheTarget(*fields), MAINNET)
    with pytest.raises(RuleError, match="high-hash"):
        check_header(AboveTheTarget(*fields), MAINNET)


# Retargeting


def next_bits(params: Params, headers: Sequence[BlockHeader], late: int = 1) -> int:
    return expected_bits(params, len(headers), ancestors(headers), headers[-1].time + late)


def test_bits_stay_within_an_interval() -> None:
    for length in range(1, 8):
        assert next_bits(SHORT, chain(range(length))) == 0x1C00FFFF


def test_the_time_of_an_interval_is_measured_from_its_first_block_to_its_last() -> None:
    # Seven gaps, not eight: 16 s between the first and the last of eight blocks change nothing.
    assert next_bits(SHORT, chain([0, 2, 4, 6, 8, 10, 12, 16])) == 0x1C00FFFF
    # The gap before the first block does not count, nor does the block that is being mined.
    second_interval = [*range(0, 800, 100), 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1016]
    assert next_bits(SHORT, chain(second_interval)) == 0x1C00FFFF


@pytest.mark.parametrize(
    ("seconds", "factor"),
    [(8, 2), (32, 0.5), (4, 4), (3, 4), (0, 4), (-50, 4), (64, 0.25), (65, 0.25), (10**6, 0.25)],
)
def test_retarget_is_proportional_and_clamped_to_four_times(seconds: int, factor: float) -> None:
    headers = chain([1000] * 7 + [1000 + seconds])
    target = bits_to_target(next_bits(SHORT, headers))
    assert bits_to_target(0x1C00FFFF) / target == pytest.approx(factor, rel=1e-4)


def test_retarget_never_passes_the_limit() -> None:
    assert next_bits(SHORT, chain([0] * 7 + [10**6], 0x1D00FFFF)) == 0x1D00FFFF


def test_a_network_without_retargeting_keeps_its_bits() -> None:
    headers = chain([0] * 143 + [10**6], REGTEST.genesis_header.bits)
    assert next_bits(REGTEST, headers) == REGTEST.genesis_header.bits
    assert next_bits(REGTEST, headers[:50], late=10**6) == REGTEST.genesis_header.bits


def test_local_follows_a_fast_device_up_and_a_slow_one_down() -> None:
    start = LOCAL.genesis_header.bits
    faster = next_bits(LOCAL, chain([0] * 8, start))
    slower = next_bits(LOCAL, chain(range(0, 800, 100), start))
    # Bits keep 15 to 23 digits of the quotient.
    assert bits_to_target(start) / bits_to_target(faster) == pytest.approx(4, rel=1e-4)
    assert bits_to_target(slower) / bits_to_target(start) == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize("rate", [1e3, 1e6, 1e9, 1e12], ids=["1 kH/s", "1 MH/s", "1 GH/s", "1 TH/s"])
def test_local_settles_at_two_and_a_bit_seconds_a_block_for_any_device(rate: float) -> None:
    clock = float(LOCAL.genesis_header.time + 86_400)  # the first block is a day old
    headers, seconds = [LOCAL.genesis_header], 0.0
    while len(headers) < 40 * LOCAL.retarget_interval:
        median = median_time_past(header.time for header in headers[-11:])
        bits = next_bits(LOCAL, headers)
        seconds = expected_hashes(bits_to_target(bits)) / rate
        clock += seconds
        headers.append(replace(headers[-1], time=max(int(clock), median + 1), bits=bits))
        assert headers[-1].time < clock + 60  # nowhere near the two hours that are allowed
    # An interval is measured over seven gaps, in whole seconds: 16 s / 7 and a rounding.
    assert seconds == pytest.approx(16 / 7, rel=0.1)


LAX = replace(TESTNET3, retarget_interval=8)
LAX_94 = replace(TESTNET4, retarget_interval=8)


@pytest.mark.parametrize("params", [LAX, LAX_94], ids=["testnet3", "testnet4"])
def test_within_an_interval_the_parents_bits_hold_unless_they_are_the_easiest(params: Params) -> None:
    assert next_bits(params, chain([0, 600, 1200], [0x1C00FFFF, 0x1D00FFFF, 0x1B00FFFF])) == 0x1B00FFFF


@pytest.mark.parametrize("params", [LAX, LAX_94], ids=["testnet3", "testnet4"])
def test_a_block_more_than_twenty_minutes_late_may_be_easy(params: Params) -> None:
    headers = chain([0, 600, 1200])
    assert next_bits(params, headers, late=1200) == 0x1C00FFFF
    assert next_bits(params, headers, late=1201) == 0x1D00FFFF


@pytest.mark.parametrize("params", [LAX, LAX_94], ids=["testnet3", "testnet4"])
def test_after_easy_blocks_the_last_ordinary_bits_hold_again(params: Params) -> None:
    easy, hard = 0x1D00FFFF, 0x1C00FFFF
    assert next_bits(params, chain([0, 600, 1200], [hard, easy, easy])) == hard
    # The walk back ends at the interval's first block, even if that is easy.
    eight_and_two = chain(range(0, 6000, 600), [hard] * 8 + [easy, easy])
    assert next_bits(params, eight_and_two) == easy


def test_an_easy_last_block_makes_testnet3s_next_interval_easy_and_not_testnet4s() -> None:
    easy, hard = 0x1D00FFFF, 0x1C00FFFF
    on_time = [*range(0, 4200, 600), 4800]  # 4800 s: exactly one timespan of eight blocks
    headers = chain(on_time, [hard] * 7 + [easy])
    assert next_bits(LAX, headers) == easy
    assert next_bits(LAX_94, headers) == hard  # BIP 94, Block Storm Fix


@pytest.mark.parametrize("params", [LAX, LAX_94], ids=["testnet3", "testnet4"])
def test_an_intervals_first_block_is_never_excused(params: Params) -> None:
    headers = chain([*range(0, 4200, 600), 4800])
    assert next_bits(params, headers, late=10**6) == 0x1C00FFFF


def test_the_first_block_follows_no_rule_and_unknown_ancestors_are_a_lookup_error() -> None:
    with pytest.raises(ValueError, match="height 0 has no parent"):
        expected_bits(MAINNET, 0, ancestors([]), 0)
    with pytest.raises(LookupError):
        expected_bits(MAINNET, 2016, ancestors(chain([0]), 2015), 0)


# Time and version


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=11), st.randoms(use_true_random=False))
def test_the_median_is_the_middle_one_in_any_order(times: list[int], random: object) -> None:
    median = median_time_past(times)
    assert sorted(times)[len(times) // 2] == median
    random.shuffle(times)  # type: ignore[attr-defined]
    assert median_time_past(times) == median


@pytest.mark.parametrize("count", [0, 12])
def test_the_median_is_over_one_to_eleven_blocks(count: int) -> None:
    with pytest.raises(ValueError, match=f"not {count}"):
        median_time_past([1] * count)


def in_context(header: BlockHeader, headers: Sequence[BlockHeader], params: Params, now: int = NOW) -> None:
    check_header_in_context(header, len(headers), params, ancestors(headers), now)


def test_a_time_must_exceed_the_median_of_the_last_eleven_and_nothing_else() -> None:
    headers = chain([0, 0, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 5])
    good = replace(headers[0], time=41)  # the last eleven, sorted: 0 5 10 20 30 | 40 | 50 60 70 80 90
    in_context(good, headers, MAINNET)
    with pytest.raises(RuleError, match="time-too-old: time 40 <= median time past 40"):
        in_context(replace(good, time=40), headers, MAINNET)


def test_a_time_may_be_two_hours_ahead_of_the_clock_and_no_more() -> None:
    header = chain([NOW + 7200])[0]
    check_not_future(header, NOW)
    with pytest.raises(RuleError, match="time-too-new"):
        check_not_future(header, NOW - 1)
    with pytest.raises(RuleError, match="time-too-new"):
        in_context(header, chain([0]), MAINNET, now=NOW - 1)


def test_bip_94_lets_an_interval_start_ten_minutes_before_its_parent_and_no_more() -> None:
    headers = chain([*range(0, 4200, 600), 4800])
    good = replace(headers[0], time=4200)
    in_context(good, headers, LAX_94)
    with pytest.raises(RuleError, match="time-timewarp-attack: time 4199 < 4200"):
        in_context(replace(good, time=4199), headers, LAX_94)
    in_context(replace(good, time=4199), headers, LAX)
    # Only an interval's first block: this one is the second.
    in_context(replace(good, time=3000), [*headers[:8], replace(good, time=4800)], LAX_94)


@pytest.mark.parametrize(
    ("height_field", "least"), [("bip34_height", 2), ("bip66_height", 3), ("bip65_height", 4)]
)
def test_old_versions_end_where_their_successors_begin(height_field: str, least: int) -> None:
    later = {"bip34_height": 10**6, "bip66_height": 10**6, "bip65_height": 10**6, height_field: 3}
    params = replace(MAINNET, **later)  # type: ignore[arg-type]
    old = replace(chain([100])[0], version=least - 1)
    in_context(old, chain([0, 1]), params)
    with pytest.raises(RuleError, match=f"bad-version: version 0x0000000{least - 1} < {least}"):
        in_context(old, chain([0, 1, 2]), params)
    in_context(replace(old, version=least), chain([0, 1, 2]), params)


def test_a_version_with_the_top_bit_set_is_negative() -> None:
    params = replace(MAINNET, bip34_height=1)
    negative = replace(chain([100])[0], version=0x8000_0004)
    with pytest.raises(RuleError, match="bad-version: version 0x80000004"):
        in_context(negative, chain([0]), params)


def test_the_headers_of_all_real_blocks_obey_the_rules_of_their_height() -> None:
    for real in real_blocks():
        header = BlockHeader.parse(real.raw[:80])
        check_header(header, real.params)
        check_not_future(header, NOW)
