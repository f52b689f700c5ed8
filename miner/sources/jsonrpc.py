"""JSON-RPC 1.0 over HTTP, as Bitcoin nodes speak it: one connection, every limit kept.

One request at a time. A request has one deadline for all of it, from the name
lookup to the last byte of the answer, and its answer a cap on its size; a
redirect is never followed; an answer of any other shape than JSON-RPC's is an
error in one sentence, with an excerpt in which no credentials are left.
"""

import base64
import http.client
import io
import itertools
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miner.errors import RemoteProtocolError, SourceError, SourceUnavailable
from miner.sources.connection import Endpoint, open_connection, reason
from miner.untrusted import excerpt, load_json

MAX_BODY = 64 << 20
"""Bytes of one answer. A template of 4 MB of transactions takes 8 MB and their hashes another 2."""

MAX_COOKIE = 4096

_PIECE = 1 << 16

_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)
"""Linux. Seen: bitcoind sends head and body of an answer apart and waits for the first to be acknowledged,
which a kept connection otherwise puts off by 40 ms."""


class RpcError(SourceError):
    """The node's own error object. `code`: see Bitcoin Core, rpc/protocol.h."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(f"error {code}: {text}")
        self.code, self.text = code, text


class Unauthorized(SourceUnavailable):
    """The node does not take our credentials."""


@dataclass(frozen=True)
class Credentials:
    """A name and a password, or the file in which a node leaves them each time it starts."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    cookie: Path | None = None

    def header(self) -> str:
        """The value of the Authorization header; Unauthorized if the cookie file cannot be used."""
        pair = self._from_cookie(self.cookie) if self.cookie is not None else f"{self.user}:{self.password}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    @staticmethod
    def _from_cookie(path: Path) -> str:
        try:
            with path.open("rb") as file:
                pair = file.read(MAX_COOKIE).decode().strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Unauthorized(f"the cookie file {path} cannot be read: {why}") from None
        if ":" not in pair:
            raise Unauthorized(f"the cookie file {path} holds no user:password")
        return pair


