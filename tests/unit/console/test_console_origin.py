"""Which requests count as our own pages', and which names as our own."""

from __future__ import annotations

import pytest

from gateway.console.origin import is_ours, is_safely_named

HOST = "gateway.example:8080"
PUBLIC = "https://public.example"


@pytest.mark.parametrize(
    ("origin", "site", "host", "ours"),
    [
        ("http://gateway.example:8080", "same-origin", HOST, True),
        ("https://gateway.example:8080", None, HOST, True),  # TLS ends in front of us
        ("http://Gateway.Example:8080", None, HOST, True),
        ("https://public.example", "same-origin", "10.0.0.7:8080", True),  # a proxy names us otherwise
        (None, "same-origin", HOST, True),
        (None, None, HOST, False),
        (None, "none", HOST, False),
        (None, "same-site", HOST, False),
        ("null", None, HOST, False),
        ("null", "same-origin", HOST, False),
        ("http://gateway.example:8080", "cross-site", HOST, False),
        ("http://gateway.example:8080", "same-site", HOST, False),
        ("http://gateway.example", None, HOST, False),  # another port is another origin
        ("http://elsewhere.example", None, HOST, False),
        ("https://behind.example", "same-origin", HOST, True),  # a proxy wrote a Host of its own
        ("https://behind.example", "cross-site", HOST, False),
        ("http://gateway.example:8080.elsewhere.example", None, HOST, False),
        ("http://elsewhere.example/gateway.example:8080", None, HOST, False),
        ("file://", None, "", False),
        ("http://", None, None, False),
        ("ftp://gateway.example:8080", None, HOST, False),
        ("http://[", None, HOST, False),
    ],
)
def test_a_form_is_ours_when_the_browser_says_so_or_its_origin_names_us(
    origin: str | None, site: str | None, host: str | None, *, ours: bool
) -> None:
    assert is_ours(origin=origin, site=site, host=host, public_url=PUBLIC) is ours


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("127.0.0.1:8080", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8080", True),
        ("public.example", True),
        ("127.0.0.1.elsewhere.example", False),
        ("localhost.elsewhere.example:8080", False),
        ("elsewhere.example", False),
        ("localhost@elsewhere.example", False),
        ("[localhost]", False),
        ("[", False),
        ("", False),
        (None, False),
    ],
)
def test_without_keys_only_this_machines_names_are_safe(host: str | None, *, safe: bool) -> None:
    assert is_safely_named(host, listens="127.0.0.1", public_url=PUBLIC) is safe
