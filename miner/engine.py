"""The engine: any set of devices on any source of work.

    with Engine("auto") as engine:
        for verdict in engine.run(source):
            print(verdict.outcome, verdict.share.hash_hex)

    async with Engine("auto") as engine:
        async for verdict in engine.run(source):
            ...

Threads: one per device (`miner.lane`), a few that submit shares, so that a slow
node stops nobody, and one housekeeper that watches for hung devices and calls
`on_event`. All of them are daemons: nothing here can keep a process from ending.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from miner.backends import Backend, open_backend
from miner.dispatch import Dispatcher
from miner.errors import DeviceFault, SourceError
from miner.lane import Lane
from miner.meter import RATE_WINDOWS
from miner.run import Run
from miner.stats import DeviceStats, Stats
from miner.work import Job, Outcome, Share, Verdict

SLICE_SECONDS = 0.025
"""How long one batch lasts: what a new tip waits for, and what a device's overhead is spread over."""

HANG_SECONDS = 30.0
"""How long one batch may last before its device counts as hung: 1,200 slices, or a slow compilation."""

STOP_SECONDS = 1.0
"""How long `close` waits for devices that are still scanning."""

SUBMITTERS = 4
"""Shares that may await their verdict at once."""

_log = logging.getLogger(__name__)

_BEAT = 0.25  # seconds between two looks of the housekeeper


class Update(NamedTuple):
    """A new job from a source."""

    job: Job
    reason: str
    """For people: "new tip", "more fees", "time"."""
    clean: bool
    """Whether work on older jobs is worthless from now on."""


Delivery = Update | SourceError | None
"""What a source delivers: a job; an error that ends the run; None, there is nothing to mine for now."""


class WorkSource(Protocol):
    """Where jobs come from and shares go: the own chain, a node, a pool."""

    @property
    def name(self) -> str:
        """For people; holds no credentials."""

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Begin to deliver, from any thread. Returns at once."""

    def submit(self, share: Share) -> Verdict:
        """Hand in a share and wait for the verdict. Called from several threads, never a device's.

        Whatever the verdict on a share of a `once` job, UNKNOWN excepted, a new job must follow.
        """

    def close(self) -> None:
        """Stop delivering. Within a second, from any thread."""


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The devices have a new job."""

    update: Update


@dataclass(frozen=True, slots=True)
class Idled:
    """The source has nothing to mine for now."""


@dataclass(frozen=True, slots=True)
class DeviceRetired:
    """A device was taken out of service."""

    device: str
    fault: DeviceFault


Event = JobStarted | Idled | DeviceRetired


class _Found(NamedTuple):
    """A share on its way to the source."""

    share: Share
    era: int
    device: str


