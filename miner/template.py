"""A Bitcoin node's block template: getblocktemplate JSON -> Job, Share -> submitblock. No I/O.

    template = parse_template(result)                    # RemoteProtocolError names what is wrong
    job = template.job(Payout(script), "7")              # what the engine rolls and hashes
    node.call("submitblock", *submission(share))         # a share knows its job, the job its template
    judge(answer)                                        # accepted, rejected, or: ask the node

Sources: BIP 22 and 23 (getblocktemplate), BIP 9 (rules, version bits), BIP 34
(height), BIP 141 and 145 (witness commitment), BIP 320 (versions to roll).
Nothing in a template is believed that can be computed: txids, the merkle
branch and the witness commitment come from the transactions' own bytes.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from miner import template_fields as read
from miner.block import MAX_COINBASE_SCRIPT, coinbase_parts, commitment_output, merkle_branch
from miner.errors import LocalProtocolError, RemoteProtocolError
from miner.header import display_hex
from miner.transaction import TxOut, compact_size
from miner.untrusted import excerpt, fields
from miner.work import Job, Outcome, Share

MAX_TRANSACTIONS = 200_000
"""In one template; a setting of the source."""

EXTRANONCE_SIZE = 8
"""Bytes of extranonce in our coinbases."""


@dataclass(frozen=True, slots=True)
class Payout:
    """Where the reward goes, and what else the coinbase holds."""

    script: bytes
    """The output script that gets everything but `extra`."""
    tag: bytes = b""
    """Shown in the coinbase; dropped where the 100 bytes do not hold it."""
    extra: tuple[TxOut, ...] = ()
    """Further outputs, paid out of the reward."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.script) <= 10_000:  # Bitcoin Core, MAX_SCRIPT_SIZE
            raise ValueError(f"the payout script has {len(self.script)} bytes, not 1 ... 10,000")
        if len(self.tag) > MAX_COINBASE_SCRIPT:
            raise ValueError(f"the tag has {len(self.tag)} bytes, above {MAX_COINBASE_SCRIPT}")
        if any(output.value < 0 for output in self.extra):
            raise ValueError("an extra output pays less than nothing")


@dataclass(frozen=True)
class Template:
    """A checked template. Hashes in internal order, times of the node's clock, amounts in satoshi."""

    version: int
    previous: bytes
    bits: int
    target: int
    height: int
    coinbase_value: int
    time: int
    max_time: int
    """Equal to `time` if the node does not let it be changed."""
    transactions: tuple[bytes, ...]
    """Serialized, after the coinbase."""
    branch: tuple[bytes, ...]
    """Merkle branch of the coinbase."""
    commitment: bytes | None
    """What the coinbase has to commit to (BIP 141); None while segwit is not active."""
    flags: bytes
    nonces: range
    version_mask: int
    long_poll_id: str | None
    work_id: str | None
    can_propose: bool
    expires: int | None
    """Seconds after which the node wants it replaced."""
    warnings: tuple[str, ...] = ()

    @property
    def previous_hex(self) -> str:
        """The parent's hash in display order."""
        return display_hex(self.previous)

    def job(self, payout: Payout, id: str, instance: bytes = b"") -> "TemplateJob":
        """What the engine may roll. LocalProtocolError if the extra outputs cost more than there is.

        `instance`: the first bytes of the extranonce, which tell two miners on one node apart.
        """
        reward = self.coinbase_value - sum(output.value for output in payout.extra)
        if reward < 0:
            raise LocalProtocolError(f"the extra outputs cost {-reward} satoshi more than the block pays")
        outputs = [TxOut(reward, payout.script), *payout.extra]
        if self.commitment is not None:
            outputs.append(commitment_output(self.commitment))
        prefix, suffix = coinbase_parts(
            self.height, outputs, extranonce_size=EXTRANONCE_SIZE, tag=payout.tag, flags=self.flags
        )
        return TemplateJob(
            id=id,
            version=self.version,
            previous=self.previous,
            bits=self.bits,
            time=self.time,
            max_time=self.max_time,
            coinbase_prefix=prefix + instance,
            coinbase_suffix=suffix,
            extranonce_size=EXTRANONCE_SIZE - len(instance),
            branch=self.branch,
            target=self.target,
            version_mask=self.version_mask,
            nonces=self.nonces,
            height=self.height,
            once=True,
            template=self,
        )


