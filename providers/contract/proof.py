"""Whether a callback proves what its provider's `spec.CallbackSpec` declares, compared in constant time.

A proof is checked twice: its headers before the body is read, so that nobody else is read from, and all of it
once the body is there. A header that should prove something and stands there twice proves nothing: two
readers may take different ones.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from providers.contract.spec import Ed25519Proof, HmacProof, Proof, SecretProof, Signing

Headers = Sequence[tuple[str, str]]
"""Every header line: names in lower case, values read as Latin-1."""

MOST_SIGNATURES = 10
"""In one header, while keys rotate; more are not looked at."""
_MOST_DIGITS = 15  # of seconds since 1970; no more are read as a number


class Flaw(StrEnum):
    """Why a callback proves nothing. For logs and metrics: the caller is told the same whatever it is."""

    MISSING = "missing"
    """A header of the proof is not there."""
    REPEATED = "repeated"
    """One is there twice."""
    MALFORMED = "malformed"
    """One cannot be read: no time, no signature, or a separator inside a value."""
    STALE = "stale"
    """It was signed too long ago, or by a clock too far ahead."""
    FORGED = "forged"
    """The secret or the signature is another."""


def flaw_of_head(proof: Proof | None, headers: Headers, *, secret: str, now_s: int) -> Flaw | None:
    """What is wrong with a callback as far as its headers show; None while nothing is.

    Args:
        proof: as declared; None asks for nothing.
        headers: as they came.
        secret: what the submission was given for this.
        now_s: seconds since 1970-01-01 UTC.
    """
    if proof is None:
        return None
    for name in needed_headers(proof):
        lines = sum(1 for given, _ in headers if given == name)
        if lines != 1:
            return Flaw.REPEATED if lines else Flaw.MISSING
    if isinstance(proof, SecretProof):
        given = _bytes(_value(headers, proof.header))
        return None if hmac.compare_digest(given, secret.encode()) else Flaw.FORGED
    return _flaw_of_signing(proof.signing, headers, now_s)


def flaw_of_call(
    proof: Proof | None, headers: Headers, body: bytes, *, secret: str, now_s: int
) -> Flaw | None:
    """What is wrong with a whole callback; None when it proves what is declared.

    Args:
        proof: as declared; None asks for nothing.
        headers: as they came.
        body: exactly as it came.
        secret: what the submission was given for this.
        now_s: seconds since 1970-01-01 UTC.
    """
    flaw = flaw_of_head(proof, headers, secret=secret, now_s=now_s)
    if flaw is not None or proof is None or isinstance(proof, SecretProof):
        return flaw
    text = signed_text(proof.signing, headers, body)
    fits = any(_fits(proof, one, text, secret) for one in _signatures(proof.signing, headers))
    return None if fits else Flaw.FORGED


def needed_headers(proof: Proof) -> tuple[str, ...]:
    """The headers that must be there, once each."""
    if isinstance(proof, SecretProof):
        return (proof.header,)
    signing = proof.signing
    return tuple(dict.fromkeys((signing.signature_header, signing.timestamp_header, *signing.headers)))


def signed_text(signing: Signing, headers: Headers, body: bytes) -> bytes:
    """The bytes that a signature is made of."""
    last = body if signing.body == "raw" else hashlib.sha256(body).hexdigest().encode()
    parts = [*(_bytes(_value(headers, name)) for name in signing.headers), last]
    return signing.separator.encode().join(parts)


def public_key(text: str) -> Ed25519PublicKey:
    """The key in 64 hex digits.

    Raises:
        ValueError: it is none.
    """
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))


def _flaw_of_signing(signing: Signing, headers: Headers, now_s: int) -> Flaw | None:
    # With a separator inside, the same bytes could be cut into other parts: a time, say, that nobody signed.
    if any(signing.separator in _value(headers, name) for name in signing.headers):
        return Flaw.MALFORMED
    sent_at = _value(headers, signing.timestamp_header)
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= _MOST_DIGITS):
        return Flaw.MALFORMED
    if not _signatures(signing, headers):
        return Flaw.MALFORMED
    return Flaw.STALE if abs(now_s - int(sent_at)) > signing.tolerance_s else None


def _signatures(signing: Signing, headers: Headers) -> tuple[bytes, ...]:
    """The signatures of the declared kind that can be read; others are passed over."""
    words = _value(headers, signing.signature_header).split(" ")[:MOST_SIGNATURES]
    ours = (word.removeprefix(signing.prefix) for word in words if word.startswith(signing.prefix))
    read = (_decoded(signing, word) for word in ours)
    return tuple(one for one in read if one)


def _decoded(signing: Signing, text: str) -> bytes:
    """The bytes of a signature; none for what cannot be read."""
    try:
        if signing.encoding == "hex":
            return bytes.fromhex(text) if text.isalnum() else b""  # fromhex skips spaces
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _fits(proof: HmacProof | Ed25519Proof, signature: bytes, text: bytes, secret: str) -> bool:
    if isinstance(proof, HmacProof):
        return hmac.compare_digest(signature, hmac.digest(secret.encode(), text, proof.algorithm))
    for key in proof.public_keys:
        try:
            public_key(key).verify(signature, text)
        except InvalidSignature:
            continue
        return True
    return False


def _value(headers: Headers, name: str) -> str:
    return next(value for given, value in headers if given == name)


def _bytes(value: str) -> bytes:
    return value.encode("latin-1", "replace")
