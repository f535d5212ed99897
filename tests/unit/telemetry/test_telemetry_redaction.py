from __future__ import annotations

import msgspec
import pytest

from gateway.telemetry import Redactor, redact, redact_exchange_body, redact_url

HIDDEN = "Zq7-hidden_part"


@pytest.mark.parametrize(
    "text",
    [
        f"sk-{HIDDEN}",
        f"the key is sk-{HIDDEN}, it said",
        f"whsec_{HIDDEN}",
        f"whsk_{HIDDEN}",
        f"mgk_{HIDDEN}",
        "key_" + "7" * 128,
        f"Authorization: Bearer {HIDDEN}",
        f"BEARER\t{HIDDEN}",
        "Basic WnE3LWhpZGRlbg==",
        f"https://user:{HIDDEN}@host.example/path",
        f"https://host.example/a.mp4?X-Amz-Signature={HIDDEN}",
        f"https:\\/\\/host.example\\/a.mp4?_jwt={HIDDEN}",
        f"postgresql+psycopg://u:{HIDDEN}@db/x",
        f"X-Amz-Signature={HIDDEN}",
        f"x-amz-security-token={HIDDEN}",
        f"Policy={HIDDEN}",
        f"next_token={HIDDEN}",
        f"_jwt={HIDDEN}",
        f"?sig={HIDDEN}",
        f"api_key={HIDDEN}",
        f'{{"api_key": "{HIDDEN}"}}',
        f'{{"Authorization" : "x {HIDDEN}"}}',
        f'{{"client_secret":"a\\"{HIDDEN}"}}',
        f'{{"x-webhook-secret":"{HIDDEN}',
        f'{{"token": {HIDDEN}}}',
    ],
)
def test_what_looks_or_is_named_like_a_secret_is_masked(text: str) -> None:
    masked = redact(text)
    assert HIDDEN not in masked
    assert "7777" not in masked
    assert "WnE3" not in masked


@pytest.mark.parametrize(
    "text",
    [
        "job_0192f3a4b5c67d8e9fa0b1c2d3e4f506 was accepted",
        "key_0192f3a4b5c67d8e9fa0b1c2d3e4f506",
        "the task-scheduler of risk-assessments",
        "https://host.example/a/b.mp4",
        "basic settings, bearer of news",
        "config=1 design=2",
        '{"status": "RUNNING", "progress": 0.4}',
        "idempotency-key-reused",
        "",
    ],
)
def test_other_texts_are_left_as_they_are(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/p/q?x=1#f", "https://a.example/p/q"),
        ("https://u:p@a.example:81/p", "https://a.example:81/p"),
        ("https://u:p@@a.example/p", "https://a.example/p"),
        ("https://a.example/p@q", "https://a.example/p@q"),
        ("https://a.example?x=@", "https://a.example"),
        ("https:\\/\\/u@a.example\\/p?x", "https:\\/\\/a.example\\/p"),
        ("sqlite:///jobs.db", "sqlite:///jobs.db"),
        ("/v1/jobs?token=x", "/v1/jobs"),
        ("u:p@host", "host"),
        ("", ""),
    ],
)
def test_urls_lose_user_query_and_fragment(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_loaded_secrets_are_masked_in_every_spelling() -> None:
    secret = 'p&ss"w\u00f6rd/plus+'
    redactor = Redactor([secret])
    spellings = (secret, "p%26ss%22w%C3%B6rd%2Fplus%2B", 'p&ss\\"w\\u00f6rd/plus+')
    for spelling in spellings:
        assert redactor.text(f"a{spelling}b") == "a********b"


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    assert Redactor(["abcdefgh", "abcdefghijkl"]).text("abcdefghijkl") == "********"


def test_a_short_secret_is_masked_as_a_word_only() -> None:
    assert Redactor(["ab", ""]).text("ab absent (ab)") == "******** absent (********)"


def test_values_are_masked_at_every_depth_and_by_name() -> None:
    redactor = Redactor(["loaded~one"])
    event = {
        "headers": {"Authorization": "x", "X-API-Key": "y", "accept": "z"},
        "list": [{"apiKey": 5, "secret": None}, ("loaded~one", 1, True, None, 2.5)],
        "bytes": b"loaded~one",
        "loaded~one": 1,
        5: "x",
    }
    assert redactor.value(event) == {
        "headers": {"Authorization": "********", "X-API-Key": "********", "accept": "z"},
        "list": [{"apiKey": "********", "secret": None}, ["********", 1, True, None, 2.5]],
        "bytes": "********",
        "********": 1,
        "5": "x",
    }


class Holder(msgspec.Struct):
    text: str


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("sk-0123456789")


def test_foreign_objects_become_their_repr() -> None:
    redactor = Redactor(["loaded-secret"])
    assert redactor.value(Holder("loaded-secret")) == "Holder(text='********')"
    assert redactor.value(Unshowable()) == "<Unshowable: its repr raised RuntimeError>"


def test_endless_values_end() -> None:
    endless: list[object] = []
    endless.append(endless)
    wide = list(range(5000))
    assert "too deep" in repr(Redactor().value(endless))
    assert len(msgspec.convert(Redactor().value(wide), list[int])) == 1000
    assert len(Redactor().text("a" * 100_000)) < 33_000


def test_a_body_is_cut_after_it_was_redacted() -> None:
    secret = "canary-" + "0123456789" * 3
    for lead in range(4060, 4100):
        shown = redact_exchange_body(b"a" * lead + secret.encode() + b"b" * 10_000, Redactor([secret]).text)
        assert "canary-0" not in shown
        assert len(shown) < 4096 + 40
    assert shown.endswith("bytes in all]")


def test_a_short_body_is_kept_whole() -> None:
    assert redact_exchange_body(b'{"id": "x"}') == '{"id": "x"}'
    assert redact_exchange_body("ü".encode() * 2048) == "ü" * 2048
    assert redact_exchange_body(b"") == ""


def test_any_bytes_become_text_that_every_database_takes() -> None:
    shown = redact_exchange_body(bytes(range(256)) + b"\0\xff\xed\xa0\x80")
    assert "\0" not in shown
    shown.encode()


def test_a_huge_body_is_named_by_its_size() -> None:
    assert redact_exchange_body(b"x" * 2_000_000).endswith("[cut; 2000000 bytes in all]")


@pytest.mark.parametrize(
    "piece", ['"token":', "Bearer ", "\\", '"', "https://", "X-Amz-", '"token":"\\', "sk-", "a@"]
)
def test_hostile_texts_are_read_once(piece: str) -> None:
    """Not a timing: a pattern that went over these quadratically would not come back."""
    text = piece * (400_000 // len(piece))
    redact(text)
    redact_url(text)