@dataclass(frozen=True, kw_only=True)
class TemplateJob(Job):
    """A job that knows its template, so that a share of it is all one needs to build the block."""

    template: Template = field(repr=False, compare=False)

    def block(self, header: bytes, extranonce: int) -> bytes:
        """The whole block, serialized."""
        coinbase = self.coinbase(extranonce)
        if self.template.commitment is not None:
            coinbase = _with_witness(coinbase)
        count = compact_size(1 + len(self.template.transactions))
        return b"".join((header, count, coinbase, *self.template.transactions))


def _with_witness(coinbase: bytes) -> bytes:
    # BIP 141: the coinbase's input has one witness item, 32 bytes: the reserved value, here zeros.
    # BIP 144: marker and flag follow the version, the witnesses stand before the lock time.
    return coinbase[:4] + b"\x00\x01" + coinbase[4:-4] + b"\x01\x20" + bytes(32) + coinbase[-4:]


def template_request(rules: Collection[str], long_poll_id: str | None = None) -> dict[str, object]:
    """The one argument of getblocktemplate."""
    request: dict[str, object] = {
        "capabilities": ["coinbasevalue", "longpoll", "proposal", "workid"],
        "rules": sorted(rules),
    }
    return request if long_poll_id is None else request | {"longpollid": long_poll_id}


def proposal_request(job: TemplateJob) -> dict[str, object]:
    """BIP 23: the block as it would be submitted, but for its proof of work."""
    header = job.work(0, job.time, (job.version,)).header
    request: dict[str, object] = {"mode": "proposal", "data": job.block(header, 0).hex()}
    # BIP 23: if the server provided a workid, it MUST be included with proposals.
    return request if job.template.work_id is None else request | {"workid": job.template.work_id}


def submission(share: Share) -> tuple[object, ...]:
    """The arguments of submitblock. LocalProtocolError for a share of any other kind of job."""
    job = share.work.job
    if not isinstance(job, TemplateJob):
        raise LocalProtocolError("the share belongs to no block template")
    block = job.block(share.header, share.work.extranonce).hex()
    # BIP 22: if the server provided a workid, it MUST be included with submissions.
    return (block,) if job.template.work_id is None else (block, {"workid": job.template.work_id})


class Judgement(NamedTuple):
    """What a submitblock answer says; an outcome of UNKNOWN is for the node's chain to decide."""

    outcome: Outcome
    reason: str


_UNDECIDED = frozenset(
    {"inconclusive", "duplicate", "duplicate-inconclusive", "inconclusive-not-best-prevblk", "stale-prevblk"}
)
_STALE = frozenset({"stale-work", "bad-prevblk"})


def judge(answer: object) -> Judgement:
    """BIP 22: null is accepted, a string says why not. Anything else is a rejection, quoted."""
    if answer is None:
        return Judgement(Outcome.ACCEPTED, "")
    # bcoin puts "rejected: " before every reason.
    reason = excerpt(answer).removeprefix("rejected: ") or "rejected"
    if reason in _UNDECIDED:
        return Judgement(Outcome.UNKNOWN, reason)
    return Judgement(Outcome.STALE if reason in _STALE else Outcome.REJECTED, reason)


def previous_of(result: object) -> bytes | None:
    """The parent alone, before thousands of transactions are parsed; None if it is not clear."""
    try:
        return read.previous(fields(result, "the template"))
    except RemoteProtocolError:
        return None


def parse_template(result: object, *, max_transactions: int = MAX_TRANSACTIONS) -> Template:
    """Check every field of a getblocktemplate result; RemoteProtocolError names the first bad one."""
    raw = fields(result, "the template")
    rules = read.rules(raw)
    bits, target, warnings = read.difficulty(raw)
    time, max_time = read.times(raw)
    version = read.version(raw)
    transactions = read.transactions(raw, max_transactions)
    return Template(
        version=version,
        previous=read.previous(raw),
        bits=bits,
        target=target,
        height=read.height(raw),
        coinbase_value=read.coinbase_value(raw),
        time=time,
        max_time=max_time,
        transactions=tuple(data for data, _ in transactions),
        branch=merkle_branch([tx.txid for _, tx in transactions]),
        commitment=read.commitment(raw, rules, [tx for _, tx in transactions]),
        flags=read.flags(raw),
        nonces=read.nonces(raw),
        version_mask=read.version_mask(raw, version),
        long_poll_id=read.long_poll_id(raw),
        work_id=read.work_id(raw),
        can_propose="proposal" in read.words(raw, "capabilities"),
        expires=read.expires(raw),
        warnings=warnings,
    )
