"""The node source against a fake node on loopback: what goes right, and every way it goes wrong.

What the template's fields alone decide is in test_template.py, under the same case names; what real
nodes do is in test_real_nodes.py.
"""

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from fake_engine import FakeEngine, a_share, eventually
from fake_node import FakeNode, Raw, RpcFault, http, reply
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miner.errors import RemoteProtocolError, SourceError, SourceUnavailable
from miner.sources import node_client
from miner.sources.connection import Backoff, Endpoint
from miner.sources.jsonrpc import Credentials, RpcConnection, RpcError, Unauthorized
from miner.sources.node_client import NodeLimits
from miner.sources.opening import open_node
from miner.sources.rpc import NodeSource, NodeTimes
from miner.template import Payout
from miner.work import Outcome, Share

SCRIPT = bytes.fromhex("76a914" + "11" * 20 + "88ac")
PASSWORD = "swordfish"
QUICK = NodeTimes(
    tip=0.03, refresh=0.5, least=0.1, pace=0.01, first_retry=0.02, last_retry=0.1, blind=0.4, submit=3.0,
    fail_back=0.2,
)  # fmt: skip
LIMITS = NodeLimits(call_seconds=2.0)


def node_of(node: FakeNode) -> tuple[Endpoint, Credentials]:
    return Endpoint("http", "127.0.0.1", node.port), Credentials(node.user, node.password)


@contextmanager
def mining(
    *nodes: FakeNode, times: NodeTimes = QUICK, limits: NodeLimits = LIMITS, payout: Payout | None = None
) -> Iterator[tuple[NodeSource, FakeEngine]]:
    source = NodeSource(
        [node_of(node) for node in nodes], payout or Payout(SCRIPT), limits=limits, times=times
    )
    engine = FakeEngine()
    source.start(engine)
    try:
        yield source, engine
    finally:
        source.close()


@contextmanager
def connected(node: FakeNode, **options: object) -> Iterator[RpcConnection]:
    connection = RpcConnection(*node_of(node), **options)
    try:
        yield connection
    finally:
        connection.hang_up()


def mine(source: NodeSource, engine: FakeEngine, count: int) -> None:
    """Mine `count` blocks as the engine would: each on the newest job."""
    done = 0
    for _ in range(count * 4):
        if done == count:
            return
        update = engine.updates()[-1]
        verdict = source.submit(a_share(update.job))
        done += verdict.accepted
        seen = len(engine.updates())
        engine.wait(
            lambda _, known=update, seen=seen: (
                engine.updates()[-1] is not known or len(engine.updates()) > seen
            )
        )
    assert done == count


def block_hash(number: int) -> bytes:
    return number.to_bytes(32, "little")


@pytest.fixture(autouse=True)
def no_line_holds_a_secret_or_a_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        text = record.getMessage()
        assert PASSWORD not in text
        assert record.exc_info is None, text
        assert text.isprintable()
        assert len(text) < 600


def logged(caplog: pytest.LogCaptureFixture, word: str) -> int:
    return sum(word in record.getMessage() for record in caplog.records)


def test_blocks_are_mined_one_after_the_other_with_one_long_poll_at_a_time():
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        mine(source, engine, 20)
        assert len(node.chain) == 21
        assert node.most_long_polls == 1
        assert source.status.state == "connected"
        assert source.status.height == 21 or source.status.height == 20
        assert [block.on_chain for block in source.blocks] == [True] * 20


def test_the_source_is_named_without_credentials():
    with FakeNode() as node:
        source = open_node(node.url, Payout(SCRIPT))
        assert source.name == node.address
        assert PASSWORD not in repr(source) + str(vars(source))


def test_credentials_come_from_the_address_or_a_cookie_or_the_environment(tmp_path):
    cookie = tmp_path / ".cookie"
    cookie.write_text("u:swordfish")
    variables = {"MINER_USER": "u", "MINER_PASSWORD": PASSWORD}
    with FakeNode() as node:
        for source in (
            open_node(node.url, Payout(SCRIPT)),
            open_node(node.address, Payout(SCRIPT), cookie=cookie),
            open_node(node.address, Payout(SCRIPT), environ=variables),
        ):
            engine = FakeEngine()
            source.start(engine)
            engine.job()
            source.close()


def test_a_new_tip_elsewhere_replaces_the_job_at_once_and_cleanly():
    with FakeNode() as node, mining(node, times=replace(QUICK, tip=60)) as (_, engine):
        engine.job()
        eventually(lambda: node.long_polls == 1)
        began = time.monotonic()
        node.extend(block_hash(1))
        engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(1))
        assert time.monotonic() - began < 5  # by the long poll, as the tip is looked at once a minute
        assert engine.updates()[-1].clean


