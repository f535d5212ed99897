"""A request value's target is encoded so that no ref leaves its place."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.contract.exchange import HttpRequest, HttpResponse

#: The same examples everywhere, and no clock: a slow machine is no failure.
STEADY = settings(derandomize=True, database=None, deadline=None)

TARGETS = [
    (("v1", "tasks"), (), "/v1/tasks"),
    (("v1", "a/b"), (), "/v1/a%2Fb"),
    (("v1", "..%2f"), (), "/v1/..%252f"),
    (("v1", "x:y/z?q#f"), (), "/v1/x%3Ay%2Fz%3Fq%23f"),
    (("v1", "-abc_~."), (), "/v1/-abc_~."),
    (("v1", "a b+c"), (), "/v1/a%20b%2Bc"),
    (("v1", "é"), (), "/v1/%C3%A9"),
    (("v2",), (("generation_id", "a&b=c/d:e f+g"),), "/v2?generation_id=a%26b%3Dc%2Fd%3Ae%20f%2Bg"),
    (("v2",), (("a", ""), ("b", "1"), ("a", "2")), "/v2?a=&b=1&a=2"),
]


@pytest.mark.parametrize(("path", "query", "target"), TARGETS)
def test_a_target_is_percent_encoded(
    path: tuple[str, ...], query: tuple[tuple[str, str], ...], target: str
) -> None:
    assert HttpRequest(method="GET", path=path, query=query).target == target


@STEADY
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60))
def test_a_ref_comes_back_whole_from_path_and_query(ref: str) -> None:
    target = HttpRequest(method="GET", path=("v1", ref), query=(("id", ref),)).target
    parts = urlsplit(f"https://api.example{target}")
    assert parts.netloc == "api.example"
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "v1", ref]
    assert parse_qsl(parts.query) == [("id", ref)]


@pytest.mark.parametrize(
    ("status", "successful"), [(199, False), (200, True), (204, True), (299, True), (300, False)]
)
def test_success_is_2xx(status: int, successful: bool) -> None:  # noqa: FBT001  (a table's column)
    assert HttpResponse(status=status).successful is successful
