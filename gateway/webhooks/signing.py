"""Signatures of Standard Webhooks 1.0.0 over `id.timestamp.body`: `v1` is HMAC-SHA256, `v1a` Ed25519.

Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md at b2fa7b8, read
2026-08. The `standardwebhooks` package is not used to sign: it takes secrets of any length and private keys
of the asymmetric scheme, and misreads times that are not UTC. Tests verify with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET_PREFIX, PRIVATE_PREFIX = "whsec_", "whsk_"
SHORTEST, LONGEST = 24, 64  # bytes of a secret

Key = bytes | Ed25519PrivateKey
"""A shared secret, or the private half of a pair."""

_RULE = f"a webhook secret is {SECRET_PREFIX} followed by the base64 of {SHORTEST} to {LONGEST} bytes"
_ID = re.compile(r"[!-\-/-~]+")  # visible ASCII but the dot


def decode_secret(text: str) -> bytes:
    """The key in `whsec_<base64>`. Padding may be missing, as receivers' libraries allow.

    Raises:
        ValueError: it is something else; the message is the rule and never repeats the text.
    """
    if text.startswith(PRIVATE_PREFIX):
        raise ValueError(f"{PRIVATE_PREFIX} marks a private key of the asymmetric scheme; {_RULE}")
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(_RULE)
    encoded = text.removeprefix(SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_RULE) from None
    _check_length(key)
    return key


def sign(secrets: Sequence[Key], *, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers that prove a message's origin.

    Args:
        secrets: keys as `decode_secret` gives them, or private ones, the current one first; more than one
            while a rotation overlaps. Each makes a signature.
        message_id: the same for every try to send one event. A dot in it would let the id and the time be
            cut apart elsewhere with the same signature.
        timestamp_s: of this try, seconds since 1970-01-01 UTC.
        body: exactly what will be sent.

    Raises:
        ValueError: there is no secret or one of the wrong length, the id is empty or has a dot or anything
            but visible ASCII, or the timestamp is negative.
    """
    if not secrets:
        raise ValueError("nothing to sign with")
    for key in secrets:
        if isinstance(key, bytes):
            _check_length(key)
    if not _ID.fullmatch(message_id):
        raise ValueError("a webhook id is visible ASCII without a dot")
    if timestamp_s < 0:
        raise ValueError("a webhook timestamp is not negative")
    signed = f"{message_id}.{timestamp_s:d}.".encode("ascii") + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": f"{timestamp_s:d}",
        "webhook-signature": " ".join(_signature(key, signed) for key in secrets),
    }


def _signature(key: Key, signed: bytes) -> str:
    if not isinstance(key, bytes):
        return "v1a," + base64.b64encode(key.sign(signed)).decode("ascii")
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode("ascii")


def _check_length(key: bytes) -> None:
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(_RULE)
