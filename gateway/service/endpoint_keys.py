"""What an endpoint's messages are signed with at a given moment."""

from __future__ import annotations

from gateway.errors import Refusal
from gateway.jobs.view import instant
from gateway.storage.endpoints import Endpoint
from gateway.storage.sealing import Sealer
from gateway.webhooks.keys import decode_key
from gateway.webhooks.signing import Key

MOST_OLD = 3
"""Secrets that sign beside the current one, if it is rotated again and again."""


def endpoint_keys(endpoint: Endpoint, sealer: Sealer, *, at_ms: int) -> list[Key]:
    """Return the current key, and those before it as long as they sign, too.

    Raises:
        SettingsError: they were sealed with another secret_key.
    """
    current = sealer.open(endpoint.sealed_secret, bound_to=endpoint.id)
    return [decode_key(text) for text in (current, *(old for _, old in _old(endpoint, sealer, at_ms=at_ms)))]


def sealed_before(endpoint: Endpoint, sealer: Sealer, *, at_ms: int, until_ms: int) -> str:
    """Seal an endpoint's secrets, the current one first, so that they sign until then beside a new one.

    One that was replaced before ends when it was to end. Whoever rotates again at once, since an answer was
    lost, does not cut off the secret that the receiver has.

    Raises:
        Refusal: `rotated-too-often`; one that the receiver may have would have to be left out.
    """
    current = sealer.open(endpoint.sealed_secret, bound_to=endpoint.id)
    old = _old(endpoint, sealer, at_ms=at_ms)
    if len(old) >= MOST_OLD:
        ends = instant(min(until for until, _ in old))
        raise Refusal(
            "rotated-too-often", f"{len(old)} earlier secrets sign beside it; the oldest until {ends}"
        )
    kept = [(until_ms, current), *old]
    return sealer.seal("\n".join(f"{until} {text}" for until, text in kept), bound_to=endpoint.id)


def _old(endpoint: Endpoint, sealer: Sealer, *, at_ms: int) -> list[tuple[int, str]]:
    """Read the secrets before the current one, each with when it ends."""
    if endpoint.sealed_previous_secret is None or at_ms >= (endpoint.previous_until_ms or 0):
        return []
    lines = sealer.open(endpoint.sealed_previous_secret, bound_to=endpoint.id).split("\n")
    found = (line.split(" ", 1) for line in lines)
    return [(int(until), text) for until, text in found if at_ms < int(until)]
