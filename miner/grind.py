"""One header, one call: for scripts, and for `miner grind`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from miner.backends import Backend, open_backend
from miner.errors import DeviceFault, RuleError
from miner.header import BlockHeader
from miner.pace import Pace
from miner.target import bits_to_target, expected_hashes
from miner.work import NONCES, Hit, Share, Span, Work

SLICE_SECONDS = 0.05
"""How long one scan lasts: what a timeout or Ctrl-C waits for."""

QUICK_HASHES = 1 << 20
"""About a second in pure Python: what `auto` tries before it starts anything bigger."""


def solve(
    header: BlockHeader | bytes | str,
    target: int | None = None,
    backend: str | Backend = "auto",
    nonces: range = NONCES,
    timeout: float | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Share | None:
    """The first nonce of `nonces` with which the header's hash meets the target; None if there is none.

    `header`: a BlockHeader, 80 bytes, or 160 hex digits; its own nonce is ignored. `target`: at most
    2**256 - 1; None = the header's own bits. `timeout` in seconds; None is returned after it, too.
    A backend that is passed in stays open. `on_progress` is called with the next nonce after each slice.

    RuleError "bad-diffbits" for bits that stand for no target; ValueError for a malformed header or
    range; DeviceError if the backend cannot be used.
    """
    if isinstance(header, str):
        header = BlockHeader.from_hex(header)
    raw = bytes(header)
    work = Work(raw, bits_to_target(BlockHeader.parse(raw).bits) if target is None else target)
    if nonces.step != 1 or nonces.start < 0 or nonces.stop > NONCES.stop:
        raise ValueError(f"nonces {nonces} are not a range within 0 ... 2**32")
    search = Search(time.monotonic() + timeout if timeout is not None else float("inf"), on_progress)
    span = Span(work, nonces)
    if not isinstance(backend, str):
        return search.on(backend, span)
    if backend == "auto" and min(expected_hashes(work.target), len(nonces)) <= QUICK_HASHES:
        # Starting a compiler or a GPU would take longer than this most likely does.
        quick, span = span.split(QUICK_HASHES)
        share = search.on("python", quick)
        if share is not None or not span.nonces or search.over:
            return share
    return search.on(backend, span)


@dataclass(frozen=True, slots=True)
class Search:
    """A search that ends at a time, and tells how far it is."""

    deadline: float
    """By time.monotonic()."""
    on_progress: Callable[[int], None] | None

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.deadline

    def on(self, backend: str | Backend, span: Span) -> Share | None:
        """The first share of the span, on a device that stays open or on one by name."""
        if not isinstance(backend, str):
            return self._scan(backend, span)
        device = open_backend(backend)
        try:
            return self._scan(device, span)
        finally:
            device.close()

    def _scan(self, backend: Backend, span: Span) -> Share | None:
        pace, rest = Pace(SLICE_SECONDS), span
        while rest.nonces and not self.over:
            batch, rest = rest.split(pace.nonces(span.work))
            started = time.monotonic()
            hits = backend.scan(batch.work, batch.nonces)
            pace.learn(batch.hashes, time.monotonic() - started)
            if hits:
                return _verified(backend.name, span.work, hits[0])
            if self.on_progress is not None:
                self.on_progress(rest.nonces.start)
        return None


def _verified(device: str, work: Work, hit: Hit) -> Share:
    try:
        return Share(work, hit.nonce, hit.version)
    except (RuleError, ValueError) as error:
        raise DeviceFault(f"{device} returned a false hit, nonce {hit.nonce}: {error}") from error
