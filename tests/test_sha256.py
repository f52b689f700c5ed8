"""FIPS 180-4 and NIST's Cryptographic Algorithm Validation Program hold the hash to its standard."""

import hashlib
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import sha256

# FIPS 180-4's examples (csrc.nist.gov, "Cryptographic Standards and Guidelines, Example Values", SHA256.pdf).
EXAMPLES = [
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (b"a" * 1000, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"),
]

# NIST CAVP, shabytetestvectors, SHA256ShortMsg.rsp (Len = 0, 8, 16, 24, 32, 40, 48, 56, 64).
SHORT = [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("d3", "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"),
    ("11af", "5ca7133fa735326081558ac312c620eeca9970d1e70a4b95533d956f072d1f98"),
    ("b4190e", "dff2e73091f6c05e528896c4c831b9448653dc2ff043528f6769437bc7b975c2"),
    ("74ba2521", "b16aa56be3880d18cd41e68384cf1ec8c17680c45a02b1575dc1518923ae8b0e"),
    ("c299209682", "f0887fe961c9cd3beab957e8222494abb969b1ce4c6557976df8b0f6d20e9166"),
    ("e1dc724d5621", "eca0a060b489636225b4fa64d267dabbe44273067ac679f20820bddc6b6a90ac"),
    ("06e076f5a442d5", "3fd877e27450e6bbd5d74bb82f9870c64c66e109418baa8e6bbcff355e287926"),
    ("5738c929c4f4ccb6", "963bb88f27f512777aab6c8b1a02c70ec0ad651d428f870036e1917120fb48bf"),
]


@pytest.mark.parametrize(("message", "digest"), EXAMPLES)
def test_the_examples_of_the_standard(message: bytes, digest: str) -> None:
    assert sha256.sha256(message).hex() == digest


@pytest.mark.parametrize(("message", "digest"), SHORT)
def test_nist_short_messages(message: str, digest: str) -> None:
    assert sha256.sha256(bytes.fromhex(message)).hex() == digest


def test_the_first_of_nist_s_long_messages() -> None:
    # NIST CAVP, SHA256LongMsg.rsp, Len = 1304.
    message = bytes.fromhex(
        "451101250ec6f26652249d59dc974b7361d571a8101cdfd36aba3b5854d3ae086b5fdd4597721b66e3c0dc5d8c606d96"
        "57d0e323283a5217d1f53f2f284f57b85c8a61ac8924711f895c5ed90ef17745ed2d728abd22a5f7a13479a462d71b56"
        "c19a74a40b655c58edfe0a188ad2cf46cbf30524f65d423c837dd1ff2bf462ac4198007345bb44dbb7b1c861298cdf61"
        "982a833afc728fae1eda2f87aa2c9480858bec"
    )
    assert sha256.sha256(message).hex() == "3c593aa539fdcdae516cdf2f15000f6634185c88f505b39775fb9ab137a10aa2"


@given(st.binary(max_size=300))
def test_every_message_hashes_as_hashlib_says(message: bytes) -> None:
    assert sha256.sha256(message) == hashlib.sha256(message).digest()


@pytest.mark.parametrize("length", [0, 55, 56, 63, 64, 119, 120])
def test_padding_fills_the_last_block_at_every_edge(length: int) -> None:
    assert (length + len(sha256.padding(length))) % 64 == 0
    assert sha256.sha256(bytes(length)) == hashlib.sha256(bytes(length)).digest()


def test_the_derived_constants_are_the_ones_printed_in_the_standard() -> None:
    # FIPS 180-4, 4.2.2 (first and last row) and 5.3.3.
    assert [f"{k:08x}" for k in sha256.K[:4]] == ["428a2f98", "71374491", "b5c0fbcf", "e9b5dba5"]
    assert [f"{k:08x}" for k in sha256.K[60:]] == ["90befffa", "a4506ceb", "bef9a3f7", "c67178f2"]
    assert "".join(f"{h:08x}" for h in sha256.H0) == (
        "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19"
    )


@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), st.integers(1, 31))
def test_an_array_is_hashed_element_by_element_as_ints_are(values: list[int], n: int) -> None:
    x, y, z = (np.array([v], np.uint32) for v in values)
    a, b, c = values
    for got, wanted in [
        (sha256.rotr(x, n), sha256.rotr(a, n)),
        (sha256.Ch(x, y, z), sha256.Ch(a, b, c)),
        (sha256.Maj(x, y, z), sha256.Maj(a, b, c)),
        (sha256.Sigma1(x), sha256.Sigma1(a)),
        (sha256.sigma0(x), sha256.sigma0(a)),
        (sha256.add(x, y, z, 2**32 - 1), sha256.add(a, b, c, 2**32 - 1)),
    ]:
        assert got.dtype == np.uint32
        assert got[0] == wanted < 2**32


def test_one_pass_compresses_many_blocks() -> None:
    block = np.random.default_rng(1).integers(0, 2**32, (16, 100), np.uint32)
    many = sha256.compress(sha256.H0, list(block))
    for lane in range(100):
        assert [int(w[lane]) for w in many] == list(sha256.compress(sha256.H0, block[:, lane].tolist()))


def test_the_schedule_is_made_only_as_far_as_it_is_asked_for() -> None:
    steps: list[int] = []
    words = sha256.schedule(range(16), note=lambda t, _: steps.append(t))
    list(islice(words, 18))
    assert steps == [16, 17]


def test_the_steps_can_be_watched() -> None:
    # FIPS 180-4's example for "abc": a and e after round 0 (SHA256.pdf).
    seen: dict[tuple[int, str], int] = {}
    block = sha256.words(b"abc" + sha256.padding(3))
    sha256.compress(sha256.H0, block, note=lambda t, ws: seen.update({(t, n): w for n, w in ws.items()}))
    assert seen[0, "a"] == 0x5D6AEBCD
    assert seen[0, "e"] == 0xFA2A4622
    assert seen[63, "W"] == 0x12B1EDEB
