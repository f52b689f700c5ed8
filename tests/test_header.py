"""The 80 bytes, with Bitcoin's own headers as the vectors."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.header import BlockHeader, display_hex, from_display_hex, sha256d
from miner.params import VERSION_MASK
from tests.real_data import mainnet_runs, vectors

GENESIS = (
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b2"
    "7ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
GENESIS_HASH = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
GENESIS_COINBASE = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"

uint32 = st.integers(0, 2**32 - 1)
hash32 = st.binary(min_size=32, max_size=32)
headers = st.builds(BlockHeader, uint32, hash32, hash32, uint32, uint32, uint32)


def test_the_first_block_has_its_well_known_fields_and_hash() -> None:
    header = BlockHeader.from_hex(GENESIS)
    assert header.version == 1
    assert header.previous == bytes(32)
    assert display_hex(header.merkle_root) == GENESIS_COINBASE
    assert (header.time, header.bits, header.nonce) == (1231006505, 0x1D00FFFF, 2083236893)
    assert header.hash_hex == GENESIS_HASH


def test_the_hash_is_sha256_applied_twice() -> None:
    raw = bytes.fromhex(GENESIS)
    assert sha256d(raw) == hashlib.sha256(hashlib.sha256(raw).digest()).digest()
    assert BlockHeader.parse(raw).hash == sha256d(raw)


def test_every_real_header_survives_parsing_and_writing() -> None:
    for run in mainnet_runs():
        for raw in run.headers:
            assert bytes(BlockHeader.parse(raw)) == raw


def test_headers_with_rolled_version_bits_have_their_real_hashes() -> None:
    for entry in vectors("version_rolling"):
        header = BlockHeader.from_hex(entry["header"])
        assert header.version == int(entry["version"], 16)
        assert header.hash_hex == entry["hash"]
        assert header.version & VERSION_MASK == int(entry["rolled_bits"], 16) & VERSION_MASK


@given(headers)
def test_any_header_survives_both_forms(header: BlockHeader) -> None:
    assert BlockHeader.parse(bytes(header)) == header
    assert BlockHeader.from_hex(header.hex()) == header


@given(hash32)
def test_display_order_is_the_bytes_reversed_and_back(digest: bytes) -> None:
    assert bytes.fromhex(display_hex(digest)) == bytes(reversed(digest))
    assert from_display_hex(display_hex(digest)) == digest
    assert from_display_hex(display_hex(digest).upper()) == digest


NOT_A_HASH = ["", "0x" + "0" * 62, "0" * 63, "0" * 65, "g" * 64, " " + "0" * 63, "0 " * 32]


@pytest.mark.parametrize("text", NOT_A_HASH)
def test_a_hash_that_is_not_64_hex_digits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        from_display_hex(text)


@pytest.mark.parametrize("size", [0, 79, 81, 160])
def test_a_header_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"80 bytes, not {size}"):
        BlockHeader.parse(bytes(size))


@pytest.mark.parametrize(
    "text", ["", GENESIS[:-1], GENESIS + "0", GENESIS[:-2] + "zz", GENESIS[:-2] + "  ", GENESIS[:-2] + "é0"]
)
def test_a_header_that_is_not_160_hex_digits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="160 hex digits"):
        BlockHeader.from_hex(text)


@pytest.mark.parametrize("field", ["version", "time", "bits", "nonce"])
@pytest.mark.parametrize("value", [-1, 2**32])
def test_a_field_outside_uint32_is_refused_by_name(field: str, value: int) -> None:
    fields = {"version": 1, "previous": bytes(32), "merkle_root": bytes(32), "time": 0, "bits": 0, "nonce": 0}
    with pytest.raises(ValueError, match=f"{field} {value}"):
        BlockHeader(**{**fields, field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["previous", "merkle_root"])
def test_a_hash_of_31_bytes_is_refused_by_name(field: str) -> None:
    fields = {"version": 1, "previous": bytes(32), "merkle_root": bytes(32), "time": 0, "bits": 0, "nonce": 0}
    with pytest.raises(ValueError, match=f"{field} has 31 bytes"):
        BlockHeader(**{**fields, field: bytes(31)})  # type: ignore[arg-type]


@given(headers, uint32)
def test_another_nonce_changes_the_last_four_bytes_only(header: BlockHeader, nonce: int) -> None:
    changed = bytes(header.with_nonce(nonce))
    assert changed == bytes(header)[:76] + nonce.to_bytes(4, "little")
