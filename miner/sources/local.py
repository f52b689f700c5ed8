"""Work from, and for, a chain of one's own.

Each job is the next block after the tip: a coinbase and nothing else. A new
tip, whoever found it, makes a new job at once; without one the job is renewed
now and then, so that its header time stays honest.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import count

from miner.block import Block, TxOut, coinbase_parts, data_output
from miner.chain import Acceptance, Chain, NextBlock
from miner.engine import Delivery, Update
from miner.errors import RuleError, SourceUnavailable
from miner.work import Job, Outcome, Share, Verdict

REFRESH_SECONDS = 30.0
"""How old a job gets before it is renewed: what bitcoind's clients use for new fees."""

CLOCK_SECONDS = 1.0
"""How often to look whether the clock has caught up with a chain that grew faster than time passes."""

PATIENCE_SECONDS = 60
"""How far the clock may have to catch up before it counts as wrong."""


class LocalSource:
    """The work source (see `miner.engine.WorkSource`) that mines on a chain of this process."""

    def __init__(
        self,
        chain: Chain,
        *,
        script: bytes,
        tag: bytes = b"/nonceforge/",
        records: Sequence[bytes] = (),
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        """`script` is paid the subsidy; `tag` goes into the coinbase, each of `records` into an output.

        ValueError for a record above 65,535 bytes.
        """
        self._chain, self._tag = chain, tag
        self._script, self._data = script, [data_output(record) for record in records]
        self._refresh = refresh_seconds
        self._numbers = count(1)
        self._lock = threading.Lock()  # held while a job is made and delivered: so none overtakes a newer one
        self._submitting = threading.Lock()
        self._deliver: Callable[[Delivery], None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._previous: bytes | None = None  # parent of the last job
        self._idle = False  # whether the engine has been told that there is nothing to mine
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        """For people."""
        return f"local chain ({self._chain.params.name})"

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Deliver the first job at once, more from whichever thread accepts a block and from a timer's."""
        self._deliver = deliver
        self._unsubscribe = self._chain.subscribe(self._new_tip)
        self._renew("start")
        threading.Thread(target=self._keep_fresh, name="local source", daemon=True).start()

    def close(self) -> None:
        """Deliver nothing more."""
        self._closed.set()
        self._unsubscribe()
        with self._lock:
            self._deliver = None

    # -- jobs --------------------------------------------------------------------------------------

    def _new_tip(self, acceptance: Acceptance) -> None:
        self._renew("reorg" if acceptance.disconnected else "new tip")

    def _keep_fresh(self) -> None:
        while not self._closed.wait(CLOCK_SECONDS if self._idle else self._refresh):
            self._renew("time")

    def _renew(self, reason: str) -> None:
        with self._lock:
            if self._deliver is None:
                return
            template = self._template()
            if isinstance(template, NextBlock):
                clean = template.previous != self._previous
                self._previous, self._idle = template.previous, False
                self._deliver(Update(self._job(template), reason, clean))
            elif not self._idle:
                self._idle = True
                self._deliver(template)

    def _template(self) -> NextBlock | SourceUnavailable | None:
        """The next block; None if there is none to mine now, an error if that will not pass."""
        template = self._chain.next_block()
        seconds = template.min_time - template.max_time
        if seconds > PATIENCE_SECONDS:
            return SourceUnavailable(
                f"the next block's time must be at least {template.min_time}, {seconds} s more than this"
                " computer's clock allows: is the clock right?"
            )
        return template if seconds <= 0 else None

    def _job(self, template: NextBlock) -> Job:
        outputs = [TxOut(template.subsidy, self._script), *self._data]
        # BIP 141: a block without witnesses needs no commitment to them.
        prefix, suffix = coinbase_parts(template.height, outputs, tag=self._tag)
        return Job(
            id=f"{template.height}-{next(self._numbers)}",
            version=template.version,
            previous=template.previous,
            bits=template.bits,
            time=template.time,
            max_time=template.max_time,
            coinbase_prefix=prefix,
            coinbase_suffix=suffix,
            version_mask=self._chain.params.version_mask,
            height=template.height,
            once=True,
        )

    # -- shares ------------------------------------------------------------------------------------

    def submit(self, share: Share) -> Verdict:
        """Put the block on the chain, as any other. StoreError if it cannot be stored.

        Accepted only as the new tip; stale if another block was first, rejected with Bitcoin Core's
        word for the rule. ValueError for a share of nobody's job.
        """
        job = share.work.job
        if job is None:
            raise ValueError(f"share {share.hash_hex} belongs to no job, so its block is unknown")
        with self._submitting:
            # Another of one's own on the same parent could only be a side branch: it is not worth keeping.
            if job.previous != self._chain.tip.hash:
                return Verdict(share, Outcome.STALE, "stale-prevblk")
            verdict = self._accept(Block.assemble(share.header, job.coinbase(share.work.extranonce)), share)
        if not verdict.accepted:
            self._renew(verdict.reason)
        return verdict

    def _accept(self, block: Block, share: Share) -> Verdict:
        try:
            acceptance = self._chain.accept(block)
        except RuleError as error:
            return Verdict(share, Outcome.REJECTED, str(error.kind))
        if acceptance.is_tip:
            return Verdict(share, Outcome.ACCEPTED)
        return Verdict(share, Outcome.STALE, "inconclusive")  # overtaken since the look at the tip
