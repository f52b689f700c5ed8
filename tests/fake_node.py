"""A Bitcoin node that obeys its protocol on loopback, and can be told not to.

It keeps a chain of headers, serves templates of it, checks a submitted block's proof of work, parent
and merkle root, and answers long polls when the tip changes. `replies` replaces what it says to a
method; `Raw` is put on the wire as it is.
"""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miner.block import Block, merkle_root
from miner.header import display_hex, from_display_hex
from miner.target import bits_to_target

GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"  # regtest's
TEMPLATE = next(
    vector["template"]
    for vector in json.loads((Path(__file__).parent / "vectors" / "gbt.json").read_text())
    if vector["node"] == "bcoin" and vector["txs"] == 0
)


@dataclass
class Raw:
    """Bytes, or a function that is given the connection, instead of an answer."""

    data: bytes | Callable[[socket.socket], None]


class RpcFault(Exception):
    """An error object, with the HTTP status that it comes with."""

    def __init__(self, code: int, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class FakeNode:
    """One node; `with FakeNode() as node:`."""

    def __init__(self, *, genesis: str = GENESIS, port: int = 0) -> None:
        self.user, self.password = "u", "swordfish"
        self.chain = [from_display_hex(genesis)]
        self.calls: list[str] = []
        self.long_polls = self.most_long_polls = self.connections = 0
        self.replies: dict[str, Callable[..., object]] = {}
        self.template_changes: dict[str, Any] = {}
        self.submitted: list[bytes] = []
        self._changed = threading.Condition()
        self._closing = False
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.user}:{self.password}@127.0.0.1:{self.port}"

    def __enter__(self) -> "FakeNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closing = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept, which keeps the port
        self._server.close()
        self.cut()
        with self._changed:
            self._changed.notify_all()

    def cut(self) -> None:
        """Break every connection there is."""
        for sock in list(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # -- the chain -----------------------------------------------------------------------------------

    @property
    def tip(self) -> bytes:
        return self.chain[-1]

    def extend(self, *hashes: bytes, drop: int = 0) -> None:
        """A block from elsewhere; or a reorganisation that drops some first."""
        with self._changed:
            if drop:
                del self.chain[-drop:]
            self.chain += hashes
            self._changed.notify_all()

    def template(self) -> dict[str, Any]:
        now, tip = int(time.time()), display_hex(self.tip)
        own = {
            "previousblockhash": tip,
            "height": len(self.chain),
            "curtime": now,
            "mintime": now - 600,
            "maxtime": now + 7200,
            "expires": 3600,
            "longpollid": tip + "00000000",
        }
        template = TEMPLATE | own | self.template_changes
        return {key: value for key, value in template.items() if value is not ...}

    # -- methods -------------------------------------------------------------------------------------

    def getblockhash(self, height: int) -> str:
        if not 0 <= height < len(self.chain):
            raise RpcFault(-8, "Block height out of range")
        return display_hex(self.chain[height])

    def getbestblockhash(self) -> str:
        return display_hex(self.tip)

    def getblocktemplate(self, request: dict[str, Any]) -> object:
        if request.get("mode") == "proposal":
            return self._problem(bytes.fromhex(request["data"]), proof=False)
        if "segwit" not in request["rules"]:
            raise RpcFault(-8, "Client must support segwit.", 200)
        poll = request.get("longpollid")
        if poll is not None:
            self._wait_for_change(poll[:64])
        return self.template()

    def _wait_for_change(self, tip: str) -> None:
        with self._changed:
            self.long_polls += 1
            self.most_long_polls = max(self.most_long_polls, self.long_polls)
            # Like a real node it does not notice that the client is gone.
            self._changed.wait_for(lambda: self._closing or display_hex(self.tip) != tip)
            self.long_polls -= 1

    def submitblock(self, data: str, *_: object) -> object:
        raw = bytes.fromhex(data)
        self.submitted.append(raw)
        block = Block.parse(raw).header
        if block.hash in self.chain:
            return "duplicate"
        problem = self._problem(raw)
        if problem is None:
            self.extend(block.hash)
        return problem

    def _problem(self, raw: bytes, proof: bool = True) -> str | None:
        block = Block.parse(raw)
        if block.header.previous != self.tip:
            return "inconclusive-not-best-prevblk" if not proof else "inconclusive"
        if merkle_root(block.txids) != block.header.merkle_root:
            return "bad-txnmrklroot"
        if proof and int.from_bytes(block.header.hash, "little") > bits_to_target(block.header.bits):
            return "high-hash"
        return None

    # -- the wire ------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError, ValueError), sock, sock.makefile("rb") as reader:
            while not self._closing:
                head = self._head(reader)
                if head is None:
                    break
                body = json.loads(reader.read(int(head["content-length"])))
                self._answer(sock, head, body)
        self._open.discard(sock)

    @staticmethod
    def _head(reader: Any) -> dict[str, str] | None:
        first = reader.readline()
        if not first:
            return None
        lines = []
        while line := reader.readline().strip():
            lines.append(line.decode())
        return {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}

    def _answer(self, sock: socket.socket, head: dict[str, str], request: dict[str, Any]) -> None:
        self.calls.append(request["method"])
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if head.get("authorization") != f"Basic {pair}":
            sock.sendall(http(401, b""))
            return
        try:
            method = self.replies.get(request["method"]) or getattr(self, request["method"])
            result = method(*request["params"])
            if isinstance(result, Raw):
                if callable(result.data):
                    result.data(sock)
                else:
                    sock.sendall(result.data)
                return
            sock.sendall(reply(result, request["id"]))
        except RpcFault as fault:
            error = {"code": fault.code, "message": fault.message}
            sock.sendall(reply(None, request["id"], error, fault.status))


def http(status: int, body: bytes, *headers: str) -> bytes:
    """One HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def reply(result: object, id: object = 1, error: object = None, status: int = 200) -> bytes:
    """One JSON-RPC answer."""
    return http(status, json.dumps({"result": result, "error": error, "id": id}).encode())
