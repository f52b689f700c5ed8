"""Mining for real nodes: a C++ bitcoind without segwit (Bitcoin SV 1.0.13) and bcoin 1.0.2 with it.

They are other people's software, started on regtest on loopback; `python -m tests.realnode fetch`
downloads them. What they were seen to do, and what the source makes of it, is tested here.
"""

import importlib.util
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fake_engine import FakeEngine, a_share, eventually, share_of
from realnode import DummyPeer, Node, RpcError, bcoin_node, bsv_bitcoind, missing

from miner.block import Block
from miner.header import BlockHeader, display_hex
from miner.sources import node_client
from miner.sources.connection import Endpoint
from miner.sources.jsonrpc import Credentials
from miner.sources.node_client import NodeLimits
from miner.sources.opening import open_node
from miner.sources.rpc import NodeSource, NodeTimes
from miner.template import Payout, TemplateJob, parse_template, previous_of, submission
from miner.transaction import Transaction, TxIn, TxOut
from miner.work import Job, Share

ANYONE = b"\x51"
"""OP_TRUE: an output that anybody may spend, so that the tests can make transactions without keys."""

PAYOUT = Payout(ANYONE, b"nonceforge")

NODES = {"bsv": bsv_bitcoind, "bcoin": bcoin_node}


def needs(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(missing(kind)), reason=f"{kind}: {missing(kind)}")


both = pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in NODES])


@pytest.fixture
def node(kind: str) -> Iterator[Node]:
    with NODES[kind]() as running:
        yield running


def url(node: Node, port: int | None = None) -> str:
    return f"http://{node.user}:{node.password}@127.0.0.1:{port or node.rpc_port}"


@contextmanager
def mining(node: Node, **options: object) -> Iterator[tuple[NodeSource, FakeEngine]]:
    where = Endpoint("http", "127.0.0.1", node.rpc_port), Credentials(node.user, node.password)
    source, engine = NodeSource([where], PAYOUT, **options), FakeEngine()
    source.start(engine)
    try:
        engine.job()
        yield source, engine
    finally:
        source.close()


def mine(source: NodeSource, engine: FakeEngine, count: int) -> list[Share]:
    """`count` accepted blocks, each on the newest job."""
    found: list[Share] = []
    for _ in range(count * 3):
        update = engine.updates()[-1]
        share = a_share(update.job)
        if source.submit(share).accepted:
            found.append(share)
        if len(found) == count:
            break
        engine.wait(lambda _, known=update: engine.updates()[-1] is not known)
    assert len(found) == count
    return found


def in_best_chain(node: Node, share: Share) -> bool:
    assert isinstance(share.work.job, Job)
    return node.rpc("getblockhash", share.work.job.height) == share.hash_hex


def spend(node: Node, block: Block) -> str:
    """Send on what the block's coinbase paid to anyone; the txid."""
    coinbase = block.transactions[0]
    value = coinbase.outputs[0].value
    outputs = (TxOut(value - 10_000, ANYONE),)
    transaction = Transaction(2, (TxIn(coinbase.txid, 0, b""),), outputs)
    return node.rpc("sendrawtransaction", bytes(transaction).hex(), True)


def template_job(node: Node) -> TemplateJob:
    return parse_template(node.rpc("getblocktemplate", {"rules": ["segwit"]})).job(PAYOUT, "test")


@both
def test_twenty_blocks_are_accepted_and_pay_whom_they_should(node):
    with mining(node) as (source, engine):
        shares = mine(source, engine, 20)
        assert all(in_best_chain(node, share) for share in shares)
        assert [block.hash for block in source.blocks] == [share.hash for share in shares]
        coinbase = raw_block(node, shares[-1].hash_hex).transactions[0]
        assert coinbase.outputs[0].script == ANYONE
        assert b"nonceforge" in coinbase.inputs[0].script


@both
def test_transactions_that_reach_the_node_are_mined(node):
    with mining(node, times=NodeTimes(refresh=0.3)) as (source, engine):
        shares = mine(source, engine, 101)
        sent = {spend(node, raw_block(node, share.hash_hex)) for share in shares[:2]}
        # Seen: Bitcoin SV takes 5.5 s to put a transaction into its template; bcoin waits for the next block.
        eventually(lambda: len(mine(source, engine, 1)) and sent <= mined_since(node, shares[-1]), 20)


def raw_block(node: Node, hash_hex: str) -> Block:
    return Block.parse(bytes.fromhex(node.rpc("getblock", hash_hex, 0 if node.kind == "bsv" else False)))


