"""The best chain is the branch with the most work, in whatever order its blocks come."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from miner.block import Block
from miner.chain import Acceptance, Chain, Change
from miner.errors import Rule, RuleError, StoreCorrupt, StoreError
from miner.header import BlockHeader
from miner.params import MAINNET, Params, network
from miner.store import MemoryStore
from miner.target import bits_to_target, expected_hashes
from tests.chains import LATE, QUICK, REGTEST, START, block_after, branch
from tests.real_data import NOW, mainnet_runs, real_blocks

GENESIS = REGTEST.genesis_header
TWO_HOURS = 7200


def a_chain(params: Params = REGTEST, store: MemoryStore | None = None, now: float = NOW) -> Chain:
    return Chain(params, store or MemoryStore(), clock=lambda: now)


def grown(chain: Chain, length: int, seconds: int = 1) -> list[Block]:
    """Extends a chain by blocks that are `seconds` apart, retargeting as it must."""
    blocks = []
    for _ in range(length):
        bits = chain.next_bits(chain.tip.time + seconds)
        blocks.append(
            block_after(chain.tip, chain.height + 1, params=chain.params, seconds=seconds, bits=bits)
        )
        chain.accept(blocks[-1])
    return blocks


def refusal(chain: Chain, block: Block | bytes) -> str:
    """The word with which a block is refused; everything must be as before."""
    before = (chain.tip, chain.height, chain.chain_work, len(chain))
    with pytest.raises(RuleError) as error:
        chain.accept(block)
    assert (chain.tip, chain.height, chain.chain_work, len(chain)) == before
    return str(error.value.kind)


# -- one branch ----------------------------------------------------------------------------------------


def test_a_new_chain_is_its_genesis_block() -> None:
    chain = a_chain()
    assert (chain.tip, chain.height, len(chain)) == (GENESIS, 0, 1)
    assert chain.chain_work == 2  # target 7fffff * 256 ** 29: every second hash
    assert bytes(chain.block_at(0)) == REGTEST.genesis
    assert chain.median_time_past() == START


def test_a_block_on_the_tip_extends_the_chain() -> None:
    store = MemoryStore()
    chain, block = a_chain(store=store), block_after(GENESIS, 1)
    assert chain.accept(block) == Acceptance(Change.EXTENDED, block.header, 1, disconnected=0, connected=1)
    assert (chain.tip, chain.height, chain.chain_work) == (block.header, 1, 4)
    assert chain.block(block.header.hash) == chain.block_at(1) == block
    assert chain.height_of(block.header.hash) == 1
    assert list(store.blocks()) == [bytes(block)]


def test_a_block_may_come_as_bytes() -> None:
    block = block_after(GENESIS, 1)
    assert a_chain().accept(bytes(block)).header == block.header


def real_branches() -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Mainnet's first blocks by height, and btcd's test chain (blk_0_to_4): real work on the same genesis."""
    real = set(mainnet_runs()[0].headers)
    blocks = [block for block in real_blocks() if block.params is MAINNET and block.height < 130]
    mainnet = {block.height: block.raw for block in blocks if block.raw[:80] in real}
    btcd = {block.height: block.raw for block in blocks if block.raw[:80] not in real}
    return mainnet, btcd


def test_real_blocks_make_a_chain() -> None:
    mainnet, _ = real_branches()
    chain = a_chain(MAINNET)
    for height in range(1, 10):
        assert chain.accept(mainnet[height]).height == height
    assert chain.tip.hash_hex == "000000008d9dc510f23c2657fc4f67bea30078cc05a90eb89e84cc475c080805"
    assert chain.chain_work == 10 * 0x1_0001_0001
    assert refusal(chain, mainnet[11]) == "prev-blk-not-found"  # block 10 is in none of the files
    for height in (1, 5, 9):
        assert refusal(chain, mainnet[height]) == "duplicate"


