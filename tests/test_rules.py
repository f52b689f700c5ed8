"""Block rules: real blocks obey them; every flipped bit and every broken rule is refused with its word."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from miner.block import Block, Transaction, TxIn, TxOut, coinbase_parts, commitment_output, merkle_root
from miner.block import witness_commitment as commitment_over
from miner.errors import Rule, RuleError
from miner.header import BlockHeader
from miner.params import COIN, MAINNET, REGTEST, SIGNET, Params
from miner.rules import (
    MAX_MONEY,
    check_block,
    check_block_in_context,
    check_body,
    check_not_future,
    check_transaction,
    legacy_sigops,
    subsidy,
)
from tests.real_data import RealBlock, real_blocks, vectors

SEGWIT = next(block for block in real_blocks() if block.params is SIGNET)
MTP = 1_700_000_000
SPENT = TxIn(b"\x11" * 32, 0, b"")
NOTHING = TxIn(bytes(32), 0xFFFF_FFFF, b"\x51\x51")
PAYMENT = Transaction(2, (SPENT,), (TxOut(1, b"\x51"),))


def coinbase(height: int = 1, *outputs: TxOut, **parts: Any) -> Transaction:
    prefix, suffix = coinbase_parts(height, outputs or (TxOut(50 * COIN, b"\x51"),), **parts)
    return Transaction.parse(prefix + bytes(parts.get("extranonce_size", 8)) + suffix)


def block_of(*transactions: Transaction) -> Block:
    """A block whose header commits to the transactions; its proof of work is another test's."""
    root = merkle_root([tx.txid for tx in transactions])
    return Block(BlockHeader(4, bytes(32), root, MTP + 1, 0x207FFFFF, 0), transactions)


def solved(block: Block) -> Block:
    target = (1 << 255) - 1
    nonces = (
        nonce
        for nonce in range(100)
        if int.from_bytes(block.header.with_nonce(nonce).hash, "little") <= target
    )
    return replace(block, header=block.header.with_nonce(next(nonces)))


def body_word(*transactions: Transaction) -> Rule:
    with pytest.raises(RuleError) as caught:
        check_body(block_of(*transactions))
    return caught.value.kind


def context_word(block: Block, height: int = 1, params: Params = REGTEST, mtp: int = MTP) -> Rule:
    check_body(block)
    with pytest.raises(RuleError) as caught:
        check_block_in_context(block, height, params, mtp)
    return caught.value.kind


# Real blocks


@pytest.mark.parametrize("real", real_blocks(), ids=str)
def test_a_real_block_obeys_every_rule_at_its_height(real: RealBlock) -> None:
    block = Block.parse(real.raw)
    check_block(block, real.params)
    if real.height:
        # The median time past is below the block's own time, and no real lock time falls between them.
        check_block_in_context(block, real.height, real.params, block.header.time - 1)


def accept(raw: bytes, height: int, params: Params) -> None:
    """As a chain does it, parents and clock aside."""
    block = Block.parse(raw)
    check_block(block, params)
    if height:
        check_block_in_context(block, height, params, block.header.time - 1)


def flips(raw: bytes) -> Any:
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(flipped)


HEADER_WORDS = {Rule.HIGH_HASH}
BITS_WORDS = {Rule.HIGH_HASH, Rule.BAD_DIFFBITS}
BODY_WORDS = {Rule.BAD_MERKLE_ROOT, Rule.DECODE_FAILED}
WITNESS_WORDS = {Rule.BAD_WITNESS_COMMITMENT, Rule.BAD_WITNESS_NONCE, Rule.DECODE_FAILED}


def words_for(place: int, raw: bytes) -> set[Rule]:
    if place < 80:
        return BITS_WORDS if 72 <= place < 76 else HEADER_WORDS
    return WITNESS_WORDS if place in witness_places(raw) else BODY_WORDS


def witness_places(raw: bytes) -> set[int]:
    """Where a block's witness bytes lie: those that the stripped transactions do not have."""
    places: set[int] = set()
    end = 81
    for tx in Block.parse(raw).transactions:
        start, end = end, end + len(bytes(tx))
        if tx.witnesses:
            stripped_body = len(tx.stripped) - 4  # up to the lock time, which comes after the witnesses
            places |= set(range(start + stripped_body + 2, end - 4))
    return places


