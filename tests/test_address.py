"""Addresses: every published one, and no other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.address import address_to_script, script_to_address
from miner.params import LOCAL, MAINNET, NETWORKS, REGTEST, SIGNET, TESTNET4, Params
from tests.real_data import vectors

ADDRESSES = vectors("addresses")
P2PKH = "76a914a31c06bd463e3923bc1aadbde48b16976c08071788ac"

hash20 = st.binary(min_size=20, max_size=20)
scripts = st.one_of(
    hash20.map(lambda digest: b"\x76\xa9\x14" + digest + b"\x88\xac"),
    hash20.map(lambda digest: b"\xa9\x14" + digest + b"\x87"),
    hash20.map(lambda digest: b"\x00\x14" + digest),
    st.binary(min_size=32, max_size=32).map(lambda digest: b"\x00\x20" + digest),
    st.tuples(st.integers(0x51, 0x60), st.binary(min_size=2, max_size=40)).map(
        lambda parts: bytes([parts[0], len(parts[1])]) + parts[1]
    ),
)
networks = st.sampled_from(list(NETWORKS.values()))


@pytest.mark.parametrize("entry", ADDRESSES["valid"], ids=lambda entry: entry["address"])
def test_a_published_address_pays_to_its_script_and_back(entry: dict[str, Any]) -> None:
    params = NETWORKS[entry["network"]]
    script = address_to_script(entry["address"], params)
    assert script.hex() == entry["script"]
    assert script_to_address(script, params) in (entry["address"], entry["address"].lower())


@pytest.mark.parametrize("entry", ADDRESSES["valid"], ids=lambda entry: entry["address"])
def test_a_published_address_is_refused_on_networks_with_other_prefixes(entry: dict[str, Any]) -> None:
    other = MAINNET if entry["network"] != "mainnet" else TESTNET4
    with pytest.raises(ValueError, match=f"not for {other.name}"):
        address_to_script(entry["address"], other)


@pytest.mark.parametrize("entry", ADDRESSES["invalid"], ids=lambda entry: entry["address"])
@pytest.mark.parametrize("params", [MAINNET, TESTNET4, REGTEST], ids=lambda params: params.name)
def test_a_published_non_address_is_refused(entry: dict[str, Any], params: Params) -> None:
    with pytest.raises(ValueError, match=r"^address '"):
        address_to_script(entry["address"], params)


@given(networks, scripts)
def test_any_payable_script_survives_the_round_trip(params: Params, script: bytes) -> None:
    address = script_to_address(script, params)
    assert address is not None
    assert address_to_script(address, params) == script


@given(networks, scripts, st.data())
def test_one_wrong_character_is_always_noticed(params: Params, script: bytes, data: st.DataObject) -> None:
    address = script_to_address(script, params)
    assert address is not None
    at = data.draw(st.integers(0, len(address) - 1))
    character = data.draw(
        st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != address[at])
    )
    with pytest.raises(ValueError, match=r"^address ['\"]"):
        address_to_script(address[:at] + character + address[at + 1 :], params)


@given(st.text(max_size=100))
def test_any_other_text_is_refused_with_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^address [^\n]+$"):
        address_to_script(text, MAINNET)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "address '' is not 1 ... 90 ASCII characters"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "wrong checksum: a character is mistyped or missing"),
        ("1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mp", "wrong checksum: a character is mistyped or missing"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3tb", "holds 'b', which no bech32 address does"),
        ("bc1", "is too short"),
        (
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
            "is for testnet3 or testnet4 or signet, not for mainnet",
        ),
        ("ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9", "starts with none of bc1 bcrt1 tb1"),
        # Made for this test: five bytes and a whole group of zeros after them, with a right checksum.
        ("bc1pw508d6qeqrg3l96", "holds no witness program"),
        ("1" * 91, "is not 1 ... 90 ASCII characters"),
        ("1" * 90, "wrong checksum"),
        ("bc1qW508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "mixes upper and lower case"),
        (" 1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mo", "is not base58"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        address_to_script(text, MAINNET)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        # Bitcoin Core, key_io_valid.json: published, so no secrets.
        "5JuW2AMDYu4xVwRG9DZW18VbzQrGcd5RCgb99sS6ehJsNQXu5b9",
        "L5nJeqKmpHp4P7F8ZYyjwc5a7P4d8EabuGAzfGJk7yC1BJyzNaEd",
        "cV83kKisF3RQSvXbUCm9ox3kaz5JjEUBWcx8tNydfGJcyeUxuH47",
    ],
)
def test_a_private_key_given_by_mistake_is_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="private key") as caught:
        address_to_script(key, MAINNET)
    assert key not in str(caught.value)


def test_an_address_of_an_unheard_of_version_is_for_an_unknown_network() -> None:
    # 30 is Dogecoin's version byte.
    with pytest.raises(ValueError, match="is for a network unknown here"):
        address_to_script("DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L", MAINNET)


def test_networks_that_share_prefixes_share_addresses() -> None:
    address = script_to_address(bytes.fromhex(P2PKH), SIGNET)
    assert address == script_to_address(bytes.fromhex(P2PKH), LOCAL)


@pytest.mark.parametrize(
    "script",
    [
        "",
        "6a0568656c6c6f",  # data
        "51",
        P2PKH[:-2],
        P2PKH[:-4] + "0088ac",
        "a914" + "00" * 21 + "87",
        "00" * 25,
        "00" * 23,
        P2PKH + "00",
        "41" + "04" * 65 + "ac",  # pay to a public key has no address
        "0013" + "00" * 19,  # version 0 takes 20 or 32 bytes
        "5129" + "00" * 41,
        "5101" + "00",
        "6102" + "0000",
        "5003" + "000000",
        "5103" + "0000",  # the push does not fill the script
    ],
)
def test_a_script_of_no_payable_kind_has_no_address(script: str) -> None:
    assert script_to_address(bytes.fromhex(script), MAINNET) is None
