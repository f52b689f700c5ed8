"""Work from a Stratum pool, or several that stand in for each other.

What the protocol means is `miner.stratum`'s to know, how bytes get to and fro
`miner.sources.pool_link`'s. Here: which pool, when to try again, which jobs
the devices get, and what becomes of every share.
"""

import logging
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from miner.engine import Delivery, Update
from miner.errors import SourceError, SourceUnavailable
from miner.estimate import RateEstimate
from miner.sources.connection import Backoff, Endpoint, Resolve, SourceStatus, open_connection, reason
from miner.sources.pool_link import BEAT, LinkLost, PoolLink
from miner.sources.pool_shares import PoolShares
from miner.stratum import Session
from miner.stratum_events import Authorized, Dropped, Event, Judged, Moved, Note
from miner.stratum_jobs import JobRefused, NewJob
from miner.stratum_params import Redirect
from miner.untrusted import excerpt
from miner.work import Job, Share, Verdict

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoolSettings:
    """What a pool may ask for and cost; times in seconds."""

    connect: float = 15.0
    silence: float = 180.0
    """Without a byte from the pool: then the connection counts as dead."""
    first_retry: float = 1.0
    last_retry: float = 60.0
    steady: float = 30.0
    """A connection that lasted this long ends the growth of the delay."""
    pace: float = 0.05
    """Between two jobs for the devices; of a storm the newest counts."""
    submit: float = 40.0
    """How long a share waits for its verdict, a reconnection included."""
    resume: float = 20.0
    """How long the devices mine on without a connection, if the session can be resumed."""
    fail_back: float = 300.0
    """Between two looks whether a pool earlier in the list is back."""
    longest_wait: float = 300.0
    """However long a pool asks to wait before the next connection."""
    refusals: int = 3
    """Refusals of our name by every pool, before any took it, that end the run."""
    hosts: frozenset[str] = frozenset()
    """Other hosts to which a pool may send us, with our name and password."""
    suggest: float | None = None
    """The share difficulty to ask for."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)


class PoolSource:
    """The work source (see `miner.engine.WorkSource`) that mines for a pool."""

    def __init__(
        self,
        pools: Sequence[Endpoint],
        settings: PoolSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        """The first pool that works is mined for. ValueError without any."""
        if not pools:
            raise ValueError("no pool to mine for")
        self._pools, self._settings = list(pools), settings or PoolSettings()
        self._clock, self._resolve = clock, resolve
        self._deliver: Callable[[Delivery], None] = lambda _: None
        self._closed = threading.Event()
        # The thread's own.
        self._at = 0
        self._moved: Endpoint | None = None
        self._last_pool: Endpoint | None = None
        self._least_wait = 0.0
        self._backoff = Backoff(self._settings.first_retry, self._settings.last_retry)
        self._extensions = True
        self._refusals = 0
        self._ever_authorized = False
        self._next_update: Update | None = None  # waits until the devices may have it
        self._delivered_at = float("-inf")
        self._busy = False  # the devices have a job
        self._idle_at: float | None = None  # when they are to leave it, should no other come
        self._newest: Job | None = None
        self._first_job = True  # of this connection, none has come yet
        self._looked_back = clock()
        self._said: deque[str] = deque(maxlen=20)
        self._better: int | None = None  # a pool earlier in the list that is back
        self._shares = PoolShares(self._settings.submit, clock)
        self._set_state("connecting", f"connecting to {self._pools[0].name}")

    @property
    def name(self) -> str:
        """The pools' addresses, without credentials."""
        return ", ".join(pool.name for pool in self._pools)

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Begin, in a thread of its own."""
        self._deliver = deliver
        threading.Thread(target=self._run, name="pool source", daemon=True).start()

    def submit(self, share: Share) -> Verdict:
        """Hand in a share and wait for the verdict; see `PoolShares.submit`."""
        return self._shares.submit(share)

    def close(self) -> None:
        """Stop; shares that wait for a verdict get UNKNOWN."""
        self._closed.set()
        self._shares.close()
        self._set_state("closed", "closed")

    @property
    def status(self) -> SourceStatus:
        """How it is."""
        difficulty, sentence = self._shares.difficulty, self._sentence
        if difficulty is not None and self._state == "connected":
            sentence += f", share difficulty {difficulty:.4g}"
        return SourceStatus(self._state, sentence, self._since, difficulty)

    def inferred(self) -> RateEstimate | None:
        """The hash rate that the accepted shares prove, since the start; None before the first."""
        return self._shares.inferred()

    # -- which pool --------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            pool, self._moved = self._moved or self._pools[self._at], None
            began, had_job = self._clock(), self._newest
            try:
                self._mine(pool)
            except SourceError as error:
                self._trouble(pool, error, lasted=self._clock() - began, worked=self._newest is not had_job)
            except OSError as error:  # this computer's trouble: no file descriptors left, for instance
                self._trouble(pool, SourceUnavailable(reason(error)), lasted=0.0, worked=False)
            except Exception as error:  # noqa: BLE001 - the top of a thread
                _log.exception("%s", pool.name)
                self._trouble(pool, SourceUnavailable(f"unexpected {type(error).__name__}"), 0.0, False)

    def _trouble(self, pool: Endpoint, error: SourceError, lasted: float, worked: bool) -> None:
        self._disconnected()
        if self._closed.is_set():
            return
        self._say(f"{pool.name}: {error}")
        refused = isinstance(error, LinkLost) and error.refused
        self._refusals += refused
        if (
            refused
            and not self._ever_authorized
            and self._refusals >= self._settings.refusals * len(self._pools)
        ):
            self._set_state("failed", f"{pool.name}: {error}")
            self._closed.set()
            self._deliver(SourceUnavailable(f"{pool.name}: {error}"))
            return
        if isinstance(error, LinkLost) and not worked and not refused:
            self._extensions = not self._extensions  # perhaps it hung up on a question it did not know
        steady = lasted >= self._settings.steady
        if steady:
            self._backoff.reset()
        self._pause(pool, error, self._next_pool(steady))

    def _next_pool(self, steady: bool) -> float:
        """Choose the pool to try now; seconds to wait before."""
        wait, self._least_wait = self._least_wait, 0.0
        better, self._better = self._better, None
        if better is not None:
            self._at = better
            return 0.0
        if self._moved is not None or steady:
            return max(wait, self._backoff.next())
        self._at = (self._at + 1) % len(self._pools)
        # The next pool is tried at once; only a round without success is waited after.
        return max(wait, self._backoff.next() if self._at == 0 else 0.0)

    def _pause(self, pool: Endpoint, error: SourceError, seconds: float) -> None:
        self._set_state("failed", f"{pool.name}: {error}; trying again in {seconds:.0f} s")
        end = self._clock() + seconds
        while not self._closed.is_set() and (left := end - self._clock()) > 0:
            self._idle_if_due()
            self._closed.wait(min(left, BEAT))

    def _disconnected(self) -> None:
        """The devices go on for a while if the session may be resumed, else they idle."""
        self._next_update = None
        self._shares.disconnected()
        if self._busy and self._idle_at is None:
            resumable = self._shares.resumption is not None
            self._idle_at = self._clock() + (self._settings.resume if resumable else 0.0)
            self._idle_if_due()

    def _idle_if_due(self) -> None:
        if self._idle_at is not None and self._clock() >= self._idle_at:
            self._idle()

    def _idle(self) -> None:
        self._next_update, self._idle_at, self._busy = None, None, False
        self._deliver(None)

    # -- one connection ----------------------------------------------------------------------------

    def _mine(self, pool: Endpoint) -> None:
        """Until the connection ends, one way or another: SourceError."""
        self._set_state("connecting", f"connecting to {pool.name}")
        settings = self._settings
        if pool != self._last_pool:
            self._last_pool, self._shares.resumption = pool, None  # another pool knows nothing of it
        sock = open_connection(
            pool, settings.connect, tls=settings.tls, resolve=self._resolve, clock=self._clock
        )
        session = Session(
            pool.user,
            pool.password,
            resume=self._shares.resumption,
            extensions=self._extensions,
            suggest=settings.suggest,
        )
        session.start(self._clock())
        link = PoolLink(sock, session, self._shares.lock, silence=settings.silence, clock=self._clock)
        self._shares.connected(session, link)
        self._looked_back = self._clock()
        self._first_job = True
        try:
            link.run(lambda events: self._handle(pool, session, events), lambda: self._tick(pool))
        finally:
            link.close()

    def _tick(self, pool: Endpoint) -> float:
        """What is due; seconds until something else is."""
        if self._closed.is_set():
            raise LinkLost("closed")
        now = self._clock()
        self._idle_if_due()
        if self._at and now - self._looked_back >= self._settings.fail_back:
            self._looked_back = now
            threading.Thread(
                target=self._look_back, args=(self._at,), name="pool fail back", daemon=True
            ).start()
        if self._better is not None:
            raise LinkLost(f"{self._pools[self._better].name} is back")
        if self._next_update is None:
            return BEAT
        due = self._delivered_at + self._settings.pace - now
        if due <= 0:
            update, self._next_update = self._next_update, None
            self._delivered_at, self._idle_at, self._busy = now, None, True
            self._deliver(update)
            return BEAT
        return due

    def _look_back(self, at: int) -> None:
        for place, pool in enumerate(self._pools[:at]):
            try:
                open_connection(
                    pool, self._settings.connect, tls=self._settings.tls, resolve=self._resolve
                ).close()
            except SourceError:
                continue
            self._better = place
            return

    # -- events ------------------------------------------------------------------------------------

    def _handle(self, pool: Endpoint, session: Session, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, NewJob):
                self._new_job(session, event)
            elif isinstance(event, Judged):
                self._shares.judged(event)
            elif isinstance(event, JobRefused):
                self._say(f"{pool.name}: job refused: {event.text}")
                if event.clean:
                    self._idle()
            elif isinstance(event, Authorized):
                self._ever_authorized, self._refusals = True, 0
                self._set_state("connected", f"connected to {pool.name}")
                self._shares.changed()
            elif isinstance(event, Moved):
                self._move(pool, event.to)
            elif isinstance(event, Note):
                self._say(f"{pool.name}: {event.text}")
            elif isinstance(event, Dropped):
                raise LinkLost(event.text, refused=event.refused)

    def _new_job(self, session: Session, event: NewJob) -> None:
        with self._shares.lock:
            # After a new connection the old jobs are worthless, unless the session was resumed.
            orphaned = self._first_job and self._newest is not None and not session.knows(self._newest)
        self._shares.changed()
        self._first_job = False
        waiting = self._next_update
        clean = event.clean or orphaned or (waiting is not None and waiting.clean)
        self._newest, self._next_update = event.job, Update(event.job, event.reason, clean)

    def _move(self, pool: Endpoint, to: Redirect) -> None:
        """client.reconnect. Our name and password go to no host that was not configured."""
        host = to.host or pool.host
        allowed = host.lower() in {pool.host.lower(), *(name.lower() for name in self._settings.hosts)}
        if not allowed:
            self._say(f"{pool.name}: asks us to go to {excerpt(host)}, which is not allowed: staying")
            return
        self._moved = replace(pool, host=host, port=to.port or pool.port)
        self._least_wait = min(to.seconds, self._settings.longest_wait)
        raise LinkLost(f"the pool asks us to connect to {self._moved.name}")

    # -- telling -----------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        """Log a line, once while it is among the last twenty different ones."""
        if line not in self._said:
            self._said.append(line)
            _log.warning("%s", line)

    def _set_state(self, state: str, sentence: str) -> None:
        if not (self._closed.is_set() and state != "closed"):
            self._state, self._sentence, self._since = state, sentence, self._clock()