def test_the_kept_blocks_of_miner_mine_make_a_chain() -> None:
    kept = (Path(__file__).parent / "vectors" / "regtest_200_blocks.hex").read_text().split()
    chain = Chain(network("regtest"), MemoryStore())
    for height, raw in enumerate(map(bytes.fromhex, kept), 1):
        assert chain.accept(raw).height == height
    assert (chain.height, chain.tip.hash) == (200, Block.parse(bytes.fromhex(kept[-1])).header.hash)


def test_real_blocks_reorganise() -> None:
    mainnet, btcd = real_branches()
    chain = a_chain(MAINNET)
    for raw in (btcd[1], btcd[2], mainnet[1], mainnet[2]):
        chain.accept(raw)
    assert chain.tip == BlockHeader.parse(btcd[2][:80])
    last = chain.accept(mainnet[3])
    assert (last.change, last.disconnected, last.connected) == (Change.REORG, 2, 3)


def test_heights_off_the_chain_are_a_lookup_error_that_names_the_bound() -> None:
    chain = a_chain()
    grown(chain, 2)
    for height in (-1, 3):
        with pytest.raises(LookupError, match=rf"height {height} is outside 0 \.\.\. 2"):
            chain.header_at(height)
    assert chain.block(bytes(32)) is None
    assert chain.height_of(bytes(32)) is None


# -- refusals ------------------------------------------------------------------------------------------


def altered(block: Block, **fields: int | bytes) -> bytes:
    """The block with another header, not solved anew."""
    return bytes(replace(block, header=replace(block.header, **fields)))  # type: ignore[arg-type]


def unsolved(block: Block) -> bytes:
    nonce = block.header.nonce
    return next(
        raw
        for raw in (altered(block, nonce=nonce + i) for i in range(1, 99))
        if Block.parse(raw).header.hash[31] > 0x7F
    )


@pytest.mark.parametrize(
    ("word", "block"),
    [
        ("duplicate", REGTEST.genesis),
        ("prev-blk-not-found", block_after(replace(GENESIS, nonce=1), 1)),
        ("high-hash", unsolved(block_after(GENESIS, 1))),
        ("bad-diffbits", block_after(GENESIS, 1, bits=0x207FFFFE)),
        ("time-too-old", block_after(GENESIS, 1, seconds=0)),
        ("time-too-new", block_after(GENESIS, 1, seconds=NOW + TWO_HOURS + 1 - START)),
        ("bad-cb-height", block_after(GENESIS, 1, coinbase_height=0)),
        ("bad-cb-amount", block_after(GENESIS, 1, claim=50 * 10**8 + 1)),
        ("bad-txns-vout-negative", block_after(GENESIS, 1, claim=-1)),
        ("block-decode-failed", bytes(block_after(GENESIS, 1))[:-1]),
        ("block-decode-failed", bytes(block_after(GENESIS, 1)) + b"\0"),
        ("block-decode-failed", b""),
    ],
)
def test_a_block_that_breaks_a_rule_is_refused_with_bitcoin_cores_word(
    word: str, block: Block | bytes
) -> None:
    store = MemoryStore()
    chain = a_chain(store=store)
    assert refusal(chain, block) == word
    assert list(store.blocks()) == []


def test_a_block_exactly_two_hours_ahead_is_taken() -> None:
    assert a_chain().accept(block_after(GENESIS, 1, seconds=NOW + TWO_HOURS - START)).height == 1


def test_a_refused_block_is_not_remembered() -> None:
    """Its parent or the clock may have been what was wrong."""
    chain = a_chain()
    first, second = branch(GENESIS, 1, 2)
    assert refusal(chain, second) == "prev-blk-not-found"
    chain.accept(first)
    assert chain.accept(second).change is Change.EXTENDED


def test_a_side_branch_is_held_to_the_rules_of_its_own_ancestors() -> None:
    """On the main branch time has gone on, on the side branch it has not."""
    chain = a_chain()
    grown(chain, 12, seconds=100)
    side = branch(GENESIS, 1, 5)
    for block in side:
        chain.accept(block)
    assert refusal(chain, block_after(side[-1].header, 6, seconds=-4)) == "time-too-old"
    assert chain.accept(block_after(side[-1].header, 6, seconds=-1)).change is Change.SIDE_BRANCH


