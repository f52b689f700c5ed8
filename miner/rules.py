"""What a block must obey, as far as the block and its ancestors' headers can tell.

The rules are Bitcoin Core's, in its order and with its reject words: those of
CheckBlock need nothing but the block, those of ContextualCheckBlock its height
and the median time past. The header's own are in header_rules.py and can be
named from here too.

What this cannot tell, since it takes every unspent output of the chain: whether
inputs exist and are unspent, whether scripts and signatures hold, P2SH and
witness signature operations, what fees are, and so what a coinbase may claim
beyond the subsidy. Nor does it check a signet's block signature (BIP 325).
A miner's own blocks hold a template's transactions, which the node has checked,
or none at all: then the coinbase may claim exactly the subsidy, and that is checked.
"""

from miner.block import Block, Transaction, find_commitment, has_twin_hashes, merkle_root, script_number
from miner.block import witness_commitment as commitment_over
from miner.errors import Rule, RuleError
from miner.header_rules import (
    HeaderAt,
    VerifiedHeader,
    check_header,
    check_header_in_context,
    check_not_future,
    expected_bits,
    linked_headers,
    median_time_before,
    median_time_past,
    verify_headers,
)
from miner.params import COIN, Params
from miner.transaction import FINAL_SEQUENCE, WITNESS_SCALE, spends_nothing

__all__ = [
    "HeaderAt",
    "VerifiedHeader",
    "check_block",
    "check_block_in_context",
    "check_body",
    "check_header",
    "check_header_in_context",
    "check_not_future",
    "check_transaction",
    "expected_bits",
    "legacy_sigops",
    "linked_headers",
    "median_time_before",
    "median_time_past",
    "subsidy",
    "verify_headers",
]

MAX_WEIGHT = 4_000_000
"""BIP 141: weight units in a block."""

MAX_SIGOPS_COST = 80_000
"""BIP 141: signature operations in a block, those outside witnesses counting four."""

MAX_MONEY = 21_000_000 * COIN
"""Satoshi: no amount is more (Bitcoin Core, consensus/amount.h)."""

LOCK_TIME_THRESHOLD = 500_000_000
"""A lock time below is a height, from here on a time (Bitcoin Core, script/script.h)."""

_PUSHDATA1, _PUSHDATA4 = 0x4C, 0x4E
_SIGOPS = {0xAC: 1, 0xAD: 1, 0xAE: 20, 0xAF: 20}
"""CHECKSIG, CHECKSIGVERIFY; CHECKMULTISIG and its VERIFY count for the most keys that they take."""


def check_block(block: Block, params: Params) -> None:
    """Every rule that needs nothing but the block. RuleError with the first that it breaks."""
    check_header(block.header, params)
    check_body(block)


def check_body(block: Block) -> None:
    """The same without the header's proof of work: for a block that is not solved yet."""
    _check_merkle_root(block)
    _check_length(block)
    _check_coinbases(block)
    for transaction in block.transactions:
        check_transaction(transaction)
    _check_sigops(block)


def check_block_in_context(block: Block, height: int, params: Params, mtp: int) -> None:
    """Every rule that needs the height and the median time past (of the parent and its ten ancestors).

    For a block that passes `check_block`, from height 1 on. RuleError with the first rule broken.
    """
    _check_finality(block, height, params, mtp)
    _check_coinbase_height(block, height, params)
    _check_witnesses(block, height, params)
    if block.weight > MAX_WEIGHT:
        raise RuleError(Rule.BAD_BLOCK_WEIGHT, f"weight {block.weight} > {MAX_WEIGHT}")
    _check_coinbase_amount(block, height, params)


def subsidy(height: int, params: Params) -> int:
    """Satoshi that the block at `height` creates."""
    halvings = height // params.subsidy_halving_interval
    return params.initial_subsidy >> halvings  # 0 from the 33rd halving on


def _check_merkle_root(block: Block) -> None:
    txids = block.txids
    root = merkle_root(txids)
    if root != block.header.merkle_root:
        text = f"the transactions' root {root[::-1].hex()} is not the header's"
        raise RuleError(Rule.BAD_MERKLE_ROOT, f"{text} {block.header.merkle_root[::-1].hex()}")
    if has_twin_hashes(txids):
        raise RuleError(Rule.DUPLICATE_TXNS, "a repeated transaction hides behind an unchanged merkle root")


def _check_length(block: Block) -> None:
    # Bitcoin Core: the limit of the days before segwit, on what a node of those days sees.
    if not block.transactions or block.stripped_size * WITNESS_SCALE > MAX_WEIGHT:
        text = f"{len(block.transactions)} transactions, {block.stripped_size} bytes without witnesses"
        raise RuleError(Rule.BAD_BLOCK_LENGTH, f"{text}: not 1 or more in {MAX_WEIGHT // WITNESS_SCALE}")


def _check_coinbases(block: Block) -> None:
    first, *others = block.transactions
    if not first.is_coinbase:
        raise RuleError(Rule.COINBASE_MISSING, "the first transaction is not a coinbase")
    if any(transaction.is_coinbase for transaction in others):
        raise RuleError(Rule.COINBASE_MULTIPLE, "a transaction after the first is a coinbase")