def test_the_devices_leave_the_old_tip_before_the_new_template_is_proposed():
    with FakeNode() as node, mining(node) as (_, engine):
        engine.job()
        node.replies["getblocktemplate"] = lambda request: (
            (time.sleep(0.2) if "mode" in request else None) or node.getblocktemplate(request)
        )
        node.extend(block_hash(1))
        engine.wait(lambda got: got[-1] is None)
        engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(1))


def test_the_devices_leave_the_old_tip_before_a_large_template_is_parsed(monkeypatch):
    parse = node_client.parse_template
    with FakeNode() as node, mining(node, times=replace(QUICK, tip=60)) as (_, engine):
        engine.job()
        eventually(lambda: node.long_polls == 1)
        parsing = threading.Event()

        def slow(*args: object, **options: object) -> object:
            engine.wait(lambda got: got[-1] is None)  # it is told before the parsing is over
            parsing.set()
            return parse(*args, **options)

        monkeypatch.setattr(node_client, "parse_template", slow)
        node.extend(block_hash(1))
        assert parsing.wait(10)
        engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(1))


def test_two_miners_on_one_node_search_different_headers():
    with FakeNode() as node, mining(node) as (_, one), mining(node) as (_, other):
        assert one.job().coinbase(0) != other.job().coinbase(0)


def test_submitblock_is_answered_while_a_long_poll_hangs():
    with FakeNode() as node, mining(node) as (source, engine):
        job = engine.job()
        eventually(lambda: node.long_polls == 1)
        began = time.monotonic()
        assert source.submit(a_share(job)).accepted
        assert time.monotonic() - began < 1.0  # the real nodes' test measures; this one would hang


def test_close_returns_within_a_second_whatever_is_under_way():
    with FakeNode() as node, mining(node) as (source, engine):
        job = engine.job()
        eventually(lambda: node.long_polls == 1)
        node.replies["submitblock"] = lambda *_: Raw(lambda _: time.sleep(5))
        submitting = threading.Thread(target=source.submit, args=(a_share(job),))
        submitting.start()
        eventually(lambda: "submitblock" in node.calls)
        began = time.monotonic()
        source.close()
        assert time.monotonic() - began < 1.0
        submitting.join(2)
        assert not submitting.is_alive()
        assert source.status.state == "closed"


# -- hostile nodes; the cases' names are those of the hostile-input list ---------------------------------


def survives(source: NodeSource, engine: FakeEngine, node: FakeNode) -> None:
    """Once the node is mended, mining goes on."""
    node.replies.clear()
    node.template_changes.clear()
    before = len(node.chain)
    eventually(lambda: engine.deliveries and engine.deliveries[-1] is not None)
    eventually(lambda: source.submit(a_share(engine.updates()[-1].job, before)).accepted)


