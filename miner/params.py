"""Networks as data: what differs between the chains that this engine mines.

Every value of a public network is Bitcoin Core's (src/kernel/chainparams.cpp,
v28) unless the line says otherwise; the genesis hashes in the tests prove the
genesis blocks to the bit. `local` is ours alone: regtest's block format with
real retargeting, so that difficulty follows whatever device mines.
"""

from dataclasses import dataclass, field
from functools import cached_property

from miner.header import BlockHeader, sha256d
from miner.target import target_to_bits

COIN = 100_000_000
"""Satoshi in one bitcoin (Bitcoin Core, consensus/amount.h)."""

VERSION_MASK = 0x1FFF_E000
"""BIP 320: the 16 version bits that a miner may roll without signalling anything."""

NEVER = 2**31 - 1
"""A height that no chain reaches: Bitcoin Core's int32 heights end here."""


@dataclass(frozen=True)
class Params:
    """One network's rules and address prefixes. Heights say from which block on a rule holds."""

    name: str
    message_start: bytes
    """4 bytes that open every P2P message and block file record."""
    genesis: bytes = field(repr=False)
    """The whole first block, serialized."""
    pow_limit: int
    """The easiest target allowed."""
    spacing: int
    """Seconds between blocks that retargeting aims at."""
    retarget_interval: int
    """Blocks between changes of the target."""
    bip34_height: int
    """The coinbase starts with the height, and versions below 2 end."""
    bip66_height: int
    """Versions below 3 end."""
    bip65_height: int
    """Versions below 4 end."""
    csv_height: int
    """BIP 113: lock times are compared with the median time past."""
    segwit_height: int
    """BIP 141: witnesses, and the commitment to them in the coinbase."""
    subsidy_halving_interval: int
    """Blocks between halvings of the subsidy."""
    bech32_hrp: str
    """What segwit addresses start with, before the 1 (BIP 173)."""
    p2pkh_prefix: int
    """Version byte of base58 addresses that pay to a public key hash."""
    p2sh_prefix: int
    """Version byte of base58 addresses that pay to a script hash (BIP 13)."""
    no_retargeting: bool = False
    """Every block has its parent's target."""
    min_difficulty: bool = False
    """A block more than two spacings after its parent has the easiest target."""
    enforce_bip94: bool = False
    """BIP 94: retarget from the interval's first block, and no time warp at its start."""
    initial_subsidy: int = 50 * COIN
    """Satoshi that the first blocks create."""
    version_mask: int = VERSION_MASK
    """Version bits that a miner may roll on its own chain; a node or pool may grant fewer."""

    def __post_init__(self) -> None:
        if len(self.message_start) != 4:
            raise ValueError(f"message start has {len(self.message_start)} bytes, not 4")
        if min(self.spacing, self.subsidy_halving_interval) < 1 or self.retarget_interval < 2:
            raise ValueError("spacing and halving interval start at 1, the retarget interval at 2")

    @property
    def timespan(self) -> int:
        """Seconds that one retarget interval should take: two weeks on the main network."""
        return self.spacing * self.retarget_interval

    @cached_property
    def pow_limit_bits(self) -> int:
        """The easiest target, compact: difficulty 1 on the main network."""
        return target_to_bits(self.pow_limit)

    @cached_property
    def genesis_header(self) -> BlockHeader:
        """The first block's header."""
        return BlockHeader.parse(self.genesis[:80])


def _push(data: bytes) -> bytes:
    # Up to 75 bytes the length is the opcode; the message of testnet4 needs OP_PUSHDATA1.
    return (b"" if len(data) <= 75 else b"\x4c") + bytes([len(data)]) + data


def _genesis(message: str, script: bytes, time: int, bits: int, nonce: int) -> bytes:
    """The block of chainparams.cpp, CreateGenesisBlock: one coinbase that carries a headline."""
    # 486604799 is 1d00ffff, whatever the block's own bits are; then the number 4, then the message.
    script_sig = _push(bytes.fromhex("ffff001d")) + _push(b"\x04") + _push(message.encode())
    coinbase = (
        (1).to_bytes(4, "little")
        + b"\x01" + bytes(32) + b"\xff" * 4 + bytes([len(script_sig)]) + script_sig + b"\xff" * 4
        + b"\x01" + (50 * COIN).to_bytes(8, "little") + bytes([len(script)]) + script
        + bytes(4)
    )  # fmt: skip
    # One transaction: its hash is the merkle root.
    header = BlockHeader(1, bytes(32), sha256d(coinbase), time, bits, nonce)
    return bytes(header) + b"\x01" + coinbase


_OP_CHECKSIG = b"\xac"
_TIMES = "The Times 03/Jan/2009 Chancellor on brink of second bailout for banks"
_SATOSHI = _push(bytes.fromhex(
    "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb6"
    "49f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f"
)) + _OP_CHECKSIG  # fmt: skip
"""Pays to the public key of the first block."""

_ZERO_KEY = _push(bytes(33)) + _OP_CHECKSIG
"""BIP 94: pays to a key that does not exist."""

