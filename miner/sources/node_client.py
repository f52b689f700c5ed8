"""One Bitcoin node, as a miner sees it: its template, its tip, its word on a block.

Ordinary calls share one connection; a long poll and every submission have one
of their own, so that neither waits for anything else.
"""

import itertools
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from miner.errors import SourceError, SourceUnavailable
from miner.header import display_hex
from miner.sources.connection import Endpoint
from miner.sources.jsonrpc import MAX_BODY, Credentials, RpcConnection, RpcError
from miner.template import (
    MAX_TRANSACTIONS,
    Judgement,
    Template,
    TemplateJob,
    judge,
    parse_template,
    previous_of,
    proposal_request,
    submission,
    template_request,
)
from miner.template_fields import SUPPORTED_RULES
from miner.untrusted import excerpt, hash_of
from miner.work import Outcome, Share

Call = Callable[..., object]
"""A JSON-RPC method and its parameters to the result."""

INVALID_PARAMETER = -8
NOT_READY = {-28: "is starting", -9: "has no peers", -10: "is downloading the chain"}
"""Error codes of a node that will give templates later (Bitcoin Core, rpc/protocol.h)."""


@dataclass(frozen=True)
class NodeLimits:
    """What a node may cost: times in seconds, sizes in bytes."""

    call_seconds: float = 10.0
    long_poll_seconds: float = 24 * 3600.0
    """A long poll that is given up stays with some nodes (see `NodeSource`), so this is long."""
    max_body: int = MAX_BODY
    max_transactions: int = MAX_TRANSACTIONS
    tls: ssl.SSLContext | None = field(default=None, repr=False)


class NotReady(SourceUnavailable):
    """The node is there, and gives no templates yet."""


class Superseded(SourceError):
    """A block came between a template and the question about it. There is a newer one by now."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A template, and its place in the order in which answers arrived."""

    template: Template
    order: int


