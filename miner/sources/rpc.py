"""Work from a Bitcoin node, or several that stand in for each other.

Three ways lead to a new template: one long poll, which waits at the node for
the next block; the tip, looked at every second, since long polls and templates
get lost; and age. Whichever answer arrived last counts. Before its first hash
a template's block is shown to the node as a proposal, when it takes those.

At most one long poll is ever outstanding at a node. Seen: four that were given
up occupied all four RPC threads of a real bitcoind, which then answered
nothing, not even submitblock. So a long poll that broke off is not repeated
before the tip has changed, which ends it at the node as well.
"""

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from miner.engine import Delivery, Update
from miner.errors import RemoteProtocolError, SourceError, SourceUnavailable
from miner.header import display_hex
from miner.sources.connection import Backoff, Endpoint, NothingListens, SourceStatus
from miner.sources.jsonrpc import Credentials, Unauthorized
from miner.sources.node_client import Fetched, NodeClient, NodeLimits, NotReady
from miner.template import Payout, Template
from miner.work import Outcome, Share, Verdict

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeTimes:
    """How often and how long, in seconds."""

    tip: float = 1.0
    """Between two looks at the best block."""
    refresh: float = 30.0
    """A template's age at which a new one is asked for: new fees, and the time."""
    least: float = 1.0
    """Between two templates asked for because of their age, whatever they say of `expires`."""
    pace: float = 0.05
    """Between two long polls that are answered at once."""
    first_retry: float = 1.0
    last_retry: float = 60.0
    blind: float = 60.0
    """How long to mine on while no node answers: a block may still be in time."""
    submit: float = 60.0
    """How long to try to hand in a block."""
    fail_back: float = 60.0
    """Between two looks whether a node earlier in the list is back."""
    stale_looks: int = 3
    """Looks at the tip that a template may disagree with before it counts as stale."""
    refusals: int = 5
    """Refusals of the credentials, in a row and before the first template, that end the run."""


@dataclass(frozen=True)
class FoundBlock:
    """A block of ours, and whether the best chain has it."""

    height: int
    hash: bytes
    on_chain: bool = True


