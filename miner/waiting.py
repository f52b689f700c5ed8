"""Waiting for what cannot be interrupted: a compiler or a driver that stays in its own code for seconds.

Python hears a signal only between two of its own instructions. So such a call runs in a thread of its own,
while the main thread listens, and tells how long it has been.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")

TELL_EVERY = 0.25
"""Seconds between two reports."""

_abandoned: list[threading.Thread] = []
"""Calls that were left behind."""


class _Call(threading.Thread, Generic[_T]):
    def __init__(self, call: Callable[[], _T]) -> None:
        super().__init__(name="waited for", daemon=True)
        self._call = call
        self.result: _T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self.error = error


def wait_for(call: Callable[[], _T], on_wait: Callable[[float], None]) -> _T:
    """What the call returns, or raises. `on_wait` is told the seconds so far, four times a second.

    A signal whose handler raises is heard at once; the call is then left alone in its thread.
    """
    thread, seconds = _Call(call), 0.0
    thread.start()
    try:
        while thread.is_alive():
            on_wait(seconds)
            thread.join(TELL_EVERY)
            seconds += TELL_EVERY
    except BaseException:
        _abandoned.append(thread)
        raise
    if thread.error is not None:
        raise thread.error
    return thread.result  # type: ignore[return-value]  # no error: it was set


def end(status: int) -> int:
    """The status, for `sys.exit`; but while an abandoned call is still at it the process ends here and now.

    To take the interpreter down around a driver may hang, or crash.
    """
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
