"""Who scans what: deals the current job's search space to the devices.

One lock guards it all, and nothing under it blocks or hashes more than a
merkle branch. Every clean update starts a new *era*: work of an earlier era is
worthless, and what it still finds is dropped.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

from miner.meter import StopLatency, StopWatch
from miner.work import Job, SearchSpace, Share, Span


class Assignment(NamedTuple):
    """A span to scan, and the era in which it is worth scanning."""

    span: Span
    era: int


class Dispatcher:
    """The current job and its search space. Every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` counts seconds and never goes back."""
        self._clock = clock
        self._changed = threading.Condition()
        self._space: SearchSpace | None = None
        self._space_since = 0.0
        self._era = 0
        self._era_since = 0.0
        self._in_question: Share | None = None  # would end the job: nobody scans on until it is judged
        self._wanted: set[bytes] = set()  # headers of the current job's shares
        self._stops = StopWatch()

    def update(self, job: Job | None, *, clean: bool) -> None:
        """Replace the job; None idles the devices. `clean`: work on the old one is worthless from now on."""
        with self._changed:
            self._space = SearchSpace(job) if job is not None else None
            self._space_since = self._clock()
            self._in_question = None
            self._wanted.clear()
            if clean:
                self._era += 1
                self._era_since = self._clock()
            self._changed.notify_all()

    def next(self, rest: Span | None, siblings: int, leaving: Callable[[], bool]) -> Assignment | None:
        """What a device scans next: its `rest` if that is still current, else a new span.

        Blocks while there is nothing to do; None as soon as `leaving()` is true (see `wake`).
        """
        with self._changed:
            while not leaving():
                if self._space is not None and self._in_question is None:
                    if rest is not None and rest.nonces and rest.work.job is self._space.job:
                        return Assignment(rest, self._era)
                    dealt = self._space.deal(self._now(), siblings)
                    if dealt is not None:
                        return Assignment(dealt, self._era)
                self._changed.wait()
            return None

    def _now(self) -> int:
        """The job giver's clock: what it said when the job came, and the seconds since.

        So neither a wrong clock on this machine nor one that jumps reaches a header.
        """
        assert self._space is not None
        return self._space.job.time + int(self._clock() - self._space_since)

    def give_back(self, span: Span | None) -> None:
        """A span that was not scanned, or not by a device one can believe: somebody else's turn."""
        with self._changed:
            if span is not None and self._space is not None and span.work.job is self._space.job:
                self._space.take_back(span)
                self._changed.notify_all()

    def stopped(self, era: int) -> None:
        """A device has finished a batch; if a new tip came meanwhile, that took it this long to stop."""
        with self._changed:
            if era != self._era:
                self._stops.add(self._clock() - self._era_since)

    def wants(self, share: Share, era: int) -> bool:
        """Whether this share is to be submitted: not if superseded, known, or if the job awaits a verdict.

        A share that would end its job stops the dealing until `settle`.
        """
        with self._changed:
            # Known: a span that one device failed in is scanned again by another.
            if era != self._era or self._in_question is not None or share.header in self._wanted:
                return False
            self._wanted.add(share.header)
            if share.work.job is not None and share.work.job.once:
                self._in_question = share
            return True

    def settle(self, share: Share, *, ended: bool) -> None:
        """The share was judged. If that did not end its job, the devices go on with it."""
        with self._changed:
            if self._in_question is share:
                self._in_question = None
                if ended:
                    self._space = None  # a new job is on its way
                self._changed.notify_all()

    def wake(self) -> None:
        """Have every waiting device look again whether it is leaving."""
        with self._changed:
            self._changed.notify_all()

    @property
    def era(self) -> int:
        """Rises with each clean update."""
        with self._changed:
            return self._era

    @property
    def job(self) -> Job | None:
        """What is being searched."""
        with self._changed:
            return self._space.job if self._space is not None else None

    def stop_latency(self) -> StopLatency:
        """How long the devices took to leave an old tip."""
        with self._changed:
            return self._stops.summary()
