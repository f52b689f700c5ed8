"""One header, one call: for scripts, and for `miner grind`."""

import time

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
) -> Share | None:
    """The first nonce of `nonces` with which the header's hash meets the target; None if there is none.

    `header`: a BlockHeader, 80 bytes, or 160 hex digits; its own nonce is ignored. `target`: at most
    2**256 - 1; None = the header's own bits. `timeout` in seconds; None is returned after it, too.
    A backend that is passed in stays open.

    RuleError "bad-diffbits" for bits that stand for no target; ValueError for a malformed header or
    range; DeviceError if the backend cannot be used.
    """
    if isinstance(header, str):
        header = BlockHeader.from_hex(header)
    raw = bytes(header)
    work = Work(raw, bits_to_target(BlockHeader.parse(raw).bits) if target is None else target)
    if nonces.step != 1 or nonces.start < 0 or nonces.stop > NONCES.stop:
        raise ValueError(f"nonces {nonces} are not a range within 0 ... 2**32")
    deadline = time.monotonic() + timeout if timeout is not None else float("inf")
    if not isinstance(backend, str):
        return _search(backend, Span(work, nonces), deadline)
    span = Span(work, nonces)
    if backend == "auto" and min(expected_hashes(work.target), len(nonces)) <= QUICK_HASHES:
        # Starting a compiler or a GPU would take longer than this most likely does.
        quick, span = span.split(QUICK_HASHES)
        share = _open_and_search("python", quick, deadline)
        if share is not None or not span.nonces or time.monotonic() >= deadline:
            return share
    return _open_and_search(backend, span, deadline)


def _open_and_search(name: str, span: Span, deadline: float) -> Share | None:
    backend = open_backend(name)
    try:
        return _search(backend, span, deadline)
    finally:
        backend.close()


def _search(backend: Backend, span: Span, deadline: float) -> Share | None:
    """Scan in time slices, and hash the first hit again before anybody sees it."""
    pace, rest = Pace(SLICE_SECONDS), span
    while rest.nonces and time.monotonic() < deadline:
        batch, rest = rest.split(pace.nonces(span.work))
        started = time.monotonic()
        hits = backend.scan(batch.work, batch.nonces)
        pace.learn(batch.hashes, time.monotonic() - started)
        if hits:
            return _verified(backend.name, span.work, hits[0])
    return None


def _verified(device: str, work: Work, hit: Hit) -> Share:
    try:
        return Share(work, hit.nonce, hit.version)
    except (RuleError, ValueError) as error:
        raise DeviceFault(f"{device} returned a false hit, nonce {hit.nonce}: {error}") from error
