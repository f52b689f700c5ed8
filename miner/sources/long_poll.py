"""Waiting at a node for its next template: one long poll after the other, never two.

Seen: four long polls that were given up occupied all four RPC threads of a real
bitcoind, which then answered nothing, not even submitblock. So one that broke
off is not repeated before the tip has changed, which ends it at the node too,
or the node itself has ended.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from miner.errors import SourceError, SourceUnavailable
from miner.sources.connection import Backoff
from miner.sources.jsonrpc import Unauthorized
from miner.sources.node_client import Fetched, NodeClient, NotReady
from miner.template import Template


class Offer(Protocol):
    """What to do with a template."""

    def __call__(self, node: NodeClient, fetched: Fetched, reason: str) -> bool:
        """Whether it was something new. Whatever it raises is told and survived."""


class LongPoller:
    """Polls the nodes one at a time, each from `begin` until its event is set."""

    def __init__(
        self,
        current: Callable[[], Template | None],
        seen: Callable[[bytes], None],
        offer: Offer,
        tell: Callable[[str], None],
        *,
        pace: float,
        first_retry: float,
        last_retry: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`current`: the template that is to be superseded; `seen` is told a new parent first.

        Seconds: `pace` lies between two polls that are answered at once, the others between two that fail.
        """
        self._current, self._seen, self._offer, self._tell = current, seen, offer, tell
        self._pace, self._first, self._last, self._clock = pace, first_retry, last_retry, clock
        # The tip at which a long poll was asked; no entry once it is answered.
        self._waiting: dict[NodeClient, bytes] = {}

    def begin(self, node: NodeClient) -> threading.Event:
        """Poll this node, in a thread of its own, until the event is set."""
        stop = threading.Event()
        threading.Thread(target=self._run, args=(node, stop), name="node long poll", daemon=True).start()
        return stop

    def ended(self, node: NodeClient) -> None:
        """The node's process is gone, and every poll that hung there with it."""
        self._waiting.pop(node, None)

    def _run(self, node: NodeClient, stop: threading.Event) -> None:
        failing, quick = Backoff(self._first, self._last), Backoff(self._pace, 5.0)
        while not stop.is_set():
            known = self._current()
            if known is None or known.long_poll_id is None or self._waiting.get(node) == known.previous:
                stop.wait(0.1)
                continue
            began = self._clock()
            try:
                fetched = self._ask(node, known.previous, known.long_poll_id)
                if stop.is_set():
                    return
                changed = self._offer(node, fetched, "long poll")
            except Exception as error:  # noqa: BLE001 - the top of a thread
                if stop.is_set():
                    return
                self._tell(f"{node.name}: long poll: {error}")
                # BIP 22: it is forbidden to simply retry immediately with no delay after one failure.
                stop.wait(failing.next())
                continue
            failing.reset()
            if not changed:
                stop.wait(quick.next())  # the id has changed and the content has not
                continue
            quick.reset()
            stop.wait(max(0.0, self._pace - (self._clock() - began)))

    def _ask(self, node: NodeClient, tip: bytes, long_poll_id: str) -> Fetched:
        """One long poll. Without an answer it counts as waiting still, at the node."""
        self._waiting[node] = tip
        try:
            fetched = node.long_poll(long_poll_id, self._seen)
        except SourceError as error:
            answered = isinstance(error, NotReady | Unauthorized) or not isinstance(error, SourceUnavailable)
            if answered:
                self._waiting.pop(node, None)
            raise
        self._waiting.pop(node, None)
        return fetched
