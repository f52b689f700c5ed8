"""Work from a Bitcoin node, or several that stand in for each other.

Three ways lead to a new template: one long poll, which waits at the node for
the next block; the tip, looked at every second, since long polls and templates
get lost; and age. Whichever answer arrived last counts. Before its first hash
a template's block is shown to the node as a proposal, when it takes those.
Blocks are handed in on connections of their own.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from miner.engine import Delivery
from miner.errors import RemoteProtocolError, SourceError, SourceUnavailable
from miner.header import display_hex
from miner.sources.connection import Backoff, Endpoint, NothingListens, SourceStatus, reason
from miner.sources.jsonrpc import Credentials, Unauthorized
from miner.sources.long_poll import LongPoller
from miner.sources.node_client import Fetched, NodeClient, NodeLimits, NotReady
from miner.sources.node_jobs import FoundBlock, NodeJobs
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
        self._times, self._clock = times or NodeTimes(), clock
        order, limits = itertools.count(), limits or NodeLimits()
        self._nodes = [NodeClient(*node, limits, order=order, clock=clock) for node in nodes]
        self._at = 0
        self._jobs = NodeJobs(payout)
        self._long_poller = LongPoller(
            lambda: self._jobs.current,
            self._jobs.leave_for,
            lambda node, fetched, reason: self._offer(node, fetched, reason),
            self._say,
            pace=self._times.pace,
            first_retry=self._times.first_retry,
            last_retry=self._times.last_retry,
            clock=clock,
        )
        self._backoff = Backoff(self._times.first_retry, self._times.last_retry)
        self._genesis: bytes | None = None
        self._ever_connected = False
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._seen_alive = clock()
        self._rejections = Backoff(0.1, 10.0)
        self._hold_until = clock()
        self._said: deque[str] = deque(maxlen=20)
        self._deliver: Callable[[Delivery], None] = lambda _: None
        self._set_status("connecting", f"connecting to {self._nodes[0].name}")

    @property
    def name(self) -> str:
        """The nodes' addresses, without credentials."""
        return ", ".join(node.name for node in self._nodes)

    @property
    def status(self) -> SourceStatus:
        """How it is."""
        return self._status

    @property
    def blocks(self) -> tuple[FoundBlock, ...]:
        """The last hundred blocks of ours that the node took, oldest first."""
        return self._jobs.blocks

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Begin, in threads of its own."""
        self._deliver = deliver
        self._jobs.start(deliver)
        threading.Thread(target=self._run, name="node source", daemon=True).start()

    def close(self) -> None:
        """Stop; calls that are under way are broken off."""
        self._closed.set()
        self._jobs.close()
        self._wake.set()
        for node in self._nodes:
            node.close()
        self._set_status("closed", "closed")

    # -- which node --------------------------------------------------------------------------------

    def _run(self) -> None:
        refusals = 0
        while not self._closed.is_set():
            node = self._nodes[self._at]
            try:
                self._serve(node)
                continue
            except SourceError as error:
                self._trouble(node, error)
                refusals = refusals + 1 if isinstance(error, Unauthorized) else 0
                if self._hopeless(refusals):
                    self._deliver(SourceUnavailable(f"{node.name}: {error}"))
                    return
            except OSError as error:  # this computer's trouble: no file descriptors left, for instance
                self._trouble(node, SourceUnavailable(reason(error)))
            except Exception as error:  # noqa: BLE001 - the top of a thread
                _log.exception("%s", node.name)
                self._trouble(node, SourceUnavailable(f"unexpected {type(error).__name__}"))
            self._at = (self._at + 1) % len(self._nodes)
            # The next node is tried at once; only a round without success is waited after.
            self._pause(self._backoff.next() if self._at == 0 else 0.0)

    def _hopeless(self, refusals: int) -> bool:
        """Whether only an operator can mend it: no node has ever taken our credentials."""
        # A cookie file may be written yet: the node is starting, perhaps.
        patience = self._times.refusals if any(node.has_cookie for node in self._nodes) else 1
        return not self._ever_connected and refusals >= patience * len(self._nodes)

    def _trouble(self, node: NodeClient, error: SourceError) -> None:
        if self._closed.is_set():
            return
        if isinstance(error, NothingListens):
            self._long_poller.ended(node)
        self._say(f"{node.name}: {error}")
        self._set_status("waiting" if isinstance(error, NotReady) else "failed", f"{node.name}: {error}")
        known = self._jobs.current
        if isinstance(error, RemoteProtocolError) and known is not None and not _still_tip(node, known):
            self._jobs.idle()

    def _pause(self, seconds: float) -> None:
        """Wait; without any node for too long, the devices idle."""
        end = self._clock() + seconds
        while not self._closed.is_set() and (left := end - self._clock()) > 0:
            if self._clock() - self._seen_alive > self._times.blind:
                self._jobs.idle()
            self._closed.wait(min(left, 1.0))

    # -- one node ----------------------------------------------------------------------------------

    def _serve(self, node: NodeClient) -> None:
        """Mine for this node until it fails, until an earlier one is back, or until the end."""
        self._check_chain(node)
        self._wake.clear()
        self._jobs.renew()
        self._offer(node, node.template(), "start")
        self._backoff.reset()
        stop_polling = self._long_poller.begin(node)
        try:
            self._watch(node)
        finally:
            stop_polling.set()

    def _check_chain(self, node: NodeClient) -> None:
        genesis = node.genesis()
        if self._genesis is not None and genesis not in (None, self._genesis):
            self._jobs.idle()
            found, wanted = display_hex(genesis or b""), display_hex(self._genesis)
            raise SourceUnavailable(f"it is on another chain: its first block is {found}, not {wanted}")
        self._genesis, self._ever_connected = genesis or self._genesis, True

    def _watch(self, node: NodeClient) -> None:
        """Look at the tip every second, and fetch a template whenever there is a reason."""
        fetched_at = looked_back = self._clock()
        connections, last_tip, disagreements = node.connections, b"", 0
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
            known = self._jobs.current
            moved = known is None or tip != known.previous
            if woken or moved or self._clock() - fetched_at >= self._age(known):
                fetched, fetched_at = node.template(), self._clock()
                if fetched.template.previous in (tip, node.tip()):
                    disagreements = 0
                    self._offer(node, fetched, "new tip" if moved else "time")
                else:
                    disagreements += 1
                    self._stale(node, fetched.template, disagreements)
            if tip != last_tip:
                last_tip = tip
                for change in self._jobs.check_blocks(node, tip):
                    self._say(f"{node.name}: {change}")
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
        self._jobs.idle()

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

    def _offer(self, node: NodeClient, fetched: Fetched, reason: str) -> bool:
        template = fetched.template
        for warning in template.warnings:
            self._say(f"{node.name}: {warning}")
        taken = self._jobs.offer(node, fetched, reason)
        if self._jobs.current is None:
            self._wake.set()  # superseded already: there is a newer one
        if taken:
            sentence = f"connected to {node.name}, height {template.height}"
            self._set_status("connected", sentence, template.height)
        return taken

    # -- shares ------------------------------------------------------------------------------------

    def submit(self, share: Share) -> Verdict:
        """Hand in a block; tries for as long as no node has judged it, up to a limit: then it is UNKNOWN."""
        if self._jobs.has(share):
            verdict = Verdict(share, Outcome.STALE, "duplicate")
            self._judged(verdict)  # the next job must follow all the same
            return verdict
        giver = self._jobs.giver(share) or self._nodes[self._at]
        # BIP 23: submissions MUST be made to the same server that issued the job; clients MAY attempt to
        # submit to other servers if, and only if, the original server cannot be reached.
        nodes = [giver, *(node for node in self._nodes if node is not giver)]
        deadline, backoff, trouble = self._clock() + self._times.submit, Backoff(0.1, 2.0), ""
        while True:
            for node in nodes:
                try:
                    ruling = node.submit(share)
                except SourceError as error:
                    trouble = f"{node.name}: submitblock: {error}"
                    self._say(trouble)
                    continue
                verdict = Verdict(share, ruling.outcome, ruling.reason)
                self._judged(verdict)
                return verdict
            if self._closed.is_set() or self._clock() >= deadline:
                return Verdict(share, Outcome.UNKNOWN, trouble)
            self._closed.wait(backoff.next())

    def _judged(self, verdict: Verdict) -> None:
        """A job that was judged is over: have the next one made."""
        if verdict.accepted:
            self._rejections.reset()
        elif verdict.outcome is Outcome.REJECTED:
            # A node that rejects whatever it is given is not to be flooded.
            self._hold_until = self._clock() + self._rejections.next()
        self._jobs.judged(verdict)
        self._wake.set()

    # -- telling -----------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        """Log a line, once while it is among the last twenty different ones."""
        if line not in self._said and not self._closed.is_set():
            self._said.append(line)
            _log.warning("%s", line)

    def _set_status(self, state: str, sentence: str, height: int | None = None) -> None:
        self._status = SourceStatus(state, sentence, self._clock(), height=height)


def _still_tip(node: NodeClient, template: Template) -> bool:
    try:
        return node.tip() == template.previous
    except SourceError:
        return False