GARBAGE = {
    "n01 not JSON": http(200, b"<html>hello</html>"),
    "n01 truncated JSON": http(200, b'{"result": {"height": 1'),
    "n01 an empty body": http(200, b""),
    "n02 a list": http(200, b"[]"),
    "n02 a string": http(200, b'"x"'),
    "n02 a number": http(200, b"7"),
    "n02 null": http(200, b"null"),
    "n03 no result and no error": http(200, b'{"id": 1}'),
    "n03 both": http(200, b'{"id": 1, "result": {}, "error": {"code": 1}}'),
    "n04 another id": reply({}, id=987654),
    "n04 true as id": reply({}, id=True),
    "n31 work queue": http(500, b"Work queue depth exceeded"),
    "n31 unavailable": http(503, b""),
    "n31 no such method": reply(None, 1, {"code": -32601, "message": "Method not found"}, 404),
    "n31 not allowed": http(405, b"JSONRPC server handles only POST requests"),
    "n33 two lengths": b"HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    "n33 a negative length": b"HTTP/1.1 200 X\r\nContent-Length: -5\r\n\r\n12345",
    "n33 too small a length": b'HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n{"result": null}',
    "n33 a huge length": b"HTTP/1.1 200 X\r\nContent-Length: 99999999999999\r\n\r\n{}",
    "n33 a huge chunk": b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n{}",
    "n33 a header of a megabyte": b"HTTP/1.1 200 X\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "n33 headers without end": b"HTTP/1.1 200 X\r\n" + b"X: y\r\n" * 20_000,
    "n33 no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "n34 a redirect": http(301, b"", "Location: http://evil.example/"),
    "n34 a redirect to a file": http(307, b"", "Location: file:///etc/passwd"),
    "n15 a compressed body": http(200, b"\x1f\x8b" + bytes(50), "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
def test_n01_to_n34_a_bad_answer_is_one_line_and_mining_begins_when_it_is_mended(answer, caplog):
    with FakeNode() as node:
        node.replies["getblocktemplate"] = lambda _: Raw(lambda sock: (sock.sendall(answer), sock.close()))
        with mining(node) as (source, engine):
            eventually(lambda: logged(caplog, f"{node.address}: "))
            assert source.status.state == "failed"
            assert engine.deliveries == []
            survives(source, engine, node)


def test_g5_n34_a_redirect_is_not_followed_and_says_where_it_would_lead(caplog):
    with FakeNode() as node, FakeNode() as other:
        there = http(307, b"", f"Location: {other.address}/")
        node.replies["getblockhash"] = lambda _: Raw(there)
        with mining(node):
            eventually(lambda: logged(caplog, f"a redirect to {other.address}/: not followed"))
        assert other.connections == 0


def test_n01_n06_a_bad_template_later_leaves_the_old_one_if_its_parent_is_still_the_tip(caplog):
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        node.template_changes["height"] = "5"
        eventually(lambda: logged(caplog, "height is 5"))
        assert None not in engine.deliveries
        survives(source, engine, node)


def test_n06_a_bad_template_on_a_new_tip_idles_the_devices(caplog):
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        node.template_changes["bits"] = "00000000"
        node.extend(block_hash(7))
        eventually(lambda: logged(caplog, "bits 00000000"))
        engine.wait(lambda got: got[-1] is None)
        survives(source, engine, node)


def test_n11_a_disagreement_of_bits_and_target_is_warned_of_once(caplog):
    with FakeNode() as node:
        node.template_changes["target"] = "00" + "ff" * 31
        with mining(node) as (_, engine):
            assert engine.job().target == (1 << 248) - 1
            eventually(lambda: node.calls.count("getblocktemplate") > 6)
        assert logged(caplog, "disagree") == 1


def test_n12_the_largest_target_floods_nobody():
    with FakeNode() as node:
        node.template_changes |= {"bits": "2100ffff", "target": "ffff" + "00" * 30}
        with mining(node) as (source, engine):
            engine.job()
            mine(source, engine, 5)
            assert node.calls.count("submitblock") == 5


def test_n15_a_body_above_the_cap_is_refused_and_the_cap_is_a_setting(caplog):
    with FakeNode() as node:
        node.template_changes["padding"] = "x" * 300_000
        with mining(node, limits=replace(LIMITS, max_body=100_000)):
            eventually(lambda: logged(caplog, "above the limit of 100,000"))


def test_n15_a_body_without_end_is_refused_at_the_cap(caplog):
    def endless(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            for _ in range(10_000):
                sock.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")

    with FakeNode() as node:
        node.replies["getblocktemplate"] = lambda _: Raw(endless)
        with mining(node, limits=replace(LIMITS, max_body=100_000)):
            eventually(lambda: logged(caplog, "more than 100,000") or logged(caplog, "larger than the limit"))


def test_n16_an_unknown_rule_is_not_mined_under(caplog):
    with FakeNode() as node:
        node.template_changes["rules"] = ["csv", "!quantum"]
        with mining(node) as (source, engine):
            eventually(lambda: logged(caplog, "!quantum"))
            assert engine.deliveries == []
            survives(source, engine, node)


def test_n19_a_rule_that_the_node_asks_for_is_added_once():
    asked = []

    def demanding(request: dict) -> object:
        if "rules" in request:
            asked.append(request["rules"])
            if "taproot" not in request["rules"]:
                raise RpcFault(-8, "getblocktemplate must be called with the taproot rule set", 200)
        return node.getblocktemplate(request)

    with FakeNode() as node:
        node.replies["getblocktemplate"] = demanding
        with mining(node) as (_, engine):
            engine.job()
            eventually(lambda: len(asked) > 3)
    assert asked[:3] == [["segwit"], ["segwit", "taproot"], ["segwit", "taproot"]]


def test_n19_a_rule_that_is_never_enough_is_no_endless_loop(caplog):
    def never(_: dict) -> object:
        raise RpcFault(-8, "Client must support segwit.", 200)

    with FakeNode() as node:
        node.replies["getblocktemplate"] = never
        with mining(node, times=replace(QUICK, first_retry=5.0)):
            eventually(lambda: logged(caplog, "must support segwit"))
            assert node.calls.count("getblocktemplate") < 5


def test_n22_a_template_that_has_expired_is_replaced_no_faster_than_the_least_interval():
    with FakeNode() as node:
        node.template_changes["expires"] = 0
        with mining(node, times=replace(QUICK, refresh=60, tip=0.01, least=0.2)) as (_, engine):
            engine.job()
            before = node.calls.count("getblocktemplate")
            time.sleep(0.7)
            assert 2 <= node.calls.count("getblocktemplate") - before <= 8  # a proposal each, at most


def test_n23_a_flood_of_new_tips_is_answered_with_the_newest():
    with FakeNode() as node, mining(node) as (_, engine):
        engine.job()
        for number in range(200):
            node.extend(block_hash(number + 1), drop=number % 2)
            time.sleep(0.002)
        engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(200))
        assert node.most_long_polls == 1
        assert len(engine.updates()) < 200


def test_n24_a_template_on_another_block_than_the_tip_is_warned_of_and_not_mined(caplog):
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        stale = node.template()
        node.replies["getblocktemplate"] = lambda request: (
            stale if "longpollid" not in request else Raw(lambda _: time.sleep(3))
        )
        node.extend(block_hash(1))
        engine.wait(lambda got: got[-1] is None)
        eventually(lambda: logged(caplog, "which is not its best block"))
        survives(source, engine, node)


@pytest.mark.parametrize("value", [..., "", 5, "x" * 10_000])
def test_n25_without_a_usable_long_poll_id_ordinary_polls_do(value):
    with FakeNode() as node:
        node.template_changes["longpollid"] = value
        with mining(node) as (_, engine):
            engine.job()
            node.extend(block_hash(1))
            engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(1))
            assert node.most_long_polls == 0


def test_n25_long_polls_that_are_answered_at_once_with_nothing_new_are_asked_ever_less():
    with FakeNode() as node:
        fixed = node.template()
        node.replies["getblocktemplate"] = lambda request: None if "mode" in request else fixed
        with mining(node, times=replace(QUICK, refresh=60)) as (_, engine):
            engine.job()
            time.sleep(0.8)
            assert node.calls.count("getblocktemplate") < 15
            assert len(engine.updates()) == 1


def test_n26_work_is_renewed_while_a_long_poll_never_answers():
    with FakeNode() as node:
        node._wait_for_change = lambda _: time.sleep(3)
        with mining(node, times=replace(QUICK, refresh=0.1)) as (_, engine):
            first = engine.job()
            node.extend(block_hash(1))
            engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(1))
            assert engine.updates()[-1].job is not first


