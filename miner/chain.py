"""The best chain: which blocks there are, which of them count, and what the next one must look like.

A block that this process mined, one that another node sent and one that the
store gives back at opening pass the same checks. All of them are made when a
block arrives and none later, so every block in here is valid, on whatever
branch; the branch with the most work is the chain, and of equals the one that
was there first. Other branches are kept, and win if they outgrow it: a reorg.

Checked is what `miner.rules` can check. It tells there what takes a full node.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from miner.block import Block
from miner.errors import Rule, RuleError, StoreCorrupt, StoreError
from miner.header import HEADER_SIZE, BlockHeader, display_hex, sha256d
from miner.header_rules import MAX_FUTURE, MAX_TIMEWARP
from miner.news import News
from miner.params import Params
from miner.rules import (
    HeaderAt,
    check_block,
    check_block_in_context,
    check_header_in_context,
    expected_bits,
    median_time_before,
    subsidy,
)
from miner.target import bits_to_target, expected_hashes

BLOCK_VERSION = 0x2000_0000
"""BIP 9: the top bits 001, and no other signal."""

MAX_TIME = (1 << 32) - 1
"""Headers end here, in the year 2106."""

CLOCK_MARGIN = 600
"""Seconds by which other nodes' clocks may be behind ours, and our blocks still not be too new for them."""


class Store(Protocol):
    """Where a chain keeps its blocks, all but the genesis block."""

    def blocks(self) -> Iterable[bytes]:
        """Every block in the order of `append`, so parents come first. StoreError if that cannot be had."""

    def append(self, raw: bytes) -> None:
        """Keep a block. On return it outlasts the process; on StoreError nothing has changed."""


class Change(StrEnum):
    """What a new block did to the chain."""

    EXTENDED = "extended"
    """It follows the old tip and is the new one."""
    REORG = "reorg"
    """It is the new tip, of another branch than the old one."""
    SIDE_BRANCH = "side branch"
    """Nothing, for now: another branch has at least as much work."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A block has been stored, and what this did."""

    change: Change
    header: BlockHeader
    height: int
    disconnected: int = 0
    """Blocks that left the best chain."""
    connected: int = 0
    """Blocks that joined it, the new one included."""

    @property
    def is_tip(self) -> bool:
        """Whether the block became the tip."""
        return self.change is not Change.SIDE_BRANCH


@dataclass(frozen=True, slots=True)
class NextBlock:
    """What the block after the tip must hold."""

    previous: bytes
    height: int
    version: int
    bits: int
    time: int
    """The header time to use: the clock's, as far as the rules allow."""
    min_time: int
    max_time: int
    """The last time for which `bits` hold and which is not too far ahead of the clock.

    Below `min_time` if the chain is so far ahead of the clock that no block is possible yet.
    """
    subsidy: int
    """Satoshi that the coinbase may claim."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A block in its place."""

    raw: bytes
    header: BlockHeader
    hash: bytes
    height: int
    chain_work: int
    parent: "_Entry | None"


