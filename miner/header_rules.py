"""What a block header must obey: its own proof of work, and its place after its ancestors.

The rules are Bitcoin Core's (pow.cpp; validation.cpp, CheckBlockHeader and
ContextualCheckBlockHeader), in its order and with its reject words. One word
differs: bits that are no target are "bad-diffbits" here, since that is what is
wrong with them, where Bitcoin Core says "high-hash".

The target changes once per interval. Four things about that surprise people,
and each is a rule:

* Off by one: the time that an interval took is measured between its first and
  its last block, one spacing less than it has blocks.
* The change is at most four times, either way.
* Test networks let a block more than two spacings late have the easiest target.
* BIP 94 starts from the bits of the interval's first block, everyone else from
  the last one's, even when that was such an easy block.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

from miner.errors import Rule, RuleError
from miner.header import HEADER_SIZE, BlockHeader
from miner.params import Params
from miner.target import bits_to_target, target_to_bits

HeaderAt = Callable[[int], BlockHeader]
"""The ancestor at a height, on the branch in question. LookupError if it is not known."""

MEDIAN_SPAN = 11
"""Blocks whose median time a header must exceed (Bitcoin Core, chain.h, nMedianTimeSpan)."""

MAX_FUTURE = 2 * 60 * 60
"""Seconds that a header may be ahead of the clock (Bitcoin Core, chain.h, MAX_FUTURE_BLOCK_TIME)."""

MAX_TIMEWARP = 600
"""BIP 94: seconds that an interval's first block may lie before its parent."""

MAX_CHANGE = 4
"""The most by which a retarget multiplies or divides (Bitcoin Core, pow.cpp)."""


def check_header(header: BlockHeader, params: Params) -> None:
    """The rules that need nothing but the header: possible bits, and a hash that meets them.

    RuleError "bad-diffbits" or "high-hash".
    """
    target = bits_to_target(header.bits)
    if target > params.pow_limit:
        limit = f"{params.pow_limit_bits:08x} of {params.name}"
        raise RuleError(Rule.BAD_DIFFBITS, f"bits {header.bits:08x} are easier than the limit {limit}")
    if int.from_bytes(header.hash, "little") > target:
        raise RuleError(Rule.HIGH_HASH, f"hash {header.hash_hex} > target {target:064x}")


def expected_bits(params: Params, height: int, header_at: HeaderAt, time: int) -> int:
    """The bits that the block at `height` must have if its header time is `time`.

    `header_at` is asked for ancestors only. ValueError for height 0, which has none.
    """
    if height < 1:
        raise ValueError(f"height {height} has no parent: bits follow a rule from height 1 on")
    parent = header_at(height - 1)
    # Bitcoin Core walks back over the blocks that have the easiest target; on a network that never
    # retargets these are all of them, so it ends at the same bits.
    if params.no_retargeting:
        return parent.bits
    if height % params.retarget_interval == 0:
        # The first block of the interval that ends: `interval - 1` before the parent.
        return _retarget(params, header_at(height - params.retarget_interval), parent)
    if not params.min_difficulty:
        return parent.bits
    if time > parent.time + 2 * params.spacing:
        return params.pow_limit_bits
    return _last_ordinary_bits(params, height - 1, header_at)