# -- several branches ----------------------------------------------------------------------------------


def test_of_branches_with_equal_work_the_first_seen_stays() -> None:
    chain = a_chain()
    first, second = block_after(GENESIS, 1), block_after(GENESIS, 1)
    chain.accept(first)
    assert chain.accept(second) == Acceptance(Change.SIDE_BRANCH, second.header, 1)
    assert chain.tip == first.header
    assert chain.block(second.header.hash) == second
    assert chain.height_of(second.header.hash) is None


def test_a_branch_that_outgrows_the_chain_takes_its_place() -> None:
    chain = a_chain()
    common = grown(chain, 3)
    ours = grown(chain, 4)
    theirs = branch(common[-1].header, 4, 5)
    for block in theirs[:-1]:
        assert chain.accept(block).change is Change.SIDE_BRANCH
    assert chain.accept(theirs[-1]) == Acceptance(
        Change.REORG, theirs[-1].header, 8, disconnected=4, connected=5
    )
    assert [chain.block_at(height) for height in range(1, 9)] == common + theirs
    assert [chain.height_of(block.header.hash) for block in ours] == [None] * 4
    assert chain.chain_work == 2 * 9


def test_the_branch_that_lost_can_win_again() -> None:
    chain = a_chain()
    ours, theirs = branch(GENESIS, 1, 4), branch(GENESIS, 1, 3)
    for block in (ours[0], *theirs[:2], *ours[1:3], *theirs[2:]):
        chain.accept(block)
    assert chain.tip == ours[2].header
    late = chain.accept(ours[3])
    assert (late.change, late.height) == (Change.EXTENDED, 4)


def test_fewer_blocks_with_more_work_win() -> None:
    easy, hard = a_chain(QUICK), a_chain(QUICK)
    slow, fast = grown(easy, 9, seconds=8), grown(hard, 6, seconds=1)
    assert hard.chain_work > easy.chain_work
    for block in fast:
        last = easy.accept(block)
    assert (last.change, last.disconnected, last.connected) == (Change.REORG, 9, 6)
    assert (easy.height, easy.chain_work) == (6, hard.chain_work)
    for block in slow:
        assert hard.accept(block).change is Change.SIDE_BRANCH


def test_chain_work_is_the_sum_of_the_expected_hashes() -> None:
    chain = a_chain(QUICK)
    grown(chain, 13)
    headers = [chain.header_at(height) for height in range(14)]
    assert len({header.bits for header in headers}) == 4
    assert chain.chain_work == sum(expected_hashes(bits_to_target(header.bits)) for header in headers)


# -- the next block ------------------------------------------------------------------------------------


def test_the_next_block_follows_the_clock_within_the_rules() -> None:
    chain = a_chain()
    grown(chain, 3)
    block = chain.next_block()
    assert (block.previous, block.height, block.bits) == (chain.tip.hash, 4, 0x207FFFFF)
    assert (block.time, block.min_time, block.max_time) == (NOW, START + 3, NOW + TWO_HOURS - 600)
    assert block.subsidy == 50 * 10**8


@pytest.mark.parametrize("now", [0, -5.0, START - 1])
def test_a_clock_that_is_behind_the_chain_cannot_make_a_header_too_old(now: float) -> None:
    block = a_chain(now=now).next_block()
    assert block.time == block.min_time == START + 1


def test_a_chain_far_ahead_of_the_clock_has_no_next_block_yet() -> None:
    store = MemoryStore()
    grown(a_chain(store=store, now=START), 1, seconds=TWO_HOURS)
    assert a_chain(store=store, now=START).next_block().max_time >= START + 2  # the median is still behind
    chain = a_chain(store=store, now=START + 700)
    grown(chain, 2)
    block = a_chain(store=store, now=START + 2).next_block()
    assert block.min_time == START + TWO_HOURS + 2
    assert block.max_time < block.min_time


@pytest.mark.parametrize("now", [2.0**32 + 5, 1e11])
def test_a_clock_beyond_2106_stays_within_the_headers_32_bits(now: float) -> None:
    block = a_chain(now=now).next_block()
    assert block.time == block.max_time == 2**32 - 1


