"""Telling a genuine message from any other, as a receiver does by Standard Webhooks 1.0.0. Pure.

For receivers of our own: the demo's, and `motion-gateway listen`. Others have the `standardwebhooks` package.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.webhooks.keys import PUBLIC_PREFIX
from gateway.webhooks.signing import decode_secret

TOLERANCE_S = 300
"""How far a message's time may be from ours, either way."""
MOST_SIGNATURES = 20
"""A sender makes one for each key that is valid; looking at more would be a way to keep us busy."""

_ID, _TIME, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_LATEST_DIGITS = 15  # of seconds since 1970; no more are read as a number

Key = bytes | Ed25519PublicKey
"""Of a secret, for signatures `v1`; or public, for `v1a`."""


class Flaw(StrEnum):
    """Why a message is not genuine."""

    UNSIGNED = "unsigned"
    """One of the three headers is missing, there twice, or not what it should be."""
    STALE = "stale"
    """It was sent too long ago, or by a clock too far ahead: it may be a replay."""
    FORGED = "forged"
    """No signature fits: another secret signed, or something was changed on the way."""


def decode_key(text: str) -> Key:
    """The key in `whsec_<base64>` (a secret) or `whpk_<base64>` (an Ed25519 public key).

    Raises:
        ValueError: it is something else; the message is the rule and never repeats the text.
    """
    if not text.startswith(PUBLIC_PREFIX):
        return decode_secret(text)
    encoded = text.removeprefix(PUBLIC_PREFIX).rstrip("=")
    try:
        return Ed25519PublicKey.from_public_bytes(
            base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        )
    except ValueError:
        raise ValueError(f"a public key is {PUBLIC_PREFIX} followed by the base64 of 32 bytes") from None


def flaw_of(
    keys: Sequence[Key], headers: Iterable[tuple[str, str]], body: bytes, *, now_s: int
) -> Flaw | None:
    """Why a message is not to be believed; None when it is genuine and fresh.

    Args:
        keys: as `decode_key` gives them; one that fits is enough.
        headers: every header line, names in lower case, values read as Latin-1.
        body: exactly as it came.
        now_s: seconds since 1970-01-01 UTC.
    """
    values: dict[str, list[str]] = {_ID: [], _TIME: [], _SIGNATURE: []}
    for name, value in headers:
        if name in values:
            values[name].append(value)
    if any(len(found) != 1 for found in values.values()):
        return Flaw.UNSIGNED
    (message_id,), (sent_at,), (signatures,) = values.values()
    if not message_id or not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= _LATEST_DIGITS):
        return Flaw.UNSIGNED
    if abs(now_s - int(sent_at)) > TOLERANCE_S:
        return Flaw.STALE
    signed = f"{message_id}.{sent_at}.".encode("latin-1") + body
    given = signatures.split(" ")[:MOST_SIGNATURES]
    return None if any(_fits(key, one, signed) for key in keys for one in given) else Flaw.FORGED


def _fits(key: Key, signature: str, signed: bytes) -> bool:
    version, _, encoded = signature.partition(",")
    try:
        given = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    if isinstance(key, bytes):
        return version == "v1" and hmac.compare_digest(given, hmac.digest(key, signed, hashlib.sha256))
    try:
        key.verify(given, signed)
    except InvalidSignature:
        return False
    return version == "v1a"
