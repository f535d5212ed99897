"""When an endpoint is sent to no more."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.webhooks.endurance import DAY_MS, ENDURED_MS, FEWEST_DAYS, Failing, disabled_for, failing
from gateway.webhooks.outcome import Outcome


@pytest.mark.parametrize(
    ("outcome", "days", "at_ms", "reason"),
    [
        (Outcome.GONE, 1, 0, "gone"),
        (Outcome.BLOCKED, FEWEST_DAYS, ENDURED_MS, "failing"),
        (Outcome.TIMEOUT, 1, 0, None),
        (Outcome.TIMEOUT, FEWEST_DAYS, ENDURED_MS - 1, None),
        (Outcome.TIMEOUT, FEWEST_DAYS, ENDURED_MS, "failing"),
        (Outcome.TIMEOUT, FEWEST_DAYS - 1, 10 * ENDURED_MS, None),
    ],
)
def test_it_takes_time_and_failures_or_its_own_word(
    outcome: Outcome, days: int, at_ms: int, reason: str | None
) -> None:
    assert disabled_for(outcome, Failing(since_ms=0, days=days, counted_ms=0), at_ms=at_ms) == reason


def failed(*at_ms: int) -> Failing | None:
    found: Failing | None = None
    for one in at_ms:
        found = failing(found, at_ms=one)
    return found


@pytest.mark.parametrize(
    ("at_ms", "found"),
    [
        ((7,), Failing(7, 1, 7)),
        ((7, 8, DAY_MS + 6), Failing(7, 1, 7)),
        ((7, DAY_MS + 7, DAY_MS + 8), Failing(7, 2, DAY_MS + 7)),
        ((0, DAY_MS, 2 * DAY_MS), Failing(0, 3, 2 * DAY_MS)),
    ],
)
def test_failures_count_once_a_day(at_ms: Sequence[int], found: Failing) -> None:
    assert failed(*at_ms) == found


@pytest.mark.parametrize("jump_ms", [ENDURED_MS, 365 * DAY_MS])
def test_a_clock_set_forward_makes_no_days_of_seconds(jump_ms: int) -> None:
    found = failed(0, 5_000, jump_ms + 10_000, jump_ms + 20_000, jump_ms + 30_000)
    assert found is not None
    assert disabled_for(Outcome.TIMEOUT, found, at_ms=jump_ms + 30_000) is None


def test_a_clock_set_back_puts_nothing_off_until_it_is_there_again() -> None:
    year_ms = 365 * DAY_MS
    assert failed(year_ms, 0, DAY_MS, 2 * DAY_MS) == Failing(0, 3, 2 * DAY_MS), "failing since it was ahead"
    assert failed(0, year_ms, 10, DAY_MS + 10) == Failing(0, 3, DAY_MS + 10), "counted while it was ahead"
