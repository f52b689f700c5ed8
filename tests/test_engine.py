"""The engine on devices that are honest, lying, crashing or hung, and on sources that do as we say."""

import asyncio
import threading
import time
from itertools import islice, pairwise

import pytest

from miner import lane
from miner.engine import DeviceRetired, Engine, Event, JobStarted
from miner.errors import DeviceFault, SourceUnavailable
from miner.lane import LaneState
from miner.work import Hit, Outcome, Share, Work
from tests.fakes import EASY, Crasher, Honest, Liar, Scripted, Sleeper, clean, job, wait_until


def spans_of(*devices: Honest) -> dict[tuple[bytes, tuple[int, ...]], list[range]]:
    """What was finished, by nonce space."""
    spans: dict[tuple[bytes, tuple[int, ...]], list[range]] = {}
    for device in devices:
        for work, nonces in device.scanned:
            spans.setdefault((work.header[:76], work.versions), []).append(nonces)
    return spans


def test_every_share_that_a_device_finds_is_judged_by_the_source() -> None:
    source = Scripted(clean(job()))
    with Engine(Honest()) as engine:
        verdicts = list(islice(engine.run(source), 20))
    assert all(verdict.accepted and verdict.device == "honest" for verdict in verdicts)
    assert [v.share for v in verdicts] == source.submitted[:20] or len(source.submitted) >= 20
    assert all(verdict.share.value <= EASY for verdict in verdicts)


def test_no_callback_and_no_submit_runs_on_a_device_thread() -> None:
    threads: set[str] = set()
    source = Scripted(clean(job()))
    with Engine(Honest(), on_event=lambda _: threads.add(threading.current_thread().name)) as engine:
        list(islice(engine.run(source), 3))
        wait_until(lambda: threads)
    assert threads | source.threads == {"miner engine"}


def test_nonces_are_scanned_once_each_by_several_devices_that_come_and_go() -> None:
    devices = [Honest("a"), Honest("b", siblings=2), Honest("c")]
    source = Scripted(clean(job(version_mask=0xE000, nonces=range(5000), target=1)))
    with Engine(devices[:2]) as engine:
        engine.run(source)
        wait_until(lambda: devices[0].scanned)
        engine.add(devices[2])
        wait_until(lambda: devices[2].scanned)
        assert engine.remove("a")
        seen = len(devices[1].scanned)
        wait_until(lambda: len(devices[1].scanned) > seen + 20)
    for ranges in spans_of(*devices).values():
        ordered = sorted(ranges, key=lambda nonces: nonces.start)
        assert ordered[0].start == 0
        assert all(a.stop == b.start for a, b in pairwise(ordered))


def test_a_removed_device_leaves_its_rest_to_the_others() -> None:
    slow, quick = Honest("slow", pause=0.01), Honest("quick")
    # One nonce space only, and slow holds it.
    only = job(nonces=range(20_000), extranonce_size=0, max_time=1_700_000_000, target=1)
    with Engine(slow) as engine:
        engine.run(Scripted(clean(only)))
        wait_until(lambda: slow.scanned)
        engine.add(quick)
        engine.remove("slow")
        wait_until(lambda: sum(len(n) for _, n in slow.scanned + quick.scanned) == 20_000)
    assert slow.closed == quick.closed == 1


def test_a_job_that_one_share_ends_is_not_searched_on_until_the_verdict() -> None:
    device = Honest()
    gate = threading.Event()

    def judge(_: Share) -> Outcome:
        gate.wait(5)
        return Outcome.ACCEPTED

    source = Scripted(clean(job(once=True)), judge=judge)
    with Engine(device) as engine:
        run = engine.run(source)
        wait_until(lambda: source.submitted)
        count = len(device.scanned)
        time.sleep(0.1)
        assert len(device.scanned) <= count + 1
        gate.set()
        assert run.get(5) is not None
    assert len(source.submitted) == 1


def test_a_job_whose_share_has_an_unknown_fate_is_searched_on() -> None:
    source = Scripted(clean(job(once=True)), judge=lambda _: Outcome.UNKNOWN)
    with Engine(Honest()) as engine:
        verdicts = list(islice(engine.run(source), 3))
    assert len({verdict.share.header for verdict in verdicts}) == 3


def test_hits_on_a_superseded_job_are_dropped() -> None:
    old, new = job("old"), job("new")
    source = Scripted(clean(old))
    with Engine(Honest(pause=0.02)) as engine:
        run = engine.run(source)
        assert next(run).share.work.job is old
        source.deliver(clean(new))
        before = len(source.submitted)
        wait_until(lambda: len(source.submitted) > before + 5)
    late = [share for share in source.submitted[before:] if share.work.job is old]
    # One may have been on its way to the source when the new tip came.
    assert len(late) <= 1


