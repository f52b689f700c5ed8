"""Which of several codes is faster right now: a core's neighbour decides that, and he comes and goes."""

PROBE_EVERY = 32
"""Turns from one try of another code to the next: a tenth of a second, and 1.5 % of the time at the worst."""

WEIGHT = 0.25
"""Of the latest turn of the code in use, whose costs are averaged; of another the last try is believed."""


class Choice:
    """One thread's choice, learned from what each of `count` codes cost it lately."""

    def __init__(self, count: int) -> None:
        self._costs = [0.0] * count  # seconds per hash; nothing is cheaper than what was never tried
        self._turn = 0
        self.best = 0
        """The code that cost least lately."""

    def forget(self) -> None:
        """Try them all again: it has been too long, and the neighbour may be another."""
        self._costs = [0.0] * len(self._costs)

    def next(self) -> int:
        """The code to use for this turn: 0 ... count - 1."""
        self._turn += 1
        self.best = self._costs.index(min(self._costs))
        others = len(self._costs) - 1
        if others and self._turn % PROBE_EVERY == 0:
            return (self.best + 1 + self._turn // PROBE_EVERY % others) % len(self._costs)
        return self.best

    def learn(self, code: int, hashes: int, seconds: float) -> None:
        """What a turn of this code has cost, in seconds of the thread's own."""
        cost, known = max(seconds, 1e-9) / hashes, self._costs[code]
        averaged = known and code == self.best
        self._costs[code] = known + WEIGHT * (cost - known) if averaged else cost
