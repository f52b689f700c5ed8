"""One connection to a pool: moves bytes between a socket and a session, and minds the clock.

All I/O is the calling thread's. Others may hand shares to the session under
`lock`; `wake` makes the loop look whether there is something to send.
"""

import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from miner.errors import SourceError
from miner.sources.connection import reason
from miner.stratum import Session
from miner.stratum_events import Event

BEAT = 0.25
"""Seconds between two looks at the clock, at most."""

_PIECE = 1 << 16
_PIECES = 16
"""Read in one go before anybody else gets a turn."""

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class LinkLost(SourceError):
    """The connection is over. `refused`: because the pool does not take our name."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class PoolLink:
    """A connected socket and its session, until `run` raises LinkLost."""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        lock: "threading.Condition",
        *,
        silence: float,
        clock: Callable[[], float],
    ) -> None:
        """`silence`: seconds without a byte after which the connection counts as dead."""
        self._socket, self._session, self._lock = sock, session, lock
        self._silence, self._clock = silence, clock
        self._heard = clock()
        self._unsent = b""
        self._waker, self._wakened = socket.socketpair()
        for each in (sock, self._waker, self._wakened):
            each.setblocking(False)

    def wake(self) -> None:
        """From any thread: the session has something to send."""
        with suppress(OSError):  # full: it is awake already; closed: it does not matter any more
            self._waker.send(b"\0")

    def close(self) -> None:
        """After `run`."""
        for each in (self._socket, self._waker, self._wakened):
            each.close()

    def run(self, handle: Callable[[list[Event]], None], tick: Callable[[], float]) -> None:
        """Until the connection ends: LinkLost. `tick` is called at least every BEAT, and says when to be
        called again, in seconds; it and `handle` may raise LinkLost too."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._wakened, selectors.EVENT_READ)
            more = False
            while True:
                self._send()
                interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
                selector.modify(self._socket, interest)
                selector.select(0.0 if more else max(0.0, min(BEAT, tick())))
                self._drain_wakes()
                more = self._receive(handle)
                self._mind_the_clock(handle)

    def _drain_wakes(self) -> None:
        with suppress(OSError):
            self._wakened.recv(4096)

    def _receive(self, handle: Callable[[list[Event]], None]) -> bool:
        """Whether there is more to read at once."""
        for _ in range(_PIECES):
            try:
                data = self._socket.recv(_PIECE)
            except _LATER:
                return False
            except OSError as error:
                raise LinkLost(f"the connection broke: {reason(error)}") from None
            if not data:
                raise LinkLost("the pool closed the connection")
            self._heard = self._clock()
            with self._lock:
                events = self._session.receive(data, self._heard)
            handle(events)
        return True

    def _mind_the_clock(self, handle: Callable[[list[Event]], None]) -> None:
        now = self._clock()
        with self._lock:
            events = self._session.expire(now)
        handle(events)
        if now - self._heard > self._silence:
            raise LinkLost(f"nothing was heard from the pool for {self._silence:.0f} s")

    def _send(self) -> None:
        with self._lock:
            self._unsent += self._session.outgoing()
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent[:_PIECE])
            except _LATER:
                return
            except OSError as error:
                raise LinkLost(f"the connection broke: {reason(error)}") from None
            self._unsent = self._unsent[sent:]
