"""RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers, working copy of 2025-09)."""

from __future__ import annotations

import math
from typing import Final

from gateway.service.throttle import Taken

RATE_FIELDS: Final = "motion_gateway.rate_fields"
"""Where a request's ASGI scope keeps them until it is answered."""
REQUESTS: Final = "requests"
"""Names the policy."""


def rate_fields(taken: Taken) -> tuple[tuple[bytes, bytes], ...]:
    """Return the two fields: what the policy is, and what of it is left, for how long."""
    rate = taken.rate
    policy = f'"{REQUESTS}";q={rate.count};w={rate.interval_s}'
    left = f'"{REQUESTS}";r={taken.remaining};t={math.ceil(taken.reset_s)}'
    return ((b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode()))
