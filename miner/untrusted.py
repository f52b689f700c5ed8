"""Reading what other programs send: bounded JSON, checked fields, text that is safe to print.

Whatever is refused is RemoteProtocolError, with one sentence that names the
field and quotes a bounded, printable excerpt of what was sent.
"""

import json
import reprlib
from collections.abc import Mapping
from typing import NoReturn

from miner.errors import RemoteProtocolError

MAX_JSON_VALUES = 2_000_000
"""Values in one message, at most: 200,000 transactions have fewer, and each costs up to 100 bytes."""

EXCERPT = 120
"""Characters of somebody else's text that are repeated in a message of ours."""

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


def excerpt(value: object, limit: int = EXCERPT) -> str:
    """At most about `limit` printable characters of any value; costs the same for any size of it."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    # isprintable is false for control characters, which would drive a terminal, and for bidi overrides.
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:limit]
    )
    return shown if len(text) <= limit else shown + "..."


def load_json(raw: bytes) -> object:
    """One JSON value; bounded in size, depth and number length. NaN and Infinity are not JSON."""
    # Counted before anything is built: a byte of "[[],[],..." becomes thirty of Python objects.
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_JSON_VALUES:
        raise RemoteProtocolError(f"a JSON text with more than {MAX_JSON_VALUES:,} values")
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_not_json)
    except RecursionError:
        raise RemoteProtocolError("a JSON text nested too deeply") from None
    except ValueError:  # not UTF-8, not JSON, or an integer of more than 4300 digits
        quoted = excerpt(raw[:EXCERPT].decode("utf-8", "backslashreplace"))
        raise RemoteProtocolError(f"not JSON: {quoted!r} ({len(raw)} bytes)") from None


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def refuse(name: str, value: object, wanted: str) -> NoReturn:
    """Raise RemoteProtocolError: the field, what it holds, what it should hold."""
    raise RemoteProtocolError(f"{name} is {excerpt(value)}, not {wanted}")


def fields(value: object, name: str) -> Mapping[str, object]:
    """A JSON object."""
    if not isinstance(value, dict):
        refuse(name, value, "an object")
    return value


def field(mapping: Mapping[str, object], key: str) -> object:
    """A field that must be there."""
    if key not in mapping:
        raise RemoteProtocolError(f"the field {key} is missing")
    return mapping[key]


def whole(value: object, name: str, low: int, high: int) -> int:
    """A whole number in low ... high."""
    # `type`, not isinstance: to Python True is an int, to JSON it is not; and 5.0 is not 5.
    if type(value) is not int or not low <= value <= high:
        refuse(name, value, f"a whole number in {low} ... {high}")
    return value


def text(value: object, name: str, limit: int) -> str:
    """A string of at most `limit` characters."""
    if not isinstance(value, str) or len(value) > limit:
        refuse(name, value, f"a string of at most {limit} characters")
    return value


def listing(value: object, name: str, limit: int) -> list[object]:
    """A list of at most `limit` items."""
    if not isinstance(value, list):
        refuse(name, value, "a list")
    if len(value) > limit:
        raise RemoteProtocolError(f"{name} has {len(value):,} items, above the limit of {limit:,}")
    return value


def hex_bytes(value: object, name: str, low: int, high: int) -> bytes:
    """Hex digits, in either case, of low ... high bytes and nothing else."""
    # bytes.fromhex alone would skip whitespace.
    if not isinstance(value, str) or len(value) % 2 or not _HEX_DIGITS.issuperset(value):
        refuse(name, value, "hex digits in pairs")
    if not low <= len(value) // 2 <= high:
        wanted = f"{low}" if low == high else f"{low} ... {high}"
        raise RemoteProtocolError(f"{name} has {len(value) // 2} bytes, not {wanted}: {excerpt(value)}")
    return bytes.fromhex(value)


def hex_uint32(value: object, name: str) -> int:
    """Eight hex digits, most significant first."""
    return int.from_bytes(hex_bytes(value, name, 4, 4), "big")


def hash_of(value: object, name: str) -> bytes:
    """A hash in display order, to 32 bytes in internal order."""
    return hex_bytes(value, name, 32, 32)[::-1]
