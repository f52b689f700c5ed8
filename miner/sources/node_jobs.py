"""From a node's templates to the devices' jobs: which of them, in which order, and what became of them.

Templates arrive from two threads, and blocks are judged in others. One lock is
held from the look at a template until its job is delivered, so that no older
one overtakes a newer; the newest answer wins. Another guards the notes that are
taken, and is held for no call to a node: a share never waits for a template.
"""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from miner.engine import Delivery, Update
from miner.errors import RemoteProtocolError
from miner.header import display_hex
from miner.sources.node_client import Fetched, NodeClient, Superseded
from miner.template import Payout, Template
from miner.work import Job, Outcome, Share, Verdict

MAX_GIVERS = 64
"""Jobs of which it is remembered which node gave them."""

MAX_BLOCKS = 100
"""Blocks of ours that are remembered; as deep as a coinbase has to be before it is spent."""

RECENT_BLOCKS = 6
"""Of those, how many are looked at when the tip changes."""


@dataclass(frozen=True)
class FoundBlock:
    """A block of ours, and whether the best chain has it."""

    height: int
    hash: bytes
    on_chain: bool = True


class NodeJobs:
    """What the devices work on, and the blocks that came of it. Any thread may call any method."""

    def __init__(self, payout: Payout) -> None:
        self._payout = payout
        # Two miners on one node must not search the same headers.
        self._instance = os.urandom(4)
        self._deliver: Callable[[Delivery], None] | None = None
        self._offering = threading.RLock()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._current: Template | None = None
        self._spent = False  # judged: the devices have left the current one
        self._beaten: bytes | None = None  # a parent that has a child by now, ours or another's
        self._arrived = -1
        self._givers: dict[str, NodeClient] = {}
        self._blocks: deque[FoundBlock] = deque(maxlen=MAX_BLOCKS)

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """From now on jobs go there."""
        self._deliver = deliver

    def close(self) -> None:
        """From now on they go nowhere. Waits for nobody, so a last one may be under way."""
        self._deliver = None

    @property
    def current(self) -> Template | None:
        """What the devices work on; None: nothing."""
        with self._lock:
            return self._current

    @property
    def blocks(self) -> tuple[FoundBlock, ...]:
        """Our last blocks, oldest first."""
        return tuple(self._blocks)

    def offer(self, node: NodeClient, fetched: Fetched, reason: str) -> bool:
        """Make it the devices' job, unless it is older than, or the same as, what they have.

        RemoteProtocolError if the node would not take a block on it.
        """
        with self._offering:
            template, deliver = fetched.template, self._deliver
            if fetched.order < self._arrived or deliver is None:
                return False
            self._arrived = fetched.order
            with self._lock:
                known, beaten, spent = self._current, self._beaten, self._spent
            if template.previous == beaten and node.tip() != template.previous:
                return False  # fetched a moment before a block on it was accepted
            if known is not None and not spent and _same(template, known):
                self._set_current(template)  # for its long poll id
                return False
            clean = known is None or template.previous != known.previous
            if clean:
                self.idle()  # the old tip is left at once; the proposal takes the node a moment
            job = template.job(self._payout, f"{template.height}-{next(self._numbers)}", self._instance)
            try:
                refusal = node.propose(job) if template.can_propose else None
            except Superseded:
                return False
            if refusal is not None:
                raise RemoteProtocolError(f"the node does not accept a block on its own template: {refusal}")
            if self._beaten != beaten and self._beaten == template.previous:
                return False  # a block on it was accepted meanwhile
            self._remember(job, node)
            self._set_current(template, spent=False)
            deliver(Update(job, reason, clean))
            return True

    def leave_for(self, previous: bytes) -> None:
        """The node works on this block now: leave any other at once, before the next job is ready."""
        with self._offering:
            known = self.current
            if known is not None and known.previous != previous:
                self.idle()

    def idle(self) -> None:
        """Have the devices stop, if they do anything."""
        with self._offering:
            deliver = self._deliver
            if self.current is not None and deliver is not None:
                self._set_current(None)
                deliver(None)

    def _set_current(self, template: Template | None, spent: bool | None = None) -> None:
        with self._lock:
            self._current = template
            self._spent = self._spent if spent is None else spent

    def renew(self) -> None:
        """Take the next template even if it is the one that the devices have: they may have left it."""
        with self._lock:
            self._spent = True

    def _remember(self, job: Job, node: NodeClient) -> None:
        self._givers[job.id] = node
        while len(self._givers) > MAX_GIVERS:
            del self._givers[next(iter(self._givers))]

    def giver(self, share: Share) -> NodeClient | None:
        """The node whose template this is a block on."""
        job = share.work.job
        return self._givers.get(job.id) if job is not None else None

    # -- blocks ------------------------------------------------------------------------------------

    def has(self, share: Share) -> bool:
        """Whether this block was accepted before, and has not been lost since."""
        return any(share.hash == block.hash and block.on_chain for block in self.blocks)

    def judged(self, verdict: Verdict) -> None:
        """A job is over: the next template is taken even if it is the same."""
        job = verdict.share.work.job
        if job is None:
            return
        with self._lock:
            if verdict.accepted and job.height is not None:
                lost = [block for block in self._blocks if block.hash == verdict.share.hash]
                for block in lost:  # found again: its node had come back without its chain
                    self._blocks.remove(block)
                self._blocks.append(FoundBlock(job.height, verdict.share.hash))
            if verdict.outcome in (Outcome.ACCEPTED, Outcome.STALE):
                self._beaten = job.previous
            if self._current is not None and self._current.previous == job.previous:
                self._spent = True

    def check_blocks(self, node: NodeClient, tip: bytes) -> list[str]:
        """After a new tip: are our last blocks still part of the chain? What has changed, in words."""
        changes: list[str] = []
        recent = self.blocks[-RECENT_BLOCKS:]
        if recent and recent[-1].hash == tip:
            return changes
        for block in recent:
            held = node.holds(block.hash, block.height)
            if held is None or held == block.on_chain:
                continue
            with self._lock:
                if block in self._blocks:  # else it was found again meanwhile
                    self._blocks[self._blocks.index(block)] = replace(block, on_chain=held)
            what = "back in" if held else "no longer in"
            changes.append(
                f"our block {display_hex(block.hash)} at height {block.height} is {what} the best chain"
            )
        return changes


def _same(one: Template, other: Template) -> bool:
    """Whether they give the same job."""
    return replace(one, long_poll_id=other.long_poll_id) == other
