"""A Stratum pool that obeys its protocol on loopback, and can be told not to.

It answers configure, subscribe (with resumption) and authorize, sends one job, and judges submits by
rebuilding the header. `replies` replaces what it says to a method: a function of the request that
returns the bytes to send.
"""

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from miner.header import sha256d
from miner.target import difficulty_to_target

TLS = Path(__file__).parent / "vectors" / "tls"
EASY = 2.0**-31
JOB = json.loads((Path(__file__).parent / "vectors" / "stratum_shares.json").read_text())[0]["notify"]


def line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


class Client:
    """One connection, as the pool sees it."""

    def __init__(self, pool: "FakePool", sock: socket.socket, number: int) -> None:
        self.pool, self.sock, self.number = pool, sock, number
        self.extranonce1 = f"{number:08x}"
        self.requests: list[dict[str, Any]] = []

    def send(self, *data: bytes) -> None:
        with suppress(OSError):
            self.sock.sendall(b"".join(data))

    def cut(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        with suppress(OSError, ValueError), self.sock, self.sock.makefile("rb") as reader:
            self.send(self.pool.greeting)
            for raw in reader:
                request = json.loads(raw)
                self.requests.append(request)
                with self.pool.arrived:
                    self.pool.arrived.notify_all()
                self.send(self.pool.answer(self, request))


class FakePool:
    """One pool; `with FakePool() as pool:`."""

    def __init__(self, *, tls: bool = False, port: int = 0, host: str = "127.0.0.1") -> None:
        self.tls, self.greeting = tls, b""
        self.replies: dict[str, Callable[[Client, dict[str, Any]], bytes]] = {}
        self.clients: list[Client] = []
        self.difficulty, self.mask = EASY, 0x1FFFE000
        self.job = list(JOB)
        self.seen: set[bytes] = set()
        self.sessions: dict[str, str] = {}  # session id -> extranonce1
        self.arrived = threading.Condition()
        self._closing = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, port), family=family)
        self.port = self._server.getsockname()[1]
        self._context = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "FakePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def client(self) -> Client:
        """The newest connection."""
        return self.clients[-1]

    @property
    def methods(self) -> list[str]:
        """What the newest connection has asked for."""
        return [request.get("method", "") for request in self.client.requests]

    def close(self) -> None:
        self._closing = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept, which keeps the port
        self._server.close()
        for client in self.clients:
            client.cut()

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock.settimeout(5)
                sock = self._context.wrap_socket(sock, server_side=True)
                sock.settimeout(None)
        except OSError:
            sock.close()
            return
        client = Client(self, sock, len(self.clients) + 1)
        self.clients.append(client)
        client.serve()

    # -- the protocol --------------------------------------------------------------------------------

    def answer(self, client: Client, request: dict[str, Any]) -> bytes:
        method = request.get("method", "")
        if method in self.replies:
            return self.replies[method](client, request)
        handler = getattr(self, "_" + method.removeprefix("mining.").replace(".", "_"), None)
        return handler(client, request) if handler is not None else b""

    def notify(self, **changes: object) -> bytes:
        """The next job, with parameters replaced by place: notify(p0="7")."""
        self.job = [changes.get(f"p{place}", value) for place, value in enumerate(self.job)]
        return line({"id": None, "method": "mining.notify", "params": self.job})

    def _configure(self, client: Client, request: dict[str, Any]) -> bytes:
        result = {"version-rolling": True, "version-rolling.mask": f"{self.mask:08x}"}
        return line({"id": request["id"], "result": result, "error": None})

    def _subscribe(self, client: Client, request: dict[str, Any]) -> bytes:
        asked = request["params"][1] if len(request["params"]) > 1 else ""
        client.extranonce1 = self.sessions.get(asked, client.extranonce1)
        session = f"s{client.number}"
        self.sessions[session] = client.extranonce1
        result = [[["mining.notify", session]], client.extranonce1, 4]
        difficulty = {"id": None, "method": "mining.set_difficulty", "params": [self.difficulty]}
        return line({"id": request["id"], "result": result, "error": None}) + line(difficulty)

    def _authorize(self, client: Client, request: dict[str, Any]) -> bytes:
        # As ckpool does: the job comes before the answer.
        return self.notify() + line({"id": request["id"], "result": True, "error": None})

    def _submit(self, client: Client, request: dict[str, Any]) -> bytes:
        error = self.judge(client, request["params"])
        return line({"id": request["id"], "result": error is None, "error": error})

    def judge(self, client: Client, params: list[str]) -> list[object] | None:
        _, job_id, extranonce2, time, nonce, *bits = params
        own_id, previous, coinbase1, coinbase2, branch, version, nbits, *_ = self.job
        if job_id != own_id:
            return [21, "Job not found", None]
        root = sha256d(bytes.fromhex(coinbase1 + client.extranonce1 + extranonce2 + coinbase2))
        for sibling in branch:
            root = sha256d(root + bytes.fromhex(sibling))
        swapped = b"".join(bytes.fromhex(previous)[i : i + 4][::-1] for i in range(0, 32, 4))
        rolled = int(version, 16)
        if bits:
            rolled = rolled & ~self.mask | int(bits[0], 16) & self.mask
        words = [int(word, 16).to_bytes(4, "little") for word in (time, nbits, nonce)]
        header = rolled.to_bytes(4, "little") + swapped + root + b"".join(words)
        if header in self.seen:
            return [22, "Duplicate", None]
        if int.from_bytes(sha256d(header), "little") > difficulty_to_target(self.difficulty):
            return [23, "Above target", None]
        self.seen.add(header)
        return None