def test_n27_a_node_that_was_left_and_taken_up_again_still_has_one_long_poll():
    with FakeNode() as first, FakeNode() as second, mining(first, second) as (source, engine):
        engine.job()
        eventually(lambda: first.long_polls == 1)
        first.replies["getbestblockhash"] = lambda: 5  # the long poll is well; the rest is not
        eventually(lambda: source.status.state == "connected" and str(second.port) in str(source.status))
        first.replies.clear()
        eventually(lambda: source.status.state == "connected" and str(first.port) in str(source.status))
        time.sleep(0.3)
        assert first.most_long_polls == 1


def test_n27_a_long_poll_that_broke_off_is_not_asked_again_before_the_tip_changes():
    with FakeNode() as node, mining(node) as (_, engine):
        engine.job()
        eventually(lambda: node.long_polls == 1)
        node.cut()  # the clients' side is gone; like a real bitcoind, the node waits on
        polls = node.calls.count("getblocktemplate")
        eventually(lambda: node.calls.count("getblocktemplate") > polls)  # ordinary polls go on
        time.sleep(0.3)
        assert (node.long_polls, node.most_long_polls) == (1, 1)
        node.extend(block_hash(1))
        eventually(lambda: engine.updates()[-1].job.previous == block_hash(1) and node.long_polls == 1)
        assert node.most_long_polls == 1


def test_n26_n27_a_long_poll_past_its_deadline_is_given_up_and_not_repeated():
    with FakeNode() as node, mining(node, limits=replace(LIMITS, long_poll_seconds=0.1)) as (_, engine):
        engine.job()
        time.sleep(0.6)
        assert node.most_long_polls == 1


def test_n28_refused_credentials_end_the_run_with_one_clear_line():
    with FakeNode() as node:
        source = NodeSource(
            [(node_of(node)[0], Credentials("u", "wrong-" + PASSWORD))], Payout(SCRIPT), times=QUICK
        )
        engine = FakeEngine()
        source.start(engine)
        engine.wait(lambda got: got and isinstance(got[-1], SourceError))
        assert isinstance(engine.deliveries[-1], SourceUnavailable)
        assert str(engine.deliveries[-1]) == f"{node.address}: the node refuses the credentials (HTTP 401)"
        source.close()


def test_n28_credentials_that_are_refused_later_are_tried_again_slowly(caplog):
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        node.password = "changed"
        eventually(lambda: logged(caplog, "refuses the credentials"))
        assert not any(isinstance(delivery, SourceError) for delivery in engine.deliveries)
        node.password = PASSWORD
        survives(source, engine, node)


