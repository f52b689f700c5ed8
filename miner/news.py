"""Telling listeners in order, whatever thread the news comes from."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class News(Generic[T]):
    """Items for any number of listeners. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[T], object]] = {}
        self._items: deque[T] = deque()
        self._telling = threading.Lock()

    def subscribe(self, callback: Callable[[T], object]) -> Callable[[], None]:
        """Have `callback` told of every item from now on; returns what ends that.

        It is called by a thread that called `tell`, one call at a time. What it raises is logged.
        """
        key = object()
        self._listeners[key] = callback

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    def add(self, item: T) -> None:
        """Queue an item. Under the caller's own lock, if the order matters."""
        self._items.append(item)

    def tell(self) -> None:
        """Have every queued item told. Without any lock that a listener may want."""
        # Whoever is telling already, in this thread or another, tells ours too: so the order is kept.
        while self._items and self._telling.acquire(blocking=False):
            try:
                while self._items:
                    self._tell_all(self._items.popleft())
            finally:
                self._telling.release()

    def _tell_all(self, item: T) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener(item)
            except Exception:  # noqa: BLE001 - the listener's mistake; the others want to know
                _log.exception("a listener failed on %s", item)
