"""The pool source against a fake pool on loopback: what goes right, and every way it goes wrong.

What the session alone decides is in test_stratum.py, under the same case names.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fake_engine import FakeEngine, a_share, eventually, share_of
from fake_pool import TLS, Client, FakePool, line

from miner.errors import LocalProtocolError, SourceError, SourceUnavailable
from miner.estimate import poisson_bounds, rate_from_shares
from miner.sources.connection import Endpoint
from miner.sources.pool import PoolSettings, PoolSource
from miner.work import Outcome, Work

USER, PASSWORD = "worker.1", "swordfish"
QUICK = PoolSettings(first_retry=0.02, last_retry=0.2, steady=1e9, resume=0.3, connect=2.0, submit=3.0)


def endpoint(port: int, scheme: str = "stratum+tcp", host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(scheme, host, port, user=USER, password=PASSWORD)


@contextmanager
def mining(
    *pools: FakePool, settings: PoolSettings = QUICK, **options: object
) -> Iterator[tuple[PoolSource, FakeEngine]]:
    source, engine = PoolSource([endpoint(pool.port) for pool in pools], settings, **options), FakeEngine()
    source.start(engine)
    try:
        yield source, engine
    finally:
        source.close()


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


def logged(caplog: pytest.LogCaptureFixture, word: str) -> bool:
    return any(word in record.getMessage() for record in caplog.records)


def test_shares_are_accepted_by_the_pool_and_their_rate_is_inferred():
    with FakePool() as pool, mining(pool) as (source, engine):
        job = engine.job()
        assert (job.once, job.version_mask) == (False, 0x1FFFE000)
        for extranonce in range(5):
            assert source.submit(a_share(job, extranonce)).accepted
        assert source.inferred().rate > 0
        assert source.status.state == "connected"
        assert "difficulty" in str(source.status)
        assert source.name == f"stratum+tcp://127.0.0.1:{pool.port}"


def test_rolled_versions_are_accepted_by_the_pool():
    with FakePool() as pool, mining(pool) as (source, engine):
        job = engine.job()
        work = job.work(3, job.time + 5, (job.version_at(7),))
        assert source.submit(share_of(work)).accepted


def test_close_returns_within_a_second_and_frees_a_waiting_submit():
    with FakePool() as pool, mining(pool) as (source, engine):
        pool.replies["mining.submit"] = lambda *_: b""
        verdicts = []
        share = a_share(engine.job())
        waiting = threading.Thread(target=lambda: verdicts.append(source.submit(share)))
        waiting.start()
        eventually(lambda: "mining.submit" in pool.methods)
        began = time.monotonic()
        source.close()
        assert time.monotonic() - began < 1.0
        waiting.join(2)
        assert verdicts[0].outcome is Outcome.UNKNOWN
        assert source.status.state == "closed"


def test_a_share_of_no_job_cannot_be_handed_in():
    with FakePool() as pool, mining(pool) as (source, engine):
        work = engine.job().work(0, engine.job().time, (engine.job().version,))
        foreign = share_of(Work(work.header, work.target))
        with pytest.raises(LocalProtocolError):
            source.submit(foreign)


def test_tls_is_verified_and_mined_over():
    trusting = ssl.create_default_context(cafile=TLS / "certificate.pem")
    with FakePool(tls=True) as pool:
        source, engine = (
            PoolSource([endpoint(pool.port, "stratum+ssl")], replace(QUICK, tls=trusting)),
            FakeEngine(),
        )
        source.start(engine)
        try:
            assert source.submit(a_share(engine.job())).accepted
        finally:
            source.close()


def test_a_certificate_that_nobody_vouches_for_is_refused_in_one_line(caplog):
    with FakePool(tls=True) as pool:
        source, engine = PoolSource([endpoint(pool.port, "stratum+ssl")], QUICK), FakeEngine()
        source.start(engine)
        eventually(lambda: logged(caplog, "certificate is not to be trusted"))
        source.close()
        assert pool.clients == []
        assert engine.deliveries == []


# -- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stratum+tcp://u:p@h:3333", ("h", 3333, "u", "p")),
        ("stratum+tcp://u@h", ("h", 3333, "u", "")),
        ("stratum+tcp://a.b%40c:p%3Aq%2Fr@h:1", ("h", 1, "a.b@c", "p:q/r")),
        ("stratum+tcp://[::1]:5", ("::1", 5, "", "")),
    ],
)
def test_an_address_is_taken_apart(url, expected):
    parsed = Endpoint.parse(url, ["stratum+tcp"])
    assert (parsed.host, parsed.port, parsed.user, parsed.password) == expected
    assert "p" not in repr(parsed).partition("port")[2].replace("path", "")


@pytest.mark.parametrize(
    "url",
    ["http://h", "h:3333", "", "stratum+tcp://", "stratum+tcp://u:hunter/two@h:1", "stratum+tcp://u:hunter#two@h",
     "stratum+tcp://h:0", "stratum+tcp://u:hunter@[::1", "stratum+tcp://u:hunter@a\u2100b",
     "stratum+tcp://h:70000", "stratum+tcp://u:p@h:hunter"],
)  # fmt: skip
def test_an_address_that_is_none_is_a_value_error_without_its_password(url):
    with pytest.raises(ValueError, match="the address") as caught:
        Endpoint.parse(url, ["stratum+tcp"])
    assert "hunter" not in str(caught.value)


# -- hostile pools; the cases' names are those of the hostile-input list ---------------------------------


def survives(pool: FakePool, engine: FakeEngine, source: PoolSource, mend: Callable[[], None]) -> None:
    """Once the pool is mended, mining goes on."""
    mend()
    eventually(lambda: pool.clients and "mining.authorize" in pool.methods)
    eventually(lambda: source.status.state == "connected")
    engine.wait(lambda _: engine.updates())
    assert source.submit(a_share(engine.updates()[-1].job, 9)).accepted


def test_p01_a_flood_without_a_newline_is_dropped_and_the_source_reconnects(caplog):
    with FakePool() as pool:
        pool.greeting = b"x" * 3_000_000
        with mining(pool) as (source, engine):
            eventually(lambda: logged(caplog, "a line of more than"))
            survives(pool, engine, source, lambda: setattr(pool, "greeting", b""))


def test_p02_nonsense_around_good_lines_does_not_matter():
    with FakePool() as pool:
        pool.greeting = b"hello\r\n\r\n\x00\n\xff\n"
        with mining(pool) as (source, engine):
            assert source.submit(a_share(engine.job())).accepted


def test_p02_p26_one_byte_per_segment_is_as_good_as_one_line():
    with FakePool() as pool:
        whole = pool.answer

        def dribble(client: Client, request: dict) -> bytes:
            for byte in whole(client, request):
                client.send(bytes([byte]))
            return b""

        pool.answer = dribble
        with mining(pool) as (source, engine):
            assert source.submit(a_share(engine.job())).accepted


def test_p06_a_malformed_subscription_is_retried_with_a_growing_delay(caplog):
    with FakePool() as pool:
        pool.replies["mining.subscribe"] = lambda _, request: line(
            {"id": request["id"], "result": None, "error": None}
        )
        with mining(pool) as (source, engine):
            eventually(lambda: len(pool.clients) >= 3)
            assert logged(caplog, "the subscription is None")
            survives(pool, engine, source, pool.replies.clear)


def test_p13_a_bad_job_that_is_clean_idles_the_devices_and_any_other_does_not(caplog):
    with FakePool() as pool, mining(pool) as (_, engine):
        engine.job()
        pool.client.send(
            line(
                {
                    "id": None,
                    "method": "mining.notify",
                    "params": [*pool.job[:1], "zz", *pool.job[2:8], False],
                }
            )
        )
        eventually(lambda: logged(caplog, "job refused: prevhash"))
        assert None not in engine.deliveries
        pool.client.send(
            line(
                {"id": None, "method": "mining.notify", "params": [*pool.job[:1], "zz", *pool.job[2:8], True]}
            )
        )
        engine.wait(lambda got: got[-1] is None)


def test_p15_of_a_storm_of_clean_jobs_the_newest_wins_and_the_devices_are_restarted_seldom():
    with FakePool() as pool, mining(pool) as (source, engine):
        old = engine.job()
        for number in range(20):
            pool.client.send(*(pool.notify(p0=f"{number}-{i}") for i in range(100)))
        engine.wait(lambda _: engine.updates()[-1].job.id == "19-99")
        assert len(engine.updates()) < 40
        assert engine.updates()[-1].clean
        assert source.submit(a_share(old)).outcome is Outcome.STALE
        assert source.submit(a_share(engine.job())).accepted


def test_p17_thousands_of_jobs_that_are_not_clean_leave_the_newest():
    with FakePool() as pool, mining(pool) as (source, engine):
        engine.job()
        pool.client.send(*(pool.notify(p0=str(i), p8=False) for i in range(3000)))
        engine.wait(lambda _: engine.updates()[-1].job.id == "2999")
        assert source.submit(a_share(engine.job())).accepted


def test_p18_no_reconnection_to_another_host(caplog):
    with FakePool() as pool, mining(pool) as (source, engine):
        engine.job()
        pool.client.send(
            line({"id": None, "method": "client.reconnect", "params": ["evil.example", 3333, 0]})
        )
        eventually(lambda: logged(caplog, "evil.example, which is not allowed"))
        assert source.submit(a_share(engine.job())).accepted
        assert len(pool.clients) == 1


def test_p18_a_reconnection_to_another_port_of_the_host_is_followed():
    with FakePool() as pool, FakePool() as other, mining(pool) as (source, engine):
        engine.job()
        pool.client.send(line({"id": None, "method": "client.reconnect", "params": ["", other.port, 0]}))
        eventually(lambda: other.clients and "mining.authorize" in other.methods)
        engine.wait(lambda _: len(engine.updates()) >= 2)
        assert source.submit(a_share(engine.job())).accepted


def test_p18_an_allowed_host_is_followed_and_the_delay_is_capped():
    with (
        FakePool() as pool,
        mining(pool, settings=replace(QUICK, hosts=frozenset({"LOCALHOST"}), longest_wait=0.05)) as (
            _,
            engine,
        ),
    ):
        engine.job()
        pool.client.send(
            line({"id": None, "method": "client.reconnect", "params": ["localhost", pool.port, 86400]})
        )
        eventually(lambda: len(pool.clients) == 2)


def test_p18_a_pool_that_asks_to_reconnect_every_time_meets_a_growing_delay():
    with FakePool() as pool:
        pool.greeting = line({"id": None, "method": "client.reconnect", "params": []})
        with mining(pool, settings=replace(QUICK, first_retry=0.1, last_retry=10.0)):
            time.sleep(0.7)
            assert len(pool.clients) <= 4


def test_p19_a_message_of_the_pools_is_told_trimmed(caplog):
    with FakePool() as pool, mining(pool) as (_, engine):
        engine.job()
        pool.client.send(
            line({"id": None, "method": "client.show_message", "params": ["\x1b[2Jbe well" + "!" * 500_000]})
        )
        eventually(lambda: logged(caplog, "be well!"))


def test_p20_p26_a_share_without_an_answer_is_unknown_when_the_connection_breaks():
    with FakePool() as pool, mining(pool) as (source, engine):
        pool.sessions = Forgetful()
        job = engine.job()
        pool.replies["mining.submit"] = lambda client, _: client.cut() or b""
        verdict = source.submit(a_share(job))
        assert (verdict.outcome, "broke" in verdict.reason) == (Outcome.UNKNOWN, True)


class Forgetful(dict):
    """A pool that resumes no session."""

    def get(self, key: object, default: object = None) -> object:
        return default


def test_p26_a_share_is_handed_in_again_when_the_session_is_resumed():
    with FakePool() as pool, mining(pool) as (source, engine):
        job = engine.job()

        def take_it_and_hang_up(client: Client, request: dict) -> bytes:
            pool.replies.clear()
            assert pool.judge(client, request["params"]) is None
            client.cut()
            return b""

        pool.replies["mining.submit"] = take_it_and_hang_up
        verdict = source.submit(a_share(job))
        # The pool had counted it before the connection broke: the second time it says "Duplicate".
        assert (verdict.outcome, verdict.reason) == (Outcome.ACCEPTED, "Duplicate")
        assert len(pool.clients) == 2


@pytest.mark.parametrize(("code", "again"), [(24, "mining.authorize"), (25, "mining.subscribe")])
def test_p22_an_unauthorized_share_makes_us_ask_again_once(code, again):
    with FakePool() as pool, mining(pool) as (source, engine):
        job = engine.job()
        pool.replies["mining.submit"] = lambda _, request: line(
            {"id": request["id"], "result": None, "error": [code, "no", None]}
        )
        assert source.submit(a_share(job)).outcome is Outcome.REJECTED
        eventually(lambda: pool.methods.count(again) == 2)
        assert source.submit(a_share(engine.updates()[-1].job, 2)).outcome in (
            Outcome.REJECTED,
            Outcome.STALE,
        )
        assert pool.methods.count(again) == 2


def test_p23_a_name_that_is_refused_again_and_again_ends_the_run():
    with FakePool() as pool:
        pool.replies["mining.authorize"] = lambda _, request: line(
            {"id": request["id"], "result": False, "error": None}
        )
        with mining(pool) as (_, engine):
            engine.wait(lambda got: got and isinstance(got[-1], SourceError))
            error = engine.deliveries[-1]
            assert isinstance(error, SourceUnavailable)
            assert f"does not authorize {USER}" in str(error)
            assert PASSWORD not in str(error)
            assert len(pool.clients) == 3


def test_p23_an_authorization_that_is_never_answered_does_not_stop_mining():
    with FakePool() as pool:
        pool.replies["mining.authorize"] = lambda *_: pool.notify()
        with mining(pool) as (source, engine):
            assert source.submit(a_share(engine.job())).accepted


def test_p25_a_pool_that_hangs_up_on_what_it_does_not_know_is_asked_less():
    with FakePool() as pool:
        pool.replies["mining.configure"] = lambda client, _: client.cut() or b""
        with mining(pool) as (_, engine):
            engine.job()
            assert "mining.configure" not in pool.methods
            assert "mining.extranonce.subscribe" not in pool.methods


@pytest.mark.parametrize("method", ["mining.subscribe", "mining.authorize"])
def test_p26_a_pool_that_hangs_up_at_any_step_is_tried_again(method):
    with FakePool() as pool:
        pool.replies[method] = lambda client, _: client.send(b'{"id":') or client.cut() or b""
        with mining(pool) as (source, engine):
            eventually(lambda: len(pool.clients) >= 3)
            survives(pool, engine, source, pool.replies.clear)


def test_p26_a_pool_that_hangs_up_after_the_job_idles_the_devices_until_the_next_one():
    with FakePool() as pool, mining(pool) as (source, engine):
        engine.job()
        pool.sessions = Forgetful()
        pool.replies["mining.subscribe"] = lambda client, _: client.cut() or b""
        pool.client.cut()
        engine.wait(lambda got: None in got)
        pool.replies.clear()
        engine.wait(lambda _: len(engine.updates()) >= 2)
        assert engine.updates()[-1].clean
        eventually(lambda: source.status.state == "connected")


def test_p26_a_connection_that_went_silent_is_given_up(caplog):
    with FakePool() as pool, mining(pool, settings=replace(QUICK, silence=0.3)) as (_, engine):
        engine.job()
        eventually(lambda: logged(caplog, "nothing was heard"))
        eventually(lambda: len(pool.clients) >= 2)


def test_p27_a_web_server_on_the_port_is_named(caplog):
    with FakePool() as pool:
        pool.greeting = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
        with mining(pool) as (source, engine):
            eventually(lambda: logged(caplog, "a web server answers"))
            survives(pool, engine, source, lambda: setattr(pool, "greeting", b""))


def test_p27_tls_where_plain_stratum_was_expected_is_named(caplog):
    with FakePool(tls=True) as pool, mining(pool):
        eventually(
            lambda: (
                logged(caplog, "TLS") or logged(caplog, "closed the connection") or logged(caplog, "broke")
            )
        )


def test_p27_plain_stratum_where_tls_was_expected_is_named(caplog):
    with FakePool() as pool:
        pool.greeting = b'{"id":null,"method":"client.show_message","params":["hi"]}\n'
        source = PoolSource([endpoint(pool.port, "stratum+ssl")], QUICK)
        source.start(FakeEngine())
        eventually(lambda: logged(caplog, "does not speak TLS"))
        source.close()


def test_p28_the_job_ids_of_a_restarted_pool_mean_other_jobs():
    with FakePool() as pool, mining(pool) as (source, engine):
        old = engine.job()
        pool.sessions = Forgetful()
        pool.client.cut()
        engine.wait(lambda _: len(engine.updates()) >= 2)
        new = engine.updates()[-1].job
        assert new.id == old.id
        assert engine.updates()[-1].clean
        verdict = source.submit(a_share(old))
        assert (verdict.outcome, verdict.reason) == (Outcome.STALE, "superseded")
        assert source.submit(a_share(new)).accepted


def test_p29_a_name_that_does_not_resolve_is_one_clear_line(caplog):
    def nowhere(*_: object, **__: object) -> list:
        raise socket.gaierror(-2, "Name or service not known")

    with FakePool() as pool, mining(pool, resolve=nowhere) as (source, engine):
        eventually(lambda: logged(caplog, "is not to be found: Name or service not known"))
        assert source.status.state in ("failed", "connecting")
        assert engine.deliveries == []


def test_p29_every_address_of_a_name_is_tried():
    with FakePool() as pool:
        closed = socket.create_server(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
        closed.close()

        def ten(*_: object, **__: object) -> list:
            ports = [dead] * 9 + [pool.port]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        with mining(pool, resolve=ten) as (source, engine):
            assert source.submit(a_share(engine.job())).accepted


@pytest.mark.skipif(not socket.has_ipv6, reason="this computer has no IPv6")
def test_p29_a_pool_on_ipv6_alone_is_reached():
    try:
        pool = FakePool(host="::1")
    except OSError:
        pytest.skip("no IPv6 on loopback here")
    with pool:
        source, engine = PoolSource([endpoint(pool.port, host="::1")], QUICK), FakeEngine()
        source.start(engine)
        assert source.name == f"stratum+tcp://[::1]:{pool.port}"
        assert source.submit(a_share(engine.job())).accepted
        source.close()


# -- several pools ---------------------------------------------------------------------------------------


def test_the_next_pool_takes_over_and_the_first_gets_back():
    with FakePool() as first, FakePool() as second:
        port = first.port
        with mining(first, second, settings=replace(QUICK, fail_back=0.2)) as (source, engine):
            engine.job()
            first.close()
            eventually(lambda: second.clients)
            engine.wait(lambda _: len(engine.updates()) >= 2)
            assert source.submit(a_share(engine.updates()[-1].job)).accepted
            with FakePool(port=port) as again:
                eventually(lambda: again.clients and "mining.authorize" in again.methods)
                eventually(lambda: source.status.state == "connected")
                eventually(lambda: source.submit(a_share(engine.updates()[-1].job, 3)).accepted)


# -- the inferred rate -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "low", "high"),  # exact 95 % Poisson intervals (Garwood, 1936)
    [
        (0, 0.0, 3.689),
        (1, 0.0253, 5.572),
        (2, 0.242, 7.225),
        (5, 1.623, 11.668),
        (10, 4.795, 18.390),
        (100, 81.36, 121.63),
    ],
)
def test_the_interval_of_a_count_is_close_to_the_exact_one(count, low, high):
    ours = poisson_bounds(count)
    assert ours == pytest.approx((low, high), rel=0.02, abs=0.02)


def test_the_rate_is_the_hashes_that_the_shares_stand_for_over_the_time():
    assert rate_from_shares(0, 0, 10) is None
    estimate = rate_from_shares(100, 100 * 2**32, 50.0)
    assert estimate.rate == pytest.approx(2**33)
    assert estimate.low < estimate.rate < estimate.high
