"""Job -> Work -> Share: every header of a job is dealt, and none twice."""

import hashlib
import json
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.errors import RuleError
from miner.header import BlockHeader
from miner.target import MAX_TARGET
from miner.work import Hit, Job, SearchSpace, Share, Span, Work
from tests.fakes import job

GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e"
    "67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
GENESIS_NONCE = 2083236893
DIFFICULTY_1 = 0xFFFF << 208
VECTORS = Path(__file__).parent / "vectors"


def small_jobs() -> st.SearchStrategy[Job]:
    """Jobs whose whole space can be counted."""
    return st.builds(
        lambda mask, extranonce_size, seconds, nonces: job(
            version_mask=mask, extranonce_size=extranonce_size,
            max_time=1_700_000_000 + seconds, nonces=range(nonces),
        ),
        mask=st.sampled_from([0, 0x2000, 0x1000_2000, 0x1C00_0000]),
        extranonce_size=st.sampled_from([0, 0, 0, 1]),
        seconds=st.integers(0, 3),
        nonces=st.integers(1, 50),
    )  # fmt: skip


def headers_of(span: Span) -> set[bytes]:
    return {span.work.header_of(Hit(n, v)) for n in span.nonces for v in span.work.versions}


@given(small_jobs(), st.data())
def test_the_union_of_what_is_dealt_is_exact_and_nothing_is_dealt_twice(
    whole: Job, data: st.DataObject
) -> None:
    """Devices join, leave with a rest, and the clock runs, or goes back, as it likes."""
    space, now = SearchSpace(whole), whole.time
    dealt: list[Span] = []
    for step in count():
        eventful = step < 30  # then deal the rest without asking Hypothesis
        now += data.draw(st.integers(-1, 1)) if eventful else 0
        span = space.deal(now, data.draw(st.integers(1, 5)) if eventful else 4)
        if span is None:
            break
        if eventful and data.draw(st.booleans()):  # a device leaves in the middle of its span
            span, rest = span.split(data.draw(st.integers(0, len(span.nonces))))
            space.take_back(rest)
        dealt.append(span)
    spaces = {(span.work.header[4:76], version) for span in dealt for version in span.work.versions}
    times = {int.from_bytes(middle[64:68], "little") for middle, _ in spaces}
    assert times <= set(range(whole.time, whole.max_time + 1))
    assert whole.max_time in times  # it ended only when nothing was left
    # A time is skipped only when the clock has passed it; within a time in use all is dealt once the next is.
    counts = [span.hashes for span in dealt]
    headers = set[bytes]().union(*map(headers_of, dealt)) if sum(counts) < 20_000 else None
    if headers is not None:
        assert len(headers) == sum(counts)


@given(small_jobs())
def test_with_a_clock_that_stands_still_the_whole_space_is_dealt(whole: Job) -> None:
    space = SearchSpace(whole)
    spans = list(iter(lambda: space.deal(whole.time, 3), None))
    seconds = whole.max_time - whole.time + 1
    expected = len(whole.nonces) * whole.version_count * whole.extranonce_count * seconds
    assert sum(span.hashes for span in spans) == expected
    assert (
        len({(s.work.header[4:76], v) for s in spans for v in s.work.versions}) * len(whole.nonces)
        == expected
    )


def test_every_version_of_the_mask_is_dealt_and_no_other_bit_changes() -> None:
    whole = job(version=0x2FFF_E004, version_mask=0x1FFF_E000)
    versions = {whole.version_at(i) for i in range(whole.version_count)}
    assert len(versions) == 1 << 16
    assert {version & ~0x1FFF_E000 for version in versions} == {0x2000_0004}
    assert whole.version_at(0) == whole.version


def test_siblings_never_straddle_an_extranonce() -> None:
    space = SearchSpace(job(version_mask=0x6000))
    sizes = [len(space.deal(0, siblings=3).work.versions) for _ in range(4)]  # type: ignore[union-attr]
    assert sizes == [3, 1, 3, 1]


def test_a_time_that_must_not_be_rolled_is_kept_whatever_the_clock_says() -> None:
    space = SearchSpace(job(max_time=1_700_000_000))
    span = space.deal(now=1_800_000_000)
    assert span is not None
    assert BlockHeader.parse(span.work.header).time == 1_700_000_000


def test_a_span_splits_without_loss() -> None:
    span = Span(Work(GENESIS, 1), range(10, 20))
    assert [part.nonces for part in span.split(4)] == [range(10, 14), range(14, 20)]
    assert [part.nonces for part in span.split(99)] == [range(10, 20), range(20, 20)]
    assert [part.nonces for part in span.split(-1)] == [range(10, 10), range(10, 20)]


def test_the_merkle_root_of_a_real_block_comes_out_of_its_coinbase_and_branch() -> None:
    for vector in json.loads((VECTORS / "coinbase_merkle.json").read_text()):
        coinbase = bytes.fromhex(vector["coinbase_stripped"])
        branch = tuple(bytes.fromhex(item) for item in vector["stratum_branch"])
        real = BlockHeader.from_hex(vector["header"])
        whole = job(
            version=real.version, previous=real.previous, bits=real.bits, time=real.time, target=0,
            coinbase_prefix=coinbase[:44], coinbase_suffix=coinbase[46:], extranonce_size=2, branch=branch,
        )  # fmt: skip
        work = whole.work(int.from_bytes(coinbase[44:46], "big"), real.time, (real.version,))
        assert work.header[:76] == bytes(real)[:76]
        assert Share(work, real.nonce, real.version).hash_hex == vector["hash"]


def test_the_genesis_nonce_makes_a_share_and_its_neighbour_does_not() -> None:
    work = Work(GENESIS, DIFFICULTY_1)
    share = Share(work, GENESIS_NONCE, 1)
    assert share.hash_hex == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    assert share.is_block
    assert share.difficulty == pytest.approx(2536.4, rel=1e-3)
    with pytest.raises(RuleError, match="high-hash"):
        Share(work, GENESIS_NONCE + 1, 1)


def test_a_hash_equal_to_the_target_wins_and_one_above_does_not() -> None:
    value = int.from_bytes(hashlib.sha256(hashlib.sha256(GENESIS).digest()).digest(), "little")
    assert Share(Work(GENESIS, value), GENESIS_NONCE, 1).value == value
    with pytest.raises(RuleError, match="high-hash"):
        Share(Work(GENESIS, value - 1), GENESIS_NONCE, 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Work(GENESIS[:79], 1), "80 bytes, not 79"),
        (lambda: Work(GENESIS, -1), "outside"),
        (lambda: Work(GENESIS, MAX_TARGET + 1), "outside"),
        (lambda: Work(GENESIS, 1, (1 << 32,)), "not all within"),
        (lambda: Work(GENESIS, 1, (1, 2, 1)), "twice"),
        (lambda: Share(Work(GENESIS, MAX_TARGET), 0, 2), "none of the work's"),
        (lambda: Share(Work(GENESIS, MAX_TARGET), 1 << 32, 1), "outside"),
        (lambda: job(extranonce_size=9), "not 0 ... 8"),
        (lambda: job(max_time=1), "not a range"),
        (lambda: job(nonces=range(5, 5)), "not a range"),
        (lambda: job(version_mask=1 << 32), "mask"),
        (lambda: job(previous=bytes(31)), "31 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_value(wrong: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wrong()  # type: ignore[operator]


def test_a_work_keeps_its_own_copy_of_the_header() -> None:
    buffer = bytearray(GENESIS)
    work = Work(buffer, 1)  # type: ignore[arg-type]
    buffer[0] = 99
    assert work.header == GENESIS
    assert work.versions == (1,)