def test_an_update_that_is_not_clean_lets_old_hits_count() -> None:
    old = job("old")
    source = Scripted(clean(old))
    device = Honest(pause=0.1)
    with Engine(device) as engine:
        engine.run(source)
        wait_until(lambda: engine.stats().devices[0].state is LaneState.MINING)
        source.deliver(clean(job("new"), "time")._replace(clean=False))
        wait_until(lambda: len(device.scanned) >= 1)
        wait_until(lambda: source.submitted)
    assert source.submitted[0].work.job is old


def test_a_lying_device_is_retired_and_the_others_go_on() -> None:
    events: list[Event] = []
    source = Scripted(clean(job()))
    with Engine([Liar("liar"), Honest()], on_event=events.append) as engine:
        run = engine.run(source)
        wait_until(lambda: any(isinstance(event, DeviceRetired) for event in events))
        list(islice(run, 5))
        liar, honest = engine.stats().devices
    assert (liar.state, honest.state) == (
        LaneState.RETIRED,
        LaneState.GONE,
    ) or liar.state == LaneState.RETIRED
    assert liar.hardware_errors == 3
    assert "3 false hits" in liar.fault
    assert all(share.value <= EASY for share in source.submitted)


@pytest.mark.parametrize(
    "answer",
    [
        lambda work, nonces: [(nonces.stop, work.versions[0])],
        lambda work, nonces: [(-1, work.versions[0])],
        lambda work, nonces: [(float(nonces.start), work.versions[0])],
        lambda work, nonces: [(True, work.versions[0])],
        lambda work, nonces: [nonces.start],
        lambda work, nonces: ["hit"],
        lambda work, nonces: [(nonces.start, 1)],
        lambda work, nonces: None,
        lambda work, nonces: [(0, 0)] * 10_000,
    ],
)
def test_answers_that_are_no_hits_retire_the_device(answer: object) -> None:
    device = Honest()
    device.scan = answer  # type: ignore[assignment, method-assign]
    with Engine(device) as engine, pytest.raises(DeviceFault, match="no device is left"):
        next(engine.run(Scripted(clean(job()))))


def test_a_device_that_reports_a_hit_twice_is_retired() -> None:
    device = Honest()
    honest = device.scan
    device.scan = lambda work, nonces: honest(work, nonces) * 2  # type: ignore[method-assign]
    with Engine(device) as engine, pytest.raises(DeviceFault, match="false hits"):
        for _ in engine.run(Scripted(clean(job()))):
            pass


def test_a_crash_is_survived_and_its_nonces_are_scanned_again() -> None:
    crasher = Crasher(times=1)
    only = job(nonces=range(4000), extranonce_size=0, max_time=1_700_000_000, target=1)
    with Engine(crasher) as engine:
        engine.run(Scripted(clean(only)))
        wait_until(lambda: sum(len(nonces) for _, nonces in crasher.scanned) == 4000)
        assert engine.stats().devices[0].fault == ""


def test_a_device_that_keeps_crashing_is_retired_and_its_nonces_go_to_another() -> None:
    crasher, honest = Crasher(), Honest()
    # Two nonce spaces, one for each: the crasher's is scanned to its end by the other.
    only = job(nonces=range(60_000), version_mask=0x2000, extranonce_size=0, max_time=1_700_000_000, target=1)
    with Engine(crasher) as engine:
        run = engine.run(Scripted(clean(only)))
        engine.add(honest)
        wait_until(lambda: sum(len(nonces) for _, nonces in honest.scanned + crasher.scanned) == 120_000)
        assert "MemoryError: out of memory on the card" in engine.stats().devices[0].fault
        assert not run.ended


def test_a_run_ends_with_a_fault_when_its_last_device_is_retired() -> None:
    with (
        Engine(Crasher()) as engine,
        pytest.raises(DeviceFault, match="no device is left: crasher is out of"),
    ):
        next(engine.run(Scripted(clean(job(target=1)))))


def test_a_run_of_nothing_but_retired_devices_says_so_at_once() -> None:
    with Engine(Crasher()) as engine:
        for _ in range(2):
            with pytest.raises(DeviceFault, match="no device is left"):
                next(engine.run(Scripted(clean(job(target=1)))))


