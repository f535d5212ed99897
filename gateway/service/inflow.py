"""How many callbacks are taken from one provider and source: counted in this process, and never stored."""

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
US_PER_S: Final = 1_000_000
NS_PER_US: Final = 1000


class Inflow:
    """Counts what was let through.

    Args:
        clock: its monotonic side times them.
        rate: for each pair of a provider and a source.
    """

    def __init__(self, clock: Clock, rate: Rate = RATE) -> None:
        self._clock, self._rate = clock, rate
        self._arrivals: OrderedDict[tuple[str, str], int] = OrderedDict()

    def take(self, provider: str, source: str) -> None:
        """Let one through.

        Raises:
            Refusal: `quota-exceeded`; the provider may send it again.
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
                "So many callbacks came from there that no more are taken just now.",
                headers={"Retry-After": str(max(1, again_s))},
                policies=(POLICY,),
            )
