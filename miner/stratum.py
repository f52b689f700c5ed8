"""A Stratum v1 session: bytes in, events out. No socket, no clock.

    session = Session("user", "password")
    session.start(now)
    while connected:
        send(session.outgoing())
        for event in session.receive(recv(), now) + session.expire(now):
            ...

The session asks for everything by itself: version rolling (BIP 310), a
subscription, authorization. `NewJob` may come before the pool has answered
them all: real pools send difficulty and job before the answer to authorize.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from miner import stratum_params as params
from miner.errors import LocalProtocolError, RemoteProtocolError
from miner.params import VERSION_MASK
from miner.stratum_events import NEXT, Authorized, Dropped, Event, Judged, Moved, Note, State, Step
from miner.stratum_jobs import Jobs, Resumption
from miner.stratum_wire import (
    NOT_SUBSCRIBED,
    UNAUTHORIZED,
    Answer,
    Call,
    Lines,
    Ruling,
    encode,
    parse_message,
    rule,
)
from miner.target import difficulty
from miner.untrusted import excerpt
from miner.work import Job, Outcome, Share

AGENT = "nonceforge/0.1"

MAX_PENDING = 256
"""Requests that wait for an answer; the oldest is given up for a newer one."""

MAX_BAD_LINES = 10
"""In a row: after that the other side is no pool, or no longer."""

MAX_OUTGOING = 1 << 20
"""Bytes that the pool may leave unread."""

MAX_ECHOED_ID = 100
"""Characters of a request's id that are sent back."""

ANSWER_SECONDS = 30.0
"""How long an answer is waited for."""


class _Pending(NamedTuple):
    method: str
    deadline: float


