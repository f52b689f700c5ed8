"""One device at work: its thread, its batches, and what it may still be believed.

A device gets work in batches of one time slice, so that a new tip waits for one
slice at most and no device needs a cancel call. Whatever it returns is hashed
again before anybody sees it; whatever it raises stays in its lane.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from miner.backends import Backend, siblings_of, spot_check
from miner.dispatch import Assignment, Dispatcher
from miner.errors import DeviceFault, MinerError
from miner.meter import Meter
from miner.pace import HITS_PER_BATCH, Pace
from miner.work import Hit, Share, Span

MAX_FALSE_HITS = 3
"""False hits that retire a device: one may be a cosmic ray, three are a broken card."""

MAX_FAILURES = 3
"""Failures in a row that retire a device."""

EXCESS_HITS = 4096
"""A batch with more hits than this comes from a broken device: 64 are expected at most."""

CHECK_INTERVAL = 60.0
"""Seconds between two spot checks of a device that is mining."""


class LaneState(StrEnum):
    """What a device is doing."""

    IDLE = "idle"
    MINING = "mining"
    RETIRED = "retired"
    GONE = "gone"


class _Question(NamedTuple):
    """What a device has been asked and not yet answered."""

    words: str
    span: Span | None
    """What others scan if it never does."""


class Lane:
    """One device and its thread, from `start` until `leave`, a fault, or `watch` finds it hung."""

    def __init__(
        self,
        backend: Backend,
        dispatcher: Dispatcher,
        *,
        slice_seconds: float,
        clock: Callable[[], float],
        on_share: Callable[[Share, int], None],
        on_fault: Callable[["Lane"], None],
    ) -> None:
        """`on_share` is told the share and its era. It and `on_fault` must not block: a device waits."""
        self.backend, self.name = backend, backend.name
        self.meter = Meter(clock)
        self.hits = self.false_hits = 0
        self.fault: DeviceFault | None = None
        self.mining = False
        self._dispatcher, self._clock = dispatcher, clock
        self._on_share, self._on_fault = on_share, on_fault
        self._pace = Pace(slice_seconds)
        self._leaving = threading.Event()
        self._fault_lock = threading.Lock()
        self._rest: Span | None = None
        self._question: _Question | None = None
        self._ticks = 0
        self._failures = 0
        self._checked = clock()
        self._thread = threading.Thread(target=self._run, name=f"miner {self.name}", daemon=True)

    @property
    def state(self) -> LaneState:
        """What the device is doing."""
        if self.fault is not None:
            return LaneState.RETIRED
        if self._leaving.is_set():
            return LaneState.GONE
        return LaneState.MINING if self.mining else LaneState.IDLE

    def condition(self) -> str:
        """How the device is in its own words; empty unless it has a `condition`, which any thread may ask."""
        ask = getattr(self.backend, "condition", None)
        if ask is None or not self._thread.is_alive():
            return ""
        try:
            return str(ask())
        except Exception as error:  # noqa: BLE001 - figures for people must not stop a device that works
            return _words(error)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def leave(self) -> None:
        """Take no further batch. Returns at once; see `join`."""
        self._leaving.set()
        self._dispatcher.wake()

    def join(self, timeout: float) -> bool:
        """Wait until the device is closed; False if it is still scanning after `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def watch(self, ticks: int) -> None:
        """Called at a steady beat: retires the device if one batch or check has lasted for `ticks` calls.

        Beats are counted rather than seconds: a process that was stopped or a laptop that slept
        makes no device look hung.
        """
        question = self._question
        self._ticks = self._ticks + 1 if question is not None else 0
        if question is not None and self._ticks > ticks:
            # The thread cannot be stopped. Should it ever return, nobody listens.
            self._retire(DeviceFault(f"{self.name} is hung: no answer to {question.words}"))
            self._dispatcher.give_back(question.span)

    def _run(self) -> None:
        while (assignment := self._next()) is not None:
            self.mining = True
            try:
                self._scan(assignment)
            except Exception as error:  # noqa: BLE001 - a device may raise anything; it stays in its lane
                self._failed(assignment, error)
        self._dispatcher.give_back(self._rest)
        try:
            self.backend.close()
        except Exception as error:  # noqa: BLE001 - the same
            self._retire(DeviceFault(f"{self.name} failed to close: {_words(error)}"))

    def _next(self) -> Assignment | None:
        self.mining = False
        assignment = self._dispatcher.next(self._rest, siblings_of(self.backend), self._leaving.is_set)
        if assignment is None:
            return None
        span, self._rest = assignment.span.split(self._pace.nonces(assignment.span.work))
        return assignment._replace(span=span)

    def _scan(self, assignment: Assignment) -> None:
        span, started = assignment.span, self._clock()
        with self._asked(_Question(f"a batch of {span.hashes:,} hashes", span)):
            hits = self.backend.scan(*span)
        if self.fault is not None:
            return  # retired meanwhile: these nonces are somebody else's by now
        self.meter.add(span.hashes)
        self._pace.learn(span.hashes, self._clock() - started)
        self._dispatcher.stopped(assignment.era)
        self._report(assignment, hits)
        self._failures = 0
        if self._clock() - self._checked > CHECK_INTERVAL:
            with self._asked(_Question("the check once a minute", None)):
                spot_check(self.backend)
            self._checked = self._clock()

    @contextmanager
    def _asked(self, question: "_Question") -> Iterator[None]:
        """While the device is to answer, `watch` counts."""
        self._ticks, self._question = 0, question
        try:
            yield
        finally:
            self._question = None

    def _report(self, assignment: Assignment, hits: Iterable[Hit]) -> None:
        """Hash every hit again, and pass on what is true and still wanted."""
        hits = list(hits)
        if len(hits) > EXCESS_HITS:
            raise DeviceFault(f"{self.name} returned {len(hits):,} hits where {HITS_PER_BATCH} were expected")
        seen: set[Hit] = set()
        for hit in hits:
            share = verified(assignment.span, hit)
            if share is None or hit in seen:
                self._false_hit(hit)
                continue
            seen.add(hit)
            self.hits += 1
            if self._dispatcher.wants(share, assignment.era):
                self._on_share(share, assignment.era)

    def _false_hit(self, hit: object) -> None:
        self.false_hits += 1
        if self.false_hits >= MAX_FALSE_HITS:
            raise DeviceFault(f"{self.name} returned {self.false_hits} false hits, lately {hit!r:.80}")

    def _failed(self, assignment: Assignment, error: Exception) -> None:
        """What this batch found before is kept; the batch is scanned again by whoever asks next."""
        if self.fault is not None:
            return  # it hung before it raised: `watch` has given the batch back already
        self._failures += 1
        final = isinstance(error, MinerError) or self._failures >= MAX_FAILURES
        if final:
            self._retire(DeviceFault(f"{self.name} is out of service: {_words(error)}"))
        self._dispatcher.give_back(assignment.span)
        if not final:
            self._leaving.wait(0.1 * 2**self._failures)  # seconds; a driver may need a moment

    def _retire(self, fault: DeviceFault) -> None:
        with self._fault_lock:
            if self.fault is not None:
                return
            self.fault = fault
        self._leaving.set()
        self._dispatcher.give_back(self._rest)
        self._rest = None
        self._dispatcher.wake()
        self._on_fault(self)


def verified(span: Span, hit: object) -> Share | None:
    """The share that a device's answer amounts to, hashed here and now; None if it is false or malformed."""
    if not (isinstance(hit, tuple) and len(hit) == 2 and all(type(item) is int for item in hit)):
        return None  # a NumPy integer is refused too: it would overflow later, far from its device
    nonce, version = hit
    if nonce not in span.nonces:
        return None
    try:
        return Share(span.work, nonce, version)
    except (MinerError, ValueError):
        return None


def _words(error: BaseException) -> str:
    """One line about an error, its type included if the text says little."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, MinerError) else f"{type(error).__name__}: {text}"
