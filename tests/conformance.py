"""What every backend must do, as one class of tests for each backend's own tests to inherit:

    @pytest.fixture(scope="module")
    def backend() -> Iterator[Backend]:
        with closing(open(None, None)) as backend:
            yield backend

    class TestNumpy(Conformance): ...

The answers are hashlib's, nonce by nonce (`hits_of`). All of it is about 12,000
hashes, so that a device emulated in Python can be held to it as well.
"""

from random import Random

import pytest

from miner.backends import Backend, self_test, siblings_of, spot_check
from miner.backends.selftest import EASY, GENESIS, ROLLED, SMALL, Anchor, hits_of
from miner.errors import DeviceError
from miner.header import sha256d
from miner.target import MAX_TARGET
from miner.work import Hit, Work

END = 1 << 32
MIDDLE = 1 << 31
VERSION_COUNTS = [1, 2, 3, 4, 5, 8, 16]
"""Whole groups of siblings and what is left over, for any size of group."""


def random_header(seed: int) -> bytes:
    return Random(seed).randbytes(80)


def random_versions(seed: int, count: int) -> tuple[int, ...]:
    """Neither sorted nor siblings under BIP 320: a backend is to take any."""
    return tuple(Random(seed).sample(range(END), count))


def value_of(work: Work, hit: Hit) -> int:
    """The hash as the number that is compared with a target."""
    return int.from_bytes(sha256d(work.header_of(hit)), "little")


