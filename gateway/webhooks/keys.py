"""What messages are signed with, as text: made, and read back.

Standard Webhooks 1.0.0: `whsec_` is a shared secret, `whsk_` the private and `whpk_` the public half of an
Ed25519 pair, each followed by base64 of the raw bytes. A private key never leaves the gateway.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from gateway.webhooks.signing import PRIVATE_PREFIX, SECRET_PREFIX, Key, decode_secret

PUBLIC_PREFIX = "whpk_"
KEY_BYTES = 32


class MadeKey(Struct, frozen=True, kw_only=True):
    """A new key; never shown by its `repr`."""

    secret: str
    """What is sealed."""
    shown: str | None
    """What its receiver is shown, once; None where the public key is enough."""
    public_key: str | None

    def __repr__(self) -> str:
        """Name the public half alone."""
        return f"MadeKey(public_key={self.public_key!r})"


def make_key(signing: Literal["hmac", "ed25519"], random_bytes: Callable[[int], bytes]) -> MadeKey:
    """Make what messages are signed with: an endpoint's, or an owner's to the receivers of its jobs."""
    raw = random_bytes(KEY_BYTES)
    if signing == "hmac":
        secret = SECRET_PREFIX + _encode(raw)
        return MadeKey(secret=secret, shown=secret, public_key=None)
    public = Ed25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()
    return MadeKey(
        secret=PRIVATE_PREFIX + _encode(raw), shown=None, public_key=PUBLIC_PREFIX + _encode(public)
    )


def decode_key(text: str) -> Key:
    """Read what `make_key` made.

    Raises:
        ValueError: it is something else; the message never repeats the text.
    """
    if not text.startswith(PRIVATE_PREFIX):
        return decode_secret(text)
    try:
        return Ed25519PrivateKey.from_private_bytes(
            base64.b64decode(text.removeprefix(PRIVATE_PREFIX), validate=True)
        )
    except (binascii.Error, ValueError):
        raise ValueError(f"a private key is {PRIVATE_PREFIX} and base64 of {KEY_BYTES} bytes") from None


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