def test_n29_a_cookie_that_a_restart_has_changed_is_read_again(tmp_path, caplog):
    cookie = tmp_path / ".cookie"
    with FakeNode() as node:
        source = NodeSource([(node_of(node)[0], Credentials(cookie=cookie))], Payout(SCRIPT), times=QUICK)
        engine = FakeEngine()
        source.start(engine)
        eventually(lambda: logged(caplog, "No such file"))  # seen: absent while the node starts
        cookie.write_text(f"u:{PASSWORD}\n")
        engine.job()
        node.user, node.password = "__cookie__", "another-" + PASSWORD
        cookie.write_text(f"__cookie__:another-{PASSWORD}")
        assert source.submit(a_share(engine.updates()[-1].job)).accepted
        source.close()


@pytest.mark.parametrize("content", [None, "", "no colon", "u:wrong"])
def test_n29_a_cookie_that_stays_useless_ends_the_run(tmp_path, content):
    cookie = tmp_path / ".cookie"
    if content is not None:
        cookie.write_text(content)
    with FakeNode() as node:
        source = NodeSource([(node_of(node)[0], Credentials(cookie=cookie))], Payout(SCRIPT), times=QUICK)
        engine = FakeEngine()
        source.start(engine)
        engine.wait(lambda got: got and isinstance(got[-1], SourceUnavailable))
        assert "cookie" in str(engine.deliveries[-1]) or "credentials" in str(engine.deliveries[-1])
        source.close()


def test_n29_a_cookie_file_that_may_not_be_read_is_named(tmp_path):
    with pytest.raises(Unauthorized, match="cannot be read"):
        Credentials(cookie=tmp_path).header()  # a folder: what root may not read either


def test_n30_a_node_that_knows_nothing_yet_is_waited_for_too():
    def not_ready(*_: object) -> object:
        raise RpcFault(-28, "Loading block index...")

    with FakeNode() as node:
        node.replies |= dict.fromkeys(["getblockhash", "getbestblockhash", "getblocktemplate"], not_ready)
        with mining(node) as (source, engine):
            eventually(lambda: source.status.state == "waiting")
            survives(source, engine, node)


@pytest.mark.parametrize(
    ("code", "text", "says"),
    [
        (-28, "Loading block index...", "is starting: Loading block index..."),
        (-28, "Loading wallet...", "is starting"),
        (-9, "Bitcoin is not connected!", "has no peers"),
        (-10, "Bitcoin is downloading blocks...", "is downloading the chain"),
    ],
)
def test_n30_a_node_that_is_not_ready_is_waited_for_and_says_why(code, text, says):
    def not_ready(_: dict) -> object:
        raise RpcFault(code, text)

    with FakeNode() as node:
        node.replies["getblocktemplate"] = not_ready
        with mining(node) as (source, engine):
            eventually(lambda: source.status.state == "waiting")
            assert says in str(source.status)
            survives(source, engine, node)


def test_n32_a_block_whose_answer_was_lost_is_handed_in_again_and_a_duplicate_is_success():
    with FakeNode() as node, mining(node) as (source, engine):
        job = engine.job()

        def take_it_and_hang_up(data: str) -> object:
            node.replies.clear()
            assert node.submitblock(data) is None
            return Raw(lambda sock: sock.shutdown(socket.SHUT_RDWR))

        node.replies["submitblock"] = take_it_and_hang_up
        verdict = source.submit(a_share(job))
        assert (verdict.outcome, verdict.reason) == (Outcome.ACCEPTED, "duplicate")
        assert node.calls.count("submitblock") == 2


@pytest.mark.parametrize(
    "part", [b"", b"HTTP/1.1 200 X\r\n", b'HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{"res']
)
def test_n32_a_connection_that_breaks_before_in_or_after_the_body_is_no_end(part, caplog):
    with FakeNode() as node:
        node.replies["getblocktemplate"] = lambda _: Raw(
            lambda sock: (sock.sendall(part), sock.shutdown(socket.SHUT_RDWR))
        )
        with mining(node) as (source, engine):
            eventually(lambda: any(logged(caplog, word) for word in ("broke", "not HTTP", "not JSON")))
            survives(source, engine, node)


