"""The local source deals the next block of its chain, and puts what is found on it."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from miner.backends.python import PythonBackend
from miner.block import Block, TxOut, data_output
from miner.chain import Acceptance, Chain
from miner.engine import Delivery, Engine, Update
from miner.errors import SourceUnavailable, StoreError
from miner.params import Params
from miner.sources.local import LocalSource
from miner.store import MemoryStore
from miner.work import Job, Outcome, Share, Verdict
from tests.chains import QUICK, REGTEST, START, block_after, branch
from tests.fakes import wait_until

NOW = START + 10_000
SCRIPT = bytes.fromhex("0014") + bytes(range(20))


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Miner:
    """Takes a source's deliveries, as an engine does, and solves jobs by hand."""

    def __init__(self, chain: Chain, **options: object) -> None:
        self.deliveries: list[Delivery] = []
        self.source = LocalSource(chain, script=SCRIPT, **options)  # type: ignore[arg-type]
        self.source.start(self.deliveries.append)

    @property
    def last(self) -> Update:
        update = self.deliveries[-1]
        assert isinstance(update, Update)
        return update

    def mine(self, job: Job | None = None) -> Verdict:
        return self.source.submit(share_of(job or self.last.job))


def share_of(job: Job) -> Share:
    """A share of version number 5 of those that may be rolled, and extranonce 7."""
    work = job.work(7, job.time, (job.version_at(5),))
    hit = PythonBackend().scan(work, range(1000))[0]
    return Share(work, hit.nonce, hit.version)


def a_chain(params: Params = REGTEST, clock: Callable[[], float] | None = None) -> Chain:
    return Chain(params, MemoryStore(), clock=clock or Clock())


@pytest.fixture
def chain() -> Chain:
    return a_chain()


# -- jobs ----------------------------------------------------------------------------------------------


def test_the_first_job_comes_at_once_and_is_the_next_block(chain: Chain) -> None:
    miner = Miner(chain)
    assert len(miner.deliveries) == 1
    update, job = miner.last, miner.last.job
    assert (update.reason, update.clean) == ("start", True)
    assert (job.previous, job.height, job.bits, job.once) == (chain.tip.hash, 1, 0x207FFFFF, True)
    assert (job.time, job.max_time) == (NOW, NOW + 7200 - 600)
    assert job.version_mask == 0x1FFFE000  # BIP 320
    assert job.version & ~job.version_mask == 0x2000_0000


def test_the_coinbase_pays_the_script_and_carries_tag_and_records(chain: Chain) -> None:
    miner = Miner(chain, tag=b"/a tag/", records=[b"first", bytes(300)])
    assert miner.mine().accepted
    (coinbase,) = chain.block_at(1).transactions
    assert coinbase.outputs == (TxOut(50 * 10**8, SCRIPT), data_output(b"first"), data_output(bytes(300)))
    assert b"/a tag/" in coinbase.inputs[0].script
    assert (7).to_bytes(8, "big") in coinbase.inputs[0].script


def test_a_new_tip_from_elsewhere_makes_a_clean_job(chain: Chain) -> None:
    miner = Miner(chain)
    block = block_after(chain.tip, 1)
    chain.accept(block)
    update = miner.last
    assert (update.reason, update.clean) == ("new tip", True)
    assert (update.job.previous, update.job.height) == (block.header.hash, 2)


def test_a_reorg_makes_a_clean_job_and_a_side_branch_none(chain: Chain) -> None:
    miner = Miner(chain)
    chain.accept(block_after(chain.tip, 1))
    theirs = branch(REGTEST.genesis_header, 1, 2)
    chain.accept(theirs[0])
    assert len(miner.deliveries) == 2
    chain.accept(theirs[1])
    update = miner.last
    assert (update.reason, update.clean, update.job.height) == ("reorg", True, 3)


def test_a_job_is_renewed_with_the_time_and_older_work_stays_good() -> None:
    clock = Clock()
    chain = a_chain(clock=clock)
    miner = Miner(chain, refresh_seconds=0.01)
    clock.now += 31
    wait_until(lambda: miner.last.job.time == NOW + 31)
    update = miner.last
    assert (update.reason, update.clean) == ("time", False)
    first = miner.deliveries[0]
    assert isinstance(first, Update)
    assert miner.mine(first.job).accepted
    miner.source.close()


def test_each_job_has_a_name_of_its_own(chain: Chain) -> None:
    miner = Miner(chain)
    for _ in range(3):
        miner.mine()
    names = [update.job.id for update in miner.deliveries if isinstance(update, Update)]
    assert len(set(names)) == 4


# -- a clock that disagrees ----------------------------------------------------------------------------


def a_chain_ahead_of(clock: Clock, seconds: int) -> Chain:
    """A chain whose next block must be `seconds` later than the clock allows."""
    chain = a_chain(clock=clock)
    for block in branch(chain.tip, 1, 11):
        chain.accept(block)
    clock.now = chain.median_time_past() + 1 - seconds - (7200 - 600)
    return chain


def test_a_chain_that_outran_the_clock_waits_for_it() -> None:
    clock = Clock()
    miner = Miner(a_chain_ahead_of(clock, 2))
    assert miner.deliveries == [None]
    clock.now += 2
    wait_until(lambda: miner.deliveries != [None])
    assert miner.last.job.time == miner.last.job.max_time
    miner.source.close()


