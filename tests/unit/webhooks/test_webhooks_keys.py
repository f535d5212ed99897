"""What endpoints sign with."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.webhooks.keys import decode_key, make_key
from gateway.webhooks.signing import sign

RAW = bytes(range(32))


def test_a_shared_secret_is_shown_and_read_back() -> None:
    made = make_key("hmac", lambda count: RAW[:count])
    assert made.shown == made.secret == "whsec_" + base64.b64encode(RAW).decode()
    assert made.public_key is None
    assert decode_key(made.secret) == RAW


def test_of_a_pair_the_public_half_alone_is_shown() -> None:
    made = make_key("ed25519", lambda count: RAW[:count])
    key = decode_key(made.secret)
    assert isinstance(key, Ed25519PrivateKey)
    public = key.public_key().public_bytes_raw()
    assert (made.shown, made.public_key) == (None, "whpk_" + base64.b64encode(public).decode())
    assert made.secret not in repr(made)


def test_both_schemes_sign_the_same_bytes_side_by_side() -> None:
    pair = Ed25519PrivateKey.from_private_bytes(RAW)
    headers = sign([pair, RAW], message_id="msg_1", timestamp_s=7, body=b"{}")
    first, second = headers["webhook-signature"].split(" ")
    assert (first[:4], second[:3]) == ("v1a,", "v1,")
    public: Ed25519PublicKey = pair.public_key()
    public.verify(base64.b64decode(first[4:]), b"msg_1.7.{}")


@pytest.mark.parametrize("text", ["whsk_", "whsk_AAAA", "whsk_" + "!" * 44, "whpk_" + "A" * 44, "hidden"])
def test_what_is_no_key_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"whsk_|whsec_") as caught:
        decode_key(text)
    assert text == "whsk_" or text not in str(caught.value)