def test_n32_a_node_that_does_not_listen_yet_is_waited_for(caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    source = NodeSource(
        [(Endpoint("http", "127.0.0.1", port), Credentials("u", PASSWORD))], Payout(SCRIPT), times=QUICK
    )
    engine = FakeEngine()
    source.start(engine)
    eventually(lambda: logged(caplog, "Connection refused"))
    with FakeNode(port=port):
        engine.job()
    source.close()


def test_n32_no_verdict_in_time_is_unknown():
    with FakeNode() as node, mining(node, times=replace(QUICK, submit=0.2)) as (source, engine):
        job = engine.job()
        node.replies["submitblock"] = lambda *_: Raw(lambda sock: sock.shutdown(socket.SHUT_RDWR))
        verdict = source.submit(a_share(job))
        assert verdict.outcome is Outcome.UNKNOWN
        assert "broke" in verdict.reason


def test_n33_an_answer_that_trickles_meets_the_total_deadline():
    def trickle(sock: socket.socket) -> None:
        with suppress(OSError):
            for byte in http(200, b"x" * 1000):
                sock.sendall(bytes([byte]))
                time.sleep(0.02)

    with FakeNode() as node, connected(node) as connection:
        node.replies["getbestblockhash"] = lambda: Raw(trickle)
        began = time.monotonic()
        with pytest.raises(SourceUnavailable, match="no answer to getbestblockhash"):
            connection.call("getbestblockhash", seconds=0.2)
        assert time.monotonic() - began < 1.0


def test_n33_interim_answers_without_end_meet_the_deadline_or_the_cap():
    def interim(sock: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with FakeNode() as node, connected(node, max_body=10_000) as connection:
        node.replies["getbestblockhash"] = lambda: Raw(interim)
        with pytest.raises((SourceUnavailable, RemoteProtocolError)):
            connection.call("getbestblockhash", seconds=1.0)


def test_n04_an_answer_to_another_request_is_refused_and_its_connection_dropped():
    with FakeNode() as node, connected(node) as connection:
        connection.call("getbestblockhash", seconds=2)
        node.replies["getbestblockhash"] = lambda: Raw(reply("00" * 32, id=987654))
        with pytest.raises(RemoteProtocolError, match="an answer to request 987654, not to 2"):
            connection.call("getbestblockhash", seconds=2)
        node.replies.clear()
        connection.call("getbestblockhash", seconds=2)
        assert node.connections == 2


def test_n35_a_kept_connection_that_the_node_closed_is_silently_replaced(caplog):
    with FakeNode() as node, connected(node) as connection:
        first = connection.call("getbestblockhash", seconds=2)
        node.cut()
        assert connection.call("getbestblockhash", seconds=2) == first
        assert node.connections == 2
    assert caplog.records == []


def test_n03_n31_the_nodes_own_error_is_kept_whatever_the_http_status():
    with FakeNode() as node, connected(node) as connection:
        for status in (200, 404, 500):

            def fails(status: int = status) -> object:
                raise RpcFault(-7, "no such thing", status)

            node.replies["getbestblockhash"] = fails
            with pytest.raises(RpcError, match="error -7: no such thing"):
                connection.call("getbestblockhash", seconds=2)


def test_g5_credentials_that_a_server_sends_back_are_blotted_out():
    with FakeNode() as node, connected(node) as connection:
        header = Credentials(node.user, node.password).header()
        node.replies["getbestblockhash"] = lambda: Raw(http(500, f"you sent {header} {PASSWORD}".encode()))
        with pytest.raises(SourceUnavailable, match=r"you sent Basic \*\*\* \*\*\*"):
            connection.call("getbestblockhash", seconds=2)


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        ("high-hash", Outcome.REJECTED, "high-hash"),
        ("rejected: bad-txnmrklroot", Outcome.REJECTED, "bad-txnmrklroot"),
        ("bad-cb-amount", Outcome.REJECTED, "bad-cb-amount"),
        ("\x1b[2Jboo", Outcome.REJECTED, "\\x1b[2Jboo"),
        (7, Outcome.REJECTED, "7"),
        ({"why": 1}, Outcome.REJECTED, "{'why': 1}"),
        ("inconclusive", Outcome.STALE, "inconclusive"),
        ("duplicate", Outcome.STALE, "duplicate"),
        ("stale-prevblk", Outcome.STALE, "stale-prevblk"),
        (None, Outcome.STALE, "not on the best chain"),
    ],
)
def test_n36_n37_n38_an_answer_counts_together_with_the_chain(answer, outcome, reason):
    with FakeNode() as node, mining(node) as (source, engine):
        job = engine.job()
        node.replies["submitblock"] = lambda *_: answer
        verdict = source.submit(a_share(job))
        assert (verdict.outcome, verdict.reason) == (outcome, reason)
        engine.wait(lambda _: engine.updates()[-1].job is not job)  # whatever it was, a new job follows


def test_n36_a_node_that_rejects_everything_is_not_flooded():
    with FakeNode() as node, mining(node) as (source, engine):
        node.replies["submitblock"] = lambda *_: "bad-cb-amount"
        engine.job()
        end, rejected = time.monotonic() + 0.8, 0
        while time.monotonic() < end:
            update = engine.updates()[-1]
            rejected += source.submit(a_share(update.job, rejected)).outcome is Outcome.REJECTED
            eventually(lambda known=update: engine.updates()[-1] is not known)
        assert rejected < 8


