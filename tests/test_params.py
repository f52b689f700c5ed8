"""Networks: their first blocks to the bit, and what makes `local` retarget."""

from dataclasses import FrozenInstanceError, replace

import pytest

from miner.block import Block
from miner.params import COIN, LOCAL, MAINNET, NETWORKS, REGTEST, SIGNET, TESTNET4, Params, network
from miner.rules import check_block
from miner.target import bits_to_target, expected_hashes, target_to_bits
from tests.real_data import mainnet_runs, real_blocks

GENESIS = {
    # Bitcoin Core, chainparams.cpp, hashGenesisBlock; ours for the last.
    "mainnet": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "testnet3": "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    "testnet4": "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
    "signet": "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
    "regtest": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
    "local": "0000074fbb21a10c956d4ebff153409ca208141f111fd111974a6bd7ac056bbd",
}

TESTNET4_GENESIS = (
    # BIP 94, Genesis Block: "the block hex is".
    "0100000000000000000000000000000000000000000000000000000000000000000000004e7b2b9128fe0291db0693af2a"
    "e418b767e657cd407e80cb1434221eaea7a07a046f3566ffff001dbb0c7817010100000001000000000000000000000000"
    "0000000000000000000000000000000000000000ffffffff5504ffff001d01044c4c30332f4d61792f3230323420303030"
    "30303030303030303030303030303030303165626435386332343439373062336161396437383362623030313031316662"
    "653865613865393865303065ffffffff0100f2052a01000000232100000000000000000000000000000000000000000000"
    "0000000000000000000000ac00000000"
)

every_network = pytest.mark.parametrize("params", NETWORKS.values(), ids=list(NETWORKS))


@every_network
def test_the_first_block_has_its_well_known_hash(params: Params) -> None:
    assert params.genesis_header.hash_hex == GENESIS[params.name]


@every_network
def test_the_first_block_is_whole_and_breaks_no_rule(params: Params) -> None:
    block = Block.parse(params.genesis)
    assert bytes(block) == params.genesis
    check_block(block, params)
    assert sum(output.value for output in block.transactions[0].outputs) == 50 * COIN


def test_the_first_block_of_mainnet_is_the_one_that_was_mined() -> None:
    real = next(block for block in real_blocks() if block.params is MAINNET and block.height == 0)
    assert real.raw == MAINNET.genesis
    assert mainnet_runs()[0].headers[0] == MAINNET.genesis[:80]


def test_the_first_block_of_testnet4_is_bip_94s() -> None:
    assert TESTNET4.genesis.hex() == TESTNET4_GENESIS


@every_network
def test_a_network_is_found_by_name(params: Params) -> None:
    assert network(params.name) is params


@pytest.mark.parametrize("name", ["", "main", "Mainnet", "testnet"])
def test_an_unknown_name_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="mainnet, testnet3, testnet4, signet, regtest, local"):
        network(name)


def test_no_two_networks_share_a_first_block_or_message_start() -> None:
    assert len({params.genesis for params in NETWORKS.values()}) == len(NETWORKS)
    assert len({params.message_start for params in NETWORKS.values()}) == len(NETWORKS)


def test_signets_message_start_comes_from_its_challenge() -> None:
    assert SIGNET.message_start.hex() == "0a03cf40"  # Bitcoin Core's default signet


def test_mainnet_aims_at_two_weeks_of_ten_minutes() -> None:
    assert MAINNET.timespan == 14 * 24 * 60 * 60
    assert MAINNET.pow_limit_bits == 0x1D00FFFF


@every_network
def test_the_first_block_is_within_the_limit(params: Params) -> None:
    assert bits_to_target(params.genesis_header.bits) <= params.pow_limit
    assert bits_to_target(params.pow_limit_bits) <= params.pow_limit


def test_local_is_regtests_format_with_a_target_that_moves() -> None:
    assert LOCAL.pow_limit == REGTEST.pow_limit
    assert not LOCAL.no_retargeting
    assert not LOCAL.min_difficulty
    assert LOCAL.timespan == 16


def test_local_starts_where_plain_python_needs_about_two_seconds() -> None:
    first = bits_to_target(LOCAL.genesis_header.bits)
    assert expected_hashes(first) == 2**21 + 4  # 1e07ffff is a little below 2**235
    assert target_to_bits(first) == 0x1E07FFFF


def test_a_networks_values_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        MAINNET.spacing = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [{"message_start": b"abc"}, {"spacing": 0}, {"retarget_interval": 1}, {"subsidy_halving_interval": 0}],
)
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"message start has 3 bytes|start at 1"):
        replace(MAINNET, **wrong)  # type: ignore[arg-type]
