"""Figures about figures: whatever the values, what is said about them must hold."""

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.spread import Interval, median_interval, outliers, poisson_score, shift, variation

values = st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=40)


@given(values)
def test_the_interval_holds_the_median_and_stays_within_the_values(sample):
    interval = median_interval(sample)
    assert interval.value == median(sample)
    assert min(sample) <= interval.low <= interval.value <= interval.high <= max(sample)


@given(values, st.integers(-20, 20))
def test_the_interval_scales_with_the_values(sample, exponent):
    factor = 2.0**exponent  # exact in binary, so equality is exact too
    one, other = median_interval(sample), median_interval([value * factor for value in sample])
    assert (one.low * factor, one.high * factor) == (other.low, other.high)
    assert one.coverage == other.coverage


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_the_rounds_does_not_matter(sample, shuffler):
    shuffled = list(sample)
    shuffler.shuffle(shuffled)
    assert median_interval(shuffled) == median_interval(sample)


def test_twelve_rounds_give_the_third_and_tenth():
    # Binomial(12, 1/2): at most 2 below with probability 79/4096, so 96.1 % between.
    interval = median_interval(range(1, 13))
    assert (interval.low, interval.high) == (3, 10)
    assert interval.coverage == pytest.approx(1 - 2 * 79 / 4096)


def test_five_rounds_cannot_reach_95_percent_and_say_so():
    interval = median_interval([1, 2, 3, 4, 5])
    assert (interval.low, interval.high) == (1, 5)
    assert interval.coverage == pytest.approx(15 / 16)


def test_intervals_of_skewed_timings_hold_the_true_median_95_times_in_100():
    source = random.Random(7)
    true_median = 0.6931471805599453  # of the exponential distribution: ln 2
    held = 0
    for _ in range(2000):
        interval = median_interval([source.expovariate(1) for _ in range(15)])
        held += interval.low <= true_median <= interval.high
    assert held / 2000 >= 0.95


def test_no_values_have_no_median():
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


def test_an_interval_that_misses_its_value_is_refused():
    with pytest.raises(ValueError, match="outside its own interval"):
        Interval(3.0, 1.0, 2.0)


def test_one_wild_round_is_an_outlier_and_hardly_moves_the_median():
    calm = [100.0, 101, 99, 100, 102, 98, 100, 101]
    assert outliers([*calm, 40.0]) == (8,)
    assert abs(median_interval([*calm, 40.0]).value - 100) <= 1


def test_equal_values_have_no_outliers_and_no_variation():
    assert outliers([5.0] * 9) == ()
    assert variation([5.0] * 9) == 0


@given(values)
def test_a_run_is_not_shifted_against_itself(sample):
    same = shift(sample, sample)
    assert same.low <= 0 <= same.high
    assert same.value == 0


@given(values, values)
def test_a_shift_turns_its_sign_with_its_direction(before, after):
    there, back = shift(before, after), shift(after, before)
    assert (there.low, there.value, there.high) == (-back.high, -back.value, -back.low)


def test_shifts_hold_the_truth_95_times_in_100():
    source = random.Random(11)
    held = 0
    for _ in range(1000):
        before = [source.expovariate(1) for _ in range(12)]
        after = [source.expovariate(1) + 0.5 for _ in range(12)]
        found = shift(before, after)
        held += found.low <= 0.5 <= found.high
    assert held / 1000 >= 0.94


def test_counts_that_fit_score_low_and_counts_that_do_not_score_high():
    assert abs(poisson_score(4096, 4096)) < 0.1
    assert poisson_score(4096 - 5 * 64, 4096) < -5  # five standard deviations of sqrt(4096)
    assert poisson_score(0, 0) == 0