def check_transaction(transaction: Transaction) -> None:
    """What a transaction must obey on its own (Bitcoin Core, tx_check.cpp)."""
    if not transaction.inputs:
        raise RuleError(Rule.NO_INPUTS, f"transaction {transaction.txid[::-1].hex()} has no inputs")
    if not transaction.outputs:
        raise RuleError(Rule.NO_OUTPUTS, f"transaction {transaction.txid[::-1].hex()} has no outputs")
    if len(transaction.stripped) * WITNESS_SCALE > MAX_WEIGHT:
        text = f"{len(transaction.stripped)} bytes > {MAX_WEIGHT // WITNESS_SCALE}"
        raise RuleError(Rule.TXN_OVERSIZE, text)
    _check_amounts(transaction)
    _check_outpoints(transaction)


def _check_amounts(transaction: Transaction) -> None:
    total = 0
    for output in transaction.outputs:
        if output.value < 0:
            raise RuleError(Rule.OUTPUT_NEGATIVE, f"an output of {output.value} satoshi")
        if output.value > MAX_MONEY:
            raise RuleError(Rule.OUTPUT_TOO_LARGE, f"an output of {output.value} satoshi > {MAX_MONEY}")
        total += output.value
    if total > MAX_MONEY:
        raise RuleError(Rule.OUTPUT_TOTAL_TOO_LARGE, f"outputs of {total} satoshi > {MAX_MONEY}")


def _check_outpoints(transaction: Transaction) -> None:
    if transaction.is_coinbase:
        size = len(transaction.inputs[0].script)
        if not 2 <= size <= 100:
            raise RuleError(Rule.COINBASE_LENGTH, f"coinbase script of {size} bytes, not 2 ... 100")
        return
    outpoints = {(txin.previous, txin.index) for txin in transaction.inputs}
    if len(outpoints) != len(transaction.inputs):
        raise RuleError(
            Rule.DUPLICATE_INPUTS, "one output is spent twice by one transaction"
        )  # CVE-2018-17144
    if any(map(spends_nothing, transaction.inputs)):
        raise RuleError(Rule.PREVOUT_NULL, "one of several inputs spends nothing, as only a coinbase may")


def legacy_sigops(script: bytes) -> int:
    """Signature operations in a script, as they were counted before P2SH."""
    count = at = 0
    while at < len(script):
        op = script[at]
        at += 1
        if op < _PUSHDATA1:
            at += op
        elif op <= _PUSHDATA4:
            size = 1 << op - _PUSHDATA1
            at += size + int.from_bytes(script[at : at + size], "little")
        else:
            count += _SIGOPS.get(op, 0)
    return count


def _check_sigops(block: Block) -> None:
    spending = (legacy_sigops(txin.script) for tx in block.transactions for txin in tx.inputs)
    paying = (legacy_sigops(output.script) for tx in block.transactions for output in tx.outputs)
    cost = WITNESS_SCALE * (sum(spending) + sum(paying))
    if cost > MAX_SIGOPS_COST:
        raise RuleError(Rule.SIGOPS, f"signature operations cost {cost} > {MAX_SIGOPS_COST}")


def _check_finality(block: Block, height: int, params: Params, mtp: int) -> None:
    # BIP 113: lock times are compared with the median time past, before that with the header's time.
    time = mtp if height >= params.csv_height else block.header.time
    for transaction in block.transactions:
        lock_time = transaction.lock_time
        passed = height if lock_time < LOCK_TIME_THRESHOLD else time
        # Bitcoin Core, IsFinalTx: the lock time counts unless every input switches it off.
        counts = lock_time and any(txin.sequence != FINAL_SEQUENCE for txin in transaction.inputs)
        if counts and lock_time >= passed:
            raise RuleError(Rule.TXN_NONFINAL, f"a transaction is locked up to {lock_time}, now is {passed}")


def _check_coinbase_height(block: Block, height: int, params: Params) -> None:
    script = block.transactions[0].inputs[0].script
    # BIP 34: the first item of the coinbase script is the height.
    if height >= params.bip34_height and not script.startswith(script_number(height)):
        text = f"coinbase script {script[:6].hex()}... does not start with {script_number(height).hex()}"
        raise RuleError(Rule.COINBASE_HEIGHT, f"{text}, height {height}")


def _check_witnesses(block: Block, height: int, params: Params) -> None:
    coinbase, *others = block.transactions
    commitment = find_commitment(coinbase) if height >= params.segwit_height else None
    if commitment is None:
        if any(transaction.witnesses for transaction in block.transactions):
            raise RuleError(Rule.UNEXPECTED_WITNESS, "a witness to which the coinbase does not commit")
        return
    # BIP 141: the coinbase's witness is one item, the reserved value, of 32 bytes.
    stack = coinbase.witnesses[0] if coinbase.witnesses else ()
    if [len(item) for item in stack] != [32]:
        sizes = [len(item) for item in stack]
        raise RuleError(Rule.BAD_WITNESS_NONCE, f"coinbase witness items of {sizes} bytes, not one of 32")
    actual = commitment_over([transaction.wtxid for transaction in others], stack[0])
    if actual != commitment:
        text = f"the coinbase commits to {commitment.hex()}, the witnesses give {actual.hex()}"
        raise RuleError(Rule.BAD_WITNESS_COMMITMENT, text)


def _check_coinbase_amount(block: Block, height: int, params: Params) -> None:
    """With other transactions there are fees, which only their inputs' amounts would tell."""
    claimed = sum(output.value for output in block.transactions[0].outputs)
    allowed = subsidy(height, params)
    if len(block.transactions) == 1 and claimed > allowed:
        raise RuleError(Rule.COINBASE_AMOUNT, f"the coinbase claims {claimed} satoshi > {allowed}")