def test_the_target_follows_the_miner() -> None:
    chain = a_chain(QUICK)
    grown(chain, 3)
    assert chain.next_bits(0) == 0x202FFFFF  # 3 seconds, not 8: 7fffff becomes 3/8 of it
    grown(chain, 4, seconds=2)
    # Right on time, but only three of the four gaps count, 6 of 8 seconds: the off-by-one.
    assert chain.next_bits(0) == 0x2023FFFF


def test_a_late_block_of_a_test_network_has_the_easiest_target_from_a_certain_time() -> None:
    chain = a_chain(LATE, now=START + 10)
    grown(chain, 5)
    late = chain.tip.time + 2 * LATE.spacing
    assert chain.next_bits(late) != chain.next_bits(late + 1) == 0x207FFFFF
    now = START + 8
    in_time = Chain(LATE, Blocks(chain), clock=lambda: now).next_block()
    assert (in_time.time, in_time.max_time, in_time.bits) == (now, late, chain.next_bits(late))
    too_late = Chain(LATE, Blocks(chain), clock=lambda: late + 1).next_block()
    assert (too_late.bits, too_late.max_time) == (0x207FFFFF, late + 1 + TWO_HOURS - 600)


def test_an_interval_of_a_bip94_network_starts_at_most_ten_minutes_back() -> None:
    chain = a_chain(LATE)
    grown(chain, 2)
    grown(chain, 1, seconds=5000)
    assert chain.next_block().min_time == chain.tip.time - 600
    assert refusal(chain, block_after(chain.tip, 4, params=LATE, seconds=-601, bits=chain.next_bits(0))) == (
        "time-timewarp-attack"
    )
    assert chain.accept(block_after(chain.tip, 4, params=LATE, seconds=-600, bits=chain.next_bits(0))).is_tip


# -- the store -----------------------------------------------------------------------------------------


