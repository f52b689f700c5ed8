"""The yardsticks, and what a device is found to feel of them."""

import random
from hashlib import sha256

import numpy as np
import pytest

from bench.feel import Scan, scan_median, slopes
from bench.yardstick import Yardstick, loops, wide_body


def run(source, felt, level=0.0, rounds=12, scans=12, moves=0.1, noise=0.001):
    """Rounds of a device that feels this much of two yardsticks, which move on their own."""
    made = []
    for _ in range(rounds):
        machine = [(source.gauss(0, moves), source.gauss(0, moves)) for _ in range(scans)]
        rates = [level + felt[0] * a + felt[1] * b + source.gauss(0, noise) for a, b in machine]
        made.append([Scan(rate, at) for rate, at in zip(rates, machine, strict=True)])
    return made


def test_what_a_device_feels_is_found_and_taken_out():
    source = random.Random(1)
    runs = [run(source, (0.3, 0.9)), run(source, (0.3, 0.9), level=-0.1)]
    felt = slopes(runs)
    assert felt == pytest.approx((0.3, 0.9), abs=0.01)
    before, after = ([scan_median(timed, felt) for timed in one] for one in runs)
    assert np.median(after) - np.median(before) == pytest.approx(-0.1, abs=0.002)


def test_a_difference_between_the_runs_says_nothing_about_the_slopes():
    source = random.Random(2)
    one, other = run(source, (0.5, 0.5), moves=0.05), run(source, (0.5, 0.5), moves=0.05)
    # The machine is half as fast, the device not at all slower: no slope within a run says so.
    moved = [[Scan(scan.rate, (scan.machine[0] - 0.7, scan.machine[1] - 0.7)) for scan in r] for r in other]
    assert slopes([one, moved]) == pytest.approx(slopes([one, other]))


def test_on_a_quiet_machine_both_yardsticks_count_alike():
    still = run(random.Random(3), (0.0, 0.0), moves=1e-5)
    assert slopes([still, still]) == pytest.approx((0.5, 0.5), abs=0.01)


def test_wild_scans_count_little():
    source = random.Random(4)
    wild = run(source, (0.3, 0.9))
    for timed in wild:
        timed[0] = Scan(timed[0].rate - 5 * abs(timed[0].machine[0]), timed[0].machine)
    assert slopes([wild, wild]) == pytest.approx((0.3, 0.9), abs=0.03)


def test_slopes_are_those_of_numpys_least_squares():
    source = random.Random(5)
    runs = [run(source, (0.4, 0.2)), run(source, (0.4, 0.2), level=2.0)]
    rows = [
        (*scan.machine, 1 - place, place, scan.rate)
        for place, one in enumerate(runs)
        for timed in one
        for scan in timed
    ]
    table = np.array(rows)
    expected = np.linalg.lstsq(table[:, :4], table[:, 4], rcond=None)[0]
    assert slopes(runs) == pytest.approx(tuple(expected[:2]), abs=0.01)


def test_a_device_without_yardsticks_feels_nothing():
    card = [[Scan(1.0, ()), Scan(3.0, ()), Scan(2.0, ())]]
    assert slopes([card, card]) == ()
    assert scan_median(card[0], ()) == 2.0


def test_a_yardstick_counts_passes_by_processor_time():
    now = iter(range(1000))
    clock = lambda: float(next(now))  # noqa: E731
    yardstick = Yardstick(3.0, wall=clock, processor=clock, loops=lambda: {"idle": lambda: None})
    # The wall says 0, the processor 1; two passes until the wall says 3; then the processor says 4.
    assert yardstick(1) == pytest.approx((2 / 3,))
    assert yardstick.names == ("idle",)


def test_every_yardstick_runs_on_one_thread_and_on_two():
    yardstick = Yardstick(0.002)
    assert yardstick.names[0] == "sha3"
    one, two = yardstick(1), yardstick(2)
    yardstick.close()
    assert len(one) == len(two) == len(yardstick.names) == len(loops())
    for alone, together in zip(one, two, strict=True):
        assert together > alone / 4 > 0


@pytest.mark.parametrize(
    ("sha", "rotations", "digest"),
    [
        (True, True, "65f07578455a6759"),
        (True, False, "df3c4403efbeae24"),
        (False, True, "dbfdfa3a4d9f1dd6"),
        (False, False, "0f09120385f72bf1"),
    ],
)
def test_the_wide_loop_never_changes(sha, rotations, digest):
    # Every comparison of two runs rests on it: another loop needs another name.
    assert sha256("\n".join(wide_body(sha, rotations)).encode()).hexdigest()[:16] == digest
