"""What a Stratum session goes through and what it tells: its states, as a table, and its events. No I/O."""

from dataclasses import dataclass
from enum import StrEnum

from miner.stratum_jobs import JobRefused, NewJob
from miner.stratum_params import Redirect
from miner.work import Outcome


class State(StrEnum):
    """How far the session has come."""

    NEW = "new"
    SUBSCRIBING = "subscribing"
    AUTHORIZING = "authorizing"
    MINING = "mining"
    CLOSED = "closed"


class Step(StrEnum):
    """What moves a session on."""

    START = "start"
    SUBSCRIBED = "subscribed"
    AUTHORIZED = "authorized"
    NOT_SUBSCRIBED = "not subscribed"
    UNAUTHORIZED = "unauthorized"
    DROPPED = "dropped"


NEXT = {
    (State.NEW, Step.START): State.SUBSCRIBING,
    (State.SUBSCRIBING, Step.SUBSCRIBED): State.AUTHORIZING,
    (State.AUTHORIZING, Step.AUTHORIZED): State.MINING,
    (State.AUTHORIZING, Step.NOT_SUBSCRIBED): State.SUBSCRIBING,
    (State.MINING, Step.NOT_SUBSCRIBED): State.SUBSCRIBING,
    (State.MINING, Step.UNAUTHORIZED): State.AUTHORIZING,
    **{(state, Step.DROPPED): State.CLOSED for state in State},
}
"""Every step there is; one that is not here is an error of whoever tried it."""


@dataclass(frozen=True, slots=True)
class Authorized:
    """The pool took our name: shares count from here on."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of the share that `submit` gave this number."""

    request: int
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something for people: a message of the pool's, a line that was ignored."""

    text: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The pool asks for another connection. Whether to follow is not the session's to say."""

    to: Redirect


@dataclass(frozen=True, slots=True)
class Dropped:
    """The session is over; close the connection. `refused`: the pool does not take our name."""

    text: str
    refused: bool = False


Event = Authorized | NewJob | JobRefused | Judged | Note | Moved | Dropped
