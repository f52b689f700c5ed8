"""Stratum v1's parameters: every call of the pool's and every result, checked. No I/O.

The protocol was never written down as one document; each rule below names
where it comes from. Whatever is refused is RemoteProtocolError naming the part.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from miner.errors import RemoteProtocolError, RuleError
from miner.target import MAX_TARGET, bits_to_target, difficulty_to_target
from miner.untrusted import fields, hex_bytes, hex_uint32, listing, refuse, text, whole
from miner.work import MAX_EXTRANONCE_SIZE

MAX_COINBASE_PART = 1 << 19
"""Bytes; a line holds no more."""

MAX_EXTRANONCE1 = 64
"""Bytes; a coinbase script has 100 in all."""

MAX_BRANCH = 32
"""Levels of a merkle branch: 2**32 transactions."""

MAX_JOB_ID = 1 << 16
"""Characters; it is sent back with every share."""

MIN_DIFFICULTY = 2.0**-32
"""At about this difficulty every hash is a share."""


@dataclass(frozen=True, slots=True)
class Notify:
    """mining.notify, checked. Hashes in internal order."""

    job_id: str
    previous: bytes
    coinbase1: bytes
    coinbase2: bytes
    branch: tuple[bytes, ...]
    version: int
    bits: int
    time: int
    clean: bool


def parse_notify(params: object) -> Notify:
    """The nine parameters of mining.notify; the error names the one that is wrong."""
    given = listing(params, "mining.notify", 1000)
    if len(given) != 9:
        raise RemoteProtocolError(f"mining.notify has {len(given)} parameters, not 9")
    job_id, previous, coinbase1, coinbase2, branch, version, bits, time, clean = given
    if type(clean) is not bool:
        refuse("clean_jobs", clean, "true or false")
    return Notify(
        job_id=text(job_id, "job id", MAX_JOB_ID),
        previous=unswap(hex_bytes(previous, "prevhash", 32, 32)),
        coinbase1=hex_bytes(coinbase1, "coinb1", 1, MAX_COINBASE_PART),
        coinbase2=hex_bytes(coinbase2, "coinb2", 1, MAX_COINBASE_PART),
        branch=tuple(
            hex_bytes(item, "merkle branch", 32, 32) for item in listing(branch, "merkle branch", MAX_BRANCH)
        ),
        version=hex_uint32(version, "version"),
        bits=_bits(bits),
        time=hex_uint32(time, "ntime"),
        clean=clean,
    )


def unswap(words: bytes) -> bytes:
    """A hash as Stratum writes it, eight 32-bit words each byte-reversed, in internal order."""
    # Stratum inherited this from getwork, which sent the header as big-endian words.
    return b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))


def _bits(value: object) -> int:
    bits = hex_uint32(value, "nbits")
    try:
        bits_to_target(bits)
    except RuleError as error:
        raise RemoteProtocolError(f"nbits: {error.text}") from None
    return bits


class Subscription(NamedTuple):
    """What mining.subscribe gives."""

    extranonce1: bytes
    extranonce2_size: int
    session_id: str | None
    """With which the session may be resumed on another connection."""


def parse_subscription(result: object) -> Subscription:
    """The result of mining.subscribe: [subscriptions, extranonce1, extranonce2 size]."""
    given = listing(result, "the subscription", 100)
    if len(given) != 3:
        raise RemoteProtocolError(f"the subscription has {len(given)} items, not 3")
    subscriptions, *extranonce = given
    listing(subscriptions, "the list of subscriptions", 100)
    return Subscription(*parse_extranonce(extranonce), _session_id(subscriptions))


def _session_id(subscriptions: object) -> str | None:
    """The id beside "mining.notify": [["mining.notify", id], ...], or without the outer list."""
    if not isinstance(subscriptions, list):
        return None
    if len(subscriptions) == 2 and subscriptions[0] == "mining.notify":
        found = subscriptions[1]
        return found if isinstance(found, str) and len(found) <= 1000 else None
    return next((found for item in subscriptions if (found := _session_id(item)) is not None), None)


def parse_extranonce(params: object) -> tuple[bytes, int]:
    """mining.set_extranonce: extranonce1 and the size of extranonce2."""
    given = listing(params, "the extranonce", 100)
    if len(given) != 2:
        raise RemoteProtocolError(f"the extranonce has {len(given)} items, not 2")
    # 0 leaves the time and the version to roll, which is enough; above 8 nothing would be gained.
    size = whole(given[1], "extranonce2_size", 0, MAX_EXTRANONCE_SIZE)
    return hex_bytes(given[0], "extranonce1", 0, MAX_EXTRANONCE1), size


def _one(params: object, name: str) -> object:
    given = listing(params, name, 100)
    if not given:
        raise RemoteProtocolError(f"{name} has no parameter")
    return given[0]


def parse_difficulty(params: object) -> int:
    """mining.set_difficulty, as a target. Fractions are legal (seen: 2e-5)."""
    value = _one(params, "mining.set_difficulty")
    if type(value) not in (int, float) or not isinstance(value, int | float):
        refuse("the difficulty", value, "a number")
    if not MIN_DIFFICULTY <= value < 1 << 256:  # false for NaN too
        refuse("the difficulty", value, f"in {MIN_DIFFICULTY:.1e} ... 1e67")
    target = difficulty_to_target(float(value))
    if target == 0:
        refuse("the difficulty", value, "one that any hash can meet")
    return target


def parse_target(params: object) -> int:
    """mining.set_target: 64 hex digits, most significant first."""
    target = int.from_bytes(hex_bytes(_one(params, "mining.set_target"), "the target", 32, 32), "big")
    if target == 0:
        refuse("the target", target, f"in 1 ... {MAX_TARGET}")
    return target


def parse_mask(value: object) -> int:
    """BIP 310, TMask. Fewer than eight digits are taken too: pools print with %x."""
    digits = text(value, "the version mask", 8)
    return hex_uint32(digits.rjust(8, "0"), "the version mask")


def parse_version_mask(params: object) -> int:
    """mining.set_version_mask (BIP 310)."""
    return parse_mask(_one(params, "mining.set_version_mask"))


def parse_configured(result: object) -> int | None:
    """The version mask that mining.configure grants (BIP 310); None if versions are not to be rolled."""
    given = fields(result, "the configuration")
    # BIP 310: true, false, or a string with an error message.
    if given.get("version-rolling") is not True:
        return None
    return parse_mask(given.get("version-rolling.mask"))


class Redirect(NamedTuple):
    """client.reconnect: None means the same as now."""

    host: str | None
    port: int | None
    seconds: int


def parse_reconnect(params: object) -> Redirect:
    """client.reconnect: host, port and seconds to wait, each of which may be left out."""
    given: Sequence[object] = listing(params, "client.reconnect", 100)
    host, port, seconds = [*given[:3], *[None] * 3][:3]
    if isinstance(port, str) and re.fullmatch("[0-9]{1,5}", port):
        port = int(port)  # seen: pools send the port as text
    return Redirect(
        host=text(host, "the host", 255) or None if host is not None else None,
        port=None if port is None else whole(port, "the port", 1, 65535),
        seconds=0 if seconds is None else whole(seconds, "the delay", 0, 1 << 31),
    )
