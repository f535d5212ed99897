"""Whatever bytes a provider sends, a reader's tools give a sound value or `UnexpectedPayload`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.contract import reading
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpResponse
from providers.contract.reading import (
    MAX_BYTES,
    decode_object,
    instant_at,
    is_http_url,
    is_ref,
    list_at,
    message_of,
    number_at,
    read_object,
    read_object_if_any,
    ref_at,
    status_at,
    text_at,
    too_deep,
    urls_in,
    value_at,
)

#: The same examples everywhere, and no clock: a slow machine is no failure.
STEADY = settings(derandomize=True, database=None, deadline=None)


def reply(body: bytes | str) -> HttpResponse:
    return HttpResponse(status=200, body=body if isinstance(body, bytes) else body.encode())


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + "0" + closing * depth).encode()


@pytest.mark.parametrize(
    ("body", "deep"),
    [
        (b"", False),
        (b"[]", False),
        (nested(32), False),
        (nested(33), True),
        (nested(32, '{"a":', "}"), False),
        (nested(33, '{"a":', "}"), True),
        (b'["' + b"[" * 100 + b'"]', False),
        (b'["\\"' + b"[" * 100 + b'"]', False),
        (b'["\\\\"' + b"," + nested(40) + b"]", True),
        (b"[" + b"[]," * 100 + b"[]]", False),
        (b"[" * 33, True),
        (b'{"a": "' + b"[" * 100, False),
        (b"]" * 100 + nested(33), False),
        (nested(100_000), True),
    ],
)
def test_depth_is_told_without_decoding(body: bytes, deep: bool) -> None:  # noqa: FBT001  (a table's column)
    assert too_deep(body) is deep


def test_depth_has_a_limit_of_ones_choice() -> None:
    assert too_deep(b"[[0]]", limit=1)
    assert not too_deep(b"[[0]]", limit=2)


HOSTILE_TEXTS = [
    b'"' * 101,
    b'"' + b'\\"' * 100,
    b'"' + b"\\" * 101,
    b'"a' + b'\\"' * 100 + b"\\",
    b'"' + b"\\\\" * 100 + b'"' + b'"' + b'\\"' * 100,
    b'["' + b'","\\"' * 100,
    b'"\n' * 100 + b'"',
]


@pytest.mark.parametrize("body", HOSTILE_TEXTS)
def test_no_byte_of_a_hostile_text_is_looked_at_again(body: bytes) -> None:
    """A scan that fails at a quote begins anew at the next one, which is quadratic: here no quote fails."""
    covered = {at for match in reading._STRING.finditer(body) for at in range(*match.span())}
    assert {at for at, byte in enumerate(body) if byte == ord('"')} <= covered


@STEADY
@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_depth_agrees_with_the_document(document: Any) -> None:
    def depth(value: Any) -> int:
        inner = (
            list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
        )
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert too_deep(json.dumps(document).encode(), limit=2) is (depth(document) > 2)


def test_an_object_is_read() -> None:
    assert read_object(reply('{"a": [1, null, "\\u00e9"]}')) == {"a": [1, None, "é"]}


UNREADABLE = [
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b'{"a": 1',
    b'{"a": 1}}',
    b"{'a': 1}",
    b"<html></html>",
    b'\xef\xbb\xbf{"a": 1}',
    b'{"a": "\xff"}',
    b'{"a": "\\ud800"}',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": ' + nested(33) + b"}",
    b'{"a": ' + nested(100_000) + b"}",
    b'{"a": "' + b"x" * MAX_BYTES + b'"}',
    '{"a": 1}'.encode("utf-16"),
]


@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_is_no_object_is_an_unexpected_payload(body: bytes) -> None:
    with pytest.raises(UnexpectedPayload, match="the body"):
        read_object(reply(body))
    assert read_object_if_any(reply(body)) == {}


@STEADY
@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_an_unexpected_payload(body: bytes) -> None:
    try:
        assert isinstance(read_object(reply(body)), dict)
    except UnexpectedPayload:
        assert read_object_if_any(reply(body)) == {}


DOCUMENT = {
    "text": "t",
    "empty": "",
    "null": None,
    "number": 0.5,
    "integer": 3,
    "true": True,
    "huge": 2**70,
    "negative": -1,
    "list": [{"url": "u"}, None],
    "object": {"inner": {"text": "deep"}},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("text",), "t"),
        (("object", "inner", "text"), "deep"),
        (("list", 0, "url"), "u"),
        (("list", 1), None),
        (("list", 2), None),
        (("list", "url"), None),
        (("object", 0), None),
        (("text", "inner"), None),
        (("missing", "inner"), None),
        ((), DOCUMENT),
    ],
)
def test_a_path_is_followed_as_far_as_it_goes(path: tuple[str | int, ...], value: object) -> None:
    assert value_at(DOCUMENT, *path) == value


def test_only_a_text_that_says_something_is_a_text() -> None:
    assert {name: text_at(DOCUMENT, name) for name in DOCUMENT if text_at(DOCUMENT, name)} == {"text": "t"}


def test_only_a_number_in_reach_is_a_number() -> None:
    found = {name: number_at(DOCUMENT, name) for name in DOCUMENT if number_at(DOCUMENT, name) is not None}
    assert found == {"number": 0.5, "integer": 3.0, "negative": -1.0}


def test_what_is_no_list_is_an_empty_one() -> None:
    assert list_at(DOCUMENT, "list") == [{"url": "u"}, None]
    assert list_at(DOCUMENT, "object") == list_at(DOCUMENT, "missing") == []


@pytest.mark.parametrize(
    "document", [{}, {"s": None}, {"s": ""}, {"s": 1}, {"s": ["a"]}, {"s": "x" * 513}, []]
)
def test_a_reply_without_a_status_word_is_unexpected(document: object) -> None:
    with pytest.raises(UnexpectedPayload, match="no status word at s"):
        status_at(document, "s")


def test_a_status_word_is_kept_as_it_is() -> None:
    assert status_at({"data": {"s": " Done "}}, "data", "s") == " Done "


GOOD_REFS = ["a", "a/b", "x:y/z", "-abc", "..a", "a..", "..%2f", "6f1e-2c", "{a}", "~" * 512, "a/.../b"]
BAD_REFS = ["", " ", "a b", "a\nb", "a\x00", "é", "\x7f", "..", ".", "../a", "a/..", "a/./b", "~" * 513]


@pytest.mark.parametrize("ref", GOOD_REFS)
def test_a_ref_is_opaque(ref: str) -> None:
    assert is_ref(ref)
    assert ref_at({"id": ref}, "id") == ref


@pytest.mark.parametrize("ref", BAD_REFS)
def test_a_ref_is_not_anything(ref: str) -> None:
    assert not is_ref(ref)
    with pytest.raises(UnexpectedPayload, match="ref"):
        ref_at({"id": ref}, "id")


def test_the_first_field_with_a_ref_counts() -> None:
    assert ref_at({"id": "second", "predictionID": "first"}, "predictionID", "id") == "first"
    assert ref_at({"id": "second", "predictionID": None}, "predictionID", "id") == "second"
    with pytest.raises(UnexpectedPayload, match="no ref at predictionID or id"):
        ref_at({"ref": "other"}, "predictionID", "id")


def test_a_bad_ref_is_not_passed_over_for_the_next_field() -> None:
    with pytest.raises(UnexpectedPayload, match="predictionID cannot be a ref"):
        ref_at({"id": "second", "predictionID": ".."}, "predictionID", "id")


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("u", ("u",)),
        ("", ()),
        (None, ()),
        (7, ()),
        (["u", "v"], ("u", "v")),
        ([None, "u", 7, ""], ("u",)),
        ({"url": "u"}, ("u",)),
        ({"video": "v"}, ("v",)),
        ({"url": None, "video": "v"}, ("v",)),
        ({"url": ["u", "v"]}, ("u", "v")),
        ({"url": {"video": "v"}}, ("v",)),
        ([{"url": "u"}, {"video": "v"}, {"other": "w"}], ("u", "v")),
        ([["u"]], ()),
        ({"other": "u"}, ()),
        ([], ()),
    ],
)
def test_urls_are_found_in_every_shape_seen(value: object, urls: tuple[str, ...]) -> None:
    assert urls_in(value, "url", "video") == urls


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://cdn.example/a.mp4?sig=x%20y", True),
        ("HTTPS://CDN.example:8443/a", True),
        ("http://cdn.example/a", False),
        ("ftp://cdn.example/a", False),
        ("javascript:alert(1)", False),
        ("//cdn.example/a", False),
        ("https://", False),
        ("https:///a", False),
        ("https://cdn.example/a b", False),
        ("https://cdn.example/a\nb", False),
        ("https://cdn.example/\u202e", False),
        ("https://[cdn.example/a", False),
        ("https://cdn.example:port/a", False),
        ("https://cdn.example/" + "a" * 4096, False),
        ("", False),
    ],
)
def test_only_https_with_a_host_is_a_result(url: str, usable: bool) -> None:  # noqa: FBT001  (a table's column)
    assert is_http_url(url) is usable


def test_plain_http_is_a_result_only_where_allowed() -> None:
    assert is_http_url("http://127.0.0.1:8080/a.mp4", allow_http=True)
    assert not is_http_url("ftp://127.0.0.1/a.mp4", allow_http=True)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, ""),
        ("", ""),
        ("two\r\n  lines\t", "two lines"),
        ("a\x00b\x1b[31m", "a b [31m"),
        ("right\u202eleft", "right left"),
        ("x" * 600, "x" * 500),
        ("x" * 10_000_000, "x" * 500),
        ({"detail": [{"msg": "bad"}]}, '{"detail":[{"msg":"bad"}]}'),
        ([], "[]"),
        (False, "false"),
        (2**70, str(2**70)),
        ({"name": "é"}, '{"name":"é"}'),
    ],
    ids=range(12),
)
def test_a_message_is_one_line_whatever_stood_there(value: object, message: str) -> None:
    assert message_of(value) == message


INSTANTS = [
    ("2026-11-21T12:00:00Z", 1_795_262_400_000),
    ("2026-11-21T12:00:00.123456789Z", 1_795_262_400_123),
    ("2026-11-21T14:00:00+02:00", 1_795_262_400_000),
    ("2026-11-21T12:00:00", 1_795_262_400_000),
    ("1969-12-31T23:59:59.999Z", -1),
    ("2026-11-21", None),
    ("2026-02-30T12:00:00Z", None),
    ("yesterday", None),
    ("", None),
    (1_795_262_400, None),
    (None, None),
]


@pytest.mark.parametrize(("given", "wanted"), INSTANTS)
def test_an_instant_is_milliseconds_of_utc_or_none(given: object, wanted: int | None) -> None:
    assert instant_at({"at": given}, "at") == wanted


@STEADY
@given(st.text() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,12}[Z+-][0-9:]{0,5}"))
def test_no_text_makes_an_instant_fail(text: str) -> None:
    assert isinstance(instant_at({"at": text}, "at"), int | None)


def test_a_body_without_a_response_is_decoded_alike() -> None:
    assert decode_object(b'{"a": 1}') == {"a": 1}
    with pytest.raises(UnexpectedPayload):
        decode_object(b"[]")
