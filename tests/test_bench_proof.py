"""No device that did not do its work gets a rate: neither from the proof nor from the whole run."""

import pytest

from bench.campaign import Setting, candidate_for, run
from bench.ground import KNOWN_BLOCKS, Ground, blocks_within, target_of
from bench.measure import Measurement, Plan
from bench.oracle import HASHLIB_RATE, Density, Oracle, choose, hashlib_hits
from bench.proof import Scanned, dense_windows, hit_bits, merged, prove
from bench.trial import try_all
from miner.backends.python import PythonBackend
from miner.header import BlockHeader
from miner.work import Hit, Span, Work
from tests import mutants

TINY = Plan(
    rounds=3,
    round_seconds=0.1,
    batch_seconds=0.005,
    warmup_seconds=0.05,
    yardstick_seconds=2e-4,
    proof_seconds=1.0,
)
SOUND = Density(16_400, 0, 0)


def measured(device, plan=TINY, seed=1):
    candidate = candidate_for(device, Setting("python"))
    measurement = Measurement(plan, Ground(seed))
    measurement.warm_up(candidate)
    measurement.interleave([candidate], lambda number: None)
    return candidate


class SkipsALate(PythonBackend):
    """Loses the last thousandth of each range."""

    def scan(self, work, nonces):
        return super().scan(work, nonces[: len(nonces) - len(nonces) // 1000])


class Forgetful(PythonBackend):
    """Answers the first scans only: what a warm-up sees is in order."""

    left = 12

    def scan(self, work, nonces):
        self.left -= 1
        return super().scan(work, nonces) if self.left > 0 else []


def test_an_honest_device_is_believed():
    candidate = measured(PythonBackend())
    (proof,) = try_all([candidate], TINY, seed=1)
    assert candidate.fault == ""
    assert proof is not None
    assert proof.faults == ()
    assert proof.expected > 500  # 4,096 if the machine is as fast in the rounds as in the warm-up
    assert proof.dense_expected > 3_000
    assert proof.checked == 1.0
    assert proof.blocks == proof.blocks_found == 1


@pytest.mark.parametrize(
    "broken",
    [
        mutants.SkipsEveryThousandth,
        mutants.RepeatsARange,
        mutants.ReturnsEarly,
        mutants.StaleMidstate,
        mutants.StaleTail,
        mutants.FalseHits,
        mutants.FindsNothing,
        mutants.IgnoresTheStart,
        mutants.OneHashOnly,
        mutants.ForeignIntegers,
        mutants.AnswersNone,
        SkipsALate,
        Forgetful,
    ],
)
def test_the_proof_alone_catches(broken):
    candidate = measured(broken())
    assert try_all([candidate], TINY, seed=1) == [None]
    assert candidate.fault


@pytest.mark.parametrize("broken", mutants.MUTANTS, ids=lambda kind: kind.__name__)
def test_no_mutant_of_the_self_test_gets_a_rate(broken):
    plan = Plan(
        rounds=3,
        round_seconds=0.01,
        batch_seconds=0.005,
        warmup_seconds=0.02,
        yardstick_seconds=0.0002,
        proof_seconds=0.2,
        windows=2,
    )
    results = run([candidate_for(broken(), Setting("python"))], plan, mode="test", seed=1)
    assert results.rows == ()
    (refused,) = results.refused
    assert refused.failed
    assert refused.reason


def test_a_broken_device_among_honest_ones_is_the_only_one_refused():
    candidates = [
        candidate_for(device, Setting(name))
        for device, name in (
            (PythonBackend(), "python"),
            (mutants.SkipsEveryThousandth(), "broken"),
            (PythonBackend(), "honest"),
        )
    ]
    results = run(candidates, TINY, mode="test", seed=1)
    assert [row.backend for row in results.rows] == ["python", "honest"]
    assert [refused.backend for refused in results.failed] == ["broken"]


def test_an_oracle_that_is_wrong_is_not_asked_again():
    honest, liar = measured(PythonBackend()), mutants.FindsNothing()
    # A device that passed its dense check, and lies afterwards.
    oracles = [Oracle(), Oracle(liar, 1e12)]
    assert choose(oracles, "numba", 10**9, 1.0)[0].device is liar
    (proof,) = try_all([honest], TINY, seed=1)
    assert proof is not None
    with pytest.raises(Exception, match="is wrong about"):
        prove(honest.scans, oracles[1], 1.0, SOUND, 1)


def test_a_device_of_another_kind_judges_if_it_gets_through_half():
    numba, opencl, plain = Oracle(PythonBackend(), 60e6), Oracle(PythonBackend(), 40e6), Oracle()
    numba.device.name, opencl.device.name = "numba", "opencl:0"
    oracles = [plain, numba, opencl]
    assert choose(oracles, "numba", 360_000_000, 6.0) == (opencl, pytest.approx(2 / 3))
    assert choose(oracles, "numba", 720_000_000, 6.0) == (numba, pytest.approx(0.5))
    assert choose(oracles, "opencl", 360_000_000, 6.0) == (numba, 1.0)
    assert choose([plain], "python", int(HASHLIB_RATE), 2.0) == (plain, 1.0)


def test_part_of_a_large_range_is_checked_in_windows_at_both_ends_and_between():
    work = Work(bytes(range(80)), target_of(6))
    nonces = range(1000, 81_000)
    scans = [Scanned(Span(work, nonces), hashlib_hits(work, nonces))]
    proof = prove(scans, Oracle(), 0.25, SOUND, seed=3)
    assert proof.checked == pytest.approx(0.25, abs=0.001)
    assert proof.missing == proof.extra == 0
    assert 200 < proof.expected < 430
    lost_end = [Scanned(scans[0].span, [hit for hit in scans[0].hits if hit.nonce < 79_500])]
    assert prove(lost_end, Oracle(), 0.25, SOUND, seed=3).missing > 0


def test_a_hit_lost_at_the_seam_of_two_batches_is_missing():
    work = Work(bytes(range(80)), target_of(2))
    one, other = Span(work, range(500)), Span(work, range(500, 1000))
    hits = [hashlib_hits(*one), hashlib_hits(*other)]
    whole = merged([Scanned(one, hits[0]), Scanned(other, hits[1])])
    assert whole == [Scanned(Span(work, range(1000)), hits[0] + hits[1])]
    proof = prove([Scanned(one, hits[0]), Scanned(other, hits[1][1:])], Oracle(), 1.0, SOUND, seed=1)
    assert proof.missing == 1


def test_dense_windows_hold_the_first_and_the_last_timed_nonce():
    works = [Work(bytes([i]) * 80, target_of(10)) for i in range(3)]
    scans = [Scanned(Span(work, range(10, 100_010)), []) for work in works]
    windows = dense_windows(scans, seed=5, count=8)
    assert len(windows) == 8
    assert windows[0].work is works[0]
    assert windows[0].nonces.start == 10
    assert windows[1].work is works[2]
    assert windows[1].nonces.stop == 100_010
    assert all(set(w.nonces) <= set(range(10, 100_010)) for w in windows)


@pytest.mark.parametrize("hashes", [4096, 5000, 8191, 8192, 10**6, 10**12])
def test_the_target_gives_at_least_4096_hits(hashes):
    assert 4096 <= hashes / 2 ** hit_bits(hashes) < 8192


def test_the_known_blocks_are_real():
    for block in KNOWN_BLOCKS:
        header = BlockHeader.parse(block.header)
        assert header.hash_hex.startswith("00000000")
        assert header.nonce == block.nonce


def test_every_third_round_holds_a_real_block_near_its_start():
    for number in (0, 3, 6, 9, 12):
        span = next(Ground(9).spans(number, 4, target_of(8), 100_000))
        ((nonce, version),) = blocks_within(span)
        assert nonce - span.nonces.start < 1000
        assert Hit(nonce, version) in hashlib_hits(span.work, range(nonce, nonce + 1))


def test_the_ground_follows_from_its_seed_and_never_ends():
    def first(seed, count):
        spans = Ground(seed).spans(1, 2, target_of(8), 1 << 33)
        return [next(spans) for _ in range(count)]

    assert first(1, 3) == first(1, 3)
    assert first(1, 1) != first(2, 1)
    several = first(1, 3)  # 2**32 nonces do not fit behind one start: another header follows
    assert len({span.work.header for span in several}) >= 2
    assert all(span.nonces.stop <= 1 << 32 for span in several)


def test_one_round_in_three_differs_from_the_one_before_in_its_header_time_alone():
    one, other = (next(Ground(4).spans(number, 1, target_of(8), 1000)).work.header for number in (1, 2))
    assert one[:68] == other[:68]
    assert one[68:72] != other[68:72]
    assert one[72:] == other[72:]


def test_slow_and_fast_devices_begin_at_the_same_nonce_of_the_same_header():
    slow, fast = (next(Ground(4).spans(2, 1, target_of(8), count)) for count in (1000, 10**8))
    assert slow.work == fast.work
    assert slow.nonces.start == fast.nonces.start