def test_n36_an_rpc_error_is_a_rejection_too():
    def fails(*_: object) -> object:
        raise RpcFault(-22, "Block decode failed")

    with FakeNode() as node, mining(node) as (source, engine):
        job = engine.job()
        node.replies["submitblock"] = fails
        verdict = source.submit(a_share(job))
        assert (verdict.outcome, verdict.reason) == (Outcome.REJECTED, "Block decode failed")


def test_n37_an_undecided_answer_is_success_if_the_chain_has_the_block():
    with FakeNode() as node, mining(node) as (source, engine):
        job = engine.job()
        node.replies["submitblock"] = lambda data: node.submitblock(data) or "inconclusive"
        verdict = source.submit(a_share(job))
        assert (verdict.outcome, verdict.reason) == (Outcome.ACCEPTED, "inconclusive")


def test_n37_a_node_that_does_not_say_what_its_chain_holds_leaves_it_unknown():
    with FakeNode() as node, mining(node) as (source, engine):
        job = engine.job()
        node.replies |= {"submitblock": lambda _: "inconclusive", "getblockhash": lambda _: 5}
        assert source.submit(a_share(job)).outcome is Outcome.UNKNOWN


def test_n37_where_getblockhash_is_unknown_the_confirmations_decide():
    def unknown(_: int) -> object:
        raise RpcFault(-32601, "Method not found", 404)

    with FakeNode() as node:
        node.replies["getblockhash"] = unknown
        with mining(node) as (source, engine):
            for confirmations, outcome in ((-1, Outcome.STALE), (1, Outcome.ACCEPTED)):
                job = engine.job()
                node.replies["getblockheader"] = lambda _, count=confirmations: {"confirmations": count}
                node.replies["submitblock"] = lambda _: "inconclusive"
                assert source.submit(a_share(job)).outcome is outcome


def test_n39_after_a_reorganisation_our_block_is_told_lost_and_mining_moves_on(caplog):
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        mine(source, engine, 3)
        node.extend(*(block_hash(n) for n in range(1, 5)), drop=3)
        engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(4))
        eventually(lambda: [block.on_chain for block in source.blocks] == [False] * 3)
        assert logged(caplog, "no longer in the best chain") == 3
        eventually(lambda: source.submit(a_share(engine.updates()[-1].job)).accepted)


def test_n39_a_tip_that_falls_back_by_three_is_mined_on():
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        mine(source, engine, 5)
        node.extend(drop=3)
        engine.wait(lambda _: engine.updates()[-1].job.height == 3)
        assert source.submit(a_share(engine.updates()[-1].job, 99)).accepted


def a_block(source: NodeSource, engine: FakeEngine) -> Share:
    """An accepted block, and the next job is there."""
    share = a_share(engine.updates()[-1].job)
    assert source.submit(share).accepted
    engine.wait(lambda _: engine.updates()[-1].job.previous == share.hash)
    return share


def test_a_lost_block_that_is_found_again_is_handed_in_again():
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        ours = [a_block(source, engine) for _ in range(5)]
        node.extend(drop=3)
        eventually(lambda: [block.on_chain for block in source.blocks] == [True] * 2 + [False] * 3)
        assert source.submit(ours[2]).accepted
        assert [block.on_chain for block in source.blocks] == [True, True, False, False, True]
        engine.wait(lambda _: engine.updates()[-1].job.previous == ours[2].hash)


def test_a_duplicate_of_a_block_in_the_chain_is_stale_and_the_next_job_follows():
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        ours = a_block(source, engine)
        verdict = source.submit(ours)
        assert (verdict.outcome, verdict.reason) == (Outcome.STALE, "duplicate")
        assert node.calls.count("submitblock") == 1
        assert source.submit(a_share(engine.updates()[-1].job)).accepted


def test_n40_a_node_that_came_back_with_another_chain_is_refused(caplog):
    with FakeNode() as node, mining(node) as (_, engine):
        engine.job()
        port = node.port
        node.close()
        with FakeNode(port=port, genesis="ab" * 32) as other:
            eventually(lambda: logged(caplog, "it is on another chain"))
            engine.wait(lambda got: got[-1] is None)
            assert "submitblock" not in other.calls


def test_a_proposal_that_is_refused_keeps_the_template_from_the_devices(caplog):
    with FakeNode() as node:
        node.replies["getblocktemplate"] = lambda request: (
            "bad-cb-height" if "mode" in request else node.template()
        )
        with mining(node) as (source, engine):
            eventually(lambda: logged(caplog, "does not accept a block on its own template: bad-cb-height"))
            assert engine.deliveries == []
            survives(source, engine, node)


