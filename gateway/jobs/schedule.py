"""When a failed try is due again."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER_S = 3600.0


def backoff_s(tries: int, *, first_s: float, longest_s: float, spread: float) -> float:
    """Return the delay after `tries` failures: doubling, capped, with full jitter in its upper half.

    Args:
        tries: failures so far, at least 1.
        first_s: the delay after the first, seconds.
        longest_s: the cap, seconds.
        spread: a random number from 0 to 1.
    """
    full = min(longest_s, first_s * 2.0 ** min(tries - 1, 32))
    return full * (0.5 + spread / 2)


def retry_after_s(value: str | None, *, now_ms: int) -> float | None:
    """Read a Retry-After field (RFC 9110, 10.2.3): seconds or an HTTP date.

    Negative, past, absurd and unreadable values count as absent; what is left is capped at an hour.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,7}", text):
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now_ms / 1000
        except (ValueError, OverflowError, TypeError):
            return None
    return min(seconds, LONGEST_RETRY_AFTER_S) if seconds > 0 else None
