"""What becomes of the shares handed to a pool, over one connection or several.

A share waits for the pool's answer in a slot. If the connection breaks first,
it is handed in again when the session is resumed, and only then: another
session has other jobs.
"""

import threading
from collections.abc import Callable

from miner.errors import LocalProtocolError
from miner.estimate import RateEstimate, rate_from_shares
from miner.sources.pool_link import BEAT, PoolLink
from miner.stratum import Session
from miner.stratum_events import Judged
from miner.stratum_jobs import Resumption
from miner.target import expected_hashes
from miner.work import Job, Outcome, Share, Verdict


class _Slot:
    """A share that waits for its verdict."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.outcome, self.reason, self.lost = Outcome.UNKNOWN, "no answer", False

    def judged(self, outcome: Outcome, why: str) -> None:
        self.outcome, self.reason = outcome, why
        self.done.set()

    def lose(self) -> None:
        self.lost = True
        self.done.set()


class PoolShares:
    """The current session, and the shares that wait for it. `lock` guards both, and the session's insides."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """`seconds`: how long a share waits for its verdict, a reconnection included."""
        self._seconds, self._clock = seconds, clock
        self.lock = threading.Condition()
        self.resumption: Resumption | None = None
        self._session: Session | None = None
        self._link: PoolLink | None = None
        self._slots: dict[int, _Slot] = {}
        self._closed = False
        self._accepted = self._hashes = 0
        self._started = clock()

    def connected(self, session: Session, link: PoolLink) -> None:
        """From now on shares go there."""
        with self.lock:
            self._session, self._link = session, link

    def changed(self) -> None:
        """The session has come further: let the waiting shares look again."""
        with self.lock:
            self.lock.notify_all()

    def disconnected(self) -> None:
        """Shares under way are lost for now."""
        with self.lock:
            session, self._session, self._link = self._session, None, None
            if session is not None and session.resumption is not None:
                self.resumption = session.resumption
            slots, self._slots = self._slots, {}
            self.lock.notify_all()
        for slot in slots.values():
            slot.lose()

    def close(self) -> None:
        """Shares that wait for a verdict get UNKNOWN; the link is woken, to notice its end."""
        with self.lock:
            self._closed = True
            for slot in self._slots.values():
                slot.judged(Outcome.UNKNOWN, "closed before the pool answered")
            self.lock.notify_all()
            if self._link is not None:
                self._link.wake()

    @property
    def difficulty(self) -> float | None:
        """That the pool asks of a share; None without a connection."""
        with self.lock:
            return self._session.difficulty if self._session is not None else None

    def inferred(self) -> RateEstimate | None:
        """The hash rate that the accepted shares prove; None before the first."""
        with self.lock:
            return rate_from_shares(self._accepted, self._hashes, self._clock() - self._started)

    def judged(self, event: Judged) -> None:
        """The pool, or its silence, has ruled."""
        with self.lock:
            slot = self._slots.pop(event.request, None)
        if slot is not None:
            slot.judged(event.outcome, event.reason)

    def submit(self, share: Share) -> Verdict:
        """Hand in a share and wait. Should the connection break meanwhile, again if it is resumed."""
        job = share.work.job
        if job is None:
            raise LocalProtocolError(f"share {share.hash_hex} belongs to no job")
        deadline, repeated = self._clock() + self._seconds, False
        while True:
            slot = self._hand_in(share, job, deadline)
            if slot is None:
                return self._not_handed_in(share, repeated)
            slot.done.wait(max(deadline - self._clock(), 0.0))
            if not slot.lost:
                break
            repeated = True
        if repeated and slot.outcome is Outcome.REJECTED and "duplicate" in slot.reason.lower():
            slot.outcome = Outcome.ACCEPTED  # the pool had taken it before the connection broke
        return self._verdict(share, slot.outcome, slot.reason)

    def _hand_in(self, share: Share, job: Job, deadline: float) -> _Slot | None:
        """Give it to the session, once there is one; None if none that knows its job comes in time."""
        with self.lock:
            while not self._closed and self._clock() < deadline:
                session = self._session
                if session is not None and session.knows(job):
                    slot = _Slot()
                    self._slots[session.submit(share, self._clock())] = slot
                    if self._link is not None:
                        self._link.wake()
                    return slot
                if session is not None and session.working:
                    return None  # there is a connection, and the job is not one of its own
                self.lock.wait(BEAT)
        return None

    def _not_handed_in(self, share: Share, repeated: bool) -> Verdict:
        with self.lock:
            superseded = self._session is not None and not self._closed
        if repeated:
            return Verdict(share, Outcome.UNKNOWN, "the connection broke before the pool answered")
        if superseded:
            return Verdict(share, Outcome.STALE, "superseded")
        return Verdict(share, Outcome.UNKNOWN, "no connection to a pool")

    def _verdict(self, share: Share, outcome: Outcome, why: str) -> Verdict:
        if outcome is Outcome.ACCEPTED:
            with self.lock:
                self._accepted += 1
                self._hashes += expected_hashes(share.work.target)
        return Verdict(share, outcome, why)