def test_a_hung_device_is_retired_and_its_nonces_go_to_another() -> None:
    sleeper, honest = Sleeper(), Honest()
    only = job(nonces=range(3000), extranonce_size=0, max_time=1_700_000_000, target=1)
    with Engine(sleeper, hang_seconds=0.5) as engine:
        engine.run(Scripted(clean(only)))
        wait_until(lambda: engine.stats().devices[0].state is LaneState.MINING)
        engine.add(honest)
        wait_until(lambda: sum(len(nonces) for _, nonces in honest.scanned) == 3000)
        assert "hung" in engine.stats().devices[0].fault
        sleeper.wake.set()
        wait_until(lambda: sleeper.closed)
    assert sum(device.hashes for device in engine.stats().devices) == 3000


def test_a_device_that_hangs_in_its_check_is_retired_too(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(lane, "CHECK_INTERVAL", 0.0)
    monkeypatch.setattr(lane, "spot_check", lambda backend: release.wait())
    device = Honest()
    with Engine(device, hang_seconds=0.5) as engine:
        engine.run(Scripted(clean(job(target=1))))
        wait_until(lambda: engine.stats().devices[0].state is LaneState.RETIRED)
        assert "is hung: no answer to the check once a minute" in engine.stats().devices[0].fault
        assert len(device.scanned) == 1
        release.set()
        wait_until(lambda: device.closed)


def test_a_hung_device_that_raises_in_the_end_has_its_nonces_scanned_once() -> None:
    class Late(Sleeper):
        def scan(self, work: Work, nonces: range) -> list[Hit]:
            self.wake.wait()
            raise OSError("device lost")

    late, honest = Late(), Honest()
    only = job(nonces=range(3000), extranonce_size=0, max_time=1_700_000_000, target=1)
    with Engine(late, hang_seconds=0.5) as engine:
        engine.run(Scripted(clean(only)))
        wait_until(lambda: engine.stats().devices[0].state is LaneState.MINING)
        engine.add(honest)
        wait_until(lambda: sum(len(nonces) for _, nonces in honest.scanned) == 3000)
        late.wake.set()
        wait_until(lambda: late.closed)
        time.sleep(0.1)
    assert sum(len(nonces) for _, nonces in honest.scanned) == 3000
    assert "hung" in engine.stats().devices[0].fault


def test_closing_does_not_wait_for_a_hung_device() -> None:
    sleeper = Sleeper()
    engine = Engine(sleeper).start()
    engine.run(Scripted(clean(job())))
    wait_until(lambda: engine.stats().devices[0].state is LaneState.MINING)
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 2
    sleeper.wake.set()


def test_an_error_of_the_source_ends_the_run() -> None:
    source = Scripted(clean(job(target=1)))
    with Engine(Honest()) as engine:
        run = engine.run(source)
        source.deliver(SourceUnavailable("node says 401: wrong password"))
        with pytest.raises(SourceUnavailable, match="401"):
            next(run)
        assert list(run) == []


def test_a_source_that_fails_to_submit_leaves_an_unknown_verdict() -> None:
    def judge(_: Share) -> Outcome:
        raise SourceUnavailable("connection reset")

    with Engine(Honest()) as engine:
        verdict = next(engine.run(Scripted(clean(job()), judge=judge)))
    assert (verdict.outcome, verdict.reason) == (Outcome.UNKNOWN, "connection reset")


def test_an_idling_source_stops_the_devices() -> None:
    device, source = Honest(), Scripted(clean(job(target=1)))
    with Engine(device) as engine:
        engine.run(source)
        wait_until(lambda: device.scanned)
        source.deliver(None)
        wait_until(lambda: engine.stats().devices[0].state is LaneState.IDLE)
        assert engine.stats().job is None


def test_stop_latency_counts_each_busy_device_once_per_new_tip() -> None:
    device, source = Honest(pause=0.02), Scripted(clean(job("first", target=1)))
    with Engine(device) as engine:
        engine.run(source)
        for i in range(5):
            done = len(device.scanned)
            wait_until(lambda done=done: len(device.scanned) > done + 1)  # type: ignore[misc]
            source.deliver(clean(job(f"tip {i}", target=1)))
        done = len(device.scanned)
        wait_until(lambda: len(device.scanned) > done + 1)
        latency = engine.stats().stop_latency
    assert 4 <= latency.count <= 5
    assert 0 < latency.median <= latency.p99 <= latency.worst < 1


def test_the_header_time_follows_the_job_givers_clock_and_not_ours() -> None:
    now = [0.0]
    device = Honest()
    source = Scripted(clean(job(nonces=range(100), target=1)))
    with Engine(device, clock=lambda: now[0]) as engine:
        engine.run(source)
        wait_until(lambda: device.scanned)
        now[0] += 7.5
        done = len(device.scanned)
        wait_until(lambda: len(device.scanned) > done + 3)
    times = [int.from_bytes(work.header[68:72], "little") for work, _ in device.scanned]
    assert times[0] == 1_700_000_000
    assert times[-1] == 1_700_000_007


def test_a_second_run_ends_the_first_and_closes_its_source() -> None:
    first, second = Scripted(clean(job("first"))), Scripted(clean(job("second")))
    with Engine(Honest()) as engine:
        old = engine.run(first)
        run = engine.run(second)
        assert next(run).share.work.job is second.first[0].job  # type: ignore[union-attr]
        list(old)
        assert first.closed == 1


def test_a_run_with_a_limit_submits_that_many_accepted_shares_and_not_one_more() -> None:
    fates = iter([Outcome.REJECTED, Outcome.ACCEPTED, Outcome.STALE] + [Outcome.ACCEPTED] * 100)
    source = Scripted(clean(job()), judge=lambda _: next(fates))
    with Engine([Honest("a"), Honest("b")]) as engine:
        verdicts = list(engine.run(source, limit=5))
        time.sleep(0.1)
    assert sum(verdict.accepted for verdict in verdicts) == 5
    assert len(source.submitted) == len(verdicts) == 7
    assert source.closed == 1


def test_devices_of_one_name_are_refused_while_both_would_work() -> None:
    with Engine(Honest()) as engine:
        with pytest.raises(ValueError, match="honest is at work already"):
            engine.add(Honest())
        with pytest.raises(ValueError, match="no device called gpu"):
            engine.remove("gpu")


@pytest.mark.parametrize(("words", "shown"), [("71 °C, 312 W", "71 °C, 312 W"), (None, "AttributeError")])
def test_a_device_that_knows_how_it_is_is_quoted(words: str | None, shown: str) -> None:
    device = Honest()
    device.condition = lambda: words.strip()  # type: ignore[attr-defined, union-attr]
    with Engine([device, Honest("silent")]) as engine:
        stats = engine.stats()
    assert shown in stats.devices[0].condition
    assert stats.devices[1].condition == ""


def test_totals_add_up() -> None:
    devices = [Honest("a"), Honest("b")]
    source = Scripted(clean(job()))
    with Engine(devices) as engine:
        list(islice(engine.run(source), 10))
    stats = engine.stats()
    assert stats.hashes == sum(
        len(nonces) * len(work.versions) for d in devices for work, nonces in d.scanned
    )
    assert stats.verdicts[Outcome.ACCEPTED] >= 10
    assert stats.best_share >= max(share.difficulty for share in source.submitted[:10])


def test_events_tell_of_each_job() -> None:
    events: list[Event] = []
    source = Scripted(clean(job("first")))
    with Engine(Honest(), on_event=events.append) as engine:
        engine.run(source)
        source.deliver(clean(job("second")))
        wait_until(lambda: len(events) >= 2)
    assert [e.update.job.id for e in events if isinstance(e, JobStarted)] == ["first", "second"]


def test_a_listener_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def listener(_: Event) -> None:
        raise ZeroDivisionError

    with Engine(Honest(), on_event=listener) as engine:
        run = engine.run(Scripted(clean(job())))
        wait_until(lambda: caplog.records)
        assert next(run).accepted


def test_asyncio_consumes_the_same_verdicts() -> None:
    async def mine() -> list[bool]:
        source = Scripted(clean(job()))
        accepted = []
        async with Engine(Honest()) as engine:
            async for verdict in engine.run(source):
                accepted.append(verdict.accepted)
                if len(accepted) == 10:
                    break
        return accepted

    assert asyncio.run(mine()) == [True] * 10


def test_asyncio_gets_the_error_that_ended_the_run() -> None:
    async def mine() -> None:
        source = Scripted(clean(job(target=1)))
        async with Engine(Honest()) as engine:
            run = engine.run(source)
            asyncio.get_running_loop().call_later(0.05, source.deliver, SourceUnavailable("gone"))
            async for _ in run:
                pass

    with pytest.raises(SourceUnavailable, match="gone"):
        asyncio.run(mine())


def test_asyncio_can_cancel_the_wait_for_a_verdict() -> None:
    async def mine() -> None:
        async with Engine(Honest()) as engine:
            run = engine.run(Scripted(clean(job(target=1))))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(run), 0.05)

    asyncio.run(mine())


def test_a_closed_engine_says_so() -> None:
    engine = Engine(Honest())
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.start()
