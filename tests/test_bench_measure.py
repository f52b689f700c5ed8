"""The measuring core, on a clock that only moves when a device works."""

from itertools import pairwise

import pytest

from bench import machine
from bench.campaign import Setting, candidate_for
from bench.ground import Ground
from bench.load import Load
from bench.measure import WARM_UP_ROUND, Measurement, Plan


class Clock:
    """Seconds, moved by whoever spends them; one reading costs a microsecond."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-6
        return self.now


class Metronome:
    """Finds nothing at a constant rate; the first scan takes a second longer, as a compiler would."""

    name, siblings, threads = "metronome", 2, 3

    def __init__(self, clock, rate=1e6, diary=None):
        self.clock, self.rate, self.diary = clock, rate, diary if diary is not None else []
        self.scans = 0

    def scan(self, work, nonces):
        self.clock.now += len(nonces) * len(work.versions) / self.rate + (1.0 if self.scans == 0 else 0.0)
        self.scans += 1
        self.diary.append((self.name, work, nonces))
        return []

    def close(self):
        pass


class Faulty(Metronome):
    """Raises in one of its timed rounds."""

    def scan(self, work, nonces):
        if self.scans > 30:
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")
        return super().scan(work, nonces)


class Even:
    """Yardsticks on a machine that never changes."""

    names = ("one", "other")

    def __call__(self, threads):
        return 1e6 * threads, 2e6 * threads


PLAN = Plan(rounds=6, warmup_seconds=5.0, yardstick_seconds=0.0002)


def set_up(*devices, plan=PLAN, load=lambda: Load(None, 0.0, None)):
    clock = devices[0].clock
    measurement = Measurement(plan, Ground(1), clock=clock, yardstick=Even(), load=load)
    candidates = [candidate_for(device, Setting(device.name)) for device in devices]
    for candidate in candidates:
        measurement.warm_up(candidate)
    return measurement, candidates


def test_the_first_scan_is_timed_apart_and_batches_fill_a_time_slice():
    _, (candidate,) = set_up(Metronome(Clock()))
    assert candidate.first_seconds == pytest.approx(1.0, abs=0.01)
    assert candidate.batch == pytest.approx(25_000, rel=0.01)
    assert candidate.versions == 2
    assert candidate.threads == 3


def test_the_warm_up_ends_when_three_scans_agree():
    device = Metronome(Clock())
    set_up(device)
    # 1,024, too short because of the second before it, then growing fourfold to the slice, then three.
    assert device.scans < 15


def test_a_rate_that_never_settles_ends_the_warm_up_in_time():
    class Restless(Metronome):
        def scan(self, work, nonces):
            self.rate = 2e6 if self.scans % 2 else 0.5e6
            return super().scan(work, nonces)

    device = Restless(Clock())
    set_up(device)
    assert device.clock.now < 8


def test_every_round_lasts_long_enough_and_counts_versions():
    measurement, (candidate,) = set_up(Metronome(Clock()))
    measurement.interleave([candidate], lambda number: None)
    assert len(candidate.rounds) == 6
    for round in candidate.rounds:
        assert round.seconds >= 0.3
        assert round.rate == pytest.approx(1e6, rel=0.001)
        assert len(round.scan_hashes) in (12, 13)
        assert round.yardsticks == ((3e6, 6e6),) * len(round.scan_hashes)
    assert sum(r.hashes for r in candidate.rounds) == sum(scan.span.hashes for scan in candidate.scans)


def test_devices_take_turns_and_another_one_begins_each_round():
    clock, diary = Clock(), []
    one, other = Metronome(clock, diary=diary), Metronome(clock, 5e5, diary)
    one.name, other.name = "one", "other"
    measurement, candidates = set_up(one, other)
    diary.clear()
    measurement.interleave(candidates, lambda number: None)
    turns = [name for i, (name, _, _) in enumerate(diary) if i == 0 or diary[i - 1][0] != name]
    # Where a round ends with the device that begins the next, two turns look like one.
    assert turns == ["one", "other", "one", "other", "one", "other", "one"]
    headers = {name: [work.header for who, work, _ in diary if who == name] for name in ("one", "other")}
    assert list(dict.fromkeys(headers["one"])) == list(dict.fromkeys(headers["other"]))


def test_the_settings_of_a_sweep_take_turns_scan_by_scan():
    clock, diary = Clock(), []
    devices = [Metronome(clock, rate, diary) for rate in (1e6, 2e6)]
    for threads, device in zip((1, 2), devices, strict=True):
        device.name, device.threads = f"{threads} threads", threads
    measurement, candidates = set_up(*devices)
    for candidate in candidates:
        candidate.name, candidate.sweep = "metronome", "threads"
    diary.clear()
    measurement.interleave(candidates, lambda number: None)
    names = [name for name, _, _ in diary]
    swaps = sum(one != other for one, other in pairwise(names))
    assert swaps >= len(names) - 2 * measurement.plan.rounds
    second = sum(len(candidate.rounds[0].scan_hashes) for candidate in candidates)
    assert {names[0], names[second]} == {"1 threads", "2 threads"}  # another one begins each round
    for candidate, rate in zip(candidates, (1e6, 2e6), strict=True):
        assert len(candidate.rounds) == measurement.plan.rounds
        for round in candidate.rounds:
            assert 0.3 <= round.seconds < 0.33
            assert round.rate == pytest.approx(rate, rel=0.001)
            threads = candidate.threads
            assert round.yardsticks == ((1e6 * threads, 2e6 * threads),) * len(round.scan_hashes)


def test_one_of_a_sweep_that_raises_leaves_the_others_alone():
    clock = Clock()
    faulty, sound = Faulty(clock), Metronome(clock)
    measurement, (broken, whole) = set_up(faulty, sound)
    broken.sweep = whole.sweep = "threads"
    measurement.interleave([broken, whole], lambda number: None)
    assert "CUDA_ERROR_LAUNCH_FAILED" in broken.fault
    assert len(whole.rounds) == measurement.plan.rounds


def test_scans_of_different_length_do_not_take_turns():
    clock, diary = Clock(), []
    devices = [Metronome(clock, 1e6, diary) for _ in range(2)]
    for name, device in zip("ab", devices, strict=True):
        device.name = name
    measurement, candidates = set_up(*devices)
    for candidate in candidates:
        candidate.name, candidate.sweep, candidate.batch_seconds = "metronome", "batch", 0.025
    diary.clear()
    measurement.interleave(candidates, lambda number: None)
    names = [name for name, _, _ in diary]
    assert sum(one != other for one, other in pairwise(names)) < 2 * measurement.plan.rounds


def test_no_nonce_of_a_warm_up_is_timed():
    clock, diary = Clock(), []
    measurement, candidates = set_up(Metronome(clock, diary=diary))
    warm = {work.header for _, work, _ in diary}
    diary.clear()
    measurement.interleave(candidates, lambda number: None)
    assert warm.isdisjoint(work.header for _, work, _ in diary)
    assert measurement.plan.rounds < WARM_UP_ROUND


def test_a_device_that_raises_is_dropped_and_the_others_go_on():
    clock = Clock()
    faulty, sound = Faulty(clock), Metronome(clock)
    measurement, (broken, whole) = set_up(faulty, sound)
    measurement.interleave([broken, whole], lambda number: None)
    assert "CUDA_ERROR_LAUNCH_FAILED" in broken.fault
    assert whole.fault == ""
    assert len(whole.rounds) == 6


def test_what_others_took_of_the_processors_is_counted():
    clock = Clock()
    # One processor of ours, half a processor of somebody else.
    load = lambda: Load(busy=1.5 * clock.now, own=clock.now, throttles=0)  # noqa: E731
    measurement, (candidate,) = set_up(Metronome(clock), load=load)
    measurement.interleave([candidate], lambda number: None)
    for round in candidate.rounds:
        assert round.others == pytest.approx(0.5 / machine.cores(), rel=0.01)
