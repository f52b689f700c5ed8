"""Payout addresses to output scripts and back: base58check, bech32 (BIP 173) and bech32m (BIP 350).

Nothing is guessed or mended: an address is right to the last character, or it
is a ValueError with one sentence. Coins sent to a wrong script are lost.
"""

from collections.abc import Iterable

from miner.header import sha256d
from miner.params import NETWORKS, Params

MAX_LENGTH = 90
"""BIP 173: characters in a bech32 string. Base58 addresses are shorter."""

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
"""BIP 173, Checksum: the generator of the BCH code."""

_BECH32_CHECK = 1
_BECH32M_CHECK = 0x2BC830A3
"""BIP 350: what a valid string's checksum comes to."""

_PRIVATE_KEYS = (128, 239)
"""Version bytes of private keys, main and test networks (Bitcoin Core, chainparams.cpp, SECRET_KEY)."""

_OP_1 = 0x51
_P2PKH = bytes.fromhex("76a914"), bytes.fromhex("88ac")
"""OP_DUP OP_HASH160 <20 bytes> OP_EQUALVERIFY OP_CHECKSIG."""
_P2SH = bytes.fromhex("a914"), bytes.fromhex("87")
"""BIP 16: OP_HASH160 <20 bytes> OP_EQUAL."""


def address_to_script(text: str, params: Params) -> bytes:
    """The output script that pays to an address of the network `params`.

    ValueError with one sentence for anything else, an address of another network included.
    """
    shown = repr(text[:MAX_LENGTH])
    if not (text.isascii() and 1 <= len(text) <= MAX_LENGTH):
        raise ValueError(f"address {shown} is not 1 ... {MAX_LENGTH} ASCII characters")
    # A known prefix decides: "not base58" is no help to someone who mistyped a bech32 address.
    hrp = text.lower().rpartition("1")[0]
    if hrp in {network.bech32_hrp for network in NETWORKS.values()} | {params.bech32_hrp}:
        return _segwit_script(text, shown, hrp, params)
    return _base58_script(text, shown, params)


def script_to_address(script: bytes, params: Params) -> str | None:
    """The address that pays to `script`, or None if it is of no kind that has one."""
    for (head, tail), prefix in ((_P2PKH, params.p2pkh_prefix), (_P2SH, params.p2sh_prefix)):
        if len(script) == len(head) + 20 + len(tail) and script.startswith(head) and script.endswith(tail):
            return _to_base58(bytes([prefix]) + script[len(head) : len(head) + 20])
    if len(script) < 4 or script[1] != len(script) - 2:
        return None
    version = script[0] - _OP_1 + 1 if script[0] else 0
    if not 0 <= version <= 16 or not _fits(version, len(script) - 2):
        return None
    values = [version, *_to_fives(script[2:])]
    return (
        params.bech32_hrp + "1" + "".join(_BECH32[v] for v in values + _checksum(params.bech32_hrp, values))
    )


def _wrong_network(shown: str, fits: Iterable[Params], params: Params) -> ValueError:
    names = [network.name for network in fits]
    theirs = " or ".join(names) if names else "a network unknown here"
    return ValueError(f"address {shown} is for {theirs}, not for {params.name}")


# Base58check: a version byte, 20 bytes, and the first 4 bytes of their double hash, as one number.


def _base58_script(text: str, shown: str, params: Params) -> bytes:
    payload = _from_base58(text, shown)
    prefix, digest = payload[0], payload[1:]
    if prefix in _PRIVATE_KEYS and len(digest) in (32, 33):
        raise ValueError("that is a private key, not an address: show it to nobody")  # nor repeat it here
    if len(digest) != 20:
        raise ValueError(f"address {shown} holds {len(digest)} bytes, not the 20 of a payment address")
    for (head, tail), ours in ((_P2PKH, params.p2pkh_prefix), (_P2SH, params.p2sh_prefix)):
        if prefix == ours:
            return head + digest + tail
    fits = (network for network in NETWORKS.values() if prefix in (network.p2pkh_prefix, network.p2sh_prefix))
    raise _wrong_network(shown, fits, params)


