"""When calls of a kind to an account stop, and how they begin again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.breaker import (
    CLOSED,
    FEW,
    IN_A_ROW,
    LONGEST_OPEN_MS,
    OPEN_MS,
    PROBE_MS,
    WINDOW_MS,
    Breaker,
    failed,
    probing,
    shut_until,
    succeeded,
)


def after(word: str, *, every_ms: int = 0, breaker: Breaker = CLOSED) -> Breaker:
    """A breaker after calls that went well (.) or not (x)."""
    for index, letter in enumerate(word):
        change = failed if letter == "x" else succeeded
        breaker = change(breaker, now_ms=index * every_ms)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    assert shut_until(after("x" * (IN_A_ROW - 1)), now_ms=0) is None
    assert shut_until(after("x" * IN_A_ROW), now_ms=0) == OPEN_MS


def test_one_success_begins_the_row_anew() -> None:
    assert shut_until(after("x" * (IN_A_ROW - 1) + "." + "x" * (IN_A_ROW - 1)), now_ms=0) is None


def test_it_opens_when_half_of_many_calls_fail() -> None:
    assert shut_until(after("x." * (FEW // 2 - 1)), now_ms=0) is None
    assert shut_until(after("x." * (FEW // 2) + "x"), now_ms=0) is not None


def test_failures_far_apart_open_nothing_by_their_share() -> None:
    assert shut_until(after("x." * FEW, every_ms=WINDOW_MS), now_ms=0) is None


def test_success_leaves_a_closed_breaker_as_it_was() -> None:
    assert succeeded(CLOSED, now_ms=5) is CLOSED


def test_one_probe_is_let_through_and_closes_it() -> None:
    opened = after("x" * IN_A_ROW)
    assert shut_until(opened, now_ms=OPEN_MS - 1) == OPEN_MS
    assert shut_until(opened, now_ms=OPEN_MS) is None
    probed = probing(opened, now_ms=OPEN_MS)
    assert shut_until(probed, now_ms=OPEN_MS) == OPEN_MS + PROBE_MS
    assert succeeded(probed, now_ms=OPEN_MS + 1) == CLOSED


def test_each_failed_probe_keeps_it_open_for_longer_up_to_a_bound() -> None:
    breaker, now_ms, lengths = after("x" * IN_A_ROW), 0, []
    for _ in range(12):
        until_ms = shut_until(breaker, now_ms=now_ms)
        assert until_ms is not None
        lengths.append(until_ms - now_ms)
        now_ms = until_ms
        breaker = failed(probing(breaker, now_ms=now_ms), now_ms=now_ms)
    assert lengths[:3] == [OPEN_MS, 2 * OPEN_MS, 3 * OPEN_MS]
    assert lengths == sorted(lengths)
    assert lengths[-1] == LONGEST_OPEN_MS


def test_a_failure_that_was_under_way_when_it_opened_counts_for_nothing() -> None:
    opened = after("x" * IN_A_ROW)
    assert failed(opened, now_ms=OPEN_MS - 1) == opened


@given(st.text(alphabet="x.", max_size=80), st.integers(0, 40_000))
def test_it_is_shut_only_for_a_bounded_time(word: str, every_ms: int) -> None:
    breaker = after(word, every_ms=every_ms)
    until_ms = shut_until(breaker, now_ms=len(word) * every_ms)
    assert until_ms is None or until_ms <= len(word) * every_ms + LONGEST_OPEN_MS