MAINNET = Params(
    name="mainnet",
    message_start=bytes.fromhex("f9beb4d9"),
    genesis=_genesis(_TIMES, _SATOSHI, 1231006505, 0x1D00FFFF, 2083236893),
    pow_limit=(1 << 224) - 1,
    spacing=600,
    retarget_interval=2016,  # nPowTargetTimespan / nPowTargetSpacing: two weeks of ten minutes
    bip34_height=227_931,
    bip66_height=363_725,
    bip65_height=388_381,
    csv_height=419_328,
    segwit_height=481_824,
    subsidy_halving_interval=210_000,
    bech32_hrp="bc",
    p2pkh_prefix=0,
    p2sh_prefix=5,
)

TESTNET3 = Params(
    name="testnet3",
    message_start=bytes.fromhex("0b110907"),
    genesis=_genesis(_TIMES, _SATOSHI, 1296688602, 0x1D00FFFF, 414098458),
    pow_limit=(1 << 224) - 1,
    spacing=600,
    retarget_interval=2016,
    min_difficulty=True,
    bip34_height=21_111,
    bip66_height=330_776,
    bip65_height=581_885,
    csv_height=770_112,
    segwit_height=834_624,
    subsidy_halving_interval=210_000,
    bech32_hrp="tb",
    p2pkh_prefix=111,
    p2sh_prefix=196,
)

TESTNET4 = Params(
    name="testnet4",
    message_start=bytes.fromhex("1c163f28"),  # BIP 94, Message Start
    genesis=_genesis(  # BIP 94, Genesis Block
        "03/May/2024 000000000000000000001ebd58c244970b3aa9d783bb001011fbe8ea8e98e00e",
        _ZERO_KEY,
        1714777860,
        0x1D00FFFF,
        393743547,
    ),
    pow_limit=(1 << 224) - 1,
    spacing=600,
    retarget_interval=2016,
    min_difficulty=True,  # BIP 94, 20-minute Exception Rule
    enforce_bip94=True,
    bip34_height=1,  # BIP 94: every rule of mainnet from block 1
    bip66_height=1,
    bip65_height=1,
    csv_height=1,
    segwit_height=1,
    subsidy_halving_interval=210_000,
    bech32_hrp="tb",
    p2pkh_prefix=111,
    p2sh_prefix=196,
)

_SIGNET_CHALLENGE = bytes.fromhex(
    "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be4"
    "30210359ef5021964fe22d6f8e05b2463c9540ce96883fe3b278760f048f5189f2e6c452ae"
)
"""The default challenge: a block is signed by one of two keys (BIP 325)."""

SIGNET = Params(
    name="signet",
    # BIP 325: the first four bytes of the double hash of the challenge, with its length before it.
    message_start=sha256d(_push(_SIGNET_CHALLENGE))[:4],
    genesis=_genesis(_TIMES, _SATOSHI, 1598918400, 0x1E0377AE, 52613770),
    pow_limit=0x377AE << 216,
    spacing=600,
    retarget_interval=2016,
    bip34_height=1,
    bip66_height=1,
    bip65_height=1,
    csv_height=1,
    segwit_height=1,
    subsidy_halving_interval=210_000,
    bech32_hrp="tb",
    p2pkh_prefix=111,
    p2sh_prefix=196,
)

REGTEST = Params(
    name="regtest",
    message_start=bytes.fromhex("fabfb5da"),
    genesis=_genesis(_TIMES, _SATOSHI, 1296688602, 0x207FFFFF, 2),
    pow_limit=(1 << 255) - 1,
    spacing=600,
    retarget_interval=144,  # nPowTargetTimespan is one day since v28; nothing retargets
    no_retargeting=True,
    min_difficulty=True,
    bip34_height=1,
    bip66_height=1,
    bip65_height=1,
    csv_height=1,
    segwit_height=0,
    subsidy_halving_interval=150,
    bech32_hrp="bcrt",
    p2pkh_prefix=111,
    p2sh_prefix=196,
)

LOCAL = Params(
    name="local",
    message_start=b"nfl1",
    genesis=_genesis(
        "Nonceforge 22/Nov/2026 the difficulty follows the device",
        _ZERO_KEY,
        1795305600,
        0x1E07FFFF,
        260036,
    ),
    pow_limit=(1 << 255) - 1,  # regtest's, so that retargeting can go down to any device
    spacing=2,
    retarget_interval=8,
    bip34_height=1,
    bip66_height=1,
    bip65_height=1,
    csv_height=1,
    segwit_height=0,
    subsidy_halving_interval=210_000,
    bech32_hrp="bcrt",
    p2pkh_prefix=111,
    p2sh_prefix=196,
)
"""Ours: see docs/decisions/0030. 1e07ffff is 2**21 hashes, about two seconds of plain Python."""

NETWORKS = {params.name: params for params in (MAINNET, TESTNET3, TESTNET4, SIGNET, REGTEST, LOCAL)}
"""Every network, by name."""


def network(name: str) -> Params:
    """The network called `name`; ValueError that lists the names if there is none."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}") from None