class Engine:
    """Mines on its devices for one source at a time."""

    def __init__(
        self,
        backends: str | Backend | Iterable[str | Backend] = "auto",
        *,
        slice_seconds: float = SLICE_SECONDS,
        hang_seconds: float = HANG_SECONDS,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`backends`: devices, or names that `open_backend` knows; the engine closes them all.

        Names are opened by `start`, which compiles for seconds at worst. `on_event` is called from
        the housekeeper's thread.
        """
        if not 0.001 <= slice_seconds <= 10:
            raise ValueError(f"slice of {slice_seconds} s is outside 0.001 ... 10 s")
        if isinstance(backends, str) or not isinstance(backends, Iterable):
            backends = [backends]
        self._to_open = list(backends)
        self._slice, self._clock, self._on_event = slice_seconds, clock, on_event
        self._hang_beats = max(1, round(hang_seconds / _BEAT))
        self._dispatcher = Dispatcher(clock)
        self._lock = threading.RLock()
        self._lanes: dict[str, Lane] = {}
        self._former: list[Lane] = []  # removed, or retired and replaced: their hashes still count
        self._verdicts: Counter[Outcome] = Counter()
        self._best_share = 0.0
        self._run: Run | None = None
        self._source: WorkSource | None = None
        self._shares: queue.SimpleQueue[_Found] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._started: float | None = None
        self._closing = threading.Event()

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Open the devices and start the threads; entering the context does it. Twice is once."""
        if self._closing.is_set():
            raise ValueError("this engine is closed: make a new one")
        if self._started is None:
            self._started = self._clock()
            while self._to_open:
                device = self._to_open.pop(0)
                self.add(open_backend(device) if isinstance(device, str) else device)
            for target in (self._housekeep, *[self._submit_shares] * SUBMITTERS):
                self._threads.append(threading.Thread(target=target, name="miner engine", daemon=True))
                self._threads[-1].start()
        return self

    def close(self) -> None:
        """Stop the run and close every device. Within about a second: a device that hangs is left behind."""
        self._closing.set()
        if self._run is not None:
            self._run.close()
        lanes = self._all_lanes()
        for lane in lanes:
            lane.leave()
        deadline = time.monotonic() + STOP_SECONDS
        # A share that is being submitted is not lost: the chain behind it may be closed only after us.
        threads: list[Lane | threading.Thread] = [*lanes, *self._threads]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for device in self._to_open:
            if not isinstance(device, str):
                device.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # -- devices -----------------------------------------------------------------------------------

    def add(self, backend: Backend) -> None:
        """Put a device to work, at any time. ValueError if one of its name is at work already."""
        with self._lock:
            at_work = self._lanes.get(backend.name)
            if at_work is not None and at_work.fault is None:
                raise ValueError(f"a device called {backend.name} is at work already")
            if at_work is not None:
                self._former.append(at_work)
            lane = Lane(
                backend,
                self._dispatcher,
                slice_seconds=self._slice,
                clock=self._clock,
                on_share=lambda share, era: self._shares.put(_Found(share, era, backend.name)),
                on_fault=self._device_failed,
            )
            self._lanes[lane.name] = lane
        lane.start()

    def remove(self, name: str, timeout: float = STOP_SECONDS) -> bool:
        """Take a device out and close it; what it leaves unscanned goes to the others.

        False if it is still scanning after `timeout` seconds. ValueError for an unknown name.
        """
        with self._lock:
            lane = self._lanes.pop(name, None)
            if lane is not None:
                self._former.append(lane)
        if lane is None:
            raise ValueError(f"no device called {name} is at work, only {', '.join(self._lanes) or 'none'}")
        lane.leave()
        return lane.join(timeout)

    def _all_lanes(self) -> list[Lane]:
        with self._lock:
            return list(self._lanes.values())

    def _device_failed(self, lane: Lane) -> None:
        assert lane.fault is not None
        self._events.put(DeviceRetired(lane.name, lane.fault))
        if self._run is not None:
            self._end_if_no_device_is_left(self._run)

    def _end_if_no_device_is_left(self, run: Run) -> None:
        faults = [lane.fault for lane in self._all_lanes()]
        if faults and None not in faults:
            run.end(DeviceFault(f"no device is left: {'; '.join(map(str, faults))}"))

    # -- work --------------------------------------------------------------------------------------

    def run(self, source: WorkSource, limit: int | None = None) -> Run:
        """Mine for `source` from now on; a run before this one ends. The engine closes the source.

        The run ends with the `limit`-th accepted share, and no further share is submitted.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"a run of {limit} shares: at least 1")
        self.start()
        if self._run is not None:
            self._run.close()
        with self._lock:
            # The era tells this run's shares from those that an earlier one left behind.
            run = Run(lambda: self._stop(source), first_era=self._dispatcher.era, limit=limit)
            self._run, self._source = run, source
        self._end_if_no_device_is_left(run)
        source.start(lambda delivery: self._deliver(run, delivery))
        return run

    def _stop(self, source: WorkSource) -> None:
        with self._lock:
            current = self._source is source
            if current:
                self._source = None
        if current:
            self._dispatcher.update(None, clean=True)
            source.close()

    def _deliver(self, run: Run, delivery: Delivery) -> None:
        with self._lock:
            if self._run is not run or self._source is None:
                return  # a source that delivers after its end
            if isinstance(delivery, SourceError):
                run.end(delivery)
            elif delivery is None:
                self._dispatcher.update(None, clean=True)
                self._events.put(Idled())
            else:
                self._dispatcher.update(delivery.job, clean=delivery.clean)
                self._events.put(JobStarted(delivery))

    def _submit_shares(self) -> None:
        while not self._closing.is_set():
            try:
                found = self._shares.get(timeout=0.1)
            except queue.Empty:
                continue
            with self._lock:
                source, run = self._source, self._run
                wanted = source is not None and run is not None and run.admit(found.era)
            if source is not None and run is not None and wanted:
                self._submit(source, run, found)
            else:
                self._dispatcher.settle(found.share, ended=False)

    def _submit(self, source: WorkSource, run: Run, found: _Found) -> None:
        try:
            verdict = source.submit(found.share)
        except SourceError as error:
            verdict = Verdict(found.share, Outcome.UNKNOWN, str(error))
        except Exception as error:  # noqa: BLE001 - the top of a thread; the consumer gets to see it
            run.end(error)
            return
        # A job that has been judged is over; only one whose fate is unknown is mined on.
        self._dispatcher.settle(found.share, ended=verdict.outcome is not Outcome.UNKNOWN)
        with self._lock:
            self._verdicts[verdict.outcome] += 1
            self._best_share = max(self._best_share, found.share.difficulty)
        run.put(replace(verdict, device=found.device))

    def _housekeep(self) -> None:
        while not self._closing.wait(_BEAT):
            for lane in self._all_lanes():
                lane.watch(self._hang_beats)
            while not self._events.empty():
                self._tell(self._events.get())

    def _tell(self, event: Event) -> None:
        try:
            if self._on_event is not None:
                self._on_event(event)
        except Exception:  # noqa: BLE001 - the listener's mistake, which must not stop the watch over the devices
            _log.exception("on_event failed on %r", event)

    # -- figures -----------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """A snapshot; costs well under a millisecond per device."""
        with self._lock:
            lanes = [*self._lanes.values(), *self._former]
            verdicts, best_share = dict(self._verdicts), self._best_share
        return Stats(
            devices=tuple(_device_stats(lane) for lane in lanes),
            seconds=self._clock() - self._started if self._started is not None else 0.0,
            verdicts={outcome: verdicts.get(outcome, 0) for outcome in Outcome},
            best_share=best_share,
            job=self._dispatcher.job,
            stop_latency=self._dispatcher.stop_latency(),
        )


def _device_stats(lane: Lane) -> DeviceStats:
    ten, sixty, quarter = (lane.meter.rate(window) for window in RATE_WINDOWS)
    return DeviceStats(
        name=lane.name,
        state=lane.state,
        hashes=lane.meter.total,
        rates=(ten, sixty, quarter),
        hits=lane.hits,
        hardware_errors=lane.false_hits,
        fault=str(lane.fault or ""),
        condition=lane.condition(),
    )