class NodeClient:
    """What is asked of one node. Every method may be called from any thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        limits: NodeLimits,
        *,
        order: "itertools.count[int]",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`order` numbers the answers; nodes that stand in for each other share it."""
        self.name, self._endpoint, self._credentials = endpoint.name, endpoint, credentials
        self.limits, self._order, self._clock = limits, order, clock
        self._rules = {"segwit"}
        self._lock = threading.Lock()
        self._connections: set[RpcConnection] = set()
        self._closed = False
        self._ordinary = self._connection()
        self._ordinary_lock = threading.Lock()

    @property
    def has_cookie(self) -> bool:
        """Whether the credentials may change by themselves."""
        return self._credentials.cookie is not None

    @property
    def connections(self) -> int:
        """How often the connection for ordinary calls was opened."""
        return self._ordinary.opened

    def close(self) -> None:
        """Break off every call that is under way."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def _connection(self) -> RpcConnection:
        connection = RpcConnection(
            self._endpoint,
            self._credentials,
            max_body=self.limits.max_body,
            tls=self.limits.tls,
            clock=self._clock,
        )
        with self._lock:
            self._connections.add(connection)
            if self._closed:
                connection.close()
        return connection

    def _call(self, method: str, *params: object) -> object:
        with self._ordinary_lock:
            return _ask(self._ordinary, self.limits.call_seconds, method, params)

    @contextmanager
    def _apart(self, seconds: float) -> Iterator[Call]:
        """Calls over a connection of their own, closed at the end."""
        connection = self._connection()
        try:
            yield lambda method, *params: _ask(connection, seconds, method, params)
        finally:
            connection.hang_up()
            with self._lock:
                self._connections.discard(connection)

    # -- the chain ---------------------------------------------------------------------------------

    def genesis(self) -> bytes | None:
        """The hash of the chain's first block, by which chains are told apart; None if it does not say."""
        try:
            return hash_of(self._call("getblockhash", 0), "getblockhash")
        except RpcError:
            return None

    def tip(self) -> bytes:
        """The hash of the best block."""
        return hash_of(self._call("getbestblockhash"), "getbestblockhash")

    def holds(self, block: bytes, height: int) -> bool | None:
        """Whether the best chain has this block there; None if the node does not say."""
        return _holds(self._call, block, height)

    # -- templates ---------------------------------------------------------------------------------

    def template(self) -> Fetched:
        """What the node would have mined now. NotReady while it starts."""
        return self._parsed(self._fetch(self._call, None))

    def long_poll(self, long_poll_id: str, seen: Callable[[bytes], None]) -> Fetched:
        """The template after the one with this id: returns when there is one.

        `seen` is told its parent beforehand: parsing takes a busy network's template 0.2 s.
        """
        with self._apart(self.limits.long_poll_seconds) as call:
            result = self._fetch(call, long_poll_id)
        previous = previous_of(result)
        if previous is not None:
            seen(previous)
        return self._parsed(result)

    def _parsed(self, result: object) -> Fetched:
        order = next(self._order)
        return Fetched(parse_template(result, max_transactions=self.limits.max_transactions), order)

    def _fetch(self, call: Call, long_poll_id: str | None) -> object:
        for _ in range(1 + len(SUPPORTED_RULES)):
            try:
                return call("getblocktemplate", template_request(self._rules, long_poll_id))
            except RpcError as error:
                if not self._support_more(error):
                    raise
        raise SourceUnavailable("the node asks for the same rule again and again")

    def _support_more(self, error: RpcError) -> bool:
        """Whether the node asks for a rule that we know and have not said so yet."""
        # "Client must support segwit." (bcoin), "... with the segwit rule set" (Bitcoin Core).
        asked = set(re.findall(r"\w+", error.text)) & SUPPORTED_RULES - self._rules
        if error.code != INVALID_PARAMETER or not asked:
            return False
        self._rules |= asked
        return True

    def propose(self, job: TemplateJob) -> str | None:
        """BIP 23: why the node would not take the job's block, however well mined; None if it would.

        Superseded if that is because of a newer block.
        """
        try:
            answer = self._call("getblocktemplate", proposal_request(job))
        except RpcError:
            return None  # it knows no proposals, whatever it said
        if answer is None or (isinstance(answer, dict) and "reject-reason" not in answer):
            return None
        said = answer["reject-reason"] if isinstance(answer, dict) else answer
        reason = excerpt(said).removeprefix("rejected: ")
        if reason == "inconclusive-not-best-prevblk":
            if self.tip() != job.previous:
                raise Superseded(reason)
            return None  # seen: bcoin 1.0.2 says so whatever the parent is
        return None if reason.startswith("duplicate") else reason

    # -- blocks ------------------------------------------------------------------------------------

    def submit(self, share: Share) -> Judgement:
        """Hand in a block, and look whether it is part of the chain afterwards."""
        arguments, job = submission(share), share.work.job
        with self._apart(self.limits.call_seconds) as call:
            try:
                ruling = judge(call("submitblock", *arguments))
            except RpcError as error:
                if error.code is None:
                    raise SourceUnavailable(str(error)) from None
                return Judgement(Outcome.REJECTED, error.text)
            if ruling.outcome in (Outcome.REJECTED, Outcome.STALE) or job is None or job.height is None:
                return ruling
            # Seen: null for a block that is not on the best chain, "duplicate" for one that is.
            held = _holds(call, share.hash, job.height)
        if held is None:
            return ruling
        if held:
            return ruling._replace(outcome=Outcome.ACCEPTED)
        return Judgement(Outcome.STALE, ruling.reason or "not on the best chain")


def _ask(connection: RpcConnection, seconds: float, method: str, params: tuple[object, ...]) -> object:
    """The result. NotReady for the errors of a node that has only just started."""
    try:
        return connection.call(method, *params, seconds=seconds)
    except RpcError as error:
        if error.code not in NOT_READY:
            raise
        raise NotReady(f"{NOT_READY[error.code]}: {error.text}") from None


def _holds(call: Call, block: bytes, height: int) -> bool | None:
    try:
        return hash_of(call("getblockhash", height), "getblockhash") == block
    except RpcError as error:
        if error.code == INVALID_PARAMETER:  # "Block height out of range"
            return False
    except SourceError:
        return None
    return _confirmed(call, block)


def _confirmed(call: Call, block: bytes) -> bool | None:
    """The same by getblockheader. Second best: bcoin counts confirmations for side chains too."""
    try:
        header = call("getblockheader", display_hex(block))
    except SourceError:
        return None
    confirmations = header.get("confirmations") if isinstance(header, dict) else None
    return confirmations >= 1 if type(confirmations) is int else None