@pytest.mark.parametrize(
    ("raw", "height", "params"),
    [(MAINNET.genesis, 0, MAINNET), (SEGWIT.raw, SEGWIT.height, SIGNET)],
    ids=["first block", "segwit"],
)
def test_a_block_with_any_bit_flipped_is_refused_with_the_right_word(
    raw: bytes, height: int, params: Params
) -> None:
    accept(raw, height, params)
    expected = [words_for(place, raw) for place in range(len(raw))]
    for place, flipped in flips(raw):
        with pytest.raises(RuleError) as caught:
            accept(flipped, height, params)
        assert caught.value.kind in expected[place], f"byte {place}"


def test_flips_all_over_a_larger_block_are_refused_with_the_right_word() -> None:
    real = next(block for block in real_blocks() if block.height == 482_683)
    places = witness_places(real.raw)
    for place in range(80, len(real.raw), 97):  # 97: no field's size divides it
        flipped = bytearray(real.raw)
        flipped[place] ^= 0x10
        with pytest.raises(RuleError) as caught:
            accept(bytes(flipped), real.height, real.params)
        assert caught.value.kind in (WITNESS_WORDS if place in places else BODY_WORDS)


# Published cases


def check_case(entry: Sequence[Any]) -> None:
    _, _, with_pow, now, raw = entry
    block = Block.parse(bytes.fromhex(raw))
    if with_pow:
        check_block(block, MAINNET)
        check_not_future(block.header, now)
    else:
        check_body(block)


VALID = [entry for entry in vectors("checkblock_valid") if len(entry) > 1]
INVALID = [entry for entry in vectors("checkblock_invalid") if len(entry) > 1]
WORDS = {
    "Genesis block with time set to two hours + 1 second behind": Rule.TIME_TOO_NEW,
    "Genesis with one byte changed": Rule.HIGH_HASH,
    "Empty vtx": Rule.BAD_MERKLE_ROOT,  # the root of nothing is not the header's
    "One tx, but not a coinbase": Rule.COINBASE_MISSING,
    "More than one coinbase (different coinbases)": Rule.COINBASE_MULTIPLE,
    "Duplicate transaction": Rule.BAD_MERKLE_ROOT,  # repeated without an eye to the root
    "Merkle root mismatch": Rule.BAD_MERKLE_ROOT,
}


@pytest.mark.parametrize("entry", VALID, ids=lambda entry: entry[0])
def test_a_published_valid_block_is_accepted(entry: Sequence[Any]) -> None:
    check_case(entry)


@pytest.mark.parametrize("entry", INVALID, ids=lambda entry: entry[0])
def test_a_published_invalid_block_is_refused_with_its_word(entry: Sequence[Any]) -> None:
    with pytest.raises(RuleError) as caught:
        check_case(entry)
    assert caught.value.kind is WORDS[entry[0]]


LOCKED_TOO_FAR = ("set to 21 and", "set to 4 and")
"""The cases of BIP 54 that are refused today as well; the others that it refuses, it alone refuses."""


@pytest.mark.parametrize("entry", vectors("bip54_coinbases"), ids=lambda entry: entry["comment"])
def test_the_chains_of_bip_54_obey_todays_rules_unless_their_coinbase_is_locked_too_far(
    entry: dict[str, Any],
) -> None:
    *chain, last = [Block.parse(bytes.fromhex(raw)) for raw in entry["block_chain"]]
    for height, block in enumerate(chain[1:], 1):
        check_block(block, MAINNET)
        check_block_in_context(block, height, MAINNET, MTP)
    check_block(last, MAINNET)
    if any(words in entry["comment"] for words in LOCKED_TOO_FAR):
        assert context_word(last, len(chain), MAINNET) is Rule.TXN_NONFINAL
        assert not entry["valid"]
    else:
        check_block_in_context(last, len(chain), MAINNET, MTP)


# The body


