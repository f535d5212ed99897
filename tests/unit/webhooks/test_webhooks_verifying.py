"""A receiver of our own tells genuine messages as the published library does, and raises over nothing."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.webhooks.signing import decode_secret, sign
from gateway.webhooks.verifying import MOST_SIGNATURES, Flaw, decode_key, flaw_of

OURS, OTHERS = ("whsec_" + base64.b64encode(bytes([letter]) * 32).decode() for letter in (1, 2))
BODY = b'{"type":"job.succeeded"}'
NOW_S = 1_795_247_612
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)
PUBLIC = "whpk_" + base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()

Lines = list[tuple[str, str]]


def signed(*secrets: str, at_s: int = NOW_S) -> Lines:
    keys = [decode_secret(secret) for secret in secrets or (OURS,)]
    return list(sign(keys, message_id="msg_1", timestamp_s=at_s, body=BODY).items())


def flaw(headers: Lines, body: bytes = BODY, *keys: str) -> Flaw | None:
    return flaw_of([decode_key(key) for key in keys or (OURS,)], headers, body, now_s=NOW_S)


def changed(name: str, value: str) -> Lines:
    return [(given, value if given == name else old) for given, old in signed()]


def test_what_our_gateway_signed_is_genuine() -> None:
    assert flaw([("host", "x"), *signed()]) is None
    assert flaw(signed(OTHERS, OURS)) is None, "while the secret is changed, either signs"
    assert flaw(signed(OTHERS), BODY, OURS, OTHERS) is None, "a receiver may know both, too"


def test_anything_else_is_forged() -> None:
    assert flaw(signed(OTHERS)) is Flaw.FORGED
    assert flaw(signed(), BODY + b" ") is Flaw.FORGED
    assert flaw(changed("webhook-id", "msg_2")) is Flaw.FORGED
    assert flaw(changed("webhook-timestamp", str(NOW_S + 1))) is Flaw.FORGED
    for signature in (
        "",
        "v1",
        "v1,",
        "v1,%",
        "v1,a,b",
        "v2,AAAA",
        "\xff",
        signed()[2][1].replace("v1,", "v1a,"),
    ):
        assert flaw(changed("webhook-signature", signature)) is Flaw.FORGED, signature


def test_each_of_the_three_headers_must_be_there_once() -> None:
    for pair in signed():
        assert flaw([one for one in signed() if one != pair]) is Flaw.UNSIGNED
        assert flaw([*signed(), pair]) is Flaw.UNSIGNED
    assert flaw(changed("webhook-id", "")) is Flaw.UNSIGNED


@pytest.mark.parametrize("time", ["", "x", "-1", "1.0", "1_0", " 1", "\xb2", "1" * 16, "0x1"])
def test_a_time_is_digits_and_nothing_else(time: str) -> None:
    assert flaw(changed("webhook-timestamp", time)) is Flaw.UNSIGNED


@pytest.mark.parametrize(("skew_s", "fresh"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_message_is_good_for_five_minutes_either_way(skew_s: int, *, fresh: bool) -> None:
    assert flaw(signed(at_s=NOW_S + skew_s)) is (None if fresh else Flaw.STALE)


def test_no_more_signatures_are_looked_at_than_an_honest_sender_makes() -> None:
    right, other = signed()[2][1], signed(OTHERS)[2][1]
    assert flaw(changed("webhook-signature", " ".join([*[other] * (MOST_SIGNATURES - 1), right]))) is None
    crowded = changed("webhook-signature", " ".join([*[other] * MOST_SIGNATURES, right]))
    assert flaw(crowded) is Flaw.FORGED


def test_a_signature_by_key_is_verified_with_its_public_half() -> None:
    text = f"msg_1.{NOW_S}.".encode() + BODY
    signature = base64.b64encode(PRIVATE.sign(text)).decode()
    assert flaw(changed("webhook-signature", f"v1a,{signature}"), BODY, PUBLIC) is None
    assert flaw(changed("webhook-signature", f"v1,x v1a,{signature}"), BODY, PUBLIC) is None
    assert flaw(changed("webhook-signature", f"v1,{signature}"), BODY, PUBLIC) is Flaw.FORGED
    assert flaw(changed("webhook-signature", f"v1a,{signature}"), BODY + b" ", PUBLIC) is Flaw.FORGED
    assert flaw(signed(), BODY, PUBLIC) is Flaw.FORGED


@pytest.mark.parametrize(
    "text", ["", "secret", "whsec_", "whsec_AAAA", "whpk_", "whpk_AAAA", "whpk_%", "whsk_AAAA"]
)
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|secret") as refused:
        decode_key(text + "hunter2")
    assert "hunter2" not in str(refused.value)


@settings(deadline=None, database=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]),
            st.text(st.characters(max_codepoint=255), max_size=60),
        ),
        max_size=5,
    ),
    st.binary(max_size=40),
)
def test_any_headers_and_body_are_judged(headers: Lines, body: bytes) -> None:
    assert flaw(headers, body) is not None