class Chain:
    """Every block of one network that the store holds. All methods may be called from any thread.

    Opening reads and checks the whole store; `progress` is told after each block how many are done.
    StoreCorrupt if a block breaks a rule, StoreError if the clock is so wrong that they cannot be judged.
    """

    def __init__(
        self,
        params: Params,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """`clock`: seconds since 1970."""
        self.params = params
        self._store, self._clock = store, clock
        self._lock = threading.RLock()
        genesis = params.genesis_header
        work = expected_hashes(bits_to_target(genesis.bits))
        first = _Entry(params.genesis, genesis, genesis.hash, 0, work, None)
        self._entries = {first.hash: first}
        self._best = [first]  # by height
        self._interrupted = False
        self._news: News[Acceptance] = News()
        self._load(progress or (lambda count: None))

    # -- what there is -----------------------------------------------------------------------------

    @property
    def tip(self) -> BlockHeader:
        """The header of the best chain's last block."""
        return self._best[-1].header

    @property
    def height(self) -> int:
        """The tip's; the genesis block has height 0."""
        return self._best[-1].height

    @property
    def chain_work(self) -> int:
        """Expected hashes of the best chain, genesis block included."""
        return self._best[-1].chain_work

    def header_at(self, height: int) -> BlockHeader:
        """A header of the best chain; LookupError outside 0 ... `height`."""
        return self._at(height).header

    def block_at(self, height: int) -> Block:
        """A block of the best chain; LookupError outside 0 ... `height`."""
        return Block.parse(self._at(height).raw)

    def _at(self, height: int) -> _Entry:
        with self._lock:
            if not 0 <= height < len(self._best):
                raise LookupError(f"height {height} is outside 0 ... {len(self._best) - 1}")
            return self._best[height]

    def block(self, hash_: bytes) -> Block | None:
        """The block of this hash (internal order) on any branch, None if there is none."""
        entry = self._entries.get(hash_)
        return None if entry is None else Block.parse(entry.raw)

    def height_of(self, hash_: bytes) -> int | None:
        """Where a block is on the best chain; None if it is not on it."""
        with self._lock:
            entry = self._entries.get(hash_)
            return entry.height if entry and self._is_best(entry) else None

    def __len__(self) -> int:
        """Blocks on all branches, the genesis block included."""
        return len(self._entries)

    # -- what may come next ------------------------------------------------------------------------

    def median_time_past(self) -> int:
        """Seconds since 1970 that the next block's time must exceed."""
        with self._lock:
            return median_time_before(self.height + 1, self.header_at)

    def next_bits(self, time: int) -> int:
        """The bits that the next block must have if its header time is `time`."""
        with self._lock:
            return expected_bits(self.params, self.height + 1, self.header_at, time)

    def next_block(self) -> NextBlock:
        """What to mine now."""
        with self._lock:
            now, tip, height = self._now(), self.tip, self.height + 1
            min_time = self._min_time()
            time = max(min_time, min(now, MAX_TIME))
            bits, max_time = self.next_bits(time), min(now + MAX_FUTURE - CLOCK_MARGIN, MAX_TIME)
            if self.next_bits(max_time) != bits:
                # Only a late block's bits depend on its time: from two spacings after its parent on.
                max_time = tip.time + 2 * self.params.spacing
            value = subsidy(height, self.params)
            return NextBlock(tip.hash, height, BLOCK_VERSION, bits, time, min_time, max_time, value)

    def _min_time(self) -> int:
        starts_interval = (self.height + 1) % self.params.retarget_interval == 0
        if self.params.enforce_bip94 and starts_interval:
            return max(self.median_time_past() + 1, self.tip.time - MAX_TIMEWARP)
        return self.median_time_past() + 1

    def _now(self) -> int:
        return max(0, int(self._clock()))

    # -- new blocks --------------------------------------------------------------------------------

    def accept(self, block: Block | bytes) -> Acceptance:
        """Check a block, store it and give it its place. When this returns, it is on the disk.

        RuleError if it breaks a rule ("duplicate" and "prev-blk-not-found" included), StoreError if it
        cannot be stored; then nothing has changed.
        """
        raw = bytes(block)
        parsed = block if isinstance(block, Block) else Block.parse(raw)
        self._require_new(parsed.header)
        check_block(parsed, self.params)  # the slow part needs no lock
        with self._lock:
            entry = self._placed(parsed, raw, self._now())
            self._append(raw)
            acceptance = self._connect(entry)
            self._interrupted = False
            if acceptance.is_tip:
                self._news.add(acceptance)
        self._news.tell()
        return acceptance

    def _append(self, raw: bytes) -> None:
        """Into the store, unless it may hold a block that this chain does not know of."""
        if self._interrupted:
            raise StoreError(
                "an earlier block was interrupted on its way into the store: open the chain again"
            )
        self._interrupted = True  # Ctrl-C raises here, before or after the block is on the disk
        try:
            self._store.append(raw)
        except StoreError:
            self._interrupted = False
            raise

    def _require_new(self, header: BlockHeader) -> None:
        known = self._entries.get(header.hash)
        if known is not None:
            raise RuleError(Rule.DUPLICATE, f"block {header.hash_hex} is known, at height {known.height}")

    def _placed(self, block: Block, raw: bytes, now: int) -> _Entry:
        """A block that passed `check_block`, once it has passed the rules of its place."""
        header = block.header
        self._require_new(header)
        parent = self._entries.get(header.previous)
        if parent is None:
            text = f"block {header.hash_hex} follows {display_hex(header.previous)}, which is unknown"
            raise RuleError(Rule.PREV_NOT_FOUND, text)
        height, header_at = parent.height + 1, self._branch(parent)
        check_header_in_context(header, height, self.params, header_at, now)
        check_block_in_context(block, height, self.params, median_time_before(height, header_at))
        work = parent.chain_work + expected_hashes(bits_to_target(header.bits))
        return _Entry(raw, header, header.hash, height, work, parent)

    def _branch(self, last: _Entry) -> HeaderAt:
        """Headers by height on the branch that ends with `last`."""

        def header_at(height: int) -> BlockHeader:
            entry = last
            while entry.height > height and not self._is_best(entry):
                assert entry.parent is not None  # the genesis block is on the best chain
                entry = entry.parent
            return entry.header if entry.height == height else self.header_at(height)

        return header_at

    def _is_best(self, entry: _Entry) -> bool:
        return entry.height < len(self._best) and self._best[entry.height] is entry

    def _connect(self, entry: _Entry) -> Acceptance:
        self._entries[entry.hash] = entry
        # Bitcoin Core, CBlockIndexWorkComparator: of branches with equal work the first seen wins.
        if entry.chain_work <= self.chain_work:
            return Acceptance(Change.SIDE_BRANCH, entry.header, entry.height)
        branch, fork = [entry], entry.parent
        while fork is not None and not self._is_best(fork):
            branch.append(fork)
            fork = fork.parent
        assert fork is not None  # every branch leaves the best chain somewhere, at the genesis block at last
        disconnected = self.height - fork.height
        self._best[fork.height + 1 :] = reversed(branch)
        change = Change.REORG if disconnected else Change.EXTENDED
        return Acceptance(change, entry.header, entry.height, disconnected, connected=len(branch))

    def subscribe(self, callback: Callable[[Acceptance], object]) -> Callable[[], None]:
        """Have `callback` told of every new tip, in order; returns what ends that.

        It is called from a thread that called `accept`, one call at a time, without any lock of the
        chain. What it raises is logged.
        """
        return self._news.subscribe(callback)

    # -- opening -----------------------------------------------------------------------------------

    def _load(self, progress: Callable[[int], None]) -> None:
        now = self._now()
        for number, raw in enumerate(self._store.blocks(), 1):
            try:
                block = Block.parse(raw)
                check_block(block, self.params)
                self._connect(self._placed(block, raw, now))
            except RuleError as error:
                raise _unusable(number, raw, error) from error
            progress(number)


def _unusable(number: int, raw: bytes, error: RuleError) -> StoreError:
    named = f"block {number} of the store (hash {display_hex(sha256d(raw[:HEADER_SIZE]))})"
    if error.kind is Rule.TIME_TOO_NEW:
        # Bitcoin Core says the same when it starts: a valid block cannot have become invalid.
        return StoreError(f"{named} is from the future: is this computer's clock right? {error.text}")
    return StoreCorrupt(f"{named} breaks a rule: {error}")
