"""Proofs of callbacks, by table: what is right passes, and everything else has its flaw."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from providers.contract.proof import MOST_SIGNATURES, Flaw, flaw_of_call, flaw_of_head
from providers.contract.spec import Ed25519Proof, HmacProof, Proof, SecretProof, Signing

NOW_S = 1_795_247_612
OURS, OTHERS = "secret-of-this-job", "secret-of-another-job"
BODY = b'{"ref":"r-1","title":"\xc3\xa9t\xc3\xa9"}'
#: As Standard Webhooks 1.0.0 has it: one text of three parts, several signatures in a header.
STANDARD = Signing(
    signature_header="webhook-signature",
    prefix="v1,",
    encoding="base64",
    timestamp_header="webhook-timestamp",
    headers=("webhook-id", "webhook-timestamp"),
    separator=".",
)
#: As fal has it: four lines, the last one the body's digest.
LINES = Signing(
    signature_header="x-signature",
    timestamp_header="x-timestamp",
    headers=("x-request-id", "x-user-id", "x-timestamp"),
    separator="\n",
    body="sha256_hex",
)
PRIVATE, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))

SECRET = SecretProof(header="x-secret")
MAC = HmacProof(signing=STANDARD)
ED25519 = Ed25519Proof(
    signing=LINES,
    public_keys=tuple(key.public_key().public_bytes_raw().hex() for key in (PRIVATE,)),
)
PROOFS: dict[str, Proof] = {"secret": SECRET, "hmac": MAC, "ed25519": ED25519}

Headers = list[tuple[str, str]]


def by_secret(secret: str = OURS) -> Headers:
    return [("x-secret", secret)]


def by_mac(
    secret: str = OURS, *, at: str = str(NOW_S), message_id: str = "m1", body: bytes = BODY
) -> Headers:
    mac = hmac.digest(secret.encode(), f"{message_id}.{at}.".encode() + body, "sha256")
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", at),
        ("webhook-signature", "v1," + base64.b64encode(mac).decode()),
    ]


def by_key(
    key: Ed25519PrivateKey = PRIVATE, *, at: str = str(NOW_S), user: str = "u1", body: bytes = BODY
) -> Headers:
    text = f"m1\n{user}\n{at}\n{hashlib.sha256(body).hexdigest()}"
    return [
        ("x-request-id", "m1"),
        ("x-user-id", user),
        ("x-timestamp", at),
        ("x-signature", key.sign(text.encode()).hex()),
    ]


GOOD: dict[str, Headers] = {"secret": by_secret(), "hmac": by_mac(), "ed25519": by_key()}


def changed(headers: Headers, name: str, value: str) -> Headers:
    """The same, with another value in one header."""
    return [(given, value if given == name else old) for given, old in headers]


def flaw(kind: str, headers: Headers, body: bytes = BODY, *, now_s: int = NOW_S) -> Flaw | None:
    return flaw_of_call(PROOFS[kind], headers, body, secret=OURS, now_s=now_s)


@pytest.mark.parametrize("kind", PROOFS)
def test_what_is_right_passes_whatever_else_is_sent(kind: str) -> None:
    assert flaw(kind, GOOD[kind]) is None
    assert flaw(kind, [("x-other", "1"), *reversed(GOOD[kind]), ("x-other", "\xff")]) is None


def test_where_nothing_is_declared_nothing_is_asked_for() -> None:
    assert flaw_of_call(None, [], b"", secret=OURS, now_s=NOW_S) is None


@pytest.mark.parametrize("kind", PROOFS)
def test_each_header_must_be_there_once(kind: str) -> None:
    for name, value in GOOD[kind]:
        assert flaw(kind, [pair for pair in GOOD[kind] if pair[0] != name]) is Flaw.MISSING
        assert flaw(kind, [*GOOD[kind], (name, value)]) is Flaw.REPEATED
        assert flaw(kind, [(name, "x"), *GOOD[kind]]) is Flaw.REPEATED


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("secret", by_secret(OTHERS)),
        ("secret", by_secret("")),
        ("secret", by_secret(OURS[:-1])),
        ("secret", by_secret(OURS + " ")),
        ("secret", by_secret(OURS.upper())),
        ("secret", by_secret("\xff")),
        ("hmac", by_mac(OTHERS)),
        ("hmac", by_mac("")),
        ("hmac", by_mac(body=BODY + b" ")),
        ("hmac", changed(by_mac(), "webhook-id", "m2")),
        ("hmac", changed(by_mac(), "webhook-timestamp", str(NOW_S + 1))),
        ("hmac", changed(by_mac(), "webhook-signature", "v1," + base64.b64encode(b"x" * 32).decode())),
        ("hmac", changed(by_mac(), "webhook-signature", by_mac()[2][1][:-8])),
        ("ed25519", by_key(STRANGER)),
        ("ed25519", by_key(body=BODY[1:])),
        ("ed25519", changed(by_key(), "x-user-id", "u2")),
        ("ed25519", changed(by_key(), "x-timestamp", str(NOW_S - 1))),
        ("ed25519", changed(by_key(), "x-signature", "00" * 64)),
        ("ed25519", changed(by_key(), "x-signature", "ab")),
    ],
)
def test_whatever_does_not_fit_is_forged(kind: str, headers: Headers) -> None:
    assert flaw(kind, headers) is Flaw.FORGED


@pytest.mark.parametrize("kind", ["hmac", "ed25519"])
def test_a_body_that_was_changed_is_forged(kind: str) -> None:
    for body in (b"", BODY + b"\n", BODY.replace(b"r-1", b"r-2")):
        assert flaw(kind, GOOD[kind], body) is Flaw.FORGED


@pytest.mark.parametrize("kind", ["hmac", "ed25519"])
@pytest.mark.parametrize(("skew_s", "fresh"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_call_is_good_for_five_minutes_either_way(kind: str, skew_s: int, *, fresh: bool) -> None:
    assert flaw(kind, GOOD[kind], now_s=NOW_S + skew_s) is (None if fresh else Flaw.STALE)


@pytest.mark.parametrize(
    "time",
    ["", "x", "-1", "+1", "1_0", "1.0", " 1", "1e9", "\xb2", "0x10", "1" * 16, f"{NOW_S} {NOW_S}", "\u0661"],
)
def test_a_time_is_digits_and_nothing_else(time: str) -> None:
    assert flaw("hmac", by_mac(at=time)) is Flaw.MALFORMED
    assert flaw("ed25519", by_key(at=time)) is Flaw.MALFORMED


@pytest.mark.parametrize(
    "signatures",
    ["", " ", "v1", "v1,", "v1,%%%", "v2,AAAA", "AAAA", "v1a,AAAA", "v1,A", "v1,\xff", ",", "V1,AAAA"],
)
def test_what_is_no_signature_is_malformed(signatures: str) -> None:
    assert flaw("hmac", changed(by_mac(), "webhook-signature", signatures)) is Flaw.MALFORMED


@pytest.mark.parametrize("signature", ["", "x", "abc", "zz", "zz ab%", "0x00", "\xff"])
def test_what_is_no_hex_is_malformed(signature: str) -> None:
    assert flaw("ed25519", changed(by_key(), "x-signature", signature)) is Flaw.MALFORMED


def test_one_signature_among_others_is_enough_and_few_are_looked_at() -> None:
    headers, signature = by_mac(), by_mac()[2][1]
    other = by_mac(OTHERS)[2][1]
    for several in (f"{other} {signature}", f"v2,x broken {signature}", f"{signature} v1,%"):
        assert flaw("hmac", changed(headers, "webhook-signature", several)) is None
    many = " ".join([*[other] * MOST_SIGNATURES, signature])
    assert flaw("hmac", changed(headers, "webhook-signature", many)) is Flaw.FORGED


def test_parts_cannot_be_cut_elsewhere() -> None:
    """`a.1` and `2` are signed as `a` and `1.2` would be."""
    at = str(NOW_S)
    signature = by_mac(message_id="a", at=at, body=b"2.body")[2][1]
    cut = [("webhook-id", f"a.{at}"), ("webhook-timestamp", "2"), ("webhook-signature", signature)]
    assert flaw_of_call(MAC, cut, b"body", secret=OURS, now_s=2) is Flaw.MALFORMED
    assert flaw("ed25519", by_key(user="u\n1")) is Flaw.MALFORMED


def test_while_keys_rotate_each_of_them_signs() -> None:
    both = replace(
        ED25519, public_keys=(STRANGER.public_key().public_bytes_raw().hex(), *ED25519.public_keys)
    )
    for key in (PRIVATE, STRANGER):
        assert flaw_of_call(both, by_key(key), BODY, secret="", now_s=NOW_S) is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_algorithm_is_the_declared_one(algorithm: str) -> None:
    mac = hmac.digest(OURS.encode(), f"m1.{NOW_S}.".encode() + BODY, algorithm)
    headers = changed(by_mac(), "webhook-signature", "v1," + base64.b64encode(mac).decode())
    assert flaw("hmac", headers) is (None if algorithm == "sha256" else Flaw.FORGED)
    longer = replace(MAC, algorithm="sha512")
    found = flaw_of_call(longer, headers, BODY, secret=OURS, now_s=NOW_S)
    assert found is (None if algorithm == "sha512" else Flaw.FORGED)


@pytest.mark.parametrize("kind", PROOFS)
def test_what_the_head_shows_is_found_before_the_body(kind: str) -> None:
    def seen(headers: Headers, now_s: int = NOW_S) -> Flaw | None:
        return flaw_of_head(PROOFS[kind], headers, secret=OURS, now_s=now_s)

    assert seen(GOOD[kind]) is None
    assert seen([]) is Flaw.MISSING
    if kind == "secret":
        assert seen(by_secret(OTHERS)) is Flaw.FORGED
    else:
        assert seen(GOOD[kind], NOW_S + 301) is Flaw.STALE


@settings(deadline=None, database=None)
@given(
    st.sampled_from(sorted(PROOFS)),
    st.lists(
        st.tuples(st.integers(0, 5), st.text(st.characters(max_codepoint=255), max_size=80)), max_size=6
    ),
    st.binary(max_size=60),
)
def test_any_headers_and_body_are_judged(kind: str, lines: list[tuple[int, str]], body: bytes) -> None:
    names = [name for name, _ in GOOD[kind]]
    headers = [(names[place % len(names)], value) for place, value in lines]
    assert flaw(kind, headers, body) is not None
