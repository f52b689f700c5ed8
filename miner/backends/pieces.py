"""How the cores of a backend share a range: a slow one must not keep the others waiting."""

import threading
from collections.abc import Iterator


class Pieces:
    """A range in pieces, each dealt once, to any number of threads: large ones first, small ones last."""

    def __init__(self, nonces: range, threads: int, least: int, most: int) -> None:
        """Pieces of `least` to `most` nonces; only the very last may be shorter."""
        self._rest = nonces
        self._threads, self._least, self._most = threads, max(least, 1), max(most, 1)
        self._lock = threading.Lock()
        self.stopped = False
        """Whether `stop` was called."""

    def __iter__(self) -> Iterator[range]:
        while piece := self._take():
            yield piece

    def stop(self) -> None:
        """Deal no more."""
        self.stopped = True

    def _take(self) -> range:
        with self._lock:
            if self.stopped:
                return range(0)
            # Half of what would be everybody's share: whoever is slow has taken too little to be waited for.
            share = len(self._rest) // (2 * self._threads) if self._threads > 1 else self._most
            size = min(max(share, self._least), self._most)
            piece, self._rest = self._rest[:size], self._rest[size:]
            return piece
