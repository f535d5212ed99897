"""When a failed try is due again, whatever the other side asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jobs.schedule import LONGEST_RETRY_AFTER_S, backoff_s, retry_after_s

STEADY = settings(derandomize=True, database=None, deadline=None)
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("1", 1.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0007", 7.0),
        ("3600", 3600.0),
        ("3601", LONGEST_RETRY_AFTER_S),
        ("9999999", LONGEST_RETRY_AFTER_S),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        (format_datetime(NOW + timedelta(days=30), usegmt=True), LONGEST_RETRY_AFTER_S),
        (None, None),
        ("", None),
        (" ", None),
        ("0", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e9", None),
        ("10000000000000000000", None),
        ("abc", None),
        ("\u0663", None),
        ("NaN", None),
        ("inf", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        (format_datetime(NOW, usegmt=True), None),
        ("Thu, 99 Foo 9999 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_believed_only_within_reason(field: str | None, seconds: float | None) -> None:
    assert retry_after_s(field, now_ms=NOW_MS) == seconds


@STEADY
@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d( .{0,6})?"))
def test_no_text_breaks_the_reader(field: str) -> None:
    seconds = retry_after_s(field, now_ms=NOW_MS)
    assert seconds is None or 0 < seconds <= LONGEST_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("tries", "full"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (50, 60.0), (10**6, 60.0)]
)
def test_backoff_doubles_up_to_its_cap_and_varies_in_its_upper_half(tries: int, full: float) -> None:
    shortest, middle, longest = (
        backoff_s(tries, first_s=1, longest_s=60, spread=spread) for spread in (0, 0.5, 1)
    )
    assert (shortest, middle, longest) == (full / 2, full * 0.75, full)
