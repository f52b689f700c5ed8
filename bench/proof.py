"""Whether a device did the work that it was timed at.

What is compared is what the timed scans themselves returned, never a repetition. docs/bench.md,
"Proof", says what each step shows and what none of them can.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from bench.ground import blocks_within
from bench.oracle import Density, Oracle, OracleCaught
from bench.results import MAX_SCORE, Proof
from bench.spread import poisson_score
from miner.errors import DeviceFault
from miner.header import sha256d
from miner.work import Hit, Span

MIN_HITS = 4096
"""Hits that a device's timed rounds are made to have, at least: 2**-k of its hashes are hits."""

WINDOW = 32_771
"""Nonces of a dense window: prime, so that it ends in the middle of every vector, block and batch."""

PIECES = 8
"""Windows per range when the reference is too slow for all of it: the first, the last, six between."""


class Scanned(NamedTuple):
    """One timed scan, and what came back."""

    span: Span
    hits: list[Hit]


def hit_bits(hashes: float) -> int:
    """The k at which `hashes` hashes have at least MIN_HITS hits on average, one in 2**k."""
    return max(0, int(hashes / MIN_HITS).bit_length() - 1)


def prove(scans: Sequence[Scanned], oracle: Oracle, coverage: float, dense: Density, seed: int) -> Proof:
    """Compare every timed scan with what the oracle knows of `coverage` of its range.

    DeviceFault if a scan returned something other than a list of Hits; OracleCaught if the oracle
    lacks a hit that hashlib confirms, or has one that it does not.
    """
    check_shape(scans)
    ranges = merged(scans)
    expected = missing = checked = 0
    for span, hits in ranges:
        for window in _windows(span, coverage, seed):
            known = set(oracle.hits(*window))
            answered = {hit for hit in hits if hit.nonce in window.nonces}
            _check_oracle(oracle, window, known, answered)
            expected += len(known)
            missing += len(known - answered)
            checked += window.hashes
    hashes = sum(span.hashes for span, _ in ranges)
    count = sum(len(hits) for _, hits in ranges)
    blocks = [(Hit(*block), hits) for span, hits in ranges for block in blocks_within(span)]
    return Proof(
        hits=count,
        expected=expected,
        missing=missing,
        extra=sum(_extra(scan) for scan in scans),
        checked=checked / hashes,
        reference=oracle.name,
        score=poisson_score(count, _expected_hits(ranges)),
        blocks=len(blocks),
        blocks_found=sum(block in hits for block, hits in blocks),
        dense_expected=dense.expected,
        dense_missing=dense.missing,
        dense_extra=dense.extra,
    )


def combined(proofs: Sequence[Proof]) -> Proof:
    """Several proofs of one device as one."""

    def total(name: str) -> int:
        return sum(getattr(proof, name) for proof in proofs)

    return Proof(
        hits=total("hits"),
        expected=total("expected"),
        missing=total("missing"),
        extra=total("extra"),
        checked=fmean(proof.checked for proof in proofs),
        reference="; ".join(dict.fromkeys(proof.reference for proof in proofs)),
        score=sum(proof.score for proof in proofs) / math.sqrt(len(proofs)),
        blocks=total("blocks"),
        blocks_found=total("blocks_found"),
        dense_expected=total("dense_expected"),
        dense_missing=total("dense_missing"),
        dense_extra=total("dense_extra"),
    )


def merged(scans: Sequence[Scanned]) -> list[Scanned]:
    """Scans that continue each other as one: a hit lost at a seam between batches is lost from the whole."""
    runs: list[list[Scanned]] = []
    for scan in scans:
        last = runs[-1][-1].span if runs else None
        if last and last.work is scan.span.work and last.nonces.stop == scan.span.nonces.start:
            runs[-1].append(scan)
        else:
            runs.append([scan])
    return [_joined(run) for run in runs]


def _joined(run: Sequence[Scanned]) -> Scanned:
    nonces = range(run[0].span.nonces.start, run[-1].span.nonces.stop)
    return Scanned(Span(run[0].span.work, nonces), [hit for scan in run for hit in scan.hits])


def dense_windows(scans: Sequence[Scanned], seed: int, count: int) -> list[Span]:
    """Windows in the timed ranges: the very first nonces, the very last, and `count` - 2 between."""
    source = random.Random(f"dense {seed}")
    spans = [scan.span for scan in merged(scans)]
    chosen = [(spans[0], 0.0), (spans[-1], 1.0)]
    chosen += [(source.choice(spans), source.random()) for _ in range(count - len(chosen))]
    return [_window(span, max(1, WINDOW // len(span.work.versions)), place) for span, place in chosen]


def _windows(span: Span, coverage: float, seed: int) -> Iterator[Span]:
    """All of the span, or pieces of it that amount to `coverage` and do not overlap."""
    if coverage >= 1:
        yield span
        return
    source = random.Random(f"windows {seed} {span.nonces.start}")
    places = [0.0, *(source.random() for _ in range(PIECES - 2)), 1.0]
    # Each piece has a section of the range to itself; the first and last touch the range's ends.
    cuts = [span.nonces.start + len(span.nonces) * i // PIECES for i in range(PIECES + 1)]
    for (first, stop), place in zip(pairwise(cuts), places, strict=True):
        section = Span(span.work, range(first, stop))
        yield _window(section, max(1, int(len(section.nonces) * coverage)), place)


def _window(span: Span, length: int, place: float) -> Span:
    """`length` nonces of the span, `place` of the way from its start (0.0) to its end (1.0)."""
    length = min(length, len(span.nonces))
    first = span.nonces.start + int((len(span.nonces) - length) * place)
    return Span(span.work, range(first, first + length))


def check_shape(scans: Sequence[Scanned]) -> None:
    """DeviceFault unless every scan returned a list of Hits, and all together about as many as expected.

    It costs little, so it comes first.
    """
    for _, hits in scans:
        if not isinstance(hits, list):
            raise DeviceFault(f"it returned {type(hits).__name__}, not a list of hits")
        for hit in hits:
            # NumPy's integers compare equal to ours and then overflow in somebody's arithmetic.
            if type(hit) is not Hit or not all(type(item) is int for item in hit):
                raise DeviceFault(f"it returned {hit!r:.80}, not a Hit of two ints")
    count, expected = sum(len(hits) for _, hits in scans), _expected_hits(scans)
    score = poisson_score(count, expected)
    if abs(score) > MAX_SCORE:
        raise DeviceFault(
            f"it returned {count:,} hits where {expected:,.0f} were expected ({score:+.0f} sigma)"
        )


def _extra(scan: Scanned) -> int:
    """Hits of one scan that are false, outside its range, repeated or out of order."""
    false = sum(not _true(scan.span, hit) for hit in scan.hits)
    unordered = sum(one >= other for one, other in pairwise(scan.hits))
    return false + unordered


def _true(span: Span, hit: Hit) -> bool:
    inside = hit.nonce in span.nonces and hit.version in span.work.versions
    return inside and int.from_bytes(sha256d(span.work.header_of(hit)), "little") <= span.work.target


def _check_oracle(oracle: Oracle, window: Span, known: set[Hit], answered: set[Hit]) -> None:
    lacking = [hit for hit in answered - known if _true(window, hit)]
    false = [hit for hit in known if not _true(window, hit)]
    if lacking or false:
        raise OracleCaught(f"{oracle.name}, is wrong about {(lacking + false)[0]}")


def _expected_hits(ranges: Sequence[Scanned]) -> float:
    return sum(span.hashes * ((span.work.target + 1) / (1 << 256)) for span, _ in ranges)
