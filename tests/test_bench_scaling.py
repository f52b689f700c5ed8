"""Scaling by threads is what the device does, not what the machine gave."""

import random
from dataclasses import replace

import pytest

from bench.results import Round
from bench.scaling import FEWEST, scaling
from bench.sweep_table import sweep_tables
from tests.bench_samples import results, row

SHARED = 0.53
"""What each of two threads gets of a core that they share."""


def swept(efficiency: float, *, sharing: float, threads: int = 2, seed: int = 1):
    """Rows on one thread and on several, on a machine that puts several on one core part of the time."""
    source = random.Random(seed)
    made = {count: [] for count in (1, threads)}
    for _ in range(12):
        scans = {count: ([], [], []) for count in made}
        for _ in range(12):
            share = SHARED if source.random() < sharing else 1.0
            for count, (hashes, seconds, yardsticks) in scans.items():
                given = count * (share if count > 1 else 1.0)
                lost = efficiency if count > 1 else 1.0
                hashes.append(1_000_000)
                seconds.append(0.025 / given / lost * source.gauss(1, 0.01))
                around = (
                    1e4 * given * source.gauss(1, 0.005),
                    2e4 * given * source.gauss(1, 0.005),
                    5e3 * count,
                )
                yardsticks.append(around)
        for count, scan in scans.items():
            made[count].append(Round(*map(tuple, scan)))
    names = ("sha3", "wide", "clock")
    return [
        replace(row("numba"), threads=count, sweep="threads", rounds=tuple(rounds), yardsticks=names)
        for count, rounds in made.items()
    ]


@pytest.mark.parametrize("sharing", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("efficiency", [1.0, 0.9])
def test_what_the_device_loses_is_told_from_what_the_machine_withholds(efficiency, sharing):
    one, two = scaling(swept(efficiency, sharing=sharing))
    assert one.interval.value == 1.0
    assert two.rate_when_full == pytest.approx(2 * efficiency, rel=0.01)
    assert len(two.full) == pytest.approx(144 * (1 - sharing), abs=20)
    assert two.machine == pytest.approx(2 * (SHARED if sharing > 0.5 else 1.0), rel=0.02)
    assert two.interval.value == pytest.approx(efficiency * two.machine, rel=0.02)


def test_where_the_machine_never_gave_all_cores_nothing_is_claimed():
    _, two = scaling(swept(1.0, sharing=1.0))
    assert two.full == ()
    assert two.rate_when_full is None


def test_a_machine_that_gave_more_than_there_are_threads_is_no_measure_either():
    # One thread beside a stranger, several without him: three times one is no merit of two threads.
    one, two = swept(1.0, sharing=0.0)
    disturbed = [
        replace(r, yardsticks=tuple((a / 1.5, b / 1.5, c) for a, b, c in r.yardsticks)) for r in one.rounds
    ]
    assert scaling([replace(one, rounds=tuple(disturbed)), two])[1].full == ()


def test_one_yardstick_that_says_otherwise_is_enough():
    one, two = swept(1.0, sharing=0.0)
    slow = tuple(
        replace(r, yardsticks=tuple((a / 1.2, b, c) for a, b, c in r.yardsticks)) for r in two.rounds
    )
    assert scaling([one, replace(two, rounds=slow)])[1].full == ()


def test_a_few_pairs_are_no_median():
    one, two = swept(1.0, sharing=0.0)
    few = [replace(one, rounds=one.rounds[:1]), replace(two, rounds=two.rounds[:1])]
    assert len(scaling(few)[1].full) > FEWEST
    first = two.rounds[0]
    parts = (first.scan_hashes, first.scan_seconds, first.yardsticks)
    short = Round(*(part[: FEWEST - 1] for part in parts))
    assert scaling([few[0], replace(two, rounds=(short,))])[1].rate_when_full is None


def test_without_yardsticks_there_are_pairs_all_the_same():
    bare = [
        replace(r, yardsticks=(), rounds=tuple(replace(t, yardsticks=()) for t in r.rounds))
        for r in swept(1.0, sharing=0.0)
    ]
    _, two = scaling(bare)
    assert (two.machine, two.full) == (None, ())
    assert two.interval.value == pytest.approx(2.0, rel=0.01)


def test_each_backend_of_a_sweep_is_held_against_its_own_first_row():
    slow = [replace(r, backend="multiprocess") for r in swept(0.9, sharing=0.0)]
    (table,) = sweep_tables(results(*swept(1.0, sharing=0.0), *slow))
    assert table.headings == ("hash rate", "± 95 %", "vs one", "machine", "where full")
    assert [r[:2] for r in table.rows] == [
        ("numba", "1"), ("numba", "2"), ("multiprocess", "1"), ("multiprocess", "2"),
    ]  # fmt: skip
    assert [r[4] for r in table.rows] == ["1.00 x", "2.00 x", "1.00 x", "1.80 x"]
    assert table.rows[3][-1].startswith("1.80 x (1")


def test_other_sweeps_show_rates_alone():
    rows = [row("numba", rate=30e6 * n, versions=n, sweep="versions") for n in (1, 2)]
    (table,) = sweep_tables(results(*rows))
    assert table.headings == ("hash rate", "± 95 %", "vs first")
    assert table.caption == ""
