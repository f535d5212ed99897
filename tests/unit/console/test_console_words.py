"""How times, money and documents are shown."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.console.words import document, percent, short, since, span, took, usd
from gateway.jobs.view import instant

NOW_MS = 1_760_000_000_000


@pytest.mark.parametrize(
    ("ago_s", "words"),
    [(0, "now"), (0.9, "now"), (-0.9, "now"), (1, "1 s ago"), (59, "59 s ago"), (60, "1 min ago"),
     (7199, "1 h ago"), (200_000, "2 d ago"), (-90, "in 1 min")],
)  # fmt: skip
def test_an_instant_is_told_by_its_distance_and_stands_whole_in_the_title(ago_s: float, words: str) -> None:
    at = instant(NOW_MS - round(ago_s * 1000))
    assert since(at, NOW_MS) == f'<time datetime="{at}" title="{at}">{words}</time>'


def test_what_did_not_happen_has_no_time() -> None:
    assert "time" not in since(None, NOW_MS)
    assert took(None, None, NOW_MS) == "\u2013"


def test_what_goes_on_is_measured_until_now() -> None:
    begun = instant(NOW_MS - 90_000)
    assert took(begun, None, NOW_MS) == "1 min"
    assert took(begun, instant(NOW_MS - 80_000), NOW_MS) == "10 s"
    assert took(instant(NOW_MS + 5000), None, NOW_MS) == "0 s"  # the server's clock is ahead of ours
    assert span(0.4) == "0 s"


def test_small_amounts_are_not_rounded_to_nothing() -> None:
    amounts = [usd(one) for one in (None, 0, 0.2, 0.0031, 1234.5)]
    assert amounts == ["\u2013", "$0.00", "$0.20", "$0.0031", "$1,234.50"]
    assert [percent(one) for one in (None, 0.0, 0.256, 1.0)] == ["\u2013", "0 %", "26 %", "100 %"]


def test_a_document_is_laid_out_and_anything_else_is_shown_as_it_is() -> None:
    assert document(Raw(b'{"a":[1]}')) == '{\n  "a": [\n    1\n  ]\n}'
    assert document("<html>") == "<html>"
    assert document(b"\xff{") == "\ufffd{"
    assert len(document("x" * 100_000)) < 70_000


def test_a_shortened_id_is_still_escaped() -> None:
    assert short("job_" + "0" * 24 + "12345678").unescape().count("12345678") == 2
    assert "<b>" not in short("job_<b>" + "0" * 30)
    assert short("<b>") == "&lt;b&gt;"