class Blocks(MemoryStore):
    """A store that holds a chain's blocks."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        for height in range(1, chain.height + 1):
            self.append(bytes(chain.block_at(height)))


class Full(MemoryStore):
    """Takes `room` blocks."""

    room = 0

    def append(self, raw: bytes) -> None:
        if len(self) >= self.room:
            raise StoreError("the disk is full")
        super().append(raw)


def test_a_block_that_cannot_be_stored_is_not_on_the_chain() -> None:
    store = Full()
    chain = a_chain(store=store)
    told: list[Acceptance] = []
    chain.subscribe(told.append)
    block = block_after(GENESIS, 1)
    with pytest.raises(StoreError):
        chain.accept(block)
    assert (chain.tip, len(chain), told) == (GENESIS, 1, [])
    store.room = 1
    assert chain.accept(block).is_tip  # so it is no duplicate now


class Interrupted(MemoryStore):
    """Ctrl-C, just after the block went to the disk."""

    def append(self, raw: bytes) -> None:
        super().append(raw)
        raise KeyboardInterrupt


def test_after_an_interrupted_append_no_block_is_stored_twice() -> None:
    store = Interrupted()
    chain, block = a_chain(store=store), block_after(GENESIS, 1)
    with pytest.raises(KeyboardInterrupt):
        chain.accept(block)
    with pytest.raises(StoreError, match="open the chain again"):
        chain.accept(block)
    assert a_chain(store=store).tip == block.header


def test_a_block_is_stored_before_anybody_can_see_it() -> None:
    class Witness(MemoryStore):
        seen: tuple[BlockHeader, int] | None = None

        def append(self, raw: bytes) -> None:
            self.seen = (chain.tip, len(chain))
            super().append(raw)

    store = Witness()
    chain = a_chain(store=store)
    chain.accept(block_after(GENESIS, 1))
    assert store.seen == (GENESIS, 1)


def test_a_chain_opened_again_is_the_same_to_the_tie() -> None:
    store = MemoryStore()
    chain = a_chain(store=store)
    ours, theirs, others = branch(GENESIS, 1, 3), branch(GENESIS, 1, 4), branch(GENESIS, 1, 4)
    for block in (*ours, *theirs, *others):
        chain.accept(block)
    counts: list[int] = []
    again = Chain(REGTEST, store, clock=lambda: NOW, progress=counts.append)
    assert (again.tip, again.chain_work, len(again)) == (theirs[3].header, chain.chain_work, 12)
    assert counts == list(range(1, 12))
    assert refusal(again, ours[0]) == "duplicate"


def stored(*blocks: bytes) -> MemoryStore:
    store = MemoryStore()
    for block in blocks:
        store.append(block)
    return store


def test_a_store_whose_blocks_break_a_rule_is_corrupt_and_the_block_is_named() -> None:
    first, second = branch(GENESIS, 1, 2)
    for store, says in [
        (stored(bytes(first), unsolved(second)), "block 2 of the store .* breaks a rule: high-hash"),
        (stored(bytes(second), bytes(first)), "block 1 .* prev-blk-not-found"),
        (stored(bytes(first), bytes(first)), f"block 2 .*{first.header.hash_hex}.* duplicate"),
        (stored(bytes(first), b"\1\2\3"), "block 2 .* block-decode-failed"),
        (stored(bytes(first), bytes(block_after(first.header, 2, claim=10**12))), "block 2 .* bad-cb-amount"),
    ]:
        with pytest.raises(StoreCorrupt, match=says) as error:
            a_chain(store=store)
        assert "\n" not in str(error.value)


def test_a_clock_set_back_is_told_from_a_corrupt_store() -> None:
    store = MemoryStore()
    grown(a_chain(store=store), 3)
    with pytest.raises(
        StoreError, match=r"block 1 .* from the future: is this computer's clock right"
    ) as error:
        a_chain(store=store, now=START - TWO_HOURS)
    assert not isinstance(error.value, StoreCorrupt)


# -- news ----------------------------------------------------------------------------------------------


def test_listeners_hear_of_new_tips_and_of_nothing_else() -> None:
    chain = a_chain()
    told: list[Acceptance] = []
    unsubscribe = chain.subscribe(told.append)
    ours, theirs = branch(GENESIS, 1, 2), branch(GENESIS, 1, 3)
    for block in (*ours, *theirs):
        chain.accept(block)
    assert [(news.change, news.height) for news in told] == [
        (Change.EXTENDED, 1), (Change.EXTENDED, 2), (Change.REORG, 3),
    ]  # fmt: skip
    unsubscribe()
    unsubscribe()
    grown(chain, 1)
    assert len(told) == 3


def test_a_listener_that_fails_hurts_neither_the_block_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chain = a_chain()
    told: list[int] = []
    chain.subscribe(lambda news: [][1])
    chain.subscribe(lambda news: told.append(news.height))
    grown(chain, 2)
    assert told == [1, 2]
    assert "a listener failed" in caplog.text


def test_a_listener_may_use_the_chain_and_let_other_threads_use_it() -> None:
    """So it is called without the chain's lock."""
    chain = a_chain()
    heights: list[int] = []

    def look(news: Acceptance) -> None:
        other = threading.Thread(target=lambda: heights.append(chain.next_block().height))
        other.start()
        other.join(5)

    chain.subscribe(look)
    grown(chain, 1)
    assert heights == [2]


def test_a_listener_that_accepts_a_block_itself_changes_nobodys_order() -> None:
    chain = a_chain()
    first, second = branch(GENESIS, 1, 2)
    told: list[int] = []
    chain.subscribe(lambda news: news.height == 1 and chain.accept(second))
    chain.subscribe(lambda news: told.append(news.height))
    chain.accept(first)
    assert told == [1, 2]


