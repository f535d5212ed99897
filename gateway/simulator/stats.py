"""What was asked of the simulator, counted per provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


class Stats:
    """Counters since the start.

    Attributes:
        accepted: jobs taken on, counted before any fault spoils the answer: what a provider would bill.
        by_character: the same, by the character's URL.
        refused: calls answered with a refusal: bad key, body or route, unusable media, or a `refuse:` fault.
        polls: questions about a job, known or not.
        cancels: wishes to cancel or delete a job, known or not.
        lists: questions about the jobs there are.
        callbacks: callbacks sent, each try counted, acknowledged or not.
    """

    def __init__(self, providers: Iterable[str]) -> None:
        names = tuple(providers)
        self.accepted = Counter(dict.fromkeys(names, 0))
        self.by_character = {name: Counter[str]() for name in names}
        self.refused = Counter(dict.fromkeys(names, 0))
        self.polls = Counter(dict.fromkeys(names, 0))
        self.cancels = Counter(dict.fromkeys(names, 0))
        self.lists = Counter(dict.fromkeys(names, 0))
        self.callbacks = Counter(dict.fromkeys(names, 0))

    def count_accepted(self, provider: str, character_url: str) -> None:
        """Count one job."""
        self.accepted[provider] += 1
        self.by_character[provider][character_url] += 1

    def shown(self) -> Mapping[str, Mapping[str, int | Mapping[str, int]]]:
        """The counters as GET /_stats shows them."""
        return {
            "accepted": self.accepted,
            "by_character": self.by_character,
            "refused": self.refused,
            "polls": self.polls,
            "cancels": self.cancels,
            "lists": self.lists,
            "callbacks": self.callbacks,
        }
