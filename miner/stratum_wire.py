"""Stratum v1 on the wire: bytes to lines to messages, and what an answer says. No I/O.

A connection carries JSON objects, one a line. One with a `method` is a call
(a notification if its id is null), any other is the answer to a call of ours.
Whatever is refused is RemoteProtocolError.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from miner.errors import RemoteProtocolError
from miner.untrusted import excerpt, fields, load_json, text
from miner.work import Outcome

MAX_LINE = 1 << 20
"""Bytes; the coinbase of a pool that pays thousands of miners directly takes a few hundred thousand."""

_TLS_RECORD = (0x15, 0x16)  # RFC 8446, 5.1: alert, handshake


class Lines:
    """Cuts what arrives into lines; holds one unfinished line of at most MAX_LINE bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every line that is complete by now, without its end. RemoteProtocolError where it goes wrong."""
        if data and not self._started:
            self._started = True
            if data[0] in _TLS_RECORD:
                raise RemoteProtocolError("the port speaks TLS, not plain Stratum: use stratum+ssl://")
        *complete, last = data.split(b"\n")
        for piece in complete:
            self._append(piece)
            line, self._rest = bytes(self._rest), bytearray()
            yield line
        self._append(last)

    def _append(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > MAX_LINE:
            raise RemoteProtocolError(f"a line of more than {MAX_LINE:,} bytes")
        self._rest += piece


class Call(NamedTuple):
    """A request of the pool's, or a notification: then the id is None."""

    id: object
    method: str
    params: object


class Answer(NamedTuple):
    """What the pool says to a request of ours."""

    id: object
    result: object
    error: object
    reject_reason: object


def parse_message(line: bytes) -> Call | Answer | None:
    """What a line says; None for a blank one."""
    if not line.strip():
        return None
    message = fields(load_json(line), "a message")
    if "method" in message:
        return Call(message.get("id"), text(message["method"], "method", 100), message.get("params", []))
    if "id" not in message:
        raise RemoteProtocolError("a message has neither method nor id")
    return Answer(message["id"], message.get("result"), message.get("error"), message.get("reject-reason"))


def encode(message: dict[str, object]) -> bytes:
    """One line. ASCII, as the oldest pools expect."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Ruling(NamedTuple):
    """What the pool says of a share, whatever shape it said it in."""

    outcome: Outcome
    reason: str
    code: int | None


STALE, UNAUTHORIZED, NOT_SUBSCRIBED = 21, 24, 25

_CODES = {
    20: "other",
    21: "stale",
    22: "duplicate",
    23: "low difficulty",
    24: "unauthorized",
    25: "not subscribed",
}
"""The error codes of the first pool's documentation (slush, 2012), which all others kept."""

_STALE_WORDS = re.compile(r"stale|(invalid|unknown|old) ?job|job[ _]?(id)? not found", re.IGNORECASE)


def rule(answer: Answer) -> Ruling:
    """Accepted only for `true` without an error; else one reason out of a dozen shapes."""
    if answer.result is True and answer.error is None:
        return Ruling(Outcome.ACCEPTED, "", None)
    code, words = _complaint(answer.error)
    if not words and isinstance(answer.reject_reason, str):
        words = excerpt(answer.reject_reason)
    if not words and code is not None:
        words = _CODES.get(code, f"error {code}")
    stale = code == STALE or _STALE_WORDS.search(words)
    nothing = "no reason given" if answer.result is False else f"the answer is {excerpt(answer.result)}"
    return Ruling(Outcome.STALE if stale else Outcome.REJECTED, words or nothing, code)


def _complaint(error: object, depth: int = 3) -> tuple[int | None, str]:
    """The code and the text of [21, "x", null], [21], "x", 21, {"code": 21, "message": "x"}, or inside."""
    if isinstance(error, dict):
        error = [error.get("code"), error.get("message"), error.get("error")]
    if not isinstance(error, list):
        error = [error]
    code = next((item for item in error[:3] if type(item) is int and abs(item) < 1 << 31), None)
    words = next((excerpt(item) for item in error[:3] if isinstance(item, str) and item), "")
    inner = next((item for item in error[:3] if isinstance(item, list | dict)), None)
    if code is None and not words and inner is not None and depth:
        return _complaint(inner, depth - 1)
    return code, words