class NodeSource:
    """The work source (see `miner.engine.WorkSource`) that mines for a Bitcoin node."""

    def __init__(
        self,
        nodes: Sequence[tuple[Endpoint, Credentials]],
        payout: Payout,
        *,
        limits: NodeLimits | None = None,
        times: NodeTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The first node that works is mined for. ValueError without any."""
        if not nodes:
            raise ValueError("no node to mine for")
        self._times, self._clock, self._payout = times or NodeTimes(), clock, payout
        order = itertools.count()
        self._nodes = [NodeClient(*node, limits or NodeLimits(), order=order, clock=clock) for node in nodes]
        self._at = 0
        self._backoff = Backoff(self._times.first_retry, self._times.last_retry)
        self._numbers = itertools.count(1)
        # Two miners on one node must not search the same headers.
        self._instance = os.urandom(4)
        self._genesis: bytes | None = None
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._offering = threading.RLock()  # held while a template becomes a job: none overtakes a newer one
        self._current: Template | None = None  # what the devices work on
        self._current_spent = False  # judged: the devices have left it
        self._beaten: bytes | None = None  # a parent that has a child by now, ours or another's
        self._arrived = -1
        self._seen_alive = clock()
        self._givers: dict[str, NodeClient] = {}
        self._stuck_poll: dict[NodeClient, bytes] = {}  # the tip at which a long poll broke off
        self._rejections = Backoff(0.1, 10.0)
        self._hold_until = 0.0
        self._said: deque[str] = deque(maxlen=20)
        self._blocks: deque[FoundBlock] = deque(maxlen=100)
        self._deliver: Callable[[Delivery], None] = lambda _: None
        self._set_status("connecting", "connecting")

    @property
    def name(self) -> str:
        """The nodes' addresses, without credentials."""
        return ", ".join(node.name for node in self._nodes)

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Begin, in threads of its own."""
        self._deliver = deliver
        threading.Thread(target=self._run, name="node source", daemon=True).start()

    def close(self) -> None:
        """Stop; calls that are under way are broken off."""
        self._closed.set()
        self._wake.set()
        for node in self._nodes:
            node.close()
        self._set_status("closed", "closed")

    @property
    def status(self) -> SourceStatus:
        """How it is."""
        return self._status

    @property
    def blocks(self) -> tuple[FoundBlock, ...]:
        """The last hundred blocks of ours that the node took, oldest first."""
        return tuple(self._blocks)

    # -- which node --------------------------------------------------------------------------------

    def _run(self) -> None:
        refusals = 0
        while not self._closed.is_set():
            node = self._nodes[self._at]
            try:
                self._serve(node)
                continue
            except NotReady as error:
                self._trouble(node, error, "waiting")
            except SourceError as error:
                self._trouble(node, error, "failed")
                refusals = refusals + 1 if isinstance(error, Unauthorized) else 0
                if self._hopeless(error, refusals):
                    self._deliver(SourceUnavailable(f"{node.name}: {error}"))
                    return
            except Exception as error:  # noqa: BLE001 - the top of a thread
                _log.exception("%s", node.name)
                self._trouble(node, SourceUnavailable(f"unexpected {type(error).__name__}"), "failed")
            self._at = (self._at + 1) % len(self._nodes)
            # The next node is tried at once; only a round without success is waited after.
            self._pause(self._backoff.next() if self._at == 0 else 0.0)

    def _hopeless(self, error: SourceError, refusals: int) -> bool:
        """Whether only an operator can mend it: no node has ever taken our credentials."""
        return (
            isinstance(error, Unauthorized)
            and self._genesis is None
            and refusals
            >= (self._times.refusals * len(self._nodes) if self._any_cookie else len(self._nodes))
        )

    @property
    def _any_cookie(self) -> bool:
        return any(node.has_cookie for node in self._nodes)

    def _trouble(self, node: NodeClient, error: SourceError, state: str) -> None:
        if self._closed.is_set():
            return
        if isinstance(error, NothingListens):
            self._stuck_poll.pop(node, None)  # the process that held it is gone
        self._say(f"{node.name}: {error}")
        self._set_status(state, f"{node.name}: {error}")
        with self._offering:
            known = self._current
        if known is not None and isinstance(error, RemoteProtocolError) and not self._still_tip(node, known):
            self._idle()

    def _still_tip(self, node: NodeClient, template: Template) -> bool:
        try:
            return node.tip() == template.previous
        except SourceError:
            return False

    def _pause(self, seconds: float) -> None:
        """Wait; without any node for too long, the devices idle."""
        end = self._clock() + seconds
        while not self._closed.is_set():
            if self._clock() - self._seen_alive > self._times.blind:
                self._idle()
            left = end - self._clock()
            if left <= 0:
                return
            self._closed.wait(min(left, 1.0))

    def _idle(self) -> None:
        with self._offering:
            if self._current is not None:
                self._current = None
                self._deliver(None)

    # -- one node ----------------------------------------------------------------------------------

    def _serve(self, node: NodeClient) -> None:
        """Mine for this node until it fails, until an earlier one is back, or until the end."""
        self._check_chain(node)
        self._wake.clear()
        with self._offering:
            self._current_spent = True
        self._offer(node, node.template(), "start")
        self._backoff.reset()
        stop = threading.Event()
        long_poll = threading.Thread(
            target=self._long_poll, args=(node, stop), name="node long poll", daemon=True
        )
        long_poll.start()
        try:
            self._watch(node)
        finally:
            stop.set()

    def _check_chain(self, node: NodeClient) -> None:
        genesis = node.genesis()
        if self._genesis is not None and genesis != self._genesis:
            self._idle()
            found, wanted = display_hex(genesis), display_hex(self._genesis)
            raise SourceUnavailable(f"it is on another chain: its first block is {found}, not {wanted}")
        self._genesis = genesis

    def _watch(self, node: NodeClient) -> None:
        fetched_at = looked_back = self._clock()
        disagreements, connections, checked = 0, node.connections, b""
        while not self._closed.is_set():
            woken = self._wake.wait(self._times.tip)
            self._wake.clear()
            self._pause(self._hold_until - self._clock())
            if self._closed.is_set():
                return
            tip = node.tip()
            self._seen_alive = self._clock()
            if node.connections != connections:
                self._check_chain(node)  # it may have been started again, as another
                connections = node.connections
            with self._offering:
                known = self._current
            moved = known is None or tip != known.previous
            if woken or moved or self._clock() - fetched_at >= self._age(known):
                fetched, fetched_at = node.template(), self._clock()
                if fetched.template.previous == tip or node.tip() == fetched.template.previous:
                    disagreements = 0
                    self._offer(node, fetched, "new tip" if moved else "time")
                else:
                    disagreements += 1
                    self._stale(node, fetched.template, disagreements)
            if tip != checked and not (self._blocks and self._blocks[-1].hash == tip):
                self._check_blocks(node)
            checked = tip
            if self._at and self._clock() - looked_back >= self._times.fail_back:
                looked_back = self._clock()
                if self._earlier_is_back():
                    return

    def _age(self, template: Template | None) -> float:
        """Seconds after which a template is replaced."""
        if template is None or template.expires is None:
            return self._times.refresh
        return min(self._times.refresh, max(template.expires, self._times.least))

    def _stale(self, node: NodeClient, template: Template, looks: int) -> None:
        """The template is not on the tip. Seen: bcoin keeps its cached one after invalidateblock."""
        if looks < self._times.stale_looks:
            self._wake.set()  # a block came between the two calls, most likely
            self._closed.wait(min(0.05, self._times.tip))
            return
        text = f"its template is on {template.previous_hex}, which is not its best block: not mined"
        self._say(f"{node.name}: {text}")
        self._set_status("waiting", f"{node.name}: {text}")
        self._idle()

    def _earlier_is_back(self) -> bool:
        for place, node in enumerate(self._nodes[: self._at]):
            try:
                self._check_chain(node)
                node.template()
            except SourceError:
                continue
            self._at = place
            return True
        return False

    # -- long polling ------------------------------------------------------------------------------

    def _long_poll(self, node: NodeClient, stop: threading.Event) -> None:
        """One long poll after the other; see the module's text for what happens when one breaks off."""
        backoff = Backoff(self._times.first_retry, self._times.last_retry)
        quick = Backoff(self._times.pace, 5.0)
        while not stop.is_set() and not self._closed.is_set():
            with self._offering:
                known = self._current
            if known is None or known.long_poll_id is None or self._stuck_poll.get(node) == known.previous:
                stop.wait(0.1)
                continue
            self._stuck_poll.pop(node, None)
            began = self._clock()
            try:
                fetched = node.long_poll(known.long_poll_id)
                backoff.reset()
                if stop.is_set():
                    return
                changed = self._offer(node, fetched, "long poll")
            except Exception as error:  # noqa: BLE001 - the top of a thread
                if self._closed.is_set():
                    return
                self._say(f"{node.name}: long poll: {error}")
                if isinstance(error, SourceUnavailable) and not isinstance(error, NotReady | Unauthorized):
                    self._stuck_poll[node] = known.previous  # it may still be waiting, at the node
                # BIP 22: it is forbidden to simply retry immediately with no delay after one failure.
                stop.wait(backoff.next())
                continue
            if changed and self._clock() - began >= self._times.pace:
                quick.reset()
            else:
                stop.wait(quick.next() if not changed else self._times.pace)

    # -- jobs --------------------------------------------------------------------------------------

    def _offer(self, node: NodeClient, fetched: Fetched, reason: str) -> bool:
        """Make it the devices' job, unless it is older than, or the same as, what they have."""
        with self._offering:
            template, known = fetched.template, self._current
            if fetched.order < self._arrived or self._closed.is_set():
                return False
            self._arrived = fetched.order
            for warning in template.warnings:
                self._say(f"{node.name}: {warning}")
            if template.previous == self._beaten and node.tip() != template.previous:
                self._wake.set()  # fetched a moment before a block on it was accepted
                return False
            same = known is not None and replace(template, long_poll_id=known.long_poll_id) == known
            if same and not self._current_spent:
                self._current = template
                return False
            clean = known is None or template.previous != known.previous
            if clean and known is not None:
                self._idle()  # the old tip is left at once; the proposal takes the node a moment
            job = template.job(self._payout, f"{template.height}-{next(self._numbers)}", self._instance)
            refusal = node.propose(job) if template.can_propose else None
            if refusal is not None:
                raise RemoteProtocolError(f"the node does not accept a block on its own template: {refusal}")
            self._current, self._current_spent = template, False
            self._givers[job.id] = node
            while len(self._givers) > 64:
                del self._givers[next(iter(self._givers))]
            self._set_status(
                "connected", f"connected to {node.name}, height {template.height}", template.height
            )
            self._deliver(Update(job, reason, clean))
            return True

    # -- shares ------------------------------------------------------------------------------------

    def submit(self, share: Share) -> Verdict:
        """Hand in a block; tries for as long as no node has judged it, up to a limit: then it is UNKNOWN."""
        job = share.work.job
        if any(share.hash == block.hash for block in list(self._blocks)):
            return Verdict(share, Outcome.STALE, "duplicate")
        giver = self._givers.get(job.id if job is not None else "", self._nodes[self._at])
        # BIP 23: submissions MUST be made to the same server that issued the job; clients MAY attempt to
        # submit to other servers if, and only if, the original server cannot be reached.
        nodes = [giver, *(node for node in self._nodes if node is not giver)]
        deadline, backoff, trouble = self._clock() + self._times.submit, Backoff(0.1, 2.0), ""
        while True:
            for node in nodes:
                try:
                    ruling = node.submit(share)
                except SourceError as error:
                    trouble = f"{node.name}: {error}"
                    self._say(f"{node.name}: submitblock: {error}")
                    continue
                verdict = Verdict(share, ruling.outcome, ruling.reason)
                self._judged(verdict)
                return verdict
            if self._closed.is_set() or self._clock() >= deadline:
                return Verdict(share, Outcome.UNKNOWN, trouble)
            self._closed.wait(backoff.next())

    def _judged(self, verdict: Verdict) -> None:
        """A job that was judged is over: have the next one made."""
        job = verdict.share.work.job
        if verdict.outcome is Outcome.ACCEPTED:
            self._rejections.reset()
            if job is not None and job.height is not None:
                self._blocks.append(FoundBlock(job.height, verdict.share.hash))
        elif verdict.outcome is Outcome.REJECTED:
            # A node that rejects whatever it is given is not to be flooded.
            self._hold_until = self._clock() + self._rejections.next()
        with self._offering:
            if job is not None and verdict.outcome in (Outcome.ACCEPTED, Outcome.STALE):
                self._beaten = job.previous
            if self._current is not None and job is not None and self._current.previous == job.previous:
                self._current_spent = True
        self._wake.set()

    def _check_blocks(self, node: NodeClient) -> None:
        """After a new tip: are our last blocks still part of the chain?"""
        for block in list(self._blocks)[-6:]:
            held = node.holds(block.hash, block.height)
            if held is None or held == block.on_chain:
                continue
            what = "back in the best chain" if held else "no longer in the best chain"
            self._say(f"{node.name}: our block {display_hex(block.hash)} at height {block.height} is {what}")
            self._blocks[self._blocks.index(block)] = replace(block, on_chain=held)

    # -- telling -----------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        """Log a line, once while it is among the last twenty different ones."""
        if line not in self._said:
            self._said.append(line)
            _log.warning("%s", line)

    def _set_status(self, state: str, sentence: str, height: int | None = None) -> None:
        self._status = SourceStatus(state, sentence, self._clock(), height=height)
