"""The launch loop against devices in Python: honest ones, and such as lie."""

from collections.abc import Sequence

import pytest

from miner.backends.launches import CAPACITY, FIRST_COUNT, SLOTS, Launches, Question
from miner.backends.selftest import EASY, SMALL, hits_of
from miner.errors import DeviceFault
from miner.target import MAX_TARGET
from miner.work import Hit, Work

WORK = Work(SMALL.header, EASY, (1, 2, 3))


class Device:
    """Answers with every nonce and version as a candidate; notes what is asked and what is in flight."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.running: dict[int, Question] = {}
        self.deepest = 0

    def start(self, slot: int, question: Question) -> None:
        assert slot not in self.running, "a slot is used while its launch runs"
        self.questions.append(question)
        self.running[slot] = question
        self.deepest = max(self.deepest, len(self.running))

    def finish(self, slot: int) -> Sequence[int]:
        question = self.running.pop(slot)
        pairs = [(n, v) for n in question.nonces for v in range(len(question.midstates))]
        return [len(pairs), 0, *(word for pair in pairs[:CAPACITY] for word in pair)]


class Clock:
    """Goes on by a fixed time at each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def launches(device: Device, step: float = 0.025, groups: Sequence[int] = (1, 2)) -> Launches:
    return Launches(device, groups, Clock(step))


def test_candidates_are_hashed_again_and_only_hits_are_kept() -> None:
    assert launches(Device()).scan(WORK, range(100)) == hits_of(WORK, range(100))


def test_versions_are_grouped_as_the_kernels_take_them() -> None:
    device = Device()
    launches(device).scan(WORK, range(10))
    assert [len(q.midstates) for q in device.questions] == [2, 1]
    assert [m for q in device.questions for m in q.midstates] == list(WORK.midstates)


def test_a_device_is_given_the_top_word_of_the_target() -> None:
    device = Device()
    launches(device).scan(Work(SMALL.header, (7 << 224) + 5), range(3))
    assert device.questions[0].top == 7


@pytest.mark.parametrize("nonces", [range(0), range(5, 5)])
def test_nothing_is_launched_for_an_empty_range(nonces: range) -> None:
    device = Device()
    assert launches(device).scan(WORK, nonces) == []
    assert not device.questions


def test_what_overflows_is_scanned_again_in_parts() -> None:
    device = Device()
    hits = launches(device).scan(Work(SMALL.header, MAX_TARGET), range(20_000))
    assert hits == [Hit(nonce, SMALL.hit.version) for nonce in range(20_000)]
    assert len(device.questions) == 1 + 4


def test_both_slots_are_kept_busy() -> None:
    device = Device()
    launches(device, groups=(1,)).scan(Work(SMALL.header, 0, (1, 2, 3)), range(256))
    assert len(device.questions) == 3
    assert device.deepest == SLOTS


def test_launches_grow_on_a_fast_device_and_shrink_on_a_slow_one() -> None:
    def sizes(step: float) -> list[int]:
        device = Silent()
        launches(device, step, groups=(1,)).scan(Work(SMALL.header, 0), range(1 << 24))
        return [len(q.nonces) for q in device.questions]

    assert sizes(0.001)[-2] > 16 * FIRST_COUNT
    assert max(sizes(0.001)) <= 1 << 30
    assert min(sizes(0.1)[:-1]) < FIRST_COUNT


class Silent(Device):
    """Finds nothing."""

    def finish(self, slot: int) -> Sequence[int]:
        self.running.pop(slot)
        return [0, 0]


class Elsewhere(Device):
    """Answers with a nonce beyond its range."""

    def finish(self, slot: int) -> Sequence[int]:
        return [1, 0, self.running.pop(slot).nonces.stop, 0]


class Stranger(Device):
    """Answers with a version that it was not given."""

    def finish(self, slot: int) -> Sequence[int]:
        question = self.running.pop(slot)
        return [1, 0, question.nonces.start, len(question.midstates)]


class Boaster(Device):
    """Reports more hits than there were hashes."""

    def finish(self, slot: int) -> Sequence[int]:
        question = self.running.pop(slot)
        return [len(question.nonces) * len(question.midstates) + 1, 0]


@pytest.mark.parametrize("device", [Elsewhere(), Stranger(), Boaster()], ids=lambda d: type(d).__name__)
def test_an_answer_that_no_launch_can_give_is_a_fault(device: Device) -> None:
    with pytest.raises(DeviceFault, match=r"not in the launch|hits among"):
        launches(device).scan(WORK, range(50))
