from __future__ import annotations

import base64
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.paging import (
    Parser,
    check_order,
    decode_cursor,
    encode_cursor,
    one_of,
    parse_cursor_text,
    parse_flag,
    parse_instant,
    parse_limit,
    parse_query,
)
from gateway.errors import Refusal

REPEATABLE = settings(derandomize=True, deadline=None)
KEY = b"k" * 32
ALLOWED: dict[str, Parser] = {
    "limit": parse_limit,
    "after": parse_instant,
    "before": parse_instant,
    "held": parse_flag,
    "status": one_of(("queued", "running", "failed")),
    "policy": one_of(("cheapest", "fastest")),
    "cursor": parse_cursor_text,
}


def pointers(raw: bytes) -> list[str]:
    with pytest.raises(Refusal) as caught:
        parse_query(raw, ALLOWED)
    assert caught.value.slug == "validation-failed"
    return [problem.pointer for problem in caught.value.errors]


def test_no_query_is_no_parameters() -> None:
    assert parse_query(b"", ALLOWED) == {}


def test_every_kind_of_parameter_is_read() -> None:
    raw = b"limit=100&after=1970-01-01T00:00:01Z&held=true&status=running&policy=cheapest&cursor=a-b_c"
    assert parse_query(raw, ALLOWED) == {
        "limit": 100,
        "after": 1000,
        "held": True,
        "status": "running",
        "policy": "cheapest",
        "cursor": "a-b_c",
    }


def test_percent_encoding_is_undone_and_a_plus_stays_a_plus() -> None:
    for raw in (b"after=2026-01-31T10%3A00%3A00%2B02%3A00", b"%61fter=2026-01-31T10:00:00+02:00"):
        assert parse_query(raw, ALLOWED) == {"after": parse_instant("2026-01-31T08:00:00Z")}


@pytest.mark.parametrize(
    "value", ["0", "-1", "101", "abc", "1.5", "", "+5", "05", "1e1", "%31%30%31", "\u0661"]
)
def test_a_limit_outside_1_to_100_is_refused(value: str) -> None:
    assert pointers(b"limit=" + value.encode()) == ["/query/limit"]


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b"limit=1&limit=2", "/query/limit"),
        (b"limit=1&%6cimit=1", "/query/limit"),
        (b"colour=red", "/query/colour"),
        (b"a/b~c=1", "/query/a~1b~0c"),
        (b"limit", "/query/limit"),
        (b"limit=1&", "/query/"),
        (b"&limit=1", "/query/"),
        (b"limit=%zz", "/query/limit"),
        (b"limit=%f", "/query/limit"),
        (b"cursor=%ff", "/query/cursor"),
        (b"cursor=a%00b", "/query/cursor"),
        (b"%ff=1", "/query/%ff"),
        (b"LIMIT=5", "/query/LIMIT"),
        (b"held=1", "/query/held"),
        (b"held=True", "/query/held"),
        (b"status=queued,lost", "/query/status"),
        (b"status=", "/query/status"),
        (b"policy=CHEAPEST", "/query/policy"),
        (b"policy=cheapest%20", "/query/policy"),
    ],
)
def test_a_wrong_parameter_is_named(raw: bytes, pointer: str) -> None:
    assert pointers(raw) == [pointer]


@REPEATABLE
@given(
    st.lists(st.sampled_from([*ALLOWED, "=", "&", "%", "1", ",", "%c3", "2026-01-31T08:00:00Z"]) | st.text())
)
def test_no_query_raises_anything_but_a_refusal(parts: list[str]) -> None:
    with suppress(Refusal):
        parse_query("".join(parts).encode("utf-8"), ALLOWED)


