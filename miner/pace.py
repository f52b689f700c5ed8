"""How much work fills one time slice of a device."""

from miner.target import expected_hashes
from miner.work import Work

HITS_PER_BATCH = 64
"""Expected at most: on an easy target (regtest's is met by every other hash) batches get short instead."""


class Pace:
    """How many nonces fill one time slice, learned from the batches before."""

    def __init__(self, slice_seconds: float) -> None:
        self._slice = slice_seconds
        self._hashes = 1024.0  # a guess that takes the slowest device (pure Python) a millisecond

    def nonces(self, work: Work) -> int:
        """The batch size for this work: at least 1."""
        hashes = min(self._hashes, HITS_PER_BATCH * expected_hashes(work.target))
        return max(1, int(hashes) // len(work.versions))

    def learn(self, hashes: int, seconds: float) -> None:
        """A batch took so long. Short ones say little (they are mostly overhead): grow 4x at most."""
        if seconds * 8 < self._slice and hashes < self._hashes / 2:
            return  # cut short by an easy target or the end of a span
        fitting = hashes * self._slice / max(seconds, 1e-6)
        self._hashes = min(max(fitting, 1.0), self._hashes * 4)