def test_a_block_of_our_own_obeys_every_rule() -> None:
    block = solved(block_of(coinbase(7, tag=b"/nonceforge/")))
    check_block(block, REGTEST)
    check_block_in_context(block, 7, REGTEST, MTP)


def test_a_root_over_other_transactions_is_refused() -> None:
    block = block_of(coinbase(), PAYMENT)
    with pytest.raises(RuleError, match="bad-txnmrklroot"):
        check_body(replace(block, transactions=block.transactions[:1]))


def test_a_repeated_last_transaction_hides_behind_the_same_root_and_is_refused() -> None:
    other = replace(PAYMENT, lock_time=1)
    block = block_of(coinbase(), PAYMENT, other)
    check_body(block)
    repeated = replace(block, transactions=(*block.transactions, other))
    assert merkle_root(repeated.txids) == block.header.merkle_root
    with pytest.raises(RuleError, match="bad-txns-duplicate"):
        check_body(repeated)


def test_a_block_of_nothing_has_no_length() -> None:
    assert body_word() is Rule.BAD_BLOCK_LENGTH


def test_more_than_a_megabyte_without_witnesses_is_too_long() -> None:
    room = 1_000_000 - len(bytes(block_of(coinbase())))
    big = coinbase(1, TxOut(50 * COIN, b"\x51"), TxOut(0, b"\x6a" * (room - 9 - 4)))
    assert block_of(big).stripped_size == 1_000_000
    check_body(block_of(big))
    longer = coinbase(1, TxOut(50 * COIN, b"\x51"), TxOut(0, b"\x6a" * (room - 9 - 3)))
    assert body_word(longer) is Rule.BAD_BLOCK_LENGTH


def test_the_first_transaction_is_the_coinbase_and_no_other() -> None:
    assert body_word(PAYMENT) is Rule.COINBASE_MISSING
    assert body_word(coinbase(1), coinbase(2)) is Rule.COINBASE_MULTIPLE


BROKEN = [
    (Rule.NO_INPUTS, replace(PAYMENT, inputs=())),
    (Rule.NO_OUTPUTS, replace(PAYMENT, outputs=())),
    (Rule.TXN_OVERSIZE, replace(PAYMENT, outputs=(TxOut(0, bytes(1_000_000)),))),
    (Rule.OUTPUT_NEGATIVE, replace(PAYMENT, outputs=(TxOut(-1, b""),))),
    (Rule.OUTPUT_TOO_LARGE, replace(PAYMENT, outputs=(TxOut(MAX_MONEY + 1, b""),))),
    (Rule.OUTPUT_TOTAL_TOO_LARGE, replace(PAYMENT, outputs=(TxOut(MAX_MONEY, b""), TxOut(1, b"")))),
    (Rule.COINBASE_LENGTH, replace(PAYMENT, inputs=(replace(NOTHING, script=b"\x51"),))),
    (Rule.COINBASE_LENGTH, replace(PAYMENT, inputs=(replace(NOTHING, script=bytes(101)),))),
    (Rule.DUPLICATE_INPUTS, replace(PAYMENT, inputs=(SPENT, replace(SPENT, sequence=0)))),
    (Rule.PREVOUT_NULL, replace(PAYMENT, inputs=(SPENT, NOTHING))),
]


@pytest.mark.parametrize(("rule", "transaction"), BROKEN, ids=lambda value: getattr(value, "value", ""))
def test_a_transaction_that_breaks_a_rule_is_refused_with_its_word(
    rule: Rule, transaction: Transaction
) -> None:
    check_transaction(PAYMENT)
    with pytest.raises(RuleError) as caught:
        check_transaction(transaction)
    assert caught.value.kind is rule


def sized(size: int) -> Transaction:
    """A transaction of `size` bytes."""
    room = size - len(bytes(replace(PAYMENT, outputs=(TxOut(0, bytes(70_000)),))))
    return replace(PAYMENT, outputs=(TxOut(0, bytes(70_000 + room)),))


ALLOWED = {
    "a megabyte": sized(1_000_000),
    "all the money there is": replace(PAYMENT, outputs=(TxOut(MAX_MONEY - 1, b""), TxOut(1, b""))),
    "a coinbase script of 2 bytes": replace(PAYMENT, inputs=(replace(NOTHING, script=bytes(2)),)),
    "a coinbase script of 100 bytes": replace(PAYMENT, inputs=(replace(NOTHING, script=bytes(100)),)),
    "two outputs of one transaction": replace(PAYMENT, inputs=(SPENT, replace(SPENT, index=1))),
}


