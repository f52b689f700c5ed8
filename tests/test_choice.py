"""A thread takes the code that did better lately, and keeps an eye on the others."""

import pytest

from miner.backends.choice import PROBE_EVERY, Choice


def costs(choice: Choice, seconds: list[float], turns: int) -> list[int]:
    """Which code each turn took, if a turn of each costs so much."""
    taken = []
    for _ in range(turns):
        code = choice.next()
        choice.learn(code, 1000, seconds[code])
        taken.append(code)
    return taken


def test_each_code_is_tried_and_the_cheaper_one_kept() -> None:
    taken = costs(Choice(2), [2.0, 1.0], 320)
    assert taken[:3] == [0, 1, 1]
    assert taken.count(0) == 1 + 320 // PROBE_EVERY


def test_when_a_neighbour_comes_the_other_code_is_taken_at_once() -> None:
    choice = Choice(2)
    costs(choice, [1.0, 1.1], 100)
    taken = costs(choice, [1.8, 1.2], 100)
    assert taken.index(1) <= 2
    assert taken.count(0) <= 2 + 100 // PROBE_EVERY + 1


def test_when_he_has_gone_the_first_is_found_again() -> None:
    choice = Choice(2)
    costs(choice, [1.8, 1.2], 100)
    taken = costs(choice, [1.0, 1.1], 10 * PROBE_EVERY)
    assert taken[-PROBE_EVERY:].count(0) >= PROBE_EVERY - 1


def test_one_odd_turn_changes_nothing_for_long() -> None:
    choice = Choice(2)
    costs(choice, [1.0, 1.1], 100)
    choice.learn(0, 1000, 5.0)
    taken = costs(choice, [1.0, 1.1], 10 * PROBE_EVERY)
    assert taken.count(0) > taken.count(1)


def test_what_was_forgotten_is_tried_again() -> None:
    choice = Choice(2)
    costs(choice, [1.8, 1.2], 10)
    choice.forget()
    taken = costs(choice, [1.0, 1.1], 10)
    assert taken == [0, 1, *[0] * 8]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_codes_are_tried_again_and_again(count: int) -> None:
    taken = costs(Choice(count), [1.0] * count, 20 * PROBE_EVERY)
    assert set(taken[-4 * PROBE_EVERY :]) == set(range(count))


def test_a_clock_that_stands_still_is_survived() -> None:
    assert set(costs(Choice(2), [0.0, 0.0], 100)) == {0, 1}
