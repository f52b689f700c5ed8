"""A thread takes the code that suits its core, and a wrong guess costs little."""

import random
from collections.abc import Iterable, Iterator

import pytest

from miner.backends.choice import ALONE, BESIDE, MOST_PATIENCE, PATIENCE, Choice

QUIET = (1 / 54.3, 1 / 50.3)
"""What a turn of each code costs on a core of its own, in microseconds per hash: measured."""
CROWDED = (1 / 29, 1 / 42)
"""The same beside a stranger."""


def turns(choice: Choice, costs: Iterable[tuple[float, float]]) -> Iterator[int]:
    """Which code each turn took, if a turn of each would cost so much."""
    for cost in costs:
        code = choice.code
        yield code
        choice.learn(cost[code])


def spent(choice: Choice, costs: list[tuple[float, float]]) -> float:
    """The cost of all turns, as a multiple of the second code's alone."""
    taken = sum(cost[code] for cost, code in zip(costs, turns(choice, costs), strict=True))
    return taken / sum(cost[BESIDE] for cost in costs)


def test_alone_the_first_code_is_taken_and_kept() -> None:
    assert list(turns(Choice(2), [QUIET] * 100)) == [BESIDE] * PATIENCE + [ALONE] * (100 - PATIENCE)


def test_when_a_neighbour_comes_one_turn_is_lost() -> None:
    choice = Choice(2)
    list(turns(choice, [QUIET] * 100))
    assert list(turns(choice, [CROWDED] * 100)) == [ALONE] + [BESIDE] * 99


def test_when_he_has_gone_the_first_is_found_again() -> None:
    choice = Choice(2)
    list(turns(choice, [QUIET] * 100 + [CROWDED] * 100))
    assert list(turns(choice, [QUIET] * 100)).count(BESIDE) == PATIENCE


def test_beside_a_neighbour_who_was_always_there_almost_nothing_is_lost() -> None:
    # The least cost is then one with a neighbour, and the first code is tried in vain.
    taken = list(turns(Choice(2), [CROWDED] * 10_000))
    assert 1 < taken.count(ALONE) <= 10_000 // MOST_PATIENCE + 8
    assert spent(Choice(2), [CROWDED] * 10_000) < 1.0025


@pytest.mark.parametrize(("length", "most"), [(3, 1.003), (10, 1.0), (100, 0.98)])
def test_a_neighbour_who_comes_and_goes_costs_at_most_a_trifle(length: int, most: float) -> None:
    source, here = random.Random(1), False
    costs = []
    for _ in range(20_000):
        here ^= source.random() < 1 / length
        noise = 1 + abs(source.gauss(0, 0.01))
        costs.append(tuple(cost * noise for cost in (CROWDED if here else QUIET)))
    assert spent(Choice(2), costs) < most


def test_a_slower_clock_is_not_taken_for_a_neighbour_for_ever() -> None:
    choice = Choice(2)
    list(turns(choice, [QUIET] * 100))
    slower = (QUIET[0] * 1.3, QUIET[1] * 1.3)
    assert list(turns(choice, [slower] * 5000))[-1] == ALONE


def test_one_code_is_always_used() -> None:
    assert set(turns(Choice(1), [(1.0,), (5.0,), (0.0,)] * 100)) == {ALONE}


def test_a_clock_that_stands_still_is_survived() -> None:
    assert set(turns(Choice(2), [(0.0, 0.0)] * 100)) == {ALONE, BESIDE}