def mined_since(node: Node, share: Share) -> set[str]:
    """The ids of all transactions in blocks after this one."""
    height = node.rpc("getblockcount")
    blocks = [
        raw_block(node, node.rpc("getblockhash", h)) for h in range(share.work.job.height + 1, height + 1)
    ]
    return {display_hex(txid) for block in blocks for txid in block.txids}


@both
def test_a_block_from_elsewhere_replaces_the_job_within_fifty_milliseconds(node, monkeypatch):
    arrived: list[float] = []

    def noting(result: object) -> bytes | None:
        arrived.append(time.monotonic())
        return previous_of(result)

    monkeypatch.setattr(node_client, "previous_of", noting)
    with mining(node) as (_, engine):
        delays = []
        for number in range(30):
            time.sleep(0.03)  # until the next long poll waits at the node
            arrived.clear()
            job = template_job(node)
            node.rpc("submitblock", submission(share_of(job.work(number, job.time, (job.version,))))[0])
            engine.wait(lambda _, old=job.previous: engine.updates()[-1].job.previous != old)
            stopped = next(
                t for d, t in reversed(list(zip(engine.deliveries, engine.times, strict=True))) if d is None
            )
            if arrived:
                delays.append(stopped - arrived[-1])
        assert len(delays) > 15
        assert statistics.median(delays) < 0.05


@both
def test_submitblock_is_answered_while_a_long_poll_hangs_at_the_node(node):
    with mining(node) as (source, engine):
        time.sleep(0.2)
        took = []
        for _ in range(5):
            job = engine.updates()[-1].job
            share = a_share(job)
            began = time.monotonic()
            assert source.submit(share).accepted
            took.append(time.monotonic() - began)
            engine.wait(lambda _, old=job.previous: engine.updates()[-1].job.previous != old)
        assert statistics.median(took) < 0.1


@needs("bsv")
def test_a_cookie_is_read_and_a_restart_of_the_node_is_survived(tmp_path):
    times = NodeTimes(first_retry=0.05, last_retry=0.3)
    with bsv_bitcoind(cookie=True, datadir=tmp_path) as node:
        where = Endpoint("http", "127.0.0.1", node.rpc_port), Credentials(cookie=node.cookie_file)
        source, engine = NodeSource([where], PAYOUT, times=times, limits=NodeLimits()), FakeEngine()
        source.start(engine)
        engine.job()
        mine(source, engine, 3)
        peers = restart(node, peer=False)
        assert node.rpc("getblockcount") == 4
        # Without a peer it gives no template (-9); the source says so and waits.
        eventually(lambda: "has no peers" in str(source.status), 30)
        assert source.status.state == "waiting"
        peers += restart(node)
        try:
            eventually(lambda: source.status.state == "connected", 30)
            assert in_best_chain(node, mine(source, engine, 1)[0])
        finally:
            source.close()
            for peer in peers:
                peer.close()


@needs("bcoin")
def test_a_node_that_comes_back_with_an_empty_chain_is_mined_on():
    with bcoin_node() as node:
        times = NodeTimes(first_retry=0.05, last_retry=0.3)
        where = Endpoint("http", "127.0.0.1", node.rpc_port), Credentials(node.user, node.password)
        source, engine = NodeSource([where], PAYOUT, times=times), FakeEngine()
        source.start(engine)
        engine.job()
        mine(source, engine, 5)
        restart(node)
        engine.wait(lambda _: engine.updates()[-1].job.height == 1, 30)
        assert in_best_chain(node, mine(source, engine, 2)[-1])
        source.close()


def side_chain(node: Node, parent_height: int, count: int) -> list[str]:
    """Blocks beside the node's chain, from the one at this height on; the hashes."""
    parent = node.rpc("getblockheader", node.rpc("getblockhash", parent_height))
    raw = node.rpc("getblocktemplate", {"rules": ["segwit"]})
    previous, hashes = parent["hash"], []
    for height in range(parent_height + 1, parent_height + 1 + count):
        changes = {"previousblockhash": previous, "height": height, "transactions": []}
        raw.pop("default_witness_commitment", None)
        job = parse_template(raw | changes | {"coinbasevalue": 0}).job(Payout(ANYONE, b"elsewhere"), "side")
        share = share_of(job.work(height, job.time + height, (job.version,)))  # later than the median
        node.rpc("submitblock", submission(share)[0])
        previous = share.hash_hex
        hashes.append(previous)
    return hashes


