"""Signatures, checked from the receiver's side with the `standardwebhooks` package."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import traceback

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.webhooks.signing import decode_secret, sign

CURRENT, OLD, OTHERS = (
    "whsec_" + base64.b64encode(bytes([letter]) * 32).decode() for letter in (0xFB, 0x01, 0x02)
)
BODY = '{"type":"job.succeeded","data":{"title":"été"}}'.encode()
ID = "msg_0199c0ffee00700080000000000000aa"


def signed(*secrets: str, message_id: str = ID, at_s: int | None = None) -> dict[str, str]:
    at_s = int(time.time()) if at_s is None else at_s
    keys = [decode_secret(secret) for secret in secrets]
    return sign(keys, message_id=message_id, timestamp_s=at_s, body=BODY)


def test_a_receiver_verifies_what_was_signed() -> None:
    headers = signed(CURRENT)
    assert set(headers) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert headers["webhook-id"] == ID
    assert Webhook(CURRENT).verify(BODY, headers)["type"] == "job.succeeded"


def test_the_signature_is_the_one_the_specification_spells_out() -> None:
    headers = signed(CURRENT, at_s=1_795_247_612)
    mac = hmac.new(b"\xfb" * 32, ID.encode() + b".1795247612." + BODY, hashlib.sha256)
    assert headers["webhook-timestamp"] == "1795247612"
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac.digest()).decode()


@pytest.mark.parametrize("receivers", [CURRENT, OLD])
def test_during_rotation_receivers_with_either_secret_verify(receivers: str) -> None:
    headers = signed(CURRENT, OLD)
    assert headers["webhook-signature"].split(" ")[0] == signed(CURRENT)["webhook-signature"]
    assert len(headers["webhook-signature"].split(" ")) == 2
    Webhook(receivers).verify(BODY, headers)


def test_a_secret_that_did_not_sign_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHERS).verify(BODY, signed(CURRENT, OLD))


def test_a_later_try_has_the_same_id_another_time_and_verifies() -> None:
    now_s = int(time.time())
    first, second = signed(CURRENT, at_s=now_s - 60), signed(CURRENT, at_s=now_s)
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]
    for headers in (first, second):
        Webhook(CURRENT).verify(BODY, headers)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_of_another_message_does_not_verify(name: str) -> None:
    now_s = int(time.time())
    headers = signed(CURRENT, at_s=now_s)
    headers[name] = signed(CURRENT, message_id="msg_1", at_s=now_s - 1)[name]
    with pytest.raises(WebhookVerificationError):
        Webhook(CURRENT).verify(BODY, headers)


def test_a_body_that_was_tampered_with_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(CURRENT).verify(BODY.replace(b"succeeded", b"cancelled"), signed(CURRENT))


def test_a_replay_after_five_minutes_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(CURRENT).verify(BODY, signed(CURRENT, at_s=int(time.time()) - 301))


@pytest.mark.parametrize("message_id", ["", "a.1", ".", "a b", "a\n", "\u00e9", "a\x00"])
def test_an_id_that_could_be_read_in_two_ways_is_refused(message_id: str) -> None:
    with pytest.raises(ValueError, match="without a dot"):
        signed(CURRENT, message_id=message_id)


def test_signing_with_nothing_too_little_or_before_1970_is_refused() -> None:
    for keys, at_s in (([], 1), ([b""], 1), ([b"x" * 23], 1), ([b"x" * 32], -1)):
        with pytest.raises(ValueError, match=r"sign with|24 to 64|negative"):
            sign(keys, message_id=ID, timestamp_s=at_s, body=BODY)


@pytest.mark.parametrize("length", [24, 25, 26, 32, 63, 64])
def test_secrets_of_24_to_64_bytes_are_read_with_and_without_padding(length: int) -> None:
    key = bytes(range(255, 255 - length, -1))
    text = "whsec_" + base64.b64encode(key).decode()
    assert decode_secret(text) == decode_secret(text.rstrip("=")) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_hunter2",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_" + base64.urlsafe_b64encode(b"\xfb" * 32).decode(),
        "whsec_ " + base64.b64encode(b"x" * 32).decode(),
        "whsec_" + base64.b64encode(b"x" * 32).decode() + "\n",
        "whsec_" + "é" * 43,
        "WHSEC_" + base64.b64encode(b"x" * 32).decode(),
        base64.b64encode(b"x" * 32).decode(),
        "whpk_" + base64.b64encode(b"x" * 32).decode(),
    ],
)
def test_anything_else_is_refused_with_the_rule_and_without_the_value(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_ followed by the base64 of 24 to 64 bytes") as caught:
        decode_secret(text)
    shown = "".join(traceback.format_exception(caught.value, limit=0))
    value = text.rpartition("_")[2]
    assert not value or value not in shown


def test_a_private_key_of_the_asymmetric_scheme_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="whsk_ marks a private key"):
        decode_secret("whsk_" + base64.b64encode(b"x" * 64).decode())
