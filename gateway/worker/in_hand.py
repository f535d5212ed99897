"""How many deliveries of each lane this worker has in hand, and how many more it may take.

A lane is an endpoint, or host and port of jobs' own receivers. Whoever takes everything that is due takes
thousands for a receiver that never answers; so each lane has its most, and one that lets its tries run out
of time has one at a time until it answers.
"""

from __future__ import annotations

from collections import Counter

from gateway.webhooks.outcome import Outcome

MOST_STRUGGLING = 10_000
SHARES = 4


class InHand:
    """Counts what was claimed and is not done.

    Args:
        most: of one lane; more than are sent at once, so that the next is here when one is through.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()
        self._struggling: set[str] = set()

    def room(self, lane: str, left: int) -> int:
        """How many more of a lane may be taken.

        Args:
            lane: which.
            left: how many may be taken of all. No lane gets more than a quarter of it, so that a few slow
                ones with much to do leave something for the next.
        """
        most = 1 if lane in self._struggling else self._most
        return max(0, min(most - self._counts[lane], max(1, left // SHARES)))

    def take(self, lane: str) -> None:
        """One was claimed."""
        self._counts[lane] += 1

    def put_down(self, lane: str) -> None:
        """One is done with, whatever came of it."""
        self._counts[lane] -= 1
        if self._counts[lane] <= 0:
            del self._counts[lane]

    def learn(self, lane: str, outcome: Outcome) -> None:
        """Heed what came of a try."""
        if outcome is Outcome.TIMEOUT:
            if len(self._struggling) >= MOST_STRUGGLING:
                self._struggling.clear()  # forgotten, they run out of time once more
            self._struggling.add(lane)
        elif outcome is not Outcome.BUSY:
            self._struggling.discard(lane)
