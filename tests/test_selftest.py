"""The self-test passes what is honest and refuses each of the mutants."""

import hashlib
from contextlib import closing

import pytest

from miner.backends import known_hits, open_backend, self_test, spot_check
from miner.backends.python import PythonBackend
from miner.backends.selftest import GENESIS, ROLLED, SMALL, Anchor, hits_of
from miner.errors import DeviceFault, SelfTestFailed
from miner.work import Hit, Work
from tests import mutants
from tests.mutants import MUTANTS, LessThan, Raises, SkipsTheLastNonce


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_device_is_refused(mutant: type[PythonBackend]) -> None:
    with pytest.raises(SelfTestFailed, match="python failed its self-test"):
        self_test(mutant())


def test_there_are_many_mutants_and_each_says_what_is_wrong_with_it() -> None:
    assert len(MUTANTS) > 40
    assert all(mutant.__doc__ for mutant in MUTANTS)


def test_an_honest_device_passes() -> None:
    self_test(PythonBackend())
    spot_check(PythonBackend())


class Grouped(PythonBackend):
    """Fastest with several versions at once."""

    def __init__(self, siblings: int) -> None:
        super().__init__()
        self.siblings = siblings


@pytest.mark.parametrize("siblings", [1, 2, 3, 4, 8, 16])
def test_an_honest_device_passes_with_any_number_of_siblings(siblings: int) -> None:
    self_test(Grouped(siblings))
    spot_check(Grouped(siblings))


def test_the_failure_names_the_case_the_expected_and_the_got() -> None:
    with pytest.raises(SelfTestFailed) as failure:
        self_test(SkipsTheLastNonce())
    assert str(failure.value) == (
        "python failed its self-test, wrong about the nonce of block 0, last in its range "
        "(nonces 2083236853 ... 2083236894): expected 1 hits, got 0, without Hit(nonce=2083236893, version=1)"
    )


def test_less_than_is_caught_by_the_case_that_is_meant_for_it() -> None:
    with pytest.raises(SelfTestFailed, match="a target equal to a hash"):
        self_test(LessThan())


def test_a_foreign_exception_is_kept_as_the_cause() -> None:
    with pytest.raises(SelfTestFailed, match="it raised RuntimeError") as failure:
        self_test(Raises())
    assert isinstance(failure.value.__cause__, RuntimeError)


def test_a_device_error_passes_through_as_it_is() -> None:
    class Lost(PythonBackend):
        def scan(self, work: Work, nonces: range) -> list[Hit]:
            raise DeviceFault("the device has fallen off the bus")

    with pytest.raises(DeviceFault, match="fallen off the bus"):
        self_test(Lost())


@pytest.mark.parametrize("anchor", [GENESIS, SMALL, ROLLED], ids=lambda anchor: anchor.name)
def test_the_anchors_are_real_blocks(anchor: Anchor) -> None:
    digest = hashlib.sha256(hashlib.sha256(anchor.header).digest()).digest()
    assert int.from_bytes(digest, "little") <= anchor.work.target
    assert anchor.work.header_of(anchor.hit) == anchor.header


@pytest.mark.parametrize("version", known_hits.NONCES)
def test_the_known_hits_are_hits(version: int) -> None:
    nonces = known_hits.NONCES[version]
    work = Work(known_hits.HEADER, known_hits.TARGET, (version,))
    assert list(nonces) == sorted(set(nonces))
    assert all(hits_of(work, range(nonce, nonce + 1)) for nonce in nonces)


def test_the_known_hits_are_as_many_as_chance_would_have_it() -> None:
    # 2**32 nonces at 2**-27 each: 32 expected, with a standard deviation of 5.7.
    assert all(10 < len(nonces) < 54 for nonces in known_hits.NONCES.values())
    assert GENESIS.hit.nonce in known_hits.NONCES[GENESIS.hit.version]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", known_hits.NONCES)
def test_the_known_hits_are_all_there_are(version: int) -> None:
    pytest.importorskip("numba", reason="an hour without")
    work = Work(known_hits.HEADER, known_hits.TARGET, (version,))
    batches = [range(start, start + (1 << 26)) for start in range(0, 1 << 32, 1 << 26)]
    with closing(open_backend("numba")) as backend:
        hits = [hit for batch in batches for hit in backend.scan(work, batch)]
    assert tuple(hit.nonce for hit in hits) == known_hits.NONCES[version]


class Wide(Grouped):
    """A device that knows the answer to every wide range, and has its own idea of time."""

    def __init__(self, rate: float, siblings: int = 1) -> None:
        super().__init__(siblings)
        self.rate, self.now, self.widest = rate, 0.0, 0

    def clock(self) -> float:
        return self.now

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        self.now += 50e-6 + len(nonces) * len(work.versions) / self.rate
        self.widest = max(self.widest, len(nonces))
        if work.target != known_hits.TARGET:
            return super().scan(work, nonces)
        known = (Hit(nonce, version) for version in work.versions for nonce in known_hits.NONCES[version])
        return sorted(hit for hit in known if hit.nonce in nonces)


@pytest.mark.parametrize("siblings", [1, 2, 16])
def test_a_device_that_keeps_up_is_given_every_nonce_there_is(siblings: int) -> None:
    device = Wide(1e15, siblings)
    self_test(device, device.clock)
    assert device.widest > 3 << 30


def test_a_gpu_is_given_a_range_as_wide_as_its_batches() -> None:
    device = Wide(10e9)
    self_test(device, device.clock)
    assert 0.025 < device.widest / device.rate < 0.1


def test_a_slow_device_is_not_kept_waiting() -> None:
    device = Wide(1e6)
    self_test(device, device.clock)
    assert device.widest == 4096
    assert device.now < 0.015


@pytest.mark.parametrize("most", [1 << 20, 1 << 24, 1 << 28])
def test_a_wide_device_that_drops_the_end_of_a_wide_range_is_refused(most: int) -> None:
    class Truncates(Wide):
        def scan(self, work: Work, nonces: range) -> list[Hit]:
            return super().scan(work, nonces[:most])

    device = Truncates(1e15)
    with pytest.raises(SelfTestFailed, match="nonces of 1 version"):
        self_test(device, device.clock)


MISTAKES = {
    mutants.ForgetsAPlace,
    mutants.LessThan,
    mutants.MidstateByMerkleRoot,
    mutants.OneNonceTooMany,
    mutants.RepeatsARange,
    mutants.SkipsEveryThousandth,
    mutants.StaleTail,
    mutants.StaleTarget,
    mutants.StaleVersions,
    mutants.ThousandSlots,
    mutants.TopTwoWordsOnly,
    mutants.TopWordOnly,
}
"""A program's mistakes: there from the start or never. The spot check looks for what a device can come to."""


@pytest.mark.parametrize("mutant", sorted(set(MUTANTS) - MISTAKES, key=str), ids=lambda kind: kind.__name__)
def test_a_spot_check_sees_a_device_that_has_gone_wrong(mutant: type[PythonBackend]) -> None:
    with pytest.raises(SelfTestFailed):
        spot_check(mutant())
