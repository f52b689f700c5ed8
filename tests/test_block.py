"""Blocks and transactions as bytes: real ones whole, broken ones refused with a sentence."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miner.block import (
    Block,
    Transaction,
    TxIn,
    TxOut,
    coinbase_parts,
    commitment_output,
    data_output,
    find_commitment,
    has_twin_hashes,
    merkle_branch,
    merkle_root,
    push,
    script_number,
    witness_commitment,
)
from miner.errors import Rule, RuleError
from miner.header import display_hex, sha256d
from miner.params import MAINNET
from miner.transaction import Reader, compact_size
from tests.real_data import RealBlock, real_blocks, vectors

SEGWIT = next(block for block in real_blocks() if block.params.name == "signet")
SMALL = [block for block in real_blocks() if len(block.raw) < 6000]

uint32 = st.integers(0, 2**32 - 1)
hash32 = st.binary(min_size=32, max_size=32)
inputs = st.builds(TxIn, hash32, uint32, st.binary(max_size=300), uint32)
outputs = st.builds(TxOut, st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300))
stacks = st.lists(st.binary(max_size=100), max_size=4).map(tuple)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    ins = draw(st.lists(inputs, min_size=1, max_size=4))
    outs = draw(st.lists(outputs, max_size=4))
    witnesses = draw(st.lists(stacks, min_size=len(ins), max_size=len(ins)) | st.just([]))
    return Transaction(draw(uint32), tuple(ins), tuple(outs), tuple(witnesses), draw(uint32))


def refused(raw: bytes) -> str:
    with pytest.raises(RuleError) as caught:
        Block.parse(raw)
    assert caught.value.kind is Rule.DECODE_FAILED
    return caught.value.text


# Real blocks


@pytest.mark.parametrize("real", real_blocks(), ids=str)
def test_a_real_block_is_read_whole_and_its_root_commits_to_it(real: RealBlock) -> None:
    block = Block.parse(real.raw)
    assert bytes(block) == real.raw
    assert block.header.hash_hex == (real.hash_hex or block.header.hash_hex)
    assert merkle_root(block.txids) == block.header.merkle_root
    assert not has_twin_hashes(block.txids)
    coinbase, *others = block.transactions
    assert bool(coinbase.witnesses) == real.commits
    if real.commits:
        (reserved,) = coinbase.witnesses[0]
        assert witness_commitment([tx.wtxid for tx in others], reserved) == find_commitment(coinbase)


@pytest.mark.parametrize("entry", vectors("coinbase_merkle"), ids=lambda entry: entry["hash"][-12:])
def test_the_branch_of_a_real_coinbase_leads_to_the_root(entry: dict[str, object]) -> None:
    block = next(Block.parse(real.raw) for real in real_blocks() if real.hash_hex == entry["hash"])
    branch = merkle_branch(block.txids[1:])
    assert [sibling.hex() for sibling in branch] == entry["stratum_branch"]
    root = Transaction.parse(bytes.fromhex(str(entry["coinbase"]))).txid
    assert display_hex(root) == entry["coinbase_txid"]
    for sibling in branch:
        root = sha256d(root + sibling)
    assert display_hex(root) == entry["merkle_root"]


@pytest.mark.parametrize("entry", vectors("coinbase_merkle"), ids=lambda entry: entry["hash"][-12:])
def test_a_real_coinbase_is_stripped_of_its_witness(entry: dict[str, object]) -> None:
    coinbase = Transaction.parse(bytes.fromhex(str(entry["coinbase"])))
    assert coinbase.is_coinbase
    assert bytes(coinbase).hex() == entry["coinbase"]
    assert coinbase.stripped.hex() == entry["coinbase_stripped"]


def test_the_weight_of_a_segwit_block_counts_witness_bytes_once() -> None:
    block = Block.parse(SEGWIT.raw)
    witness_bytes = len(SEGWIT.raw) - block.stripped_size
    assert witness_bytes > 0
    assert block.weight == 4 * block.stripped_size + witness_bytes
    assert block.weight == 4 * 81 + sum(tx.weight for tx in block.transactions)  # header and count


# What is refused


@pytest.mark.parametrize("real", [SEGWIT, SMALL[0]], ids=str)
def test_a_block_cut_anywhere_is_refused(real: RealBlock) -> None:
    for end in range(len(real.raw)):
        assert refused(real.raw[:end])


def test_bytes_after_the_block_are_refused() -> None:
    assert "1 bytes follow the block" in refused(SEGWIT.raw + b"\0")


@pytest.mark.parametrize("written", ["fd0100", "fe01000000", "ff0100000000000000"])
def test_a_count_written_longer_than_it_needs_is_refused(written: str) -> None:
    raw = MAINNET.genesis
    assert "more than it needs" in refused(raw[:80] + bytes.fromhex(written) + raw[81:])


@pytest.mark.parametrize("place", [80, 85, 122, 209], ids=["transactions", "inputs", "script", "outputs"])
def test_an_absurd_count_is_refused_before_anything_is_allocated(place: int) -> None:
    raw = MAINNET.genesis
    tracemalloc.start()
    refused(raw[:place] + b"\xff" + b"\xff" * 8 + raw[place + 1 :])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_a_count_of_more_than_the_bytes_that_are_left_can_hold_is_refused_as_such() -> None:
    raw = MAINNET.genesis
    sentence = "20 inputs cannot be in the 199 bytes that are left"  # an input has 41 bytes at least
    assert sentence in refused(raw[:85] + b"\x14" + raw[86:])


def test_a_count_that_the_bytes_can_just_hold_is_read() -> None:
    empty = bytes.fromhex("01000000" + "0000" + "00000000")
    assert len(Block.parse(MAINNET.genesis[:80] + b"\x02" + 2 * empty).transactions) == 2


def test_an_unknown_flag_and_an_announced_witness_that_is_missing_are_refused() -> None:
    head, tail = bytes.fromhex("01000000"), bytes.fromhex("00000000")
    body = b"\x01" + bytes(TxIn(bytes(32), 0, b"")) + b"\x01" + bytes(TxOut(0, b""))
    with pytest.raises(RuleError, match="flag 2 is unknown"):
        Transaction.parse(head + b"\x00\x02" + body + tail)
    with pytest.raises(RuleError, match="announces witnesses and has none"):
        Transaction.parse(head + b"\x00\x01" + body + b"\x00" + tail)
    assert Transaction.parse(head + body + tail).witnesses == ()


def test_a_transaction_with_nothing_in_it_is_read_as_bitcoin_core_reads_it() -> None:
    empty = Transaction.parse(bytes.fromhex("01000000" + "0000" + "00000000"))
    assert (empty.inputs, empty.outputs) == ((), ())


@given(st.binary(max_size=400))
def test_any_bytes_are_a_block_or_a_sentence(raw: bytes) -> None:
    try:
        block = Block.parse(raw)
    except RuleError as error:
        assert str(error).startswith("block-decode-failed: ")  # noqa: PT017 - most inputs end here
    else:
        assert bytes(block) == raw


# Codecs


@given(st.integers(0, 2**64 - 1))
@example(0xFC)
@example(0xFD)
@example(0xFFFF)
@example(0x1_0000)
@example(0xFFFF_FFFF)
@example(0x1_0000_0000)
def test_a_compact_size_survives_and_is_as_short_as_can_be(value: int) -> None:
    written = compact_size(value)
    assert Reader(written).size("value") == value
    assert len(written) == 1 + sum(
        size for size, least in ((2, 0xFD), (2, 1 << 16), (4, 1 << 32)) if value >= least
    )


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_size_outside_uint64_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        compact_size(value)


@given(transactions())
def test_any_transaction_survives(transaction: Transaction) -> None:
    again = Transaction.parse(bytes(transaction))
    assert again == transaction
    assert again.txid == sha256d(transaction.stripped)
    assert (again.wtxid == again.txid) == (not again.witnesses)


def test_the_smallest_inputs_and_outputs_are_read() -> None:
    smallest_in, smallest_out = TxIn(bytes(32), 0, b""), TxOut(0, b"")
    for transaction in (
        Transaction(1, (smallest_in,) * 10, ()),
        Transaction(1, (smallest_in,), (smallest_out,) * 10),
        Transaction(1, (smallest_in,) * 100, (), ((b"",),) * 100),
    ):
        assert Transaction.parse(bytes(transaction)) == transaction


def test_a_stack_of_empty_items_takes_one_byte_each() -> None:
    transaction = Transaction(1, (TxIn(bytes(32), 0, b""),), (TxOut(0, b""),), ((b"",) * 100,))
    assert Transaction.parse(bytes(transaction)) == transaction
    assert transaction.weight == 4 * len(transaction.stripped) + 2 + 1 + 100  # flag, count, items
    assert transaction.lock_time == 0


def test_stacks_that_are_all_empty_are_no_witness() -> None:
    assert Transaction(1, (TxIn(bytes(32), 0, b""),), (), ((),)).witnesses == ()


def test_values_outside_the_format_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        TxIn(bytes(31), 0, b"")
    with pytest.raises(ValueError, match="sequence 4294967296"):
        TxIn(bytes(32), 0, b"", 2**32)
    with pytest.raises(ValueError, match="index 4294967296"):
        TxIn(bytes(32), 2**32, b"")
    with pytest.raises(ValueError, match="9223372036854775808"):
        TxOut(2**63, b"")
    with pytest.raises(ValueError, match="-9223372036854775809"):
        TxOut(-(2**63) - 1, b"")
    with pytest.raises(ValueError, match="2 witnesses for 1 inputs"):
        Transaction(1, (TxIn(bytes(32), 0, b""),), (), ((b"a",), (b"b",)))
    with pytest.raises(ValueError, match="lock time -1"):
        Transaction(1, (), (), (), -1)


def test_parts_of_a_transaction_cannot_be_changed() -> None:
    for part, field in (
        (TxIn(bytes(32), 0, b""), "index"),
        (TxOut(0, b""), "value"),
        (Transaction(1, (), ()), "version"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(part, field, 1)


# The merkle tree


def slow_root(hashes: Sequence[bytes]) -> bytes:
    """The definition, by recursion."""
    if len(hashes) == 1:
        return hashes[0]
    padded = [*hashes, hashes[-1]] if len(hashes) % 2 else list(hashes)
    return slow_root([sha256d(padded[i] + padded[i + 1]) for i in range(0, len(padded), 2)])


@given(st.lists(hash32, min_size=1, max_size=33))
def test_the_root_is_the_definitions_and_the_branch_leads_to_it(hashes: list[bytes]) -> None:
    root = hashes[0]
    for sibling in merkle_branch(hashes[1:]):
        root = sha256d(root + sibling)
    assert merkle_root(hashes) == slow_root(hashes) == root


@given(st.lists(hash32, min_size=3, max_size=33, unique=True).filter(lambda hashes: len(hashes) % 2))
def test_a_repeated_tail_has_the_same_root_and_is_noticed(hashes: list[bytes]) -> None:
    repeated = [*hashes, hashes[-1]]  # CVE-2012-2459
    assert merkle_root(repeated) == merkle_root(hashes)
    assert has_twin_hashes(repeated)
    assert not has_twin_hashes(hashes)


def test_the_repetition_of_a_whole_subtree_is_noticed() -> None:
    hashes = [bytes([i]) * 32 for i in range(6)]
    repeated = hashes + hashes[4:]  # six are padded as pairs: 1 2, 3 4, 5 6, 5 6
    assert merkle_root(repeated) == merkle_root(hashes)
    assert has_twin_hashes(repeated)


def test_no_transactions_have_the_root_zero() -> None:
    assert merkle_root([]) == bytes(32)


# The coinbase


@pytest.mark.parametrize("entry", vectors("bip34"), ids=lambda entry: str(entry["height"]))
def test_the_height_is_pushed_as_bip_34_says(entry: dict[str, object]) -> None:
    height = entry["height"]
    assert isinstance(height, int)
    assert script_number(height).hex() == entry["push"]
    assert bytes.fromhex(str(entry.get("coinbase_script", entry["push"]))).startswith(script_number(height))


@given(st.integers(17, 2**31 - 1))
def test_a_pushed_height_is_a_minimal_positive_script_number(height: int) -> None:
    size, *number = script_number(height)
    assert size == len(number)
    assert int.from_bytes(bytes(number), "little", signed=True) == height
    # Minimal: without its last byte it would be another number, or a negative one.
    assert int.from_bytes(bytes(number[:-1]), "little", signed=True) != height


@pytest.mark.parametrize("height", [-1, 2**31, 2**63, 10**400])
def test_a_height_that_no_chain_reaches_is_refused(height: int) -> None:
    with pytest.raises(ValueError, match=r"outside 0 \.\.\. 2147483647"):
        script_number(height)


@given(
    height=st.integers(0, 2**31 - 1),
    outs=st.lists(outputs, max_size=3),
    size=st.integers(0, 75),
    tag=st.binary(max_size=120),
    flags=st.binary(max_size=120),
    data=st.data(),
)
def test_any_coinbase_is_valid_around_any_extranonce(
    height: int, outs: list[TxOut], size: int, tag: bytes, flags: bytes, data: st.DataObject
) -> None:
    extranonce = data.draw(st.binary(min_size=size, max_size=size))
    prefix, suffix = coinbase_parts(height, outs, extranonce_size=size, tag=tag, flags=flags)
    coinbase = Transaction.parse(prefix + extranonce + suffix)
    script = coinbase.inputs[0].script
    assert coinbase.is_coinbase
    assert coinbase.outputs == tuple(outs)
    assert 2 <= len(script) <= 100
    assert script.startswith(script_number(height) + (push(extranonce) if size else b""))


def script_with(tag: bytes, flags: bytes) -> bytes:
    prefix, suffix = coinbase_parts(300_000, [], extranonce_size=8, tag=tag, flags=flags)
    return Transaction.parse(prefix + bytes(8) + suffix).inputs[0].script


def test_the_script_is_height_extranonce_tag_and_flags() -> None:
    assert script_with(b"/nonceforge/", b"flags").hex() == (
        "03e09304" + "08" + "00" * 8 + "0c" + b"/nonceforge/".hex() + b"flags".hex()
    )
    assert script_with(b"", b"").hex() == "03e09304" + "08" + "00" * 8


def test_a_script_that_grows_too_long_loses_the_tag_first_and_then_the_flags() -> None:
    room = 100 - 4 - 9
    full = script_with(b"t" * 20, b"f" * (room - 21))
    assert len(full) == 100
    assert full.endswith(b"f" * (room - 21))
    without_tag = script_with(b"t" * 20, b"f" * (room - 20))
    assert without_tag == script_with(b"", b"f" * (room - 20))
    assert len(without_tag) < 100
    assert script_with(b"t", b"f" * (room + 1)) == script_with(b"", b"")


def test_a_low_height_alone_is_padded_to_the_two_bytes_that_the_rule_wants() -> None:
    prefix, suffix = coinbase_parts(5, [], extranonce_size=0)
    assert Transaction.parse(prefix + suffix).inputs[0].script == bytes.fromhex("5500")
    prefix, suffix = coinbase_parts(17, [], extranonce_size=0)
    assert Transaction.parse(prefix + suffix).inputs[0].script == bytes.fromhex("0111")


@pytest.mark.parametrize("size", [-1, 76])
def test_an_extranonce_that_one_opcode_cannot_push_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"extranonce of {size} bytes"):
        coinbase_parts(1, [], extranonce_size=size)


def locked_as_bip_54_wants(coinbase: Transaction, height: int) -> bool:
    # BIP 54: nLockTime is the height minus one, and nSequence is not 0xffffffff.
    return coinbase.lock_time == height - 1 and coinbase.inputs[0].sequence != 0xFFFF_FFFF


@pytest.mark.parametrize("entry", vectors("bip54_coinbases"), ids=lambda entry: entry["comment"])
def test_the_check_below_agrees_with_bip_54(entry: dict[str, object]) -> None:
    chain = [Block.parse(bytes.fromhex(raw)) for raw in entry["block_chain"]]  # type: ignore[attr-defined]
    height = len(chain) - 1
    assert locked_as_bip_54_wants(chain[height].transactions[0], height) == entry["valid"]


@given(st.integers(1, 2**31 - 1))
def test_every_coinbase_is_locked_as_bip_54_will_want(height: int) -> None:
    prefix, suffix = coinbase_parts(height, [])
    assert locked_as_bip_54_wants(Transaction.parse(prefix + bytes(8) + suffix), height)


def test_a_data_output_is_a_return_and_one_push() -> None:
    assert data_output(b"hello") == TxOut(0, bytes.fromhex("6a05") + b"hello")
    assert data_output(bytes(76)).script.hex() == "6a4c4c" + "00" * 76
    assert data_output(bytes(255)).script.hex() == "6a4cff" + "00" * 255
    assert len(data_output(bytes(65535)).script) == 1 + 3 + 65535
    assert data_output(bytes(256)).script.hex() == "6a4d0001" + "00" * 256
    with pytest.raises(ValueError, match="65536 bytes"):
        data_output(bytes(65536))


def test_a_block_without_other_transactions_has_the_commitment_that_every_such_block_has() -> None:
    known = "e2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9"
    assert witness_commitment([]).hex() == known
    assert commitment_output(witness_commitment([])).script.hex() == "6a24aa21a9ed" + known


def test_the_last_commitment_counts_and_shorter_scripts_are_none() -> None:
    first, last = (commitment_output(bytes([i]) * 32) for i in (1, 2))
    short = TxOut(0, last.script[:-1])
    coinbase = Transaction(2, (TxIn(bytes(32), 0xFFFF_FFFF, b"ab"),), (first, last, short))
    assert find_commitment(coinbase) == bytes([2]) * 32
    assert find_commitment(Transaction(2, coinbase.inputs, (short,))) is None


@pytest.mark.parametrize("commits", [False, True])
def test_a_block_is_assembled_with_the_witness_that_its_commitment_needs(commits: bool) -> None:
    real = Block.parse(SEGWIT.raw)
    outs = (
        [commitment_output(witness_commitment([tx.wtxid for tx in real.transactions[1:]]))] if commits else []
    )
    prefix, suffix = coinbase_parts(1, outs)
    block = Block.assemble(bytes(real.header), prefix + bytes(8) + suffix, real.transactions[1:])
    assert block.transactions[1:] == real.transactions[1:]
    assert block.transactions[0].witnesses == (((bytes(32),),) if commits else ())
    assert block.transactions[0].stripped == prefix + bytes(8) + suffix