class RpcConnection:
    """One connection to one node, opened when needed and kept. Used by one thread at a time."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        max_body: int = MAX_BODY,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint, self._credentials = endpoint, credentials
        self._max_body, self._tls, self._clock = max_body, tls, clock
        self._socket: socket.socket | None = None
        self._header: str | None = None
        self._ids = itertools.count(1)
        self._busy = threading.Lock()
        self._closed = False
        self.opened = 0
        """How often a socket was opened: a node may have been replaced by another each time."""

    def call(self, method: str, *params: object, seconds: float) -> object:
        """The result, null included. RpcError is the node's; SourceError says what went wrong on the way."""
        with self._busy:
            try:
                return self._call(method, params, seconds)
            finally:
                if self._closed:
                    self._drop()

    def _call(self, method: str, params: tuple[object, ...], seconds: float) -> object:
        number = next(self._ids)
        request = {"jsonrpc": "1.0", "id": number, "method": method, "params": params}
        body, deadline = json.dumps(request).encode(), self._clock() + seconds
        try:
            status, raw, location = self._post(body, deadline)
            if status == 401 and self._credentials.cookie is not None:
                # A node that has restarted has written another cookie.
                self._header = None
                status, raw, location = self._post(body, deadline)
            return _result(status, raw, location, number)
        except TimeoutError:
            self._drop()
            raise SourceUnavailable(f"no answer to {method} in {seconds:.0f} s") from None
        except (OSError, ValueError) as error:
            self._drop()
            raise SourceUnavailable(f"the connection broke during {method}: {reason(error)}") from None
        except http.client.HTTPException as error:
            self._drop()
            said = self._scrubbed(f"{type(error).__name__} {excerpt(str(error))}")
            raise RemoteProtocolError(f"the answer to {method} is not HTTP: {said}") from None
        except RpcError as error:
            raise RpcError(error.code, self._scrubbed(error.text)) from None
        except SourceError as error:
            self._drop()
            raise type(error)(self._scrubbed(str(error))) from None

    def close(self) -> None:
        """Break off whatever is under way, from any thread; nothing can be called afterwards."""
        self._closed = True
        sock = self._socket
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if self._busy.acquire(blocking=False):  # else whoever is calling drops it
            self._drop()
            self._busy.release()

    def hang_up(self) -> None:
        """Close the socket, from the thread that called; another call would open a new one."""
        self._drop()

    def _drop(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _post(self, body: bytes, deadline: float) -> tuple[int, bytes, str]:
        kept = self._socket is not None
        try:
            return self._exchange(body, deadline)
        except TimeoutError:
            raise
        except (OSError, http.client.RemoteDisconnected):
            # A kept connection that the node closed between requests says nothing about the node.
            if not kept:
                raise
            self._drop()
            return self._exchange(body, deadline)

    def _exchange(self, body: bytes, deadline: float) -> tuple[int, bytes, str]:
        """Status, body, and where a redirect would lead."""
        if self._header is None:
            self._header = self._credentials.header()
        if self._socket is None:
            left = max(deadline - self._clock(), 0.001)
            self._socket = open_connection(self._endpoint, left, tls=self._tls, clock=self._clock)
            self.opened += 1
        if self._closed:
            raise SourceUnavailable("closed")
        self._socket.settimeout(max(deadline - self._clock(), 0.001))
        self._socket.sendall(self._head(len(body)) + body)
        reader = _Reader(self._socket, deadline, self._max_body, self._clock)
        response = http.client.HTTPResponse(reader)  # type: ignore[arg-type]  # it calls makefile alone
        response.begin()
        raw = _body(response, self._max_body)
        if response.will_close:
            self._drop()
        return response.status, raw, response.headers.get("Location", "")

    def _head(self, length: int) -> bytes:
        host = f"[{self._endpoint.host}]" if ":" in self._endpoint.host else self._endpoint.host
        lines = (
            f"POST {self._endpoint.path} HTTP/1.1",
            f"Host: {host}:{self._endpoint.port}",
            f"Authorization: {self._header}",
            "Content-Type: application/json",
            f"Content-Length: {length}",
            "",
            "",
        )
        return "\r\n".join(lines).encode("latin-1", "replace")

    def _scrubbed(self, text: str) -> str:
        """Without our credentials, should a server send them back."""
        basic = (self._header or "").removeprefix("Basic ")
        pair = base64.b64decode(basic).decode() if basic else ""
        for secret in (basic, pair.partition(":")[2], self._credentials.password):
            if len(secret) > 2:
                text = text.replace(secret, "***")
        return text


class _Reader(io.RawIOBase):
    """Reads a socket until a deadline, and so many bytes at most."""

    def __init__(self, sock: socket.socket, deadline: float, limit: int, clock: Callable[[], float]) -> None:
        self._sock, self._deadline, self._left, self._clock = sock, deadline, limit, clock

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client.HTTPResponse asks of a socket."""
        return io.BufferedReader(self, _PIECE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining)
        if _QUICK_ACK is not None:
            self._sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        count = self._sock.recv_into(buffer)
        self._left -= count
        if self._left < -_PIECE:  # the head of the answer is not part of the cap
            raise RemoteProtocolError("the answer is larger than the limit")
        return count


def _body(response: http.client.HTTPResponse, limit: int) -> bytes:
    lengths = response.headers.get_all("Content-Length", [])
    if len(set(lengths)) > 1 or not all(re.fullmatch("[0-9]{1,18}", length) for length in lengths):
        raise RemoteProtocolError(f"an answer of {excerpt(', '.join(lengths))} bytes")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise RemoteProtocolError(f"the answer is {excerpt(encoding)}-encoded, which was not asked for")
    if response.length is not None and response.length > limit:
        raise RemoteProtocolError(f"an answer of {response.length:,} bytes, above the limit of {limit:,}")
    raw = bytearray()
    # Piece by piece: http.client allocates what a chunk announces before any of it has come.
    while piece := response.read(_PIECE):
        raw += piece
        if len(raw) > limit:
            raise RemoteProtocolError(f"an answer of more than {limit:,} bytes")
    if response.length:
        raise ConnectionResetError(None, f"the answer ended {response.length} bytes early")
    return bytes(raw)


def _result(status: int, raw: bytes, location: str, number: int) -> object:
    """What the answer says. Its body counts before its status: nodes send errors as 500, or as 200."""
    if status in (401, 403):
        raise Unauthorized(f"the node refuses the credentials (HTTP {status})")
    if 300 <= status < 400:
        raise RemoteProtocolError(f"HTTP {status}, a redirect to {excerpt(location)}: not followed")
    if status != 200 and not raw.lstrip().startswith(b"{"):
        said = excerpt(raw[:200].decode("utf-8", "backslashreplace").strip()) or "an empty body"
        raise SourceUnavailable(f"HTTP {status}: {said}")
    reply = load_json(raw)
    if not isinstance(reply, dict):
        raise RemoteProtocolError(f"the answer is {excerpt(reply)}, not an object")
    error = reply.get("error")
    if error is not None and reply.get("result") is None:
        _raise(error)
    if error is not None or "result" not in reply:
        raise RemoteProtocolError(
            f"an answer with {'both' if error is not None else 'neither'} result and error"
        )
    # `type`: to Python True is 1, and 1.0 is too.
    if type(reply.get("id")) is not int or reply["id"] != number:
        raise RemoteProtocolError(f"an answer to request {excerpt(reply.get('id'))}, not to {number}")
    return reply["result"]


def _raise(error: object) -> None:
    if not isinstance(error, dict):
        raise RpcError(None, excerpt(error))
    code = error.get("code")
    raise RpcError(
        code if type(code) is int and abs(code) < 1 << 31 else None, excerpt(error.get("message"), 200)
    )