@both
def test_a_reorganisation_is_followed_and_our_blocks_are_told_lost(node):
    with mining(node) as (source, engine):
        ours = mine(source, engine, 3)
        engine.wait(lambda _: engine.updates()[-1].job.previous == ours[-1].hash)
        base = ours[0].work.job.height - 1
        theirs = side_chain(node, base, 4)
        assert node.rpc("getbestblockhash") == theirs[-1]
        engine.wait(lambda _: display_hex(engine.updates()[-1].job.previous) == theirs[-1])
        eventually(lambda: [block.on_chain for block in source.blocks] == [False] * 3)
        assert in_best_chain(node, mine(source, engine, 2)[-1])


class Cutter:
    """A relay between source and node whose connections can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    node = socket.create_connection(("127.0.0.1", self._to))
                except OSError:  # it is being restarted
                    client.close()
                    continue
                self._pairs.append((client, node))
                for a, b in ((client, node), (node, client)):
                    threading.Thread(target=self._relay, args=(a, b), daemon=True).start()

    @staticmethod
    def _relay(here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError), here:
            while data := here.recv(65536):
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()


@both
def test_connections_that_are_cut_in_the_middle_do_not_stop_mining(node):
    relay = Cutter(node.rpc_port)
    source, engine = open_node(url(node, relay.port), PAYOUT), FakeEngine()
    source.start(engine)
    engine.job()
    try:
        for _ in range(4):
            mine(source, engine, 3)
            relay.cut()
        shares = mine(source, engine, 3)
        assert all(in_best_chain(node, share) for share in shares)
    finally:
        source.close()
        relay.close()


@needs("bcoin")
def test_a_witness_is_committed_to_once_segwit_is_active_and_not_before():
    with bcoin_node() as node:
        before = template_job(node)
        assert before.template.commitment is None
        assert (
            node.rpc("submitblock", submission(share_of(before.work(0, before.time, (before.version,))))[0])
            is None
        )
        node.rpc("generatetoaddress", 432, node.address)
        after = template_job(node)
        assert after.template.commitment is not None
        with mining(node) as (source, engine):
            share = mine(source, engine, 1)[0]
            assert in_best_chain(node, share)
            assert Block.parse(bytes.fromhex(submission(share)[0])).transactions[0].witnesses


@needs("bcoin")
def test_a_stale_cached_template_is_not_mined(caplog):
    with bcoin_node() as node, mining(node) as (source, engine):
        shares = mine(source, engine, 3)
        engine.wait(lambda _: engine.updates()[-1].job.previous == shares[-1].hash)
        node.rpc("invalidateblock", shares[-1].hash_hex)
        engine.wait(lambda got: got[-1] is None, 15)
        assert "not its best block" in caplog.text


@both
def test_wrong_credentials_end_the_run(node):
    source = open_node(f"http://u:wrong@127.0.0.1:{node.rpc_port}", PAYOUT)
    engine = FakeEngine()
    source.start(engine)
    engine.wait(lambda got: got)
    assert "refuses the credentials (HTTP 401)" in str(engine.deliveries[0])
    source.close()


@both
def test_a_bad_block_is_rejected_with_the_nodes_own_reason(node):
    with mining(node) as (source, engine):
        job = engine.job()
        least = node.rpc("getblocktemplate", {"rules": ["segwit"]})["mintime"]
        early = share_of(job.work(0, least - 1, (job.version,)))
        verdict = source.submit(early)
        assert (verdict.outcome, verdict.reason) == ("rejected", "time-too-old")
        assert BlockHeader.parse(early.header).time < job.time


# -- miner mine, as a user runs it -----------------------------------------------------------------------


class Miner:
    """The command as a process of its own, and what it prints."""

    def __init__(self, address: str, blocks: int) -> None:
        backend = "numba" if importlib.util.find_spec("numba") else "python"
        command = [sys.executable, "-m", "miner", "mine", address, "--script", ANYONE.hex(), "--json"]
        command += ["--blocks", str(blocks), "--backend", backend]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def verdicts(self) -> Iterator[dict]:
        """As they come, until the command ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "verdict":
                yield event

    def __enter__(self) -> "Miner":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ended_well(self, node: Node) -> None:
        _, said = self.process.communicate(timeout=30)
        assert (self.process.returncode, "Traceback" in said) == (0, False), said
        assert node.password not in said

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def held(node: Node, verdict: dict) -> bool:
    """Whether the node's best chain has the block of this verdict."""
    try:
        return node.rpc("getblockhash", verdict["height"]) == verdict["hash"]
    except RpcError:
        return False