@pytest.mark.parametrize("transaction", ALLOWED.values(), ids=list(ALLOWED))
def test_what_is_just_within_the_limits_is_allowed(transaction: Transaction) -> None:
    check_transaction(transaction)


def test_a_byte_over_a_megabyte_is_too_large() -> None:
    with pytest.raises(RuleError, match="bad-txns-oversize: 1000001 bytes"):
        check_transaction(sized(1_000_001))


def test_every_transaction_of_a_block_is_checked() -> None:
    assert body_word(coinbase(), PAYMENT, replace(PAYMENT, outputs=(TxOut(-1, b""),))) is Rule.OUTPUT_NEGATIVE


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("", 0),
        ("76a914" + "ac" * 20 + "88ac", 1),  # pay to a public key hash: pushed bytes are no operations
        ("acad", 2),
        ("51" + "21" + "02" * 33 + "51ae", 20),  # before P2SH a multisig counts for 20 keys
        ("aeaf", 40),
        ("4c02acacac", 1),
        ("4d0200acacac", 1),
        ("4e02000000acacac", 1),
        ("ac4cff", 1),  # a push that the script cuts short ends the count
        ("ac4d", 1),
        ("ac4bac", 1),
    ],
)
def test_legacy_signature_operations_are_counted_as_before_p2sh(script: str, count: int) -> None:
    assert legacy_sigops(bytes.fromhex(script)) == count


def test_a_block_may_hold_20000_legacy_signature_operations_and_no_more() -> None:
    check_body(block_of(coinbase(1, TxOut(0, b"\xac" * 20_000))))
    assert body_word(coinbase(1, TxOut(0, b"\xac" * 20_001))) is Rule.SIGOPS


# In context


def test_the_coinbase_starts_with_the_height_from_bip_34_on() -> None:
    block = block_of(coinbase(7))
    check_block_in_context(block, 7, REGTEST, MTP)
    assert context_word(block, 8) is Rule.COINBASE_HEIGHT
    check_block_in_context(block, 8, replace(REGTEST, bip34_height=9), MTP)
    assert context_word(block, 8, replace(REGTEST, bip34_height=8)) is Rule.COINBASE_HEIGHT


def locked(lock_time: int, sequence: int = 0) -> Transaction:
    return replace(PAYMENT, inputs=(replace(SPENT, sequence=sequence),), lock_time=lock_time)


def test_a_transaction_locked_to_a_height_may_come_after_it() -> None:
    check_block_in_context(block_of(coinbase(9), locked(8)), 9, REGTEST, MTP)
    assert context_word(block_of(coinbase(9), locked(9)), 9) is Rule.TXN_NONFINAL


def test_a_transaction_locked_to_a_time_waits_for_the_median_and_once_waited_for_the_header() -> None:
    block = block_of(coinbase(), locked(MTP))  # the header's time is MTP + 1
    check_block_in_context(block_of(coinbase(), locked(MTP - 1)), 1, REGTEST, MTP)
    assert context_word(block) is Rule.TXN_NONFINAL
    check_block_in_context(block, 1, replace(REGTEST, csv_height=2), MTP)


def test_a_lock_time_of_500_million_is_a_time_and_one_less_a_height() -> None:
    check_block_in_context(block_of(coinbase(), locked(500_000_000)), 1, REGTEST, MTP)
    assert context_word(block_of(coinbase(), locked(499_999_999))) is Rule.TXN_NONFINAL


def test_a_lock_time_counts_if_one_input_lets_it() -> None:
    both = replace(locked(9), inputs=(replace(SPENT, sequence=0), replace(SPENT, index=1)))
    assert context_word(block_of(coinbase(9), both), 9) is Rule.TXN_NONFINAL


def test_a_lock_time_that_every_input_switches_off_does_not_count() -> None:
    check_block_in_context(block_of(coinbase(9), locked(9, 0xFFFF_FFFF)), 9, REGTEST, MTP)