class Session:
    """One connection's worth of Stratum. The caller holds a lock if threads share it."""

    def __init__(
        self,
        user: str,
        password: str,
        *,
        resume: Resumption | None = None,
        extensions: bool = True,
        suggest: float | None = None,
    ) -> None:
        """`extensions`: whether to ask for what the oldest pools do not know; some hang up on it.

        `suggest`: the share difficulty that would suit us.
        """
        self._user, self._password = user, password
        self._resume, self._extensions, self._suggest = resume, extensions, suggest
        self._lines, self._jobs = Lines(), Jobs()
        self._outgoing = bytearray()
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self._bad_lines = 0
        self._done_once: set[str] = set()
        self.state = State.NEW
        self.ignored = 0
        """Lines, calls and answers that made no sense."""

    # -- what we say -------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Say hello. LocalProtocolError the second time."""
        if self.state is not State.NEW:
            raise LocalProtocolError(f"a session starts once; this one is {self.state}")
        self._step(Step.START)
        if self._extensions:
            # BIP 310: mining.configure SHOULD be the first message sent by the miner.
            options = {"version-rolling.mask": f"{VERSION_MASK:08x}", "version-rolling.min-bit-count": 2}
            self._request(now, "mining.configure", [["version-rolling", "subscribe-extranonce"], options])
        self._subscribe(now)

    def submit(self, share: Share, now: float) -> int:
        """Hand in a share of a job that `knows`; `Judged` with the returned number follows."""
        job = share.work.job
        if job is None or not self.knows(job):
            raise LocalProtocolError(f"the share is of no job of this session, which is {self.state}")
        given: list[object] = [
            self._user,
            job.id,
            share.work.extranonce.to_bytes(job.extranonce_size, "big").hex(),
            share.header[68:72][::-1].hex(),
            f"{share.nonce:08x}",
        ]
        if self._jobs.mask is not None:
            # BIP 310: the client MUST send version_bits, with version_bits & ~last_mask == 0.
            given.append(f"{share.version & self._jobs.mask:08x}")
        return self._request(now, "mining.submit", given)

    def knows(self, job: Job) -> bool:
        """Whether shares of this job can be handed in: not if it is superseded, or another connection's."""
        return self.working and self._jobs.holds(job)

    def outgoing(self) -> bytes:
        """What is to be sent now; each byte is given out once."""
        data, self._outgoing = bytes(self._outgoing), bytearray()
        return data

    def _request(self, now: float, method: str, given: object) -> int:
        self._last_id += 1
        self._pending[self._last_id] = _Pending(method, now + ANSWER_SECONDS)
        self._outgoing += encode({"id": self._last_id, "method": method, "params": given})
        return self._last_id

    def _subscribe(self, now: float) -> None:
        resume = [self._resume.session_id] if self._resume is not None else []
        self._request(now, "mining.subscribe", [AGENT, *resume])

    def _authorize(self, now: float) -> None:
        self._request(now, "mining.authorize", [self._user, self._password])

    # -- what the pool says ------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What these bytes complete. However they are cut into pieces, the events are the same."""
        events: list[Event] = []
        if self._over():
            return events
        try:
            for line in self._lines.feed(data):
                events += self._line(line, now)
                if self._over():
                    return events
            if len(self._outgoing) > MAX_OUTGOING:
                raise RemoteProtocolError("the pool asks more than it listens")
        except RemoteProtocolError as error:
            events.append(self._drop(str(error)))
        return events

    def expire(self, now: float) -> list[Event]:
        """What is no longer waited for at `now`."""
        late = [number for number, pending in self._pending.items() if now >= pending.deadline]
        late += list(self._pending)[: max(0, len(self._pending) - MAX_PENDING)]
        return [event for number in dict.fromkeys(late) for event in self._given_up(number)]

    def _given_up(self, number: int) -> list[Event]:
        method = self._pending.pop(number).method
        silence = f"no answer to {method} in {ANSWER_SECONDS:.0f} s"
        if method == "mining.submit":
            return [Judged(number, Outcome.UNKNOWN, silence)]
        if method == "mining.subscribe":
            return [self._drop(silence)]
        if method == "mining.authorize":
            return [Note(f"{silence}: going on without")]
        return []  # an extension that the pool does not know

    def _line(self, line: bytes, now: float) -> list[Event]:
        if line.startswith(b"HTTP/"):
            raise RemoteProtocolError(
                f"not a pool, a web server answers: {excerpt(line.decode('latin-1').strip(), 40)}"
            )
        try:
            message = parse_message(line)
            events = self._message(message, now) if message is not None else []
        except RemoteProtocolError as error:
            self._bad_lines += 1
            if self._bad_lines >= MAX_BAD_LINES:
                raise RemoteProtocolError(f"{MAX_BAD_LINES} bad lines in a row, the last: {error}") from None
            return [self._ignore(str(error))]
        self._bad_lines = 0
        return events

    def _ignore(self, why: str) -> Event:
        self.ignored += 1
        return Note(f"ignored: {why}")

    def _message(self, message: Call | Answer, now: float) -> list[Event]:
        if isinstance(message, Answer):
            return self._answer(message, now)
        handler = self._CALLS.get(message.method)
        if handler is not None:
            return handler(self, message)
        name = excerpt(message.method, 40)
        self._reply(message, error=[20, f"unknown method {name}", None])
        return [self._ignore(f"a call of {name}, which is unknown")]

    def _reply(self, call: Call, result: object = None, error: object = None) -> None:
        """Answer a request of the pool's; a notification gets none, nor does an id that is not one."""
        wanted = type(call.id) is int or (isinstance(call.id, str) and len(call.id) <= MAX_ECHOED_ID)
        if wanted:
            self._outgoing += encode({"id": call.id, "result": result, "error": error})

    def _answer(self, answer: Answer, now: float) -> list[Event]:
        # `type`: to Python True is 1, and 1.0 is too.
        if type(answer.id) is not int or answer.id not in self._pending:
            return [self._ignore(f"an answer to request {excerpt(answer.id, 40)}, which is not open")]
        method = self._pending.pop(answer.id).method
        if method == "mining.submit":
            return self._judged(answer.id, rule(answer), now)
        if method == "mining.subscribe":
            return self._subscribed(answer, now)
        if method == "mining.authorize":
            return self._authorized(answer, now)
        if method == "mining.configure":
            granted = None if answer.error is not None else params.parse_configured(answer.result)
            return [*self._jobs.set_mask(granted)]
        return []

    def _judged(self, number: int, ruling: Ruling, now: float) -> list[Event]:
        # Once per connection: a pool that still says so has another reason than the one it gives.
        if ruling.code == UNAUTHORIZED and self._can_redo(Step.UNAUTHORIZED):
            self._step(Step.UNAUTHORIZED)
            self._authorize(now)
        elif ruling.code == NOT_SUBSCRIBED and self._can_redo(Step.NOT_SUBSCRIBED):
            self._step(Step.NOT_SUBSCRIBED)
            self._subscribe(now)
        return [Judged(number, ruling.outcome, ruling.reason)]

    def _can_redo(self, step: Step) -> bool:
        return (self.state, step) in NEXT and self._first_time(step)

    def _first_time(self, what: str) -> bool:
        first = what not in self._done_once
        self._done_once.add(what)
        return first

    def _subscribed(self, answer: Answer, now: float) -> list[Event]:
        if answer.error is not None:
            return [self._drop(f"the pool refuses the subscription: {rule(answer).reason}")]
        try:
            subscription = params.parse_subscription(answer.result)
        except RemoteProtocolError as error:
            return [self._drop(str(error))]  # without it nothing can be mined
        self._step(Step.SUBSCRIBED)
        former, self._resume = self._resume, None
        self._authorize(now)
        return [*self._jobs.subscribed(subscription, former)]

    def _authorized(self, answer: Answer, now: float) -> list[Event]:
        ruling = rule(answer)
        if ruling.outcome is not Outcome.ACCEPTED:
            name = excerpt(self._user, 80)
            return [self._drop(f"the pool does not authorize {name}: {ruling.reason}", refused=True)]
        self._step(Step.AUTHORIZED)
        if self._extensions and self._first_time("extensions"):
            self._request(now, "mining.extranonce.subscribe", [])
            if self._suggest is not None:
                self._request(now, "mining.suggest_difficulty", [self._suggest])
        return [Authorized()]

    def _notify(self, call: Call) -> list[Event]:
        return [*self._jobs.notify(call.params)]

    def _set_difficulty(self, call: Call) -> list[Event]:
        self._jobs.target = params.parse_difficulty(call.params)
        return []

    def _set_target(self, call: Call) -> list[Event]:
        self._jobs.target = params.parse_target(call.params)
        return []

    def _set_extranonce(self, call: Call) -> list[Event]:
        self._jobs.set_extranonce(*params.parse_extranonce(call.params))
        self._reply(call, True)
        return []

    def _set_version_mask(self, call: Call) -> list[Event]:
        mask = params.parse_version_mask(call.params)
        if self._jobs.mask is None:
            raise RemoteProtocolError("mining.set_version_mask, and version rolling was not granted")
        return [*self._jobs.set_mask(mask)]

    def _reconnect(self, call: Call) -> list[Event]:
        return [Moved(params.parse_reconnect(call.params))]

    def _show_message(self, call: Call) -> list[Event]:
        said = call.params[0] if isinstance(call.params, list) and call.params else call.params
        self._reply(call, True)
        return [Note(f"the pool says: {excerpt(said, 300)}")]

    def _get_version(self, call: Call) -> list[Event]:
        self._reply(call, AGENT)
        return []

    def _ping(self, call: Call) -> list[Event]:
        self._reply(call, "pong")
        return []

    _CALLS: Mapping[str, Callable[["Session", Call], list[Event]]] = {
        "mining.notify": _notify,
        "mining.set_difficulty": _set_difficulty,
        "mining.set_target": _set_target,
        "mining.set_extranonce": _set_extranonce,
        "mining.set_version_mask": _set_version_mask,
        "mining.ping": _ping,
        "client.reconnect": _reconnect,
        "client.show_message": _show_message,
        "client.get_version": _get_version,
    }
    """Everything that a pool may call."""

    # -- state -------------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        if (self.state, step) not in NEXT:
            raise RemoteProtocolError(f"{step} came while {self.state}")
        self.state = NEXT[self.state, step]

    def _drop(self, text: str, *, refused: bool = False) -> Dropped:
        self._step(Step.DROPPED)
        return Dropped(text, refused)

    def _over(self) -> bool:
        return self.state is State.CLOSED

    @property
    def working(self) -> bool:
        """Whether there is a job, and a pool that takes shares of it."""
        return self.state in (State.AUTHORIZING, State.MINING) and self._jobs.started

    @property
    def difficulty(self) -> float:
        """What a share of the next job has to meet; for people."""
        return difficulty(self._jobs.target)

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet."""
        return len(self._pending)

    @property
    def resumption(self) -> Resumption | None:
        """For the session after this one; None if the pool gave nothing to resume with."""
        return self._jobs.resumption
