"""The verdicts of one run, for `for` and for `async for`."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Self

from miner.work import Verdict


class Run:
    """The verdicts of one run, in the order in which they came: for `for` and for `async for`.

    Ends when it or its engine is closed; raises what the source died of, or DeviceFault when no
    device is left.
    """

    def __init__(self, stop: Callable[[], None], *, first_era: int = 0, limit: int | None = None) -> None:
        """`stop` is called by `close`. For the rest see `admit`."""
        self._stop, self._first_era, self._limit = stop, first_era, limit
        self._admitted = 0  # shares that were accepted, or still may be
        self._accepted = 0
        self._verdicts: deque[Verdict] = deque(maxlen=10_000)  # should nobody read them
        self._arrived = threading.Condition()
        self._ended = False
        self._error: Exception | None = None
        self._wake_loop: Callable[[], None] | None = None

    def close(self) -> None:
        """End the run: the source is closed, the devices idle."""
        self._stop()
        self.end()

    @property
    def ended(self) -> bool:
        """Whether nothing more can come: every verdict was taken and the run is over."""
        with self._arrived:
            return self._ended and not self._verdicts

    def get(self, timeout: float) -> Verdict | None:
        """The next verdict, or None if `timeout` seconds bring none or the run has ended (see `ended`)."""
        with self._arrived:
            if not self._verdicts and not self._ended:
                self._arrived.wait(timeout)
            if self._verdicts:
                return self._verdicts.popleft()
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Verdict:
        while not self.ended:
            verdict = self.get(0.5)  # bounded: on Windows Ctrl-C is noticed between waits only
            if verdict is not None:
                return verdict
        self.get(0)  # raises what the run died of, once
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Verdict:
        loop = asyncio.get_running_loop()
        while not self.ended:
            arrived = asyncio.Event()
            with self._arrived:
                self._wake_loop = partial(_wake, loop, arrived)
            verdict = self.get(0)
            if verdict is not None:
                return verdict
            await arrived.wait()
        self.get(0)
        raise StopAsyncIteration

    def admit(self, era: int) -> bool:
        """For the engine: whether a share found in this era may be submitted.

        Not if an earlier run left it behind, and not if the limit may be reached without it.
        """
        with self._arrived:
            if self._ended or era < self._first_era or self._admitted == self._limit:
                return False
            self._admitted += 1
            return True

    def put(self, verdict: Verdict) -> None:
        """For the engine: the verdict on an admitted share. The last one of the limit ends the run."""
        with self._arrived:
            self._admitted -= not verdict.accepted
            self._accepted += verdict.accepted
            self._verdicts.append(verdict)
            self._notify()
            complete = self._accepted == self._limit
        if complete:
            self.close()

    def end(self, error: Exception | None = None) -> None:
        """For the engine: no more verdicts, perhaps because of an error. Only the first end counts."""
        with self._arrived:
            if not self._ended:
                self._ended, self._error = True, error
            self._notify()

    def _notify(self) -> None:
        self._arrived.notify_all()
        wake, self._wake_loop = self._wake_loop, None
        if wake is not None:
            wake()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(event.set)
