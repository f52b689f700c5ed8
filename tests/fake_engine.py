"""The engine as a source sees it: takes deliveries, and hands in shares that a dozen hashes found."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from miner.engine import Delivery, Update
from miner.errors import RuleError
from miner.work import Job, Share, Work


class FakeEngine:
    """Callable: what a source is given to deliver to."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.times: list[float] = []
        self._changed = threading.Condition()

    def __call__(self, delivery: Delivery) -> None:
        with self._changed:
            self.deliveries.append(delivery)
            self.times.append(time.monotonic())
            self._changed.notify_all()

    def wait(self, wanted: Callable[[list[Delivery]], object], seconds: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.deliveries), seconds), self.deliveries

    def updates(self) -> list[Update]:
        return [delivery for delivery in list(self.deliveries) if isinstance(delivery, Update)]

    def job(self, count: int = 1) -> Job:
        """The newest job, once there have been `count`."""
        self.wait(lambda _: len(self.updates()) >= count)
        return self.updates()[-1].job


def try_share(work: Work, nonce: int) -> Share | None:
    with suppress(RuleError):
        return Share(work, nonce, work.versions[0])
    return None


def share_of(work: Work) -> Share:
    """The first share in a target that every other hash meets."""
    return next(share for nonce in range(1000) if (share := try_share(work, nonce)) is not None)


def a_share(job: Job, extranonce: int = 1) -> Share:
    return share_of(job.work(extranonce, job.time, (job.version,)))


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for what other threads bring about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)
