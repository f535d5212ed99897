"""Identifiers: UUID version 7 (RFC 9562) behind a prefix that says what it names.

They sort by creation time, which makes newest-first paging a range scan, and hold nothing a caller chose:
a Standard Webhooks id must not contain a dot that a user controls.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Protocol

JOB, ATTEMPT, DELIVERY, MESSAGE, TASK, EXCHANGE, REQUEST, KEY, ENDPOINT = (
    "job", "att", "dlv", "msg", "tsk", "exc", "req", "key", "we",
)  # fmt: skip

_FORM = re.compile(r"[a-z]{2,3}_[0-9a-f]{32}")


class Stamp(Protocol):
    """What says when; a `gateway.clock.Clock` does."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970-01-01 UTC."""
        ...


class Ids:
    """Makes identifiers.

    Args:
        clock: gives the leading 48 bits.
        random_bits: gives that many random bits; tests pass a seeded generator's.
    """

    def __init__(self, clock: Stamp, random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._clock = clock
        self._random_bits = random_bits

    def new(self, prefix: str) -> str:
        """Return `<prefix>_<32 hex digits>`, later ones sorting after earlier ones of another millisecond."""
        random = self._random_bits(74)
        high = (self._clock.now_ms() & (2**48 - 1)) << 80
        version = 0x7 << 76 | (random >> 62) << 64
        variant = 0b10 << 62 | (random & (2**62 - 1))
        return f"{prefix}_{high | version | variant:032x}"


def first_id(prefix: str, at_ms: int) -> str:
    """Return what sorts at or before every id made at that instant or later, and after all earlier ones."""
    return f"{prefix}_{max(0, at_ms) & (2**48 - 1):012x}"


def well_formed(text: str, prefix: str) -> bool:
    """Whether a text from outside could be an id of that kind; spares the database anything else."""
    return text.startswith(f"{prefix}_") and _FORM.fullmatch(text) is not None
