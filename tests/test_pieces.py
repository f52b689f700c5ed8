"""A range shared by threads: whole, each part once, and the last parts small."""

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.backends.pieces import Pieces


@given(
    start=st.integers(0, 2**32),
    length=st.integers(0, 5000),
    threads=st.integers(1, 9),
    least=st.integers(0, 700),
    most=st.integers(0, 900),
)
def test_the_pieces_are_the_range(start: int, length: int, threads: int, least: int, most: int) -> None:
    nonces = range(start, start + length)
    pieces = list(Pieces(nonces, threads, least, most))
    assert [nonce for piece in pieces for nonce in piece] == list(nonces)
    assert all(min(least, most) <= len(piece) <= max(most, 1) for piece in pieces[:-1])


def test_the_last_pieces_are_the_smallest() -> None:
    sizes = [len(piece) for piece in Pieces(range(1 << 20), 2, 1000, 1 << 17)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 1 << 17
    assert sizes[-2] == 1000


@pytest.mark.parametrize("slowness", [1, 2, 3])
def test_threads_of_unequal_speed_end_together(slowness: int) -> None:
    # Two threads in a simulation: whoever is free first takes the next piece.
    clocks = {1: 0.0, slowness: 0.0} if slowness > 1 else {1: 0.0, 1.0001: 0.0}
    for piece in Pieces(range(1 << 20), 2, 1000, 1 << 17):
        slow = min(clocks, key=lambda thread: clocks[thread])
        clocks[slow] += len(piece) * slow
    assert abs(clocks.popitem()[1] - clocks.popitem()[1]) <= 1001 * slowness


def test_one_thread_takes_as_much_as_it_may() -> None:
    assert [len(piece) for piece in Pieces(range(1000), 1, 10, 400)] == [400, 400, 200]


def test_pieces_taken_by_many_threads_are_each_dealt_once() -> None:
    pieces = Pieces(range(1 << 25), 4, 1 << 10, 1 << 15)
    dealt: list[range] = []
    threads = [threading.Thread(target=lambda: dealt.extend(pieces)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dealt.sort(key=lambda piece: piece.start)
    assert dealt[0].start == 0
    assert all(one.stop == other.start for one, other in pairwise(dealt))
    assert dealt[-1].stop == 1 << 25


def test_after_a_stop_there_is_nothing_left() -> None:
    pieces = Pieces(range(1000), 2, 10, 100)
    assert len(next(iter(pieces))) == 100
    pieces.stop()
    assert list(pieces) == []
    assert pieces.stopped