def test_all_wrong_parameters_are_named_at_once_up_to_a_bound() -> None:
    assert pointers(b"limit=0&held=x&limit=3") == ["/query/limit", "/query/held"]
    assert len(pointers(b"&".join(b"x%d=" % n for n in range(1000)))) == 16


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31",
        "2026-01-31T08:00:00",
        "2026-01-31 08:00:00Z",
        "2026-01-31T08:00Z",
        "2026-01-31T08:00:00.Z",
        "2026-02-30T08:00:00Z",
        "2026-13-01T08:00:00Z",
        "2026-01-31T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "2026-01-31T08:00:00+24:00",
        "2026-01-31T08:00:00+02:60",
        "2026-01-31T08:00:00+0200",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "٢٠٢٦-01-31T08:00:00Z",
        "1700000000",
        "2026-W05-6T08:00:00Z",
        "2026-01-31T08:00:00Z\n",
        "",
    ],
)
def test_a_date_that_is_not_rfc_3339_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_instant(text)


@pytest.mark.parametrize(
    ("text", "instant_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-31T08:00:00.1239z", 1769846400123),
        ("2026-01-31t10:00:00.5+02:00", 1769846400500),
        ("2026-01-31T07:30:00-00:30", 1769846400000),
        ("2199-12-31T23:59:59.999999999Z", 7258118399999),
    ],
)
def test_a_date_becomes_milliseconds(text: str, instant_ms: int) -> None:
    assert parse_instant(text) == instant_ms


@REPEATABLE
@given(st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30), timezones=st.timezones()))  # noqa: DTZ001  (timezones= adds one)
def test_what_python_writes_is_read_back(instant: datetime) -> None:
    offset = instant.utcoffset()
    if offset is None or offset.total_seconds() % 60:  # RFC 3339 has no seconds in an offset
        return
    whole = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    assert parse_instant(whole.isoformat()) == round(whole.timestamp() * 1000)


def test_an_interval_must_not_run_backwards() -> None:
    check_order({"after": 1, "before": 1}, "after", "before")
    check_order({"after": 5}, "after", "before")
    with pytest.raises(Refusal) as caught:
        check_order({"after": 2, "before": 1}, "after", "before")
    assert caught.value.errors[0].pointer == "/query/after"


@REPEATABLE
@given(st.text("job_0123456789abcdef", max_size=60), st.text())
def test_a_cursor_comes_back_as_it_went(last_id: str, scope: str) -> None:
    text = encode_cursor(last_id, scope, key=KEY)
    assert decode_cursor(text, scope, key=KEY) == last_id


def test_every_change_of_a_cursor_is_refused() -> None:
    text = encode_cursor("job_0123456789abcdef", "owner-1 status=queued", key=KEY)
    alphabet = "ABab01-_"
    changed = {text[:at] + letter + text[at + 1 :] for at in range(len(text)) for letter in alphabet} - {text}
    cut = {text[:end] for end in range(len(text))}
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    forged = base64.urlsafe_b64encode(bytes(16) + raw[16:]).rstrip(b"=").decode()
    odd = {text + "=", text + "A", text + "\n", " " + text, "é" * 40, "\ud800", "A" * 10_000, "+/+/", forged}
    for candidate in changed | cut | odd:
        with pytest.raises(Refusal) as caught:
            decode_cursor(candidate, "owner-1 status=queued", key=KEY)
        assert caught.value.slug == "invalid-cursor"


@pytest.mark.parametrize(
    ("scope", "key"),
    [("owner-2 status=queued", KEY), ("owner-1 status=running", KEY), ("owner-1 status=queued", b"x" * 32)],
)
def test_a_cursor_is_worth_nothing_to_another_owner_filter_or_key(scope: str, key: bytes) -> None:
    text = encode_cursor("job_1", "owner-1 status=queued", key=KEY)
    with pytest.raises(Refusal):
        decode_cursor(text, scope, key=key)


def test_no_byte_can_move_between_a_cursors_place_and_its_scope() -> None:
    text = encode_cursor("job_1", "xscope", key=KEY)
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    moved = base64.urlsafe_b64encode(raw + b"x").rstrip(b"=").decode()
    with pytest.raises(Refusal):
        decode_cursor(moved, "scope", key=KEY)
