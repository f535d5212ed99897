"""How a rate is written: `60/m` is 60 requests a minute."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

INTERVALS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST: Final = 1_000_000
"""Requests an interval: beyond it, nanoseconds would no longer tell one request from the next."""
_WRITTEN: Final = re.compile(r"([1-9][0-9]{0,6})/([smhd])")


class Rate(Struct, frozen=True):
    """So many requests, in an interval and in one burst."""

    count: int
    interval_s: int

    def __str__(self) -> str:
        """As it is written."""
        unit = next(word for word, seconds in INTERVALS_S.items() if seconds == self.interval_s)
        return f"{self.count}/{unit}"


def parse_rate(text: str) -> Rate:
    """Read a rate.

    Raises:
        ValueError: it is none; the text says what would be right.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None or int(match[1]) > MOST:
        raise ValueError(f"must be a whole number from 1 to {MOST}, a slash and s, m, h or d, such as 60/m")
    return Rate(int(match[1]), INTERVALS_S[match[2]])