def test_a_proposal_that_came_too_late_is_no_trouble(caplog):
    def too_late(request: dict) -> object:
        if "mode" not in request:
            return node.template()
        node.replies.clear()
        node.extend(block_hash(2))
        return "inconclusive-not-best-prevblk"

    with FakeNode() as node, mining(node) as (_, engine):
        engine.job()
        node.replies["getblocktemplate"] = too_late
        node.extend(block_hash(1))
        engine.wait(lambda _: engine.updates()[-1].job.previous == block_hash(2))
        assert caplog.records == []


def test_without_any_node_the_devices_idle_after_a_while_and_go_on_when_it_is_back():
    with FakeNode() as node, mining(node) as (source, engine):
        engine.job()
        port, chain = node.port, node.chain
        node.close()
        engine.wait(lambda got: got[-1] is None)
        with FakeNode(port=port) as again:
            again.chain = chain
            engine.wait(lambda got: got[-1] is not None)
            assert source.submit(a_share(engine.updates()[-1].job)).accepted


# -- several nodes ---------------------------------------------------------------------------------------


def test_the_next_node_takes_over_and_the_first_gets_back():
    with FakeNode() as first, FakeNode() as second, mining(first, second) as (source, engine):
        engine.job()
        assert second.calls == []
        port, chain = first.port, first.chain
        first.close()
        eventually(lambda: "connected" in source.status.state and str(second.port) in str(source.status))
        eventually(lambda: source.submit(a_share(engine.updates()[-1].job, 5)).accepted)
        assert len(second.chain) == 2
        with FakeNode(port=port) as again:
            again.chain = chain
            eventually(lambda: str(port) in str(source.status) and source.status.state == "connected")


def test_a_block_is_handed_to_another_node_only_if_its_own_cannot_be_reached():
    with (
        FakeNode() as first,
        FakeNode() as second,
        mining(first, second, times=replace(QUICK, tip=30)) as (source, engine),
    ):
        job = engine.job()
        first.close()
        assert source.submit(a_share(job)).accepted
        assert len(second.chain) == 2


def test_backoff_grows_is_jittered_and_capped():
    chances = iter([0.0, 1.0, 0.5, 1.0, 1.0])
    backoff = Backoff(1.0, 5.0, lambda: next(chances))
    assert [backoff.next() for _ in range(4)] == [0.5, 2.0, 3.0, 5.0]
    backoff.reset()
    assert backoff.next() == 1.0


def test_nothing_of_the_environment_is_used_when_the_address_names_a_user():
    with FakeNode() as node:
        environ = {"MINER_USER": "somebody", "MINER_PASSWORD": "else"}
        source, engine = open_node(node.url, Payout(SCRIPT), environ=environ), FakeEngine()
        source.start(engine)
        engine.job()
        source.close()


# -- any bytes at all ------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 X\r\n"
HEADS = [
    b"",
    HEAD + b"\r\n",
    HEAD + b"Content-Length: 9\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 500 X\r\n",
    b"HTTP/1.1 401 X\r\n\r\n",
    b"HTTP/9.9 -1 X\r\n\r\n",
]
BODIES = [b'{"result":1,"id":1}', b'5\r\n{"a":\r\n0\r\n\r\n', b'13\r\n{"result":1,"id":1}\r\n0\r\n\r\n']


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(HEADS), st.binary(max_size=60) | st.sampled_from(BODIES))
def test_any_bytes_for_an_answer_are_a_result_or_an_error_of_the_source(head, body):
    def answer(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.sendall(head + body)
            sock.shutdown(socket.SHUT_RDWR)

    with one_answer(answer) as connection, suppress(SourceError):
        assert connection.call("getbestblockhash", seconds=5) == 1


@contextmanager
def one_answer(answer: Callable[[socket.socket], None]) -> Iterator[RpcConnection]:
    """A server that reads one request and answers with whatever it likes."""

    def serve() -> None:
        with suppress(OSError):
            sock, _ = server.accept()
            with sock:
                sock.recv(65536)
                answer(sock)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        connection = RpcConnection(Endpoint("http", *server.getsockname()), Credentials("u", PASSWORD))
        try:
            yield connection
        finally:
            connection.close()
            thread.join()


# -- the command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "says"), [("wrong-" + PASSWORD, "refuses the credentials (HTTP 401)"), (PASSWORD, "")]
)
def test_g6_the_command_ends_with_a_status_and_a_sentence_and_never_shows_the_password(password, says):
    with FakeNode() as node:
        address = f"http://u:{password}@127.0.0.1:{node.port}"
        command = [sys.executable, "-m", "miner", "mine", address, "--script", "51", "--blocks", "3"]
        done = subprocess.run(
            [*command, "--backend", "python"], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == (1 if says else 0), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
