"""Reaching a node or pool: its address, a TCP or TLS connection to it, when to try again, how it is.

A password lives in `Endpoint` alone; it is in no name, repr, error or log line.
"""

import random
import socket
import ssl
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from miner.errors import SourceUnavailable
from miner.untrusted import excerpt

DEFAULT_PORTS = {"http": 8332, "https": 8332, "stratum+tcp": 3333, "stratum+ssl": 3334}
"""Bitcoin Core's RPC port on the main network, and what most pools use."""

TLS_SCHEMES = frozenset({"https", "stratum+ssl"})

Resolve = Callable[..., list[tuple[Any, ...]]]
"""socket.getaddrinfo, or what stands for it in a test."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node or pool is, and who we are there."""

    scheme: str
    host: str
    port: int
    path: str = "/"
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, schemes: Collection[str]) -> "Endpoint":
        """From scheme://[user[:password]@]host[:port][/path]; ValueError, which never quotes the password."""
        try:
            parts = urlsplit(url)
        except ValueError:  # its text quotes the password
            raise ValueError(
                "the address is none: brackets that do not match, or signs no host has"
            ) from None
        if parts.scheme not in schemes:
            wanted = " or ".join(f"{scheme}://" for scheme in sorted(schemes))
            raise ValueError(f"the address does not start with {wanted}")
        if "@" in parts.path + parts.query + parts.fragment:
            raise ValueError(
                "the address has an @ after a / ? or #: such a character in a password is written %2F"
            )
        try:
            host, port = parts.hostname, parts.port
        except ValueError:  # its text may hold what follows the colon: a part of the password
            raise ValueError("the address has a port that is not a number in 1 ... 65535") from None
        if not host or port == 0:
            raise ValueError(f"the address has no {'host' if not host else 'usable port'}")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], parts.path or "/", user, password)

    @property
    def name(self) -> str:
        """For people; without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{excerpt(host)}:{self.port}"

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted and the other side's certificate checked."""
        return self.scheme in TLS_SCHEMES

    def as_user(self, user: str, password: str) -> "Endpoint":
        """The same place for somebody else."""
        return replace(self, user=user, password=password)


class NothingListens(SourceUnavailable):
    """The host is there, and no program has that port open: whatever we had with it is over."""


_chance = random.Random().random  # not the global one: a program that embeds us may have seeded it


class Backoff:
    """How long to wait before the next attempt: twice as long each time, jittered, capped."""

    def __init__(self, first: float, most: float, chance: Callable[[], float] = _chance) -> None:
        """Seconds. `chance` gives numbers in 0 ... 1."""
        self._first, self._most, self._chance = first, most, chance
        self._failures = 0

    def next(self) -> float:
        """Between half and all of the delay, so that a thousand miners do not come back at once."""
        whole = min(self._first * 2.0 ** min(self._failures, 60), self._most)
        self._failures += 1
        return whole * (0.5 + self._chance() / 2)

    def reset(self) -> None:
        """It works again."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source is: for the live view."""

    state: str
    """connecting, connected, waiting (the other side is not ready), failed, closed."""
    sentence: str
    since: float
    """On the monotonic clock: when this state began."""
    difficulty: float | None = None
    """Of a share."""
    height: int | None = None

    def __str__(self) -> str:
        return self.sentence


def open_connection(
    endpoint: Endpoint,
    seconds: float,
    *,
    tls: ssl.SSLContext | None = None,
    resolve: Resolve = socket.getaddrinfo,
    clock: Callable[[], float] = time.monotonic,
) -> socket.socket:
    """A connected socket, within so many seconds over all of the host's addresses and the TLS handshake.

    SourceUnavailable in one sentence. `tls`: who to believe; by default the system's authorities.
    """
    deadline = clock() + seconds
    try:
        addresses = resolve(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceUnavailable(f"{endpoint.name} is not to be found: {reason(error)}") from None
    failures: list[str] = []
    refused = True
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = deadline - clock()
        if left <= 0:
            failures.append("no time left")
            break
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            # A silent address takes its part of the time, not that of the ones after it.
            sock.settimeout(left / (len(addresses) - number))
            sock.connect(address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _encrypted(sock, endpoint, max(deadline - clock(), 0.001), tls) if endpoint.tls else sock
        except OSError as error:
            if sock is not None:
                sock.close()
            failures.append(reason(error))
            refused = refused and isinstance(error, ConnectionRefusedError)
    kind_of_error = NothingListens if refused and failures else SourceUnavailable
    raise kind_of_error(f"cannot connect to {endpoint.name}: {', '.join(dict.fromkeys(failures))}")


def _encrypted(
    sock: socket.socket, endpoint: Endpoint, seconds: float, tls: ssl.SSLContext | None
) -> socket.socket:
    sock.settimeout(seconds)
    context = tls if tls is not None else ssl.create_default_context()
    try:
        return context.wrap_socket(sock, server_hostname=endpoint.host)
    except TimeoutError:
        raise OSError(None, "no answer to the TLS handshake: perhaps the port does not speak TLS") from None


def reason(error: Exception) -> str:
    """What went wrong on a connection, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted ({excerpt(error.verify_message)})"
    if isinstance(error, ssl.SSLError):
        wrong = error.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
        return "the port does not speak TLS" if wrong else f"TLS: {excerpt(error.reason or str(error))}"
    if isinstance(error, TimeoutError):
        return "no answer"
    return excerpt(
        (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    )