class Conformance:
    """Needs a fixture `backend`. What closing does is `check_close`'s, with a backend to spare."""

    @pytest.mark.parametrize("seed", range(8))
    def test_hits_are_those_of_hashlib_on_random_headers(self, backend: Backend, seed: int) -> None:
        rng = Random(seed)
        work = Work(random_header(seed), EASY >> rng.randrange(6))
        start = rng.randrange(END - 200)
        nonces = range(start, start + 97 + seed)
        assert backend.scan(work, nonces) == hits_of(work, nonces)

    @pytest.mark.parametrize("anchor", [GENESIS, SMALL, ROLLED], ids=lambda anchor: anchor.name)
    def test_real_blocks_are_solved_with_their_own_nonce(self, backend: Backend, anchor: Anchor) -> None:
        nonce = anchor.hit.nonce
        assert backend.scan(anchor.work, range(nonce - 300, nonce + 300)) == [anchor.hit]

    @pytest.mark.parametrize("length", [0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257])
    def test_a_range_of_any_length_is_covered_exactly(self, backend: Backend, length: int) -> None:
        nonces = range(1000, 1000 + length)
        assert backend.scan(Work(GENESIS.header, MAX_TARGET), nonces) == [Hit(nonce, 1) for nonce in nonces]

    @pytest.mark.parametrize("start", [0, 1, 7, MIDDLE - 40, MIDDLE, END - 80, END - 81])
    def test_every_part_of_the_nonce_space_is_hashed_right(self, backend: Backend, start: int) -> None:
        nonces, work = range(start, start + 80), Work(SMALL.header, EASY)
        assert backend.scan(work, nonces) == hits_of(work, nonces)

    @pytest.mark.parametrize("nonces", [range(0), range(7, 7), range(END, END)], ids=str)
    def test_an_empty_range_holds_nothing(self, backend: Backend, nonces: range) -> None:
        assert backend.scan(Work(GENESIS.header, MAX_TARGET), nonces) == []

    @pytest.mark.parametrize("nonce", [0, 1, MIDDLE - 1, MIDDLE, END - 2, END - 1])
    def test_one_nonce_is_a_range_too(self, backend: Backend, nonce: int) -> None:
        nonces = range(nonce, nonce + 1)
        assert backend.scan(Work(ROLLED.header, MAX_TARGET), nonces) == [Hit(nonce, ROLLED.hit.version)]
        assert backend.scan(Work(ROLLED.header, 0), nonces) == []

    @pytest.mark.parametrize("word", range(8))
    def test_the_whole_hash_is_compared(self, backend: Backend, word: int) -> None:
        for hit in (GENESIS.hit, GENESIS.hit._replace(nonce=5)):
            value, nonces = value_of(GENESIS.work, hit), range(hit.nonce, hit.nonce + 1)
            assert backend.scan(Work(GENESIS.header, value), nonces) == [hit]
            if value >= 1 << 32 * word:
                assert backend.scan(Work(GENESIS.header, value - (1 << 32 * word)), nonces) == []
            above = min(value + (1 << 32 * word), MAX_TARGET)
            assert backend.scan(Work(GENESIS.header, above), nonces) == [hit]

    def test_the_same_top_word_is_not_enough(self, backend: Backend) -> None:
        nonces = range(64)
        top = value_of(GENESIS.work, Hit(9, 1)) >> 224
        for target in (top << 224, (top << 224) + (1 << 223), ((top + 1) << 224) - 1):
            work = Work(GENESIS.header, target)
            assert backend.scan(work, nonces) == hits_of(work, nonces)

    @pytest.mark.parametrize("count", VERSION_COUNTS)
    @pytest.mark.parametrize("start", [0, END - 30])
    def test_every_version_is_scanned_and_named(self, backend: Backend, count: int, start: int) -> None:
        work = Work(random_header(count), EASY, random_versions(count, count))
        assert backend.scan(work, range(start, start + 30)) == hits_of(work, range(start, start + 30))

    @pytest.mark.parametrize("count", VERSION_COUNTS)
    def test_more_hits_than_any_buffer_holds_come_back_whole(self, backend: Backend, count: int) -> None:
        versions, nonces = random_versions(99, count), range(END - 1200 // count, END)
        hits = [Hit(nonce, version) for nonce in nonces for version in sorted(versions)]
        assert backend.scan(Work(SMALL.header, MAX_TARGET, versions), nonces) == hits

    def test_the_header_s_own_version_counts_only_if_it_is_among_the_versions(self, backend: Backend) -> None:
        others = (2, 0x20000000)
        assert GENESIS.hit.version not in others
        work = Work(GENESIS.header, GENESIS.work.target, others)
        nonce = GENESIS.hit.nonce
        assert backend.scan(work, range(nonce, nonce + 1)) == []

    @pytest.mark.parametrize("place", [0, 4, 35, 36, 63, 64, 67, 68, 71, 72, 75])
    def test_each_byte_of_the_header_counts(self, backend: Backend, place: int) -> None:
        header = bytearray(ROLLED.header)
        for _ in range(2):
            work = Work(bytes(header), EASY)
            assert backend.scan(work, range(40)) == hits_of(work, range(40))
            header[place] ^= 0x80

    def test_the_header_s_nonce_field_does_not_count(self, backend: Backend) -> None:
        other = Work(GENESIS.header[:76] + b"\xff\xff\xff\xff", EASY)
        assert backend.scan(other, range(60)) == hits_of(Work(GENESIS.header, EASY), range(60))

    def test_hits_are_a_list_of_hits_of_plain_ints(self, backend: Backend) -> None:
        hits = backend.scan(Work(GENESIS.header, EASY, (1, 2)), range(60))
        assert type(hits) is list
        assert hits
        assert {type(hit) for hit in hits} == {Hit}
        assert {type(item) for hit in hits for item in hit} == {int}

    def test_a_work_is_left_as_it_was(self, backend: Backend) -> None:
        header = bytes(bytearray(GENESIS.header))  # no constant that somebody else holds
        work = Work(header, EASY, (3, 1, 2))
        first = backend.scan(work, range(50))
        assert work == Work(GENESIS.header, EASY, (3, 1, 2))
        assert backend.scan(work, range(50)) == first

    def test_an_answer_may_be_changed_by_whoever_gets_it(self, backend: Backend) -> None:
        work = Work(GENESIS.header, EASY)
        first = backend.scan(work, range(50))
        expected = list(first)
        first.clear()
        assert backend.scan(work, range(50)) == expected

    def test_two_pieces_are_together_the_whole(self, backend: Backend) -> None:
        work = Work(random_header(5), EASY, (9, 8, 7))
        parts = backend.scan(work, range(100, 141)) + backend.scan(work, range(141, 180))
        assert parts == backend.scan(work, range(100, 180))

    def test_the_self_test_and_the_spot_check_pass(self, backend: Backend) -> None:
        self_test(backend)
        spot_check(backend)

    def test_it_says_its_name_and_how_many_versions_it_likes(self, backend: Backend) -> None:
        assert isinstance(backend.name, str)
        assert backend.name
        assert siblings_of(backend) >= 1


def check_close(backend: Backend) -> None:
    """Closing twice is no error; scanning afterwards is one."""
    backend.close()
    backend.close()
    with pytest.raises((ValueError, DeviceError)):
        backend.scan(Work(GENESIS.header, MAX_TARGET), range(10))
