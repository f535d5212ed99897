"""How much is taken from a source that bears no key, as callbacks: counted in this process, never stored."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from gateway.clock import Clock
from gateway.errors import Refusal
from gateway.routing.gcra import admit, standing
from gateway.settings.rates import Rate

RATE: Final = Rate(1000, 10)
"""A hundred a second, a thousand at once: the database keeps up with more than an honest provider sends."""
MOST_SOURCES: Final = 10_000
"""Remembered; the ones heard of longest ago are forgotten, and may send a full burst again."""
POLICY: Final = "callbacks"
TOO_MANY: Final = "So many callbacks came from there that no more are taken just now."
US_PER_S: Final = 1_000_000
NS_PER_US: Final = 1000


class Inflow:
    """Counts what was let through.

    Args:
        clock: its monotonic side times them.
        rate: for each pair of a provider and a source.
        policy: names the limit.
        too_many: says that it was reached.
    """

    def __init__(
        self, clock: Clock, rate: Rate = RATE, *, policy: str = POLICY, too_many: str = TOO_MANY
    ) -> None:
        self._clock, self._rate, self._policy, self._too_many = clock, rate, policy, too_many
        self._arrivals: OrderedDict[tuple[str, str], int] = OrderedDict()

    def take(self, provider: str, source: str) -> None:
        """Let one through.

        Raises:
            Refusal: `quota-exceeded`; it may be sent again.
        """
        now_ns = round(self._clock.monotonic_s() * US_PER_S) * NS_PER_US
        pair = (provider, source)
        admitted = admit(self._rate, self._arrivals.get(pair, 0), now_ns=now_ns, wanted=1)
        self._arrivals[pair] = admitted.after_ns
        self._arrivals.move_to_end(pair)
        if len(self._arrivals) > MOST_SOURCES:
            self._arrivals.popitem(last=False)
        if not admitted.count:
            again_s = math.ceil(standing(self._rate, admitted.after_ns, now_ns=now_ns).reset_s)
            raise Refusal(
                "quota-exceeded",
                self._too_many,
                headers={"Retry-After": str(max(1, again_s))},
                policies=(self._policy,),
            )
