"""Two runs compare as what they are, on machines that are never twice equally fast."""

import random
from dataclasses import replace
from itertools import pairwise
from statistics import geometric_mean

import pytest

from bench.compare import Change, compare, judge
from bench.results import Round
from tests.bench_samples import MACHINE, results, row

TRIES = 200


def noisy_row(source, slower=1.0, rounds=12, scans=12):
    """A shared virtual machine. Its clock differs by 10 % from run to run; a neighbour comes and goes, whom
    the device feels in its own way; 1 % that no yardstick sees, and spikes."""
    clock, unseen, busy = source.gauss(1, 0.1), source.gauss(1, 0.01), source.random()
    made, neighbour = [], 0.0
    for _ in range(rounds):
        rates, yardsticks = [], []
        for _ in range(scans + 1):
            if source.random() < 0.2:
                neighbour = source.random() if source.random() < busy else 0.0
            # He takes half of a scalar loop at most, a third of a vector loop; a quarter of the device.
            sha3, wide = clock * (1 - 0.5 * neighbour), clock * (1 - 0.33 * neighbour)
            speeds = 7e3 * sha3, 7e3 * wide, 1e4 * clock * (1 - 0.05 * neighbour)
            yardsticks.append(tuple(speed * source.gauss(1, 0.02) for speed in speeds))
            spike = 0.7 if source.random() < 0.05 else 1.0
            rates.append(
                60e6 * clock * (1 - 0.25 * neighbour) * unseen * spike * source.gauss(1, 0.03) / slower
            )
        hashes, seconds = (1_500_000,) * scans, tuple(1_500_000 / rate for rate in rates[:scans])
        around = [tuple(map(geometric_mean, zip(*pair, strict=True))) for pair in pairwise(yardsticks)]
        made.append(Round(hashes, seconds, tuple(around)))
    return replace(row("numba"), rounds=tuple(made), yardsticks=("sha3", "wide", "clock"))


def tries(slower):
    source = random.Random(5)
    return [judge(noisy_row(source), noisy_row(source, slower)).change for _ in range(TRIES)]


def test_two_runs_of_the_same_code_raise_no_alarm_in_9_of_10_tries():
    changes = tries(slower=1.0)
    assert sum(change in (Change.SAME, Change.UNSURE) for change in changes) >= 0.9 * TRIES
    assert Change.SAME in changes


def test_a_device_slowed_by_a_tenth_is_slower_in_9_of_10_tries():
    assert tries(slower=1.1).count(Change.SLOWER) >= 0.9 * TRIES


def test_a_device_sped_up_by_a_tenth_is_faster_in_9_of_10_tries():
    assert tries(slower=1 / 1.1).count(Change.FASTER) >= 0.9 * TRIES


def test_without_noise_equal_runs_are_the_same():
    assert judge(row(noise=0.0), row(noise=0.0)).change is Change.SAME


def test_too_few_and_too_wild_rounds_leave_it_open():
    assert judge(row(noise=0.2, rounds=3), row(noise=0.2, rounds=3, seed=2)).change is Change.UNSURE


def test_a_machine_that_is_slower_as_a_whole_is_not_blamed_on_the_device():
    before, after = row(noise=0.002), row(noise=0.002, machine=0.8)
    assert judge(before, after).change is Change.SAME
    compared = compare(results(before), results(after))
    assert any("the machine itself changed by -20.0%" in note for note in compared.notes)


def test_a_device_that_had_to_wait_for_processors_is_not_blamed_for_it():
    before = row(noise=0.002)
    slow = [tuple(2 * seconds for seconds in r.scan_seconds) for r in before.rounds]
    halved = tuple(replace(r, scan_seconds=s, waited=0.5) for r, s in zip(before.rounds, slow, strict=True))
    judged = judge(before, replace(before, rounds=halved))
    assert judged.effect.value == pytest.approx(0, abs=1e-6)
    assert judged.change is Change.UNSURE  # half of its time was somebody else's: nobody can say more
    idled = tuple(replace(r, scan_seconds=s, waited=0.0) for r, s in zip(before.rounds, slow, strict=True))
    assert judge(before, replace(before, rounds=idled)).change is Change.SLOWER


def test_a_card_has_no_yardsticks_and_is_compared_all_the_same():
    before, after = row("cuda:0", 1e9, noise=0.002), row("cuda:0", 1e9, noise=0.002)
    assert judge(before, after).change is Change.SAME
    assert before.yardsticks == ()


def test_faster_undoes_slower():
    one, other = row(rate=60e6, noise=0.002), row(rate=70e6, noise=0.002)
    there, back = judge(one, other), judge(other, one)
    assert (there.change, back.change) == (Change.FASTER, Change.SLOWER)
    assert (1 + there.effect.value) * (1 + back.effect.value) == pytest.approx(1)


def test_runs_with_different_yardsticks_are_compared_by_the_common_ones():
    before, after = row(noise=0.002), row(noise=0.002, machine=0.8)
    poorer = tuple(replace(r, yardsticks=tuple(y[:1] for y in r.yardsticks)) for r in after.rounds)
    judged = judge(before, replace(after, rounds=poorer, yardsticks=("sha3",)))
    assert judged.effect.value == pytest.approx(0, abs=0.02)
    stranger = replace(after, yardsticks=("md5", "sha1"))
    assert judge(before, stranger).effect.value == pytest.approx(-0.2, abs=0.005)


def test_different_machines_are_refused_unless_forced():
    other = results(machine=replace(MACHINE, cores=64))
    with pytest.raises(ValueError, match=r"different machines \(2 x AMD EPYC; 64 x AMD EPYC\): --force"):
        compare(results(), other)
    assert compare(results(), other, force=True).rows


def test_another_commit_or_package_is_the_same_machine():
    assert compare(results(), results(machine=replace(MACHINE, commit="ff", dirty=True))).slower == ()


def test_runs_without_a_common_device_cannot_be_compared():
    with pytest.raises(ValueError, match="no device in common"):
        compare(results(row("python")), results(row("numba")))


def test_what_differs_between_the_runs_is_told():
    before = results(row("python"), row("numba", form="vector, 16 lanes"))
    after = results(row("numba", form="SHA extensions"), row("opencl:0"))
    notes = compare(before, after).notes
    assert "measured before only: python" in notes
    assert "measured after only: opencl:0" in notes
    assert "numba: form was vector, 16 lanes, is SHA extensions" in notes
