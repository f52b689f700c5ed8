"""Devices and sources for the engine's tests. Each obeys its protocol, or breaks it in one named way."""

import threading
import time
from collections.abc import Callable

from miner.engine import Delivery, Update
from miner.header import sha256d
from miner.work import Hit, Job, Outcome, Share, Verdict, Work

EASY = 1 << 252
"""A target that every 16th hash meets."""


def job(name: str = "job", *, target: int = EASY, once: bool = False, **changes: object) -> Job:
    """A job nobody else has: its name stands in the coinbase."""
    fields: dict[str, object] = {
        "id": name, "version": 0x2000_0000, "previous": bytes(32), "bits": 0x207FFFFF,
        "time": 1_700_000_000, "coinbase_prefix": name.encode(), "coinbase_suffix": b"",
        "target": target, "once": once,
    }  # fmt: skip
    return Job(**fields | changes)  # type: ignore[arg-type]


class Honest:
    """Hashes with hashlib, `pause` seconds a batch; remembers the spans that it has finished."""

    def __init__(self, name: str = "honest", pause: float = 0.0, siblings: int = 1) -> None:
        self.name, self.pause, self.siblings = name, pause, siblings
        self.scanned: list[tuple[Work, range]] = []
        self.closed = 0

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        hits = [
            hit
            for nonce in nonces
            for hit in (Hit(nonce, version) for version in sorted(work.versions))
            if int.from_bytes(sha256d(work.header_of(hit)), "little") <= work.target
        ]
        time.sleep(self.pause)
        self.scanned.append((work, nonces))
        return hits

    def close(self) -> None:
        self.closed += 1


class Liar(Honest):
    """Reports the first nonce of every batch as a hit."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        return [Hit(nonces.start, work.versions[0])]


class Crasher(Honest):
    """Raises after `good` batches, `times` times."""

    def __init__(self, name: str = "crasher", good: int = 2, times: int = 1000) -> None:
        super().__init__(name)
        self.good, self.times = good, times

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        if self.good == 0 and self.times > 0:
            self.times -= 1
            raise MemoryError("out of memory on the card")
        self.good = max(0, self.good - 1)
        return super().scan(work, nonces)


class Sleeper(Honest):
    """Never answers until it is told to."""

    def __init__(self, name: str = "sleeper") -> None:
        super().__init__(name)
        self.wake = threading.Event()

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        self.wake.wait()
        return super().scan(work, nonces)


class Scripted:
    """A source that delivers what it is told and judges shares with `judge`."""

    name = "scripted"

    def __init__(
        self, *first: Delivery, judge: Callable[[Share], Outcome] = lambda _: Outcome.ACCEPTED
    ) -> None:
        self.first, self.judge = first, judge
        self.submitted: list[Share] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.deliver: Callable[[Delivery], None] = lambda _: None

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        self.deliver = deliver
        for delivery in self.first:
            deliver(delivery)

    def submit(self, share: Share) -> Verdict:
        self.submitted.append(share)
        self.threads.add(threading.current_thread().name)
        return Verdict(share, self.judge(share), "")

    def close(self) -> None:
        self.closed += 1


def clean(new: Job, reason: str = "new tip") -> Update:
    return Update(new, reason, clean=True)


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Poll until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {seconds} s"
        time.sleep(0.005)
