"""Rates over windows, stop latencies, batch sizes: on clocks of our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.meter import Meter, StopWatch
from miner.pace import HITS_PER_BATCH, Pace
from miner.work import Work

WORK = Work(bytes(80), 1)


def test_a_steady_rate_is_the_same_over_every_window() -> None:
    now = [100.0]
    meter = Meter(lambda: now[0])
    for _ in range(20_000):
        now[0] += 0.05
        meter.add(50_000)
    for window in (10, 60, 900):
        assert meter.rate(window) == pytest.approx(1e6, rel=0.02)
    assert meter.total == 20_000 * 50_000


def test_a_window_forgets_what_is_older() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])
    meter.add(1000)
    now[0] = 30.0
    assert meter.rate(10) == 0
    assert meter.rate(60) == pytest.approx(1000 / 30)


def test_a_meter_that_has_just_started_divides_by_no_zero() -> None:
    meter = Meter(lambda: 5.0)
    meter.add(10)
    assert meter.rate(10) == 0.0


def test_the_ring_forgets_a_bucket_of_fifteen_minutes_ago() -> None:
    now = [0.5]
    meter = Meter(lambda: now[0])
    meter.add(7)
    now[0] += 900
    meter.add(1)
    assert meter.rate(900) == pytest.approx(1 / 900, rel=0.01)


def test_p99_of_a_thousand_stops_leaves_out_the_ten_worst() -> None:
    watch = StopWatch()
    for i in range(1000):
        watch.add(float(i))
    summary = watch.summary()
    assert (summary.count, summary.median, summary.p99, summary.worst) == (1000, 500, 989, 999)


def test_no_stop_yet_is_all_zeros() -> None:
    assert StopWatch().summary().count == 0


@given(st.floats(1e2, 1e12))
def test_the_pace_settles_on_one_slice_whatever_the_device(rate: float) -> None:
    pace = Pace(0.05)
    for _ in range(40):
        hashes = pace.nonces(WORK)
        pace.learn(hashes, hashes / rate)
    assert pace.nonces(WORK) == pytest.approx(max(1, rate * 0.05), rel=0.01, abs=1)


def test_a_device_with_an_overhead_per_batch_still_settles_below_twice_the_slice() -> None:
    pace = Pace(0.05)
    for _ in range(40):
        hashes = pace.nonces(WORK)
        seconds = 0.02 + hashes / 1e9
        pace.learn(hashes, seconds)
    assert 0.04 < seconds < 0.1


def test_a_batch_on_an_easy_target_is_short_and_teaches_nothing() -> None:
    pace = Pace(0.05)
    for _ in range(10):
        pace.learn(pace.nonces(WORK), pace.nonces(WORK) / 1e6)
    easy = Work(bytes(80), 1 << 255)
    assert pace.nonces(easy) <= HITS_PER_BATCH * 2
    pace.learn(pace.nonces(easy), 1e-6)
    assert pace.nonces(WORK) == pytest.approx(50_000, rel=0.01)


def test_siblings_share_a_batch() -> None:
    four = Work(bytes(80), 1, (0, 1, 2, 3))
    assert Pace(0.05).nonces(four) == Pace(0.05).nonces(WORK) // 4
