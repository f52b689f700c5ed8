"""Which of two codes suits a core right now: one is faster alone, the other beside a busy neighbour.

The neighbour, on the core's other hyperthread, comes and goes within milliseconds. What a code did some
time ago says nothing, so neither is tried for its own sake. But the second tells by its own cost whether
there is a neighbour, and only when there is none does the first get a turn; it keeps the turns while it
does better than the second ever did. So a mistake costs one turn, and repeated ones get rarer.
"""

from typing import Final

ALONE: Final = 0
"""The code that is faster on a core of its own."""

BESIDE: Final = 1
"""The code that suffers less from a neighbour."""

QUIET: Final = 1.04
"""Times its least cost: what the second code costs at most where there is no neighbour."""

PATIENCE: Final = 4
"""Quiet turns, one after the other, before the first code is tried."""

MOST_PATIENCE: Final = 256
"""It doubles each time that the first code then disappoints: beside one who never sleeps, 0.1 % is lost."""

FADING: Final = 1.0001
"""By what the least cost grows each turn: in the end a clock that stays low is no neighbour."""


class Choice:
    """One thread's choice between two codes, or between one and nothing."""

    def __init__(self, codes: int) -> None:
        self.code = BESIDE if codes > 1 else ALONE
        """The code to use for the next turn."""
        self._least = float("inf")  # cost of BESIDE without a neighbour
        self._quiet = 0
        self._patience = PATIENCE
        self._on_trial = False

    def learn(self, cost: float) -> None:
        """What this turn has cost with `code`: seconds of the thread's own per hash."""
        if self.code == BESIDE:
            self._least = min(self._least * FADING, cost)
            self._quiet = self._quiet + 1 if cost <= QUIET * self._least else 0
            if self._quiet >= self._patience:
                self.code, self._on_trial, self._quiet = ALONE, True, 0
        else:
            if cost > self._least:
                self.code = BESIDE
                self._patience = min(2 * self._patience, MOST_PATIENCE) if self._on_trial else PATIENCE
            self._on_trial = False