@both
def test_two_hundred_blocks_by_the_command_are_all_in_the_nodes_chain_with_transactions_in_some(node):
    with mining(node) as (source, engine):
        ripe = mine(source, engine, 103)
    spent = [spend(node, raw_block(node, share.hash_hex)) for share in ripe[:2]]
    if node.kind == "bsv":
        eventually(lambda: len(node.rpc("getblocktemplate", {"rules": []})["transactions"]) == 2, 20)
    with Miner(url(node), 200) as miner:
        verdicts = list(miner.verdicts())
        miner.ended_well(node)
    assert {verdict["outcome"] for verdict in verdicts} <= {"accepted", "stale"}
    accepted = [verdict for verdict in verdicts if verdict["outcome"] == "accepted"]
    assert len(accepted) == 200
    assert all(held(node, verdict) for verdict in accepted)
    assert set(spent) <= mined_since(node, ripe[-1])


@both
def test_the_command_mines_on_through_a_cut_connection_a_reorganisation_and_a_restart(node):
    relay = Cutter(node.rpc_port)
    peers = []
    before_restart: list[dict] = []
    accepted: list[dict] = []
    try:
        with Miner(url(node, relay.port), 200) as miner:
            for verdict in miner.verdicts():
                assert verdict["outcome"] != "rejected", verdict
                if verdict["outcome"] != "accepted":
                    continue
                accepted.append(verdict)
                if len(accepted) == 50:
                    relay.cut()
                if len(accepted) == 100:
                    miner.pause()
                    theirs = side_chain(node, node.rpc("getblockcount") - 2, 4)
                    assert node.rpc("getbestblockhash") == theirs[-1]
                    miner.go_on()
                if len(accepted) == 150:
                    miner.pause()
                    before_restart = [v for v in accepted if held(node, v)]
                    peers += restart(node)
                    miner.go_on()
            miner.ended_well(node)
    finally:
        relay.close()
        for peer in peers:
            peer.close()
    assert len(accepted) == 200
    assert 100 < len(before_restart) <= 150  # the reorganisation cost a few
    assert sum(held(node, verdict) for verdict in accepted[150:]) > 30
    assert held(node, accepted[-1])


def restart(node: Node, *, peer: bool = True) -> list[DummyPeer]:
    """Stop it and start it again; bcoin comes back with an empty chain, since it keeps it in memory."""
    argv = node.proc.args
    node.stop()
    node.spawn(argv, {**os.environ, "NODE_BACKEND": "js"})
    node.wait_ready()
    if node.kind != "bsv" or not peer:
        return []
    port = next(word.removeprefix("-port=") for word in argv if word.startswith("-port="))
    return [DummyPeer(int(port), bytes.fromhex("dab5bffa"))]  # without a peer it gives no template


EXPORTED = {
    "bsv": pytest.param(lambda: bsv_bitcoind(prime=False), marks=needs("bsv"), id="bsv"),
    "bcoin": pytest.param(bcoin_node, marks=needs("bcoin"), id="bcoin"),
}


@pytest.mark.parametrize("start", EXPORTED.values())
def test_two_hundred_blocks_of_the_local_chain_are_accepted_by_a_real_node(start, tmp_path):
    miner = [sys.executable, "-m", "miner"]
    where = ["--network", "regtest", "--chain", str(tmp_path / "chain")]
    mined = subprocess.run(
        [*miner, "mine", *where, "--blocks", "200", "--backend", "python"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert mined.returncode == 0, mined.stderr
    export = subprocess.run([*miner, "chain", "export", *where], capture_output=True, text=True, check=True)
    blocks = export.stdout.split()
    assert len(blocks) == 200
    with start() as node:
        assert [node.rpc("submitblock", block) for block in blocks] == [None] * 200
        last = BlockHeader.parse(bytes.fromhex(blocks[-1])[:80])
        assert node.rpc("getbestblockhash") == last.hash_hex


@pytest.mark.parametrize("start", EXPORTED.values())
def test_the_kept_blocks_are_accepted_by_submitblock(start):
    kept = (Path(__file__).parent / "vectors" / "regtest_200_blocks.hex").read_text().split()
    with start() as node:
        assert {node.rpc("submitblock", block) for block in kept} == {None}
        last = BlockHeader.parse(bytes.fromhex(kept[-1])[:80])
        assert node.rpc("getbestblockhash") == last.hash_hex