def test_threads_that_accept_at_the_same_time_make_one_chain() -> None:
    store = MemoryStore()
    chain = a_chain(store=store)
    told: list[int] = []
    chain.subscribe(lambda news: told.append(news.height))
    blocks, refused = branch(GENESIS, 1, 30), []

    def feed() -> None:
        for block in blocks:
            try:
                chain.accept(block)
            except RuleError as error:
                refused.append(error.kind)

    threads = [threading.Thread(target=feed) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chain.height == 30
    assert told == list(range(1, 31))
    assert len(store) == 30
    assert refused == [Rule.DUPLICATE] * 90


# -- against a naive model -----------------------------------------------------------------------------


class Known(NamedTuple):
    header: BlockHeader
    height: int
    work: int
    order: int


class ChainMachine(RuleBasedStateMachine):
    """Blocks arrive on any branch in any order; the model looks through all of them each time."""

    headers = Bundle("headers")

    @initialize(target=headers)
    def genesis(self) -> BlockHeader:
        self.store = MemoryStore()
        self.chain = a_chain(QUICK, self.store)
        self.known = {GENESIS.hash: Known(GENESIS, 0, 2, 0)}
        return GENESIS

    def best(self) -> Known:
        return max(self.known.values(), key=lambda known: (known.work, -known.order))

    def path(self, known: Known) -> list[BlockHeader]:
        headers = [known.header]
        while headers[-1] != GENESIS:
            headers.append(self.known[headers[-1].previous].header)
        return headers[::-1]

    def child(self, parent: BlockHeader, seconds: int) -> Block:
        """A block after `parent`, with bits from the textbook formula."""
        path = self.path(self.known[parent.hash])
        bits = parent.bits
        if len(path) % 4 == 0:
            first = path[-4]
            actual = min(max(parent.time - first.time, 2), 32)
            target = min(bits_to_target(bits) * actual // 8, QUICK.pow_limit)
            bits = compact(target)
        return block_after(parent, len(path), params=QUICK, seconds=seconds, bits=bits)

    @rule(target=headers, parent=headers, seconds=st.integers(1, 40))
    def arrives(self, parent: BlockHeader, seconds: int) -> BlockHeader:
        block, before = self.child(parent, seconds), self.best()
        acceptance = self.chain.accept(block)
        above = self.known[parent.hash]
        work = above.work + (1 << 256) // (bits_to_target(block.header.bits) + 1)
        known = Known(block.header, above.height + 1, work, len(self.known))
        self.known[block.header.hash] = known
        old, new = self.path(before), self.path(self.best())
        shared = sum(a == b for a, b in zip(old, new, strict=False))
        assert (acceptance.header, acceptance.height) == (block.header, known.height)
        assert (acceptance.disconnected, acceptance.connected) == (len(old) - shared, len(new) - shared)
        assert acceptance.is_tip == (self.best() is known)
        return block.header

    @rule(header=headers)
    def arrives_again(self, header: BlockHeader) -> None:
        block = self.chain.block(header.hash)
        assert block is not None
        assert refusal(self.chain, block) == "duplicate"

    @rule(header=headers)
    def arrives_without_its_parent(self, header: BlockHeader) -> None:
        missing = self.child(header, 1)
        orphan = block_after(missing.header, self.known[header.hash].height + 2, params=QUICK)
        assert refusal(self.chain, orphan) == "prev-blk-not-found"

    @rule()
    def is_opened_again(self) -> None:
        self.chain = a_chain(QUICK, self.store)

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not hasattr(self, "chain"):
            return
        best = self.best()
        assert (self.chain.tip, self.chain.height, self.chain.chain_work) == best[:3]
        path = self.path(best)
        assert [self.chain.header_at(height) for height in range(len(path))] == path
        times = sorted(header.time for header in path[-11:])
        assert self.chain.median_time_past() == times[len(times) // 2]
        for known in self.known.values():
            expected = known.height if known.header in path else None
            assert self.chain.height_of(known.header.hash) == expected


def compact(target: int) -> int:
    """Compact bits by way of bytes: three digits, a leading zero if the first would look negative."""
    digits = target.to_bytes(33, "big").lstrip(b"\0")
    if digits[0] & 0x80:
        digits = b"\0" + digits
    return len(digits) << 24 | int.from_bytes(digits[:3].ljust(3, b"\0"), "big")


TestChainAgainstAModel = ChainMachine.TestCase
TestChainAgainstAModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