def _retarget(params: Params, first: BlockHeader, last: BlockHeader) -> int:
    """The bits after an interval that began with `first` and ended with `last`."""
    shortest, longest = params.timespan // MAX_CHANGE, params.timespan * MAX_CHANGE
    seconds = min(max(last.time - first.time, shortest), longest)
    # BIP 94: "The base difficulty value MUST be taken from the first block of the previous period".
    old = bits_to_target((first if params.enforce_bip94 else last).bits)
    return target_to_bits(min(old * seconds // params.timespan, params.pow_limit))


def _last_ordinary_bits(params: Params, height: int, header_at: HeaderAt) -> int:
    """The bits of the last block up to `height` that did not use the late-block exception."""
    while height % params.retarget_interval and header_at(height).bits == params.pow_limit_bits:
        height -= 1
    return header_at(height).bits


def median_time_past(times: Iterable[int]) -> int:
    """The median of the last 11 blocks' header times, in any order; of fewer near the genesis block."""
    ordered = sorted(times)
    if not 1 <= len(ordered) <= MEDIAN_SPAN:
        raise ValueError(f"the median time is over 1 ... {MEDIAN_SPAN} blocks, not {len(ordered)}")
    return ordered[len(ordered) // 2]


def median_time_before(height: int, header_at: HeaderAt) -> int:
    """The median time past that the block at `height` must exceed: of up to 11 ancestors."""
    return median_time_past(header_at(h).time for h in range(max(height - MEDIAN_SPAN, 0), height))


def check_header_in_context(
    header: BlockHeader, height: int, params: Params, header_at: HeaderAt, now: int
) -> None:
    """The rules that need the ancestors and the clock (`now`, seconds since 1970).

    For heights from 1: the genesis block is given, not checked. RuleError "bad-diffbits",
    "time-too-old", "time-timewarp-attack", "time-too-new" or "bad-version".
    """
    check_bits(header, height, params, header_at)
    check_above_median(header, median_time_before(height, header_at))
    check_no_timewarp(header, height, params, header_at)
    check_not_future(header, now)
    check_version(header, height, params)


def check_bits(header: BlockHeader, height: int, params: Params, header_at: HeaderAt) -> None:
    """RuleError "bad-diffbits" unless the bits are those that retargeting gives."""
    wanted = expected_bits(params, height, header_at, header.time)
    if header.bits != wanted:
        raise RuleError(Rule.BAD_DIFFBITS, f"bits {header.bits:08x} at height {height}, not {wanted:08x}")


def check_above_median(header: BlockHeader, median: int) -> None:
    """RuleError "time-too-old" unless the time exceeds the median time past."""
    if header.time <= median:
        raise RuleError(Rule.TIME_TOO_OLD, f"time {header.time} <= median time past {median}")


def check_no_timewarp(header: BlockHeader, height: int, params: Params, header_at: HeaderAt) -> None:
    """RuleError "time-timewarp-attack" if BIP 94 holds and an interval starts too far back."""
    if not params.enforce_bip94 or height % params.retarget_interval:
        return
    earliest = header_at(height - 1).time - MAX_TIMEWARP
    if header.time < earliest:
        text = f"time {header.time} < {earliest}, {MAX_TIMEWARP} s before the parent"
        raise RuleError(Rule.TIME_TIMEWARP, text)


def check_not_future(header: BlockHeader, now: int) -> None:
    """RuleError "time-too-new" if the time is more than two hours ahead of `now`."""
    if header.time > now + MAX_FUTURE:
        raise RuleError(Rule.TIME_TOO_NEW, f"time {header.time} > {now + MAX_FUTURE}, two hours from now")


def check_version(header: BlockHeader, height: int, params: Params) -> None:
    """RuleError "bad-version" for versions that BIP 34, BIP 66 and BIP 65 ended."""
    # The field is an int32 to Bitcoin Core, so that a set top bit is a negative version.
    signed = header.version - (header.version >> 31 << 32)
    for least, since in ((2, params.bip34_height), (3, params.bip66_height), (4, params.bip65_height)):
        if signed < least and height >= since:
            text = f"version {header.version:#010x} < {least}, which {params.name} needs from height {since}"
            raise RuleError(Rule.BAD_VERSION, text)


class VerifiedHeader(NamedTuple):
    """A header of a run that broke no rule, and which rules could be tested on it."""

    height: int
    header: BlockHeader
    bits_checked: bool
    """Every header that the bits follow from was in the run."""
    retarget_checked: bool
    """The bits were computed anew: an interval starts here and the run holds all of the last one."""
    median_checked: bool
    """The run holds the 11 ancestors, or all there are."""


def linked_headers(
    raw_headers: Iterable[bytes], params: Params, first_height: int
) -> Iterator[tuple[int, BlockHeader]]:
    """Each header and its height, once it has its proof of work and names the one before it.

    No difficulty rule is applied, so this also serves chains that retarget otherwise.
    RuleError naming the height: "block-decode-failed", "bad-diffbits", "high-hash", "prev-blk-not-found".
    """
    before: BlockHeader | None = None
    for height, raw in zip(count(first_height), raw_headers, strict=False):
        with _naming(height):
            if len(raw) != HEADER_SIZE:
                raise RuleError(Rule.DECODE_FAILED, f"{len(raw)} bytes, not {HEADER_SIZE}")
            header = BlockHeader.parse(raw)
            check_header(header, params)
            _check_link(header, before, height, params)
        yield height, header
        before = header


def verify_headers(
    raw_headers: Iterable[bytes], params: Params, first_height: int, now: int
) -> Iterator[VerifiedHeader]:
    """Every rule on a run of raw headers, as far as the run itself allows; each says how far.

    RuleError naming the height at the first that breaks one.
    """
    known = _Recent(max(params.retarget_interval, MEDIAN_SPAN))
    for height, header in linked_headers(raw_headers, params, first_height):
        with _naming(height):
            bits_checked = height > 0 and _tested(check_bits, header, height, params, known.header_at)
            _tested(check_no_timewarp, header, height, params, known.header_at)
            median_checked = known.reaches(max(height - MEDIAN_SPAN, 0))
            if median_checked:
                check_above_median(header, median_time_before(height, known.header_at))
            check_not_future(header, now)
            check_version(header, height, params)
        known.add(height, header)
        starts = height % params.retarget_interval == 0 and not params.no_retargeting
        yield VerifiedHeader(height, header, bits_checked, bits_checked and starts, median_checked)


def _check_link(header: BlockHeader, before: BlockHeader | None, height: int, params: Params) -> None:
    if height == 0 and header != params.genesis_header:
        raise RuleError(Rule.PREV_NOT_FOUND, f"not the first block of {params.name}")
    if before is not None and header.previous != before.hash:
        raise RuleError(
            Rule.PREV_NOT_FOUND, f"follows {header.previous[::-1].hex()}, not {before.hash_hex} before it"
        )


def _tested(
    rule: Callable[[BlockHeader, int, Params, HeaderAt], None],
    header: BlockHeader,
    height: int,
    params: Params,
    header_at: HeaderAt,
) -> bool:
    """Whether the ancestors were there to apply the rule; a broken rule is raised."""
    try:
        rule(header, height, params, header_at)
    except LookupError:
        return False
    return True


@contextmanager
def _naming(height: int) -> Iterator[None]:
    """Puts the height before the text of a RuleError."""
    try:
        yield
    except RuleError as error:
        raise RuleError(error.kind, f"header at height {height}: {error.text}") from None


class _Recent:
    """The last headers of a run, by height."""

    def __init__(self, size: int) -> None:
        self._headers: deque[BlockHeader] = deque(maxlen=size)
        self._next = 0

    def add(self, height: int, header: BlockHeader) -> None:
        self._headers.append(header)
        self._next = height + 1

    def reaches(self, height: int) -> bool:
        """Whether the header at `height`, below the next one, is still here."""
        return 0 < self._next - height <= len(self._headers)

    def header_at(self, height: int) -> BlockHeader:
        """LookupError if it has left, or was never here."""
        if not self.reaches(height):
            raise LookupError(f"no header at height {height}")
        return self._headers[height - self._next]
