"""A Stratum session's jobs: from what the pool told so far to what the engine may roll. No I/O.

The pool tells in pieces, in any order: the extranonce, the difficulty, the
version mask, and `mining.notify`, which makes a job of whatever is in force
when it comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from miner.errors import RemoteProtocolError
from miner.params import VERSION_MASK
from miner.stratum_params import Notify, Subscription, parse_notify
from miner.target import DIFFICULTY_1_TARGET
from miner.work import Job

MAX_JOBS = 64
"""Jobs that shares may still come for; a pool that never cleans loses its oldest."""

TIME_ROLL_SECONDS = 3600
"""How far a share's time may run ahead of its job's. ckpool allows 7000 s."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """Something to mine. `clean`: older jobs are worthless."""

    job: Job
    clean: bool
    reason: str


@dataclass(frozen=True, slots=True)
class JobRefused:
    """A job that made no sense. `clean`: the one before it is worthless all the same."""

    text: str
    clean: bool


class Resumption(NamedTuple):
    """What another connection needs to go on where this one stopped."""

    session_id: str
    extranonce1: bytes
    extranonce2_size: int
    jobs: Mapping[str, Job]


class Jobs:
    """The jobs of one connection, and what the next one will be made of."""

    def __init__(self) -> None:
        self.mask: int | None = None
        """The version bits to roll; None: that was not granted."""
        self.target = DIFFICULTY_1_TARGET
        """Of the next job: the difficulty is 1 until the pool says otherwise."""
        self.started = False
        """Whether a job has come on this connection."""
        self._subscription: Subscription | None = None
        self._early: Notify | None = None
        self._jobs: dict[str, Job] = {}

    def holds(self, job: Job) -> bool:
        """Whether this job is still good: not superseded, not another's of the same id."""
        # Equal is enough: a pool may send the same job again, after a new connection for instance.
        return self._jobs.get(job.id) == job

    def subscribed(self, subscription: Subscription, former: Resumption | None) -> list[NewJob]:
        """The extranonce is known, perhaps the same as in the former connection; a job may wait for it."""
        same = former is not None and former[1:3] == subscription[:2]
        self._jobs = dict(former.jobs) if former is not None and same else {}
        self._subscription = subscription
        early, self._early = self._early, None
        return [self._make(early)] if early is not None else []

    def set_extranonce(self, extranonce1: bytes, extranonce2_size: int) -> None:
        """From the next job on: the message names no job, so the ones under way keep theirs."""
        if self._subscription is None:
            raise RemoteProtocolError("mining.set_extranonce came before the subscription")
        self._subscription = Subscription(extranonce1, extranonce2_size, self._subscription.session_id)

    def set_mask(self, mask: int | None) -> list[NewJob]:
        """Grant, change or refuse version rolling; the newest job is made anew if that changes it."""
        before = self.mask or 0
        self.mask = None if mask is None else mask & VERSION_MASK
        # BIP 310: the new mask is valid immediately, so that the server doesn't wait for the next job.
        newest = next(reversed(self._jobs.values()), None)
        if newest is None or newest.version_mask == (self.mask or 0):
            return []
        job = replace(newest, version_mask=self.mask or 0)
        return [self._offer(job, clean=bool(before & ~job.version_mask), reason="version mask")]

    def notify(self, params: object) -> list[NewJob | JobRefused]:
        """mining.notify. Before the subscription it waits; only the newest does."""
        try:
            notify = parse_notify(params)
        except RemoteProtocolError as error:
            clean = isinstance(params, list) and len(params) > 8 and params[8] is True
            if clean:
                self._jobs.clear()
            return [JobRefused(str(error), clean)]
        if self._subscription is None:
            self._early = notify
            return []
        return [self._make(notify)]

    def _make(self, notify: Notify) -> NewJob:
        assert self._subscription is not None
        job = Job(
            id=notify.job_id,
            version=notify.version,
            previous=notify.previous,
            bits=notify.bits,
            time=notify.time,
            max_time=min(notify.time + TIME_ROLL_SECONDS, (1 << 32) - 1),
            coinbase_prefix=notify.coinbase1 + self._subscription.extranonce1,
            coinbase_suffix=notify.coinbase2,
            extranonce_size=self._subscription.extranonce2_size,
            branch=notify.branch,
            target=self.target,  # fixed here: a difficulty that comes later is for later jobs
            version_mask=self.mask or 0,
        )
        self.started = True
        newest = next(reversed(self._jobs.values()), None)
        same_tip = newest is not None and newest.previous == job.previous
        if notify.clean:
            self._jobs.clear()
        return self._offer(job, clean=notify.clean, reason="new job" if same_tip else "new tip")

    def _offer(self, job: Job, *, clean: bool, reason: str) -> NewJob:
        self._jobs.pop(job.id, None)  # the same id again: the newest content wins, and is the newest
        self._jobs[job.id] = job
        while len(self._jobs) > MAX_JOBS:
            del self._jobs[next(iter(self._jobs))]
        return NewJob(job, clean, reason)

    @property
    def resumption(self) -> Resumption | None:
        """For the connection after this one; None if the pool gave nothing to resume with."""
        given = self._subscription
        if given is None or given.session_id is None:
            return None
        return Resumption(given.session_id, given.extranonce1, given.extranonce2_size, dict(self._jobs))