def test_a_clock_that_is_wrong_ends_the_run_with_a_sentence() -> None:
    miner = Miner(a_chain_ahead_of(Clock(), 61))
    (error,) = miner.deliveries
    assert isinstance(error, SourceUnavailable)
    assert "61 s more than this computer's clock allows" in str(error)
    miner.source.close()


# -- shares --------------------------------------------------------------------------------------------


def test_a_mined_block_goes_onto_the_chain_as_any_other(chain: Chain) -> None:
    told: list[Acceptance] = []
    chain.subscribe(told.append)
    miner = Miner(chain)
    share = share_of(miner.last.job)
    verdict = miner.source.submit(share)
    assert (verdict.outcome, verdict.reason) == (Outcome.ACCEPTED, "")
    assert chain.tip.hash == share.hash
    assert [news.header.hash for news in told] == [share.hash]
    assert Block.parse(bytes(chain.block_at(1))).header.hash == share.hash


def test_the_next_job_is_there_before_the_verdict(chain: Chain) -> None:
    miner = Miner(chain)
    assert miner.mine().accepted
    assert (miner.last.reason, miner.last.clean, miner.last.job.height) == ("new tip", True, 2)
    assert len(miner.deliveries) == 2


def test_a_share_of_an_old_tip_is_stale_and_is_not_kept(chain: Chain) -> None:
    miner = Miner(chain)
    old = miner.last.job
    chain.accept(block_after(chain.tip, 1))
    verdict = miner.mine(old)
    assert (verdict.outcome, verdict.reason) == (Outcome.STALE, "stale-prevblk")
    assert len(chain) == 2


class Overtaken(Chain):
    """Another node's block arrives just before each of ours."""

    def accept(self, block: Block | bytes) -> Acceptance:
        super().accept(block_after(self.tip, self.height + 1))
        return super().accept(block)


def test_a_share_that_is_overtaken_on_its_way_is_stale_and_a_job_follows() -> None:
    chain = Overtaken(REGTEST, MemoryStore(), clock=Clock())
    miner = Miner(chain)
    verdict = miner.mine()
    assert (verdict.outcome, verdict.reason) == (Outcome.STALE, "inconclusive")
    assert (miner.last.job.height, chain.height) == (2, 1)


def test_a_block_that_breaks_a_rule_is_rejected_with_its_word_and_a_job_follows(chain: Chain) -> None:
    miner = Miner(chain)
    job = miner.last.job
    greedy = replace(
        job, coinbase_suffix=job.coinbase_suffix.replace(b"\0\xf2\x05\x2a\1", b"\1\xf2\x05\x2a\1")
    )
    verdict = miner.mine(greedy)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECTED, "bad-cb-amount")
    assert (miner.last.reason, miner.last.job.height) == ("bad-cb-amount", 1)
    assert miner.mine().accepted


def test_a_store_that_fails_is_not_hidden(chain: Chain) -> None:
    class Broken(MemoryStore):
        def append(self, raw: bytes) -> None:
            raise StoreError("the disk is full")

    miner = Miner(Chain(REGTEST, Broken(), clock=Clock()))
    with pytest.raises(StoreError, match="the disk is full"):
        miner.mine()


def test_a_closed_source_delivers_nothing_more(chain: Chain) -> None:
    miner = Miner(chain, refresh_seconds=0.01)
    miner.source.close()
    miner.source.close()
    count = len(miner.deliveries)
    chain.accept(block_after(chain.tip, 1))
    assert len(miner.deliveries) == count


def test_mistakes_are_told(chain: Chain) -> None:
    with pytest.raises(ValueError, match="65536 bytes cannot be pushed"):
        LocalSource(chain, script=SCRIPT, records=[bytes(65536)])
    miner = Miner(chain)
    share = share_of(miner.last.job)
    with pytest.raises(ValueError, match="belongs to no job"):
        miner.source.submit(replace(share, work=replace(share.work, job=None)))


# -- with an engine ------------------------------------------------------------------------------------


def test_an_engine_mines_a_chain_that_holds_every_rule() -> None:
    store = MemoryStore()
    chain = Chain(QUICK, store)
    with Engine(PythonBackend()) as engine:
        verdicts = list(engine.run(LocalSource(chain, script=SCRIPT), limit=12))
    assert {verdict.outcome for verdict in verdicts} <= {Outcome.ACCEPTED, Outcome.STALE}
    assert Chain(QUICK, store).tip == chain.tip
    assert len(store) == 12


def test_two_engines_race_on_one_chain_and_no_block_is_lost() -> None:
    store = MemoryStore()
    chain = Chain(REGTEST, store)
    accepted: list[bytes] = []

    def mine() -> None:
        with Engine(PythonBackend()) as engine:
            for verdict in engine.run(LocalSource(chain, script=SCRIPT)):
                if verdict.accepted:
                    accepted.append(verdict.share.hash)
                if chain.height >= 40:
                    return

    threads = [threading.Thread(target=mine) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert set(accepted) <= {header.hash for header in map(chain.header_at, range(chain.height + 1))}
    assert len(set(accepted)) == len(accepted)
    assert Chain(REGTEST, store).tip == chain.tip