def _from_base58(text: str, shown: str) -> bytes:
    number = 0
    for character in text:
        if character not in _BASE58:
            prefixes = " ".join(sorted({network.bech32_hrp + "1" for network in NETWORKS.values()}))
            raise ValueError(f"address {shown} is not base58 and starts with none of {prefixes}")
        number = number * 58 + _BASE58.index(character)
    # Each leading 1 is a leading zero byte, which the number does not show.
    zeros = len(text) - len(text.lstrip("1"))
    raw = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload, check = raw[:-4], raw[-4:]
    if not payload or sha256d(payload)[:4] != check:
        raise ValueError(f"address {shown} has a wrong checksum: a character is mistyped or missing")
    return payload


def _to_base58(payload: bytes) -> str:
    raw = payload + sha256d(payload)[:4]
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


# Bech32: a prefix, "1", the witness version and program in groups of 5 bits, a checksum of 30 bits.


def _segwit_script(text: str, shown: str, hrp: str, params: Params) -> bytes:
    # BIP 173: "Decoders MUST NOT accept strings where some characters are uppercase and some are lowercase".
    if text not in (text.lower(), text.upper()):
        raise ValueError(f"address {shown} mixes upper and lower case")
    data = text.lower()[len(hrp) + 1 :]
    for character in data:
        if character not in _BECH32:
            raise ValueError(f"address {shown} holds {character!r}, which no bech32 address does")
    values = [_BECH32.index(character) for character in data]
    if len(values) < 7:
        raise ValueError(f"address {shown} is too short: a witness version and 6 check characters are needed")
    version, program = values[0], _from_fives(values[1:-6])
    # BIP 350: version 0 is bech32, versions 1 to 16 are bech32m.
    if _polymod(hrp, values) != _check_of(version):
        raise ValueError(f"address {shown} has a wrong checksum: a character is mistyped or missing")
    if version > 16 or program is None or not _fits(version, len(program)):
        raise ValueError(f"address {shown} holds no witness program of version 0 ... 16 (BIP 173)")
    if hrp != params.bech32_hrp:
        fits = (network for network in NETWORKS.values() if network.bech32_hrp == hrp)
        raise _wrong_network(shown, fits, params)
    return bytes([_OP_1 + version - 1 if version else 0, len(program)]) + program


def _fits(version: int, size: int) -> bool:
    # BIP 141: a program has 2 to 40 bytes; that of version 0 has 20 (a key's hash) or 32 (a script's).
    return size in (20, 32) if version == 0 else 2 <= size <= 40


def _check_of(version: int) -> int:
    return _BECH32M_CHECK if version else _BECH32_CHECK


def _polymod(hrp: str, values: Iterable[int]) -> int:
    """BIP 173: the remainder of the prefix and the values, modulo the generator."""
    expanded = [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]
    check = 1
    for value in (*expanded, *values):
        top = check >> 25
        check = (check & 0x1FF_FFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATOR):
            check ^= generator if top >> i & 1 else 0
    return check


def _checksum(hrp: str, values: list[int]) -> list[int]:
    remainder = _polymod(hrp, [*values, 0, 0, 0, 0, 0, 0]) ^ _check_of(values[0])
    return [remainder >> 5 * (5 - i) & 31 for i in range(6)]


def _to_fives(program: bytes) -> list[int]:
    """The bits in groups of five, the highest first, zeros at the end."""
    count = (8 * len(program) + 4) // 5
    number = int.from_bytes(program, "big") << 5 * count - 8 * len(program)
    return [number >> 5 * (count - 1 - i) & 31 for i in range(count)]


def _from_fives(values: list[int]) -> bytes | None:
    """The bytes in groups of five bits; None if what is left over is not padding."""
    size, padding = divmod(5 * len(values), 8)
    number = sum(value << 5 * i for i, value in enumerate(reversed(values)))
    # BIP 173: "Any incomplete group at the end MUST be 4 bits or less, MUST be all zeroes".
    if padding > 4 or number & (1 << padding) - 1:
        return None
    return (number >> padding).to_bytes(size, "big")