WITNESSED = replace(PAYMENT, witnesses=((b"signature",),))


def committed(
    *others: Transaction, reserved: Sequence[bytes] = (bytes(32),), seen: bytes = bytes(32)
) -> Block:
    output = commitment_output(commitment_over([tx.wtxid for tx in others], seen))
    first = replace(coinbase(1, TxOut(50 * COIN, b"\x51"), output), witnesses=(tuple(reserved),))
    return block_of(first, *others)


def test_a_commitment_to_the_witnesses_lets_them_in() -> None:
    check_block_in_context(committed(WITNESSED), 1, REGTEST, MTP)
    check_block_in_context(committed(WITNESSED, reserved=[b"r" * 32], seen=b"r" * 32), 1, REGTEST, MTP)
    check_block_in_context(committed(), 1, REGTEST, MTP)
    check_block_in_context(committed(WITNESSED), 1, replace(REGTEST, segwit_height=1), MTP)


def test_witnesses_without_a_commitment_are_unexpected() -> None:
    assert context_word(block_of(coinbase(), WITNESSED)) is Rule.UNEXPECTED_WITNESS
    # Seen with a real node: a commitment is none before segwit's height.
    assert (
        context_word(committed(WITNESSED), params=replace(REGTEST, segwit_height=2))
        is Rule.UNEXPECTED_WITNESS
    )


@pytest.mark.parametrize("reserved", [[], [bytes(31)], [bytes(32), b""]], ids=["none", "short", "two"])
def test_the_reserved_value_is_one_item_of_32_bytes(reserved: list[bytes]) -> None:
    assert context_word(committed(WITNESSED, reserved=reserved)) is Rule.BAD_WITNESS_NONCE


def test_another_witness_than_the_committed_one_is_refused() -> None:
    block = committed(WITNESSED)
    other = replace(WITNESSED, witnesses=((b"another",),))
    changed = replace(block, transactions=(block.transactions[0], other))
    assert context_word(changed) is Rule.BAD_WITNESS_COMMITMENT


def test_witnesses_count_once_towards_a_weight_of_four_million_and_no_more() -> None:
    def weighing(witness: int) -> Block:
        return committed(replace(PAYMENT, witnesses=((bytes(witness),),)))

    room = 3_900_000 + 4_000_000 - weighing(3_900_000).weight
    assert weighing(room).weight == 4_000_000
    check_block_in_context(weighing(room), 1, REGTEST, MTP)
    assert context_word(weighing(room + 1)) is Rule.BAD_BLOCK_WEIGHT


def test_a_coinbase_alone_may_claim_the_subsidy_and_no_more() -> None:
    check_block_in_context(block_of(coinbase(1, TxOut(50 * COIN, b""))), 1, REGTEST, MTP)
    assert context_word(block_of(coinbase(1, TxOut(50 * COIN + 1, b"")))) is Rule.COINBASE_AMOUNT
    assert context_word(block_of(coinbase(1, TxOut(50 * COIN, b""), TxOut(1, b"")))) is Rule.COINBASE_AMOUNT
    # With another transaction there may be fees, which only the spent outputs would tell.
    check_block_in_context(block_of(coinbase(1, TxOut(51 * COIN, b"")), PAYMENT), 1, REGTEST, MTP)


@pytest.mark.parametrize(
    ("height", "satoshi"),
    [
        (0, 50 * COIN),
        (209_999, 50 * COIN),
        (210_000, 25 * COIN),
        (840_000, 312_500_000),
        (32 * 210_000, 1),
        (33 * 210_000, 0),
        (64 * 210_000, 0),
        (2**31 - 1, 0),
    ],
)
def test_the_subsidy_halves_every_210000_blocks(height: int, satoshi: int) -> None:
    assert subsidy(height, MAINNET) == satoshi


def test_all_subsidies_together_are_just_under_21_million() -> None:
    total = sum(210_000 * subsidy(height, MAINNET) for height in range(0, 34 * 210_000, 210_000))
    assert total == 2_099_999_997_690_000  # Bitcoin Core, src/test/validation_tests.cpp
